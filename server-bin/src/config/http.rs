//! The configuration of the MCP server.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use mcp_core::{BearerToken, CallingUser, McpConfig};
use p2p_taskqueue::api::{Grants, Role, limits::NAME_BYTES_MAX};
use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};

use crate::{failure::Failure, number::check_seconds, token_file};

/// The section `[http]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSection {
    pub(crate) listen: Option<String>,
    pub(crate) allowed_hosts: Option<Vec<String>>,
    pub(crate) allowed_origins: Option<Vec<String>>,
    pub(crate) token_file: Option<FullPath>,
    pub(crate) clients: Option<BTreeMap<String, ClientSection>>,
    pub(crate) allow_other_users: Option<bool>,
    pub(crate) body_bytes_max: Option<NonZeroUsize>,
    pub(crate) body_timeout_s: Option<Seconds>,
    pub(crate) header_timeout_s: Option<Seconds>,
    pub(crate) write_timeout_s: Option<Seconds>,
    pub(crate) requests_max: Option<NonZeroUsize>,
    pub(crate) waits_max: Option<NonZeroUsize>,
    pub(crate) requests_per_client_max: Option<NonZeroUsize>,
    pub(crate) waits_per_client_max: Option<NonZeroUsize>,
}

/// A client with a token, and what it may do. It is written as the path of its token file, or as a table.
#[derive(Debug, Clone)]
pub(crate) struct ClientSection {
    token_file: FullPath,
    grants: Grants,
}

/// An absolute path. A node may be started in any folder, so a relative path would name another file each time.
#[derive(Debug, Clone)]
pub(crate) struct FullPath(PathBuf);

/// A timeout within [`SECONDS_RANGE`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seconds(Duration);

/// The part of the configuration that the command line gives.
#[derive(Debug, Default)]
pub(crate) struct HttpGiven {
    pub(crate) listen: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) allow_other_users: bool,
}

/// The configuration of the MCP server, complete and checked.
#[derive(Debug)]
pub(crate) struct HttpConfig {
    /// `HOST:PORT`.
    pub(crate) listen: String,
    pub(crate) mcp: McpConfig,
    pub(crate) header_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) requests_max: usize,
    has_hosts: bool,
    has_origins: bool,
    without_token: WithoutToken,
}

/// Who is served that shows no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutToken {
    /// Nobody: there are tokens, and clients have to show them.
    Nobody,
    /// The user that runs this process.
    OwnUser,
    /// Every user of this machine.
    EveryUser,
}

/// A client that is known by its token.
#[derive(Debug)]
struct KnownClient {
    token: String,
    grants: Grants,
}

impl HttpConfig {
    /// Combines the command line, the file and the defaults, in this order of precedence. Reads the token files.
    pub(crate) fn new(given: HttpGiven, file: HttpSection) -> Result<Self, Failure> {
        let hosts = Some(given.allowed_hosts).filter(|hosts| !hosts.is_empty()).or(file.allowed_hosts);
        let origins = Some(given.allowed_origins).filter(|origins| !origins.is_empty()).or(file.allowed_origins);
        let one = given.token_file.or_else(|| file.token_file.map(|path| path.0));
        let clients = clients(one.as_deref(), file.clients.unwrap_or_default())?;
        let (has_hosts, has_origins) = (hosts.is_some(), origins.is_some());
        let without_token = match given.allow_other_users || file.allow_other_users.unwrap_or_default() {
            _ if !clients.is_empty() => WithoutToken::Nobody,
            true => WithoutToken::EveryUser,
            false => WithoutToken::OwnUser,
        };
        let requests_max = file.requests_max.map_or(REQUESTS_MAX, NonZeroUsize::get);
        let own_user_only = without_token == WithoutToken::OwnUser;
        let mut mcp = McpConfig::default().with_requests_max(requests_max).with_own_user_only(own_user_only);
        if let Some(hosts) = hosts {
            mcp = mcp.with_allowed_hosts(hosts);
        }
        if let Some(origins) = origins {
            mcp = mcp.with_allowed_origins(origins.into_iter().filter(|origin| origin != NO_BROWSER));
        }
        if let Some(unreadable) = mcp.unreadable_sites().first() {
            let problem = format!("{unreadable:?} is no NAME[:PORT], or no http(s)://NAME[:PORT]");
            return Err(Failure::argument("--allowed-host, --allowed-origin", problem));
        }
        for (name, KnownClient { token, grants }) in clients {
            mcp = mcp.with_client_granted(name, BearerToken::new(&token), grants);
        }
        for (setting, with) in [
            (file.body_bytes_max, McpConfig::with_body_bytes_max as fn(McpConfig, usize) -> McpConfig),
            (file.waits_max, McpConfig::with_waiting_calls_max),
            (file.requests_per_client_max, McpConfig::with_requests_per_client_max),
            (file.waits_per_client_max, McpConfig::with_waits_per_client_max),
        ] {
            mcp = setting.into_iter().fold(mcp, |mcp, max| with(mcp, max.get()));
        }
        if let Some(Seconds(timeout)) = file.body_timeout_s {
            mcp = mcp.with_body_timeout(timeout);
        }
        Ok(Self {
            listen: given.listen.or(file.listen).unwrap_or_else(|| USUAL_HTTP.to_owned()),
            mcp,
            header_timeout: file.header_timeout_s.map_or(HEADER_TIMEOUT, |seconds| seconds.0),
            write_timeout: file.write_timeout_s.map_or(WRITE_TIMEOUT, |seconds| seconds.0),
            requests_max,
            has_hosts,
            has_origins,
            without_token,
        })
    }

    pub(crate) const fn has_token(&self) -> bool {
        matches!(self.without_token, WithoutToken::Nobody)
    }

    /// Returns whether it has to be looked up which user a connection comes from.
    pub(crate) const fn asks_for_user(&self) -> bool {
        matches!(self.without_token, WithoutToken::OwnUser)
    }

    /// Checks that an address of loopback serves only those that it is meant for.
    ///
    /// # Errors
    ///
    /// Says what to configure where the system does not tell which user of this machine asks.
    pub(crate) fn check_users(&self) -> Result<(), Failure> {
        if CallingUser::IS_TOLD || !self.asks_for_user() {
            return Ok(());
        }
        let problem = "this system does not tell which user of this machine asks, so clients have to show a token \
                       (--http-token-file FILE, or token_file or [http.clients]). Or let every user of this machine ask \
                       (--allow-other-users, or allow_other_users in [http])";
        Err(Failure::argument("--http", problem))
    }

    /// Checks that everything is configured that an address needs which other machines can reach.
    ///
    /// # Errors
    ///
    /// Names everything that is missing, and how to configure it.
    pub(crate) fn check_open_to(&self, address: SocketAddr) -> Result<(), Failure> {
        let needed = [
            (
                self.has_hosts,
                "the names that it is reached by (--allowed-host NAME[:PORT], or allowed_hosts in [http])",
            ),
            (
                self.has_origins,
                "the web pages that may ask it (--allowed-origin https://NAME, or allowed_origins in [http]; \
                 --allowed-origin none, or an empty list: no browser)",
            ),
            (self.has_token(), "a token for its clients (--http-token-file FILE, or token_file or [http.clients])"),
        ];
        let missing: Vec<_> = needed.iter().filter(|(is_there, _)| !is_there).map(|(_, what)| *what).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let problem = format!(
            "{address} is not a loopback address, and whoever reaches the MCP endpoint may hand work to this mesh. \
             Missing: {}. Or keep it on 127.0.0.1 and reach it through an SSH tunnel",
            missing.join("; ")
        );
        Err(Failure::argument("--http", problem))
    }
}

impl HttpConfig {
    /// Returns the default configuration, listening at `listen`. Where the system does not tell which user asks, every
    /// user may: this is for servers that last a moment and have nothing of the user's.
    pub(crate) fn at(listen: &str) -> Self {
        let without_token = if CallingUser::IS_TOLD { WithoutToken::OwnUser } else { WithoutToken::EveryUser };
        Self {
            listen: listen.to_owned(),
            mcp: McpConfig::default().with_own_user_only(CallingUser::IS_TOLD),
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            requests_max: REQUESTS_MAX,
            has_hosts: false,
            has_origins: false,
            without_token,
        }
    }
}

/// Reads the tokens of all clients. Returns the clients by their names.
fn clients(
    one: Option<&Path>,
    sections: BTreeMap<String, ClientSection>,
) -> Result<BTreeMap<String, KnownClient>, Failure> {
    let refused = |problem: String| Err(Failure::argument("[http.clients]", problem));
    let mut clients: BTreeMap<String, KnownClient> = BTreeMap::new();
    if let Some(path) = one {
        let client = KnownClient { token: token_file::read(path)?, grants: usual_grants() };
        clients.insert(THE_CLIENT.to_owned(), client);
    }
    for (name, ClientSection { token_file: FullPath(path), grants }) in sections {
        if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return refused(format!("{name:?} is no name: up to {NAME_BYTES_MAX} bytes in one line"));
        }
        if clients.contains_key(&name) {
            return refused(format!("{name} is who shows the token of token_file: call this client otherwise"));
        }
        let token = token_file::read(&path)?;
        if let Some((other, _)) = clients.iter().find(|(_, known)| known.token == token) {
            return refused(format!("{name} and {other} have the same token: give each its own"));
        }
        clients.insert(name, KnownClient { token, grants });
    }
    if clients.len() > CLIENTS_MAX {
        return refused(format!("there are {}, and the limit is {CLIENTS_MAX}", clients.len()));
    }
    Ok(clients)
}

/// Returns what a client may do whose configuration does not say it.
const fn usual_grants() -> Grants {
    Grants::of(Role::Member)
}

impl FullPath {
    fn new<E: de::Error>(path: PathBuf) -> Result<Self, E> {
        if !path.is_absolute() {
            return Err(E::custom(format_args!("{} is not an absolute path", path.display())));
        }
        Ok(Self(path))
    }
}

impl<'de> Deserialize<'de> for FullPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(PathBuf::deserialize(deserializer)?)
    }
}

impl<'de> Deserialize<'de> for ClientSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PathOrTable)
    }
}

/// The table of a client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientTable {
    token_file: FullPath,
    #[serde(default = "usual_grants")]
    grants: Grants,
}

/// Reads a client in either form. Unlike an untagged enum it says which key of the table is wrong, and why.
struct PathOrTable;

impl<'de> de::Visitor<'de> for PathOrTable {
    type Value = ClientSection;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path of a token file, or { token_file = \"/PATH\", grants = \"agent\" }")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<ClientSection, E> {
        Ok(ClientSection { token_file: FullPath::new(PathBuf::from(path))?, grants: usual_grants() })
    }

    fn visit_map<A: de::MapAccess<'de>>(self, table: A) -> Result<ClientSection, A::Error> {
        let ClientTable { token_file, grants } = ClientTable::deserialize(MapAccessDeserializer::new(table))?;
        Ok(ClientSection { token_file, grants })
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let checked = check_seconds(seconds, &SECONDS_RANGE).map_err(de::Error::custom)?;
        Ok(Self(Duration::from_secs_f64(checked)))
    }
}

const USUAL_HTTP: &str = "127.0.0.1:8765";

/// The name of the client that shows the token of `token_file`.
const THE_CLIENT: &str = "client";

/// The word that stands for an origin and means that no browser is served.
const NO_BROWSER: &str = "none";

/// The default time for the header of a request. A client that takes longer is gone or hostile.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The default time without any progress in writing an answer: as long as a client may take to send its body.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The default of `requests_max`, the same as the MCP server's own default.
const REQUESTS_MAX: usize = 4_096;

/// The most clients: the machines and agents of a small team. Each has a line in the metrics.
const CLIENTS_MAX: usize = 64;

/// The range of a timeout, in seconds. Nobody sends anything within less than a millisecond, and a timeout of more than
/// an hour means no bound at all.
const SECONDS_RANGE: RangeInclusive<f64> = 0.001..=3_600.0;
