use std::{fmt, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::http::{is_host, is_origin};

/// What the binder of the server may set. The defaults are right for a server that listens on loopback only.
///
/// ```
/// # use mcp_core::{BearerToken, McpConfig};
/// let config = McpConfig::default()
///     .with_allowed_hosts(["queue.example:8765"])
///     .with_allowed_origins(["https://console.example"])
///     .with_client("laptop", BearerToken::new("a long random text"))
///     .with_client("phone", BearerToken::new("another one"));
/// ```
#[derive(Debug, Clone)]
pub struct McpConfig {
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) clients: Vec<(Box<str>, BearerToken)>,
    pub(crate) body_bytes_max: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) requests_max: usize,
    pub(crate) waiting_calls_max: usize,
    pub(crate) requests_per_client_max: usize,
    pub(crate) waits_per_client_max: usize,
    pub(crate) call_timeout: Duration,
    /// The binder holds the other end and cancels it when the server is to stop.
    pub(crate) shutdown: CancellationToken,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) instructions: String,
}

impl McpConfig {
    /// Which `Host` headers are served: `name` for any port, `name:port` for that port. By default the names of
    /// loopback; a server that others can reach must name itself here.
    #[must_use]
    pub fn with_allowed_hosts(self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { allowed_hosts: hosts.into_iter().map(Into::into).collect(), ..self }
    }

    /// Which `Origin` headers are served: `scheme://name` or `scheme://name:port`; `scheme://name:*` for any port. By
    /// default those of loopback on any port. A request without the header, that is, from no browser, passes.
    #[must_use]
    pub fn with_allowed_origins(self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { allowed_origins: origins.into_iter().map(Into::into).collect(), ..self }
    }

    /// Adds a client: from now on every request shows `Authorization: Bearer TOKEN` with the token of one of them, whose
    /// name its tasks then carry as their submitter. By default no token is asked for. Of two clients with the same
    /// token it is the later one.
    #[must_use]
    pub fn with_client(mut self, name: impl Into<Box<str>>, token: BearerToken) -> Self {
        self.clients.push((name.into(), token));
        self
    }

    /// The largest request body, in bytes.
    #[must_use]
    pub fn with_body_bytes_max(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, ..self }
    }

    /// How long a client may take to send a request body.
    #[must_use]
    pub fn with_body_timeout(self, body_timeout: Duration) -> Self {
        Self { body_timeout, ..self }
    }

    /// How many requests are served at once; the next is answered with 503 and `overloaded`.
    #[must_use]
    pub fn with_requests_max(self, requests_max: usize) -> Self {
        Self { requests_max, ..self }
    }

    /// How many of them may be calls that wait, so that the others always find room.
    #[must_use]
    pub fn with_waiting_calls_max(self, waiting_calls_max: usize) -> Self {
        Self { waiting_calls_max, ..self }
    }

    /// How many of the requests may be of one client, so that it cannot take the room of the others. Without tokens there
    /// are no others to tell it from, and this bounds nothing.
    #[must_use]
    pub fn with_requests_per_client_max(self, requests_per_client_max: usize) -> Self {
        Self { requests_per_client_max, ..self }
    }

    /// How many of the calls that wait may be of one client.
    #[must_use]
    pub fn with_waits_per_client_max(self, waits_per_client_max: usize) -> Self {
        Self { waits_per_client_max, ..self }
    }

    /// How long the queue may take for an answer, on top of what the call itself asked to wait.
    #[must_use]
    pub fn with_call_timeout(self, call_timeout: Duration) -> Self {
        Self { call_timeout, ..self }
    }

    /// The token that stops the server: `/readyz` turns to 503, new requests are refused and waiting calls are answered
    /// with `shutting_down`, while calls that are being worked on run to their end.
    #[must_use]
    pub fn with_shutdown(self, shutdown: CancellationToken) -> Self {
        Self { shutdown, ..self }
    }

    /// The allowed hosts and origins that cannot be read; each would allow nothing.
    #[must_use]
    pub fn unreadable_sites(&self) -> Vec<&str> {
        let hosts = self.allowed_hosts.iter().filter(|text| !is_host(text));
        hosts.chain(self.allowed_origins.iter().filter(|text| !is_origin(text))).map(String::as_str).collect()
    }

    /// What the server calls itself to its clients.
    #[must_use]
    pub fn with_identity(self, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into(), ..self }
    }

    /// What the server tells an agent about its use.
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
    /// Takes the token's text. An empty one matches nothing, so that a token that was forgotten opens no door.
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

/// What tokens are compared by: all of them have the same length.
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

/// The size of a frame: 4 MiB of payloads, and 4 MiB for the other arguments of a thousand tasks.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// 8 MiB over a slow link.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A waiting call costs some KiB, so this many fit in a small machine.
const REQUESTS_MAX: usize = 4_096;

/// Leaves a quarter of the requests for calls that are answered at once.
const WAITING_CALLS_MAX: usize = 3_072;

/// Two clients that take all they may leave the same for everybody else.
const REQUESTS_PER_CLIENT_MAX: usize = 1_536;

/// A thousand waits and some; a third of the client's requests is left for calls that are
/// answered at once.
const WAITS_PER_CLIENT_MAX: usize = 1_024;

/// Above the queue's own 30 s for a request and 5 s for each address that it dials, so that its more telling error comes
/// first.
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
        // Nor its digest, by which a weak one could be guessed.
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
