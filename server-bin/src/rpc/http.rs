//! The RPC over HTTP: a request upgrades its connection (RFC 9110, 7.8) to the same session that the Unix socket
//! carries.
//!
//! ```text
//! GET /rpc HTTP/1.1            HTTP/1.1 101 Switching Protocols
//! Host: 127.0.0.1:8766         Connection: upgrade
//! Connection: upgrade          Upgrade: taskmesh-rpc/1
//! Upgrade: taskmesh-rpc/1
//! Authorization: Bearer …      … frames in both directions
//! ```

use std::{
    convert::Infallible,
    future::ready,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, UPGRADE, WWW_AUTHENTICATE},
    http::{HeaderMap, HeaderValue, uri::Authority},
    server::conn::http1,
    service::service_fn,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::Token;

pub(super) const PATH: &str = "/rpc";

/// The protocol that a connection is upgraded to, with its version. The session inside it has versions of its own.
pub(super) const PROTOCOL: &str = "taskmesh-rpc/1";

/// Answers one request, and returns the connection that it upgrades; `None` when the request was refused.
pub(super) async fn admit(stream: TcpStream, token: &Token) -> Option<TokioIo<Upgraded>> {
    // Frames are small and answered one by one, so they must not be held back to be sent together.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let upgrading: Mutex<Option<OnUpgrade>> = Mutex::new(None);
    let answer = |mut request: Request<Incoming>| {
        let answer = match check(request.method(), request.uri().path(), request.headers(), token) {
            Ok(()) => {
                *upgrading.lock().unwrap_or_else(PoisonError::into_inner) = Some(hyper::upgrade::on(&mut request));
                switching()
            }
            Err(refusal) => refusal.answer(),
        };
        ready(Ok::<_, Infallible>(answer))
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "a client of the RPC over HTTP has gone");
    }
    let upgrading = upgrading.into_inner().unwrap_or_else(PoisonError::into_inner);
    upgrading?.await.ok().map(TokioIo::new)
}

/// The reason why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Host,
    Path,
    Method,
    Token,
    Protocol,
}

fn check(method: &Method, path: &str, headers: &HeaderMap, token: &Token) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // This stops DNS rebinding: a web page whose host name was made to resolve to this machine still sends that name.
    text(HOST).filter(|host| is_loopback(host)).ok_or(Refusal::Host)?;
    if path != PATH {
        return Err(Refusal::Path);
    }
    if method != Method::GET {
        return Err(Refusal::Method);
    }
    text(AUTHORIZATION).and_then(bearer).filter(|shown| token.matches(shown.as_bytes())).ok_or(Refusal::Token)?;
    let asked = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    let mut asked = asked.flat_map(|protocols| protocols.split(',')).map(str::trim);
    if asked.any(|protocol| protocol.eq_ignore_ascii_case(PROTOCOL)) { Ok(()) } else { Err(Refusal::Protocol) }
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let is_named = ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| authority.host().eq_ignore_ascii_case(name));
    is_named && !host.contains('@')
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn switching() -> Response<String> {
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    offer(response.headers_mut());
    response
}

fn offer(headers: &mut HeaderMap) {
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

impl Refusal {
    fn answer(self) -> Response<String> {
        let (status, message) = match self {
            Self::Host => (StatusCode::FORBIDDEN, "Host has to name this machine, such as 127.0.0.1".to_owned()),
            Self::Path => (StatusCode::NOT_FOUND, format!("there is {PATH} and nothing else")),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, format!("{PATH} takes GET")),
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                "Authorization has to show the token in rpc.token in the node's data folder, as Bearer TOKEN"
                    .to_owned(),
            ),
            Self::Protocol => (
                StatusCode::UPGRADE_REQUIRED,
                format!(
                    "this node (taskmesh {}) speaks {PROTOCOL}: ask with Connection: upgrade and Upgrade: {PROTOCOL}, or \
                     update the older of the two programs",
                    env!("CARGO_PKG_VERSION")
                ),
            ),
        };
        let mut response = Response::new(message + "\n");
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        match self {
            Self::Token => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Self::Protocol => drop(headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL))),
            Self::Host | Self::Path | Self::Method => {}
        }
        response
    }
}

/// The longest time for the head of a request, as for MCP: a client that takes longer is gone or hostile.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request: the smallest limit that hyper accepts. The head that a client sends is a few hundred
/// bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;
