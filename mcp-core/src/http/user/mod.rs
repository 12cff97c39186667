//! The user of this machine at the other end of a connection, and whether that user is served without a token.

#[cfg(target_os = "linux")]
#[path = "sock_diag.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "untold.rs"]
mod system;

use std::{fmt, net::SocketAddr};

use taskqueue_api::{ErrorCode, QueueError};
use tokio::net::TcpStream;

/// The user of this machine that a connection comes from, as the system tells it.
///
/// The program that accepts connections looks it up once for each of them, and puts it into the extensions of every
/// request. See [`McpConfig::with_own_user_only`](crate::McpConfig::with_own_user_only).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallingUser(Result<u32, Unknown>);

/// The reason why it is not known which user asks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unknown {
    /// The connection comes from another machine.
    OtherMachine,
    /// The other end of the connection is closed.
    Closed,
    /// The system does not tell.
    Untold(String),
}

impl CallingUser {
    /// Whether this system tells which user a connection comes from.
    pub const IS_TOLD: bool = cfg!(target_os = "linux");

    /// Looks up which user a connection comes from that was accepted just now.
    ///
    /// It takes microseconds and waits for nothing: the kernel answers within the call that asks.
    #[must_use]
    pub fn of(stream: &TcpStream) -> Self {
        Self(look_up(stream))
    }
}

fn look_up(stream: &TcpStream) -> Result<u32, Unknown> {
    let there = || stream.peer_addr().map(canonical).map_err(|_| Unknown::Closed);
    let (here, peer) = (stream.local_addr().map(canonical).map_err(|_| Unknown::Closed)?, there()?);
    if !peer.ip().is_loopback() {
        return Err(Unknown::OtherMachine);
    }
    let uid = system::uid_of(here, peer)?;
    // As long as this end is open, no other connection can have these addresses. So the socket that was found is the
    // other end of this connection, and not a later one of somebody else.
    there()?;
    Ok(uid)
}

/// Returns the address with an IPv4 address in place of an IPv6 address that stands for one.
const fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Checks that a request without a token comes from the user that runs this process, or from root.
///
/// # Errors
///
/// `forbidden` when it comes from another user, or when that is not known.
pub(super) fn check(user: Option<&CallingUser>) -> Result<(), QueueError> {
    judge(user, system::own_uid())
}

fn judge(user: Option<&CallingUser>, own: Option<u32>) -> Result<(), QueueError> {
    let untold = || Err(Unknown::Untold("the connection was not looked up".to_owned()));
    let found = user.map_or_else(untold, |CallingUser(found)| found.clone());
    let why = match (found, own) {
        // Root may do what every user may.
        (Ok(ROOT), _) => return Ok(()),
        (Ok(uid), Some(own)) if uid == own => return Ok(()),
        (Ok(uid), _) => format!("this server is for the user that runs it, and user {uid} asks"),
        (Err(unknown), _) => format!("this server is for the user that runs it, and who asks is not known: {unknown}"),
    };
    Err(QueueError::new(ErrorCode::Forbidden, format!("{why}. {REMEDY}")))
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherMachine => f.write_str("the connection comes from another machine"),
            Self::Closed => f.write_str("the other end of the connection is closed"),
            Self::Untold(why) => f.write_str(why),
        }
    }
}

const ROOT: u32 = 0;

/// What whoever runs the server can do for another user.
const REMEDY: &str = "Start it with a token and show that (--http-token-file), or let every user of this machine ask \
(--allow-other-users, or allow_other_users in [http])";

#[cfg(test)]
mod tests;
