//! The configuration of the MCP server.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use mcp_core::{BearerToken, McpConfig};
use p2p_taskqueue::api::limits::NAME_BYTES_MAX;
use serde::{Deserialize, Deserializer, de};

use crate::{failure::Failure, number::check_seconds, token_file};

/// The section `[http]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSection {
    pub(crate) listen: Option<String>,
    pub(crate) allowed_hosts: Option<Vec<String>>,
    pub(crate) allowed_origins: Option<Vec<String>>,
    pub(crate) token_file: Option<FullPath>,
    pub(crate) clients: Option<BTreeMap<String, FullPath>>,
    pub(crate) body_bytes_max: Option<NonZeroUsize>,
    pub(crate) body_timeout_s: Option<Seconds>,
    pub(crate) header_timeout_s: Option<Seconds>,
    pub(crate) write_timeout_s: Option<Seconds>,
    pub(crate) requests_max: Option<NonZeroUsize>,
    pub(crate) waits_max: Option<NonZeroUsize>,
    pub(crate) requests_per_client_max: Option<NonZeroUsize>,
    pub(crate) waits_per_client_max: Option<NonZeroUsize>,
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
    has_token: bool,
}

impl HttpConfig {
    /// Combines the command line, the file and the defaults, in this order of precedence. Reads the token files.
    pub(crate) fn new(given: HttpGiven, file: HttpSection) -> Result<Self, Failure> {
        let hosts = Some(given.allowed_hosts).filter(|hosts| !hosts.is_empty()).or(file.allowed_hosts);
        let origins = Some(given.allowed_origins).filter(|origins| !origins.is_empty()).or(file.allowed_origins);
        let one = given.token_file.or_else(|| file.token_file.map(|path| path.0));
        let tokens = tokens(one.as_deref(), file.clients.unwrap_or_default())?;
        let (has_hosts, has_origins, has_token) = (hosts.is_some(), origins.is_some(), !tokens.is_empty());
        let requests_max = file.requests_max.map_or(REQUESTS_MAX, NonZeroUsize::get);
        let mut mcp = McpConfig::default().with_requests_max(requests_max);
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
        for (name, token) in tokens {
            mcp = mcp.with_client(name, BearerToken::new(&token));
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
            has_token,
        })
    }

    pub(crate) const fn has_token(&self) -> bool {
        self.has_token
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
            (self.has_token, "a token for its clients (--http-token-file FILE, or token_file or [http.clients])"),
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
    /// Returns the default configuration, listening at `listen`.
    pub(crate) fn at(listen: &str) -> Self {
        Self {
            listen: listen.to_owned(),
            mcp: McpConfig::default(),
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            requests_max: REQUESTS_MAX,
            has_hosts: false,
            has_origins: false,
            has_token: false,
        }
    }
}

/// Reads the tokens of all clients, by client name.
fn tokens(one: Option<&Path>, clients: BTreeMap<String, FullPath>) -> Result<BTreeMap<String, String>, Failure> {
    let refused = |problem: String| Err(Failure::argument("[http.clients]", problem));
    let mut tokens = BTreeMap::new();
    if let Some(path) = one {
        tokens.insert(THE_CLIENT.to_owned(), token_file::read(path)?);
    }
    for (name, FullPath(path)) in clients {
        if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return refused(format!("{name:?} is no name: up to {NAME_BYTES_MAX} bytes in one line"));
        }
        if tokens.contains_key(&name) {
            return refused(format!("{name} is who shows the token of token_file: call this client otherwise"));
        }
        let token = token_file::read(&path)?;
        if let Some((other, _)) = tokens.iter().find(|(_, known)| **known == token) {
            return refused(format!("{name} and {other} have the same token: give each its own"));
        }
        tokens.insert(name, token);
    }
    if tokens.len() > CLIENTS_MAX {
        return refused(format!("there are {}, and the limit is {CLIENTS_MAX}", tokens.len()));
    }
    Ok(tokens)
}

impl<'de> Deserialize<'de> for FullPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        if !path.is_absolute() {
            return Err(de::Error::custom(format_args!("{} is not an absolute path", path.display())));
        }
        Ok(Self(path))
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
