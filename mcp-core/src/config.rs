use std::{fmt, time::Duration};

use sha2::{Digest as _, Sha256};
use taskqueue_api::{Grants, Role};
use tokio_util::sync::CancellationToken;

use crate::http::{is_host, is_origin};

/// The settings of the server. The defaults fit a server that listens on loopback only.
///
/// ```
/// # use mcp_core::{BearerToken, McpConfig};
/// let config = McpConfig::default()
///     .with_allowed_hosts(["queue.example:8765"])
///     .with_allowed_origins(["https://console.example"])
///     .with_client("laptop", BearerToken::new("a long random text"))
///     .with_client_granted("phone", BearerToken::new("another one"), "agent".parse()?);
/// # Ok::<_, taskqueue_api::GrantsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct McpConfig {
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) clients: Vec<ClientConfig>,
    pub(crate) own_user_only: bool,
    pub(crate) body_bytes_max: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) requests_max: usize,
    pub(crate) waiting_calls_max: usize,
    pub(crate) requests_per_client_max: usize,
    pub(crate) waits_per_client_max: usize,
    pub(crate) call_timeout: Duration,
    /// The program that binds the listener holds a clone, and cancels it to stop the server.
    pub(crate) shutdown: CancellationToken,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) instructions: String,
}

/// A client with a token.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    pub(crate) name: Box<str>,
    pub(crate) token: BearerToken,
    pub(crate) grants: Grants,
}

impl McpConfig {
    /// Sets which `Host` headers are served: `name` for any port, or `name:port` for that port.
    ///
    /// The default is the names of loopback. A server that others can reach must name its own hosts here.
    #[must_use]
    pub fn with_allowed_hosts(self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { allowed_hosts: hosts.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets which `Origin` headers are served: `scheme://name` for the default port of the scheme,
    /// `scheme://name:port`, or `scheme://name:*` for any port.
    ///
    /// The default is the names of loopback on any port. A request without the header is taken to come from no browser,
    /// and passes.
    #[must_use]
    pub fn with_allowed_origins(self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { allowed_origins: origins.into_iter().map(Into::into).collect(), ..self }
    }

    /// Adds a client. From then on every request to `/mcp` or `/metrics` must show `Authorization: Bearer TOKEN` with
    /// the token of one of the clients. The tasks that it submits carry the name of this client as their submitter. It
    /// may do what a [`Role::Member`] may do.
    ///
    /// By default no token is asked for, and whoever asks may do everything. If two clients have the same token, the
    /// later one counts.
    #[must_use]
    pub fn with_client(self, name: impl Into<Box<str>>, token: BearerToken) -> Self {
        self.with_client_granted(name, token, Grants::of(Role::Member))
    }

    /// Adds a client, as [`with_client`](Self::with_client) does, that may do what these grants say. The own tasks of an
    /// agent are those whose submitter has its name.
    #[must_use]
    pub fn with_client_granted(mut self, name: impl Into<Box<str>>, token: BearerToken, grants: Grants) -> Self {
        self.clients.push(ClientConfig { name: name.into(), token, grants });
        self
    }

    /// Sets whether requests without a token are served only when they come from the user that runs this process, or
    /// from root. The program that accepts connections has to put a [`CallingUser`](crate::CallingUser) into the
    /// extensions of each request: without one a request is refused.
    ///
    /// By default nobody is asked for. Where clients have tokens, the token says who asks, and this has no effect.
    #[must_use]
    pub fn with_own_user_only(self, own_user_only: bool) -> Self {
        Self { own_user_only, ..self }
    }

    /// Sets the largest request body, in bytes.
    #[must_use]
    pub fn with_body_bytes_max(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, ..self }
    }

    /// Sets how long a client may take to send a request body.
    #[must_use]
    pub fn with_body_timeout(self, body_timeout: Duration) -> Self {
        Self { body_timeout, ..self }
    }

    /// Sets how many requests are served at once. Further ones are answered with 503 and `overloaded`.
    #[must_use]
    pub fn with_requests_max(self, requests_max: usize) -> Self {
        Self { requests_max, ..self }
    }

    /// Sets how many of these requests may be calls that wait, so that other calls always find room.
    #[must_use]
    pub fn with_waiting_calls_max(self, waiting_calls_max: usize) -> Self {
        Self { waiting_calls_max, ..self }
    }

    /// Sets how many of the requests may be of one client, so that it cannot take the room of the others.
    ///
    /// Without tokens the server cannot tell clients apart, and this bound has no effect.
    #[must_use]
    pub fn with_requests_per_client_max(self, requests_per_client_max: usize) -> Self {
        Self { requests_per_client_max, ..self }
    }

    /// Sets how many of the waiting calls may be of one client. Without tokens this bound has no effect.
    #[must_use]
    pub fn with_waits_per_client_max(self, waits_per_client_max: usize) -> Self {
        Self { waits_per_client_max, ..self }
    }

    /// Sets how long the queue may take to answer, on top of the wait that the call itself asks for.
    #[must_use]
    pub fn with_call_timeout(self, call_timeout: Duration) -> Self {
        Self { call_timeout, ..self }
    }

    /// Sets the token that stops the server. When it is cancelled, `/readyz` answers 503, new requests are refused, and
    /// waiting calls are answered with `shutting_down`. Calls that are being worked on run to their end.
    #[must_use]
    pub fn with_shutdown(self, shutdown: CancellationToken) -> Self {
        Self { shutdown, ..self }
    }

    /// Returns the allowed hosts and origins that cannot be read. Such an entry allows nothing.
    #[must_use]
    pub fn unreadable_sites(&self) -> Vec<&str> {
        let hosts = self.allowed_hosts.iter().filter(|text| !is_host(text));
        hosts.chain(self.allowed_origins.iter().filter(|text| !is_origin(text))).map(String::as_str).collect()
    }

    /// Sets the name and the version that the server tells its clients.
    #[must_use]
    pub fn with_identity(self, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into(), ..self }
    }

    /// Sets the text that tells an agent how to use the server.
    #[must_use]
    pub fn with_instructions(self, instructions: impl Into<String>) -> Self {
        Self { instructions: instructions.into(), ..self }
    }
}

impl Default for McpConfig {
    fn default() -> Self {
        Self {
            allowed_hosts: LOOPBACK_HOSTS.map(str::to_owned).to_vec(),
            allowed_origins: LOOPBACK_ORIGINS.map(str::to_owned).to_vec(),
            clients: Vec::new(),
            own_user_only: false,
            body_bytes_max: BODY_BYTES_MAX,
            body_timeout: BODY_TIMEOUT,
            requests_max: REQUESTS_MAX,
            waiting_calls_max: WAITING_CALLS_MAX,
            requests_per_client_max: REQUESTS_PER_CLIENT_MAX,
            waits_per_client_max: WAITS_PER_CLIENT_MAX,
            call_timeout: CALL_TIMEOUT,
            shutdown: CancellationToken::new(),
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instructions: INSTRUCTIONS.to_owned(),
        }
    }
}

/// A secret that clients show. Only its digest is kept, so that it can neither be printed nor found in memory.
#[derive(Clone)]
pub struct BearerToken(Option<TokenDigest>);

impl BearerToken {
    /// Makes a token from its text. An empty text matches nothing, so that a forgotten token lets nobody in.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self((!token.is_empty()).then(|| TokenDigest::of(token.as_bytes())))
    }

    pub(crate) fn digest(&self) -> Option<TokenDigest> {
        self.0.clone()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// The digest by which tokens are compared. All digests have the same length, so a comparison does not show the length
/// of a token.
#[derive(Clone)]
pub(crate) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(crate) fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

const LOOPBACK_ORIGINS: [&str; 6] = [
    "http://localhost:*",
    "http://127.0.0.1:*",
    "http://[::1]:*",
    "https://localhost:*",
    "https://127.0.0.1:*",
    "https://[::1]:*",
];

/// As large as a frame: 4 MiB for payloads, and 4 MiB for the other arguments of a thousand tasks.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Long enough for 8 MiB over a slow link.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A waiting call costs some KiB, so this many fit in a small machine.
const REQUESTS_MAX: usize = 4_096;

/// Leaves a quarter of the requests for calls that are answered at once.
const WAITING_CALLS_MAX: usize = 3_072;

/// Two clients that use their whole shares leave a quarter of the requests for all others.
const REQUESTS_PER_CLIENT_MAX: usize = 1_536;

/// More than a thousand waits. A third of the client's requests is left for calls that are answered at once.
const WAITS_PER_CLIENT_MAX: usize = 1_024;

/// Longer than the queue's own limits, which are 30 s for a request and 5 s for each address that it dials. So the
/// queue's error, which says more, comes first.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

const NAME: &str = "taskmesh";

const INSTRUCTIONS: &str = "\
taskmesh hands work to any of the user's machines through a durable task queue; no broker, no cloud.
1. To get something done and have its result: run_task (submits and waits). If it answers done:false, the task goes on: \
wait again with p2p_taskqueue_wait_task.
2. To hand work over without waiting: p2p_taskqueue_submit, later p2p_taskqueue_get_task or p2p_taskqueue_wait_task with \
the task_id. An acknowledged task survives crashes and restarts.
3. task_type says which worker takes a task; payload is any JSON value that this worker understands. \
p2p_taskqueue_status lists the types that a node's own workers take.
4. To work yourself: p2p_taskqueue_claim_next, do the work, p2p_taskqueue_complete_task with the fence that the claim \
answered; p2p_taskqueue_renew_task before lease_until when it takes longer; else p2p_taskqueue_fail_task or \
p2p_taskqueue_release_task.
5. Without a target a call goes to the local node, which finds the tasks it submitted elsewhere. To address another machine \
pass remote_peer_id (from list_peers) or remote_multiaddr.
6. Before repeating a submit whose outcome is unknown, use an idempotency_key: the same key answers the same task.
7. Work in steps: submit the later task with after (task_ids of the same node); it becomes ready when they have completed.
8. When tasks have failed: p2p_taskqueue_stats counts them, p2p_taskqueue_list_tasks with status failed shows why, and \
p2p_taskqueue_retry_task queues them again.
9. Every answer has ok. With ok:false, error.code says what happened, error.retryable whether the same call may work \
later (after error.retry_after_s), and error.outcome whether it may have been applied.
10. Tools after the built-in ones in tools/list are what workers on the user's machines offer; calling one runs it there, as \
run_task with that task_type would.
11. When a task's input_requests is not empty, its worker asks the user something: ask the user, then \
p2p_taskqueue_answer_task.
12. Durations are in seconds (names end in _s), points in time in Unix seconds.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed() {
        let config = McpConfig::default().with_client("laptop", BearerToken::new("hunter2"));
        let shown = format!("{config:?}");
        assert!(shown.contains("laptop") && !shown.contains("hunter2"), "{shown}");
        // The digest is not printed either: a weak token could be guessed from it.
        assert!(shown.contains("BearerToken(..)"), "{shown}");
    }

    #[test]
    fn hosts_and_origins_that_cannot_be_read_are_named() {
        let config = McpConfig::default();
        assert!(config.unreadable_sites().is_empty());
        let config = config.with_allowed_hosts(["queue.example", "a b"]).with_allowed_origins(["https://x", "nowhere"]);
        assert_eq!(config.unreadable_sites(), ["a b", "nowhere"]);
    }
}
