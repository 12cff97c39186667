use std::{fmt, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::Next,
    response::Response,
};
use p2p_taskqueue::{ErrorCode, QueueError};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    accept,
    body::{self, Bodies},
    site::{Hosts, Origins},
};
use crate::{
    McpConfig,
    call::{RETRY_AFTER_S, shutting_down},
    error::Refusal,
    principal::Principal,
};

/// The bounds and checks that every request to `/mcp` passes before rmcp sees it.
pub(crate) struct Gate {
    config: McpConfig,
    hosts: Hosts,
    origins: Origins,
    bodies: Bodies,
    /// Held by each request until it is answered.
    requests: Semaphore,
}

/// Lets a request through to rmcp, or answers it.
///
/// # Cancel safety
///
/// Dropping the future drops rmcp's, which cancels the handler.
pub(crate) async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match gate.pass(request, next).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(?refusal, "request refused");
            refusal.into_response()
        }
    }
}

impl Gate {
    pub(crate) fn new(config: McpConfig) -> Self {
        Self {
            hosts: Hosts::new(&config.allowed_hosts),
            origins: Origins::new(&config.allowed_origins),
            bodies: Bodies::new(config.body_bytes_max, config.body_timeout),
            requests: Semaphore::new(config.requests_max.min(Semaphore::MAX_PERMITS)),
            config,
        }
    }

    /// Room for one request.
    ///
    /// # Errors
    ///
    /// `shutting_down` when the server stops, `overloaded` when there is no room.
    pub(super) fn room(&self) -> Result<SemaphorePermit<'_>, QueueError> {
        if self.config.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        self.requests.try_acquire().map_err(|_| overloaded("too many requests at once"))
    }

    async fn pass(&self, mut request: Request, next: Next) -> Result<Response, Refusal> {
        let _room = self.room()?;
        self.check_site(request.uri(), request.headers())?;
        let principal = self.principal(request.headers())?;
        accept::widen(request.headers_mut());
        if request.method() != Method::POST {
            return Ok(next.run(request).await);
        }
        let (mut parts, body) = request.into_parts();
        let (bytes, _room) = self.bodies.read(&parts.headers, body).await?;
        let (arguments, rest) = body::take_arguments(&bytes)?;
        parts.extensions.insert(arguments);
        parts.extensions.insert(principal);
        // The body may have become shorter; rmcp reads it to its end and needs no length.
        parts.headers.remove(header::CONTENT_LENGTH);
        Ok(next.run(Request::from_parts(parts, Body::from(rest))).await)
    }

    /// Refuses what a page of another site may have made a browser send, directly or by a name that it bound to this
    /// address.
    fn check_site(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            (None, _) => uri.authority().map(|authority| authority.as_str()),
            (Some(_), Some(_)) => None,
        };
        let Some(host) = host else {
            return Err(
                Refusal::from(forbidden("the request must have one Host header")).with_status(StatusCode::BAD_REQUEST)
            );
        };
        if !self.hosts.allow(host) {
            return Err(forbidden("this Host is not served: name it in the allowed hosts").into());
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if origins.any(|origin| !origin.to_str().is_ok_and(|origin| self.origins.allow(origin))) {
            return Err(forbidden("this Origin is not served: name it in the allowed origins").into());
        }
        Ok(())
    }

    /// Who asks, by the token that they show.
    fn principal(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let Some(token) = &self.config.bearer_token else { return Ok(Principal::default()) };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        if shown.is_some_and(|shown| token.matches(shown)) {
            return Ok(Principal::named(TOKEN_HOLDER));
        }
        Err(QueueError::new(ErrorCode::Unauthorized, "show the bearer token of this server").into())
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A bound of this server is reached.
pub(super) fn overloaded(message: &str) -> QueueError {
    QueueError::new(ErrorCode::Overloaded, message).with_retry_after_s(RETRY_AFTER_S)
}

fn forbidden(message: &str) -> QueueError {
    QueueError::new(ErrorCode::Forbidden, message)
}

/// The token of `Bearer TOKEN`; the scheme is case-insensitive.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

const SCHEME: &[u8] = b"bearer ";

/// What whoever shows the one token is called.
const TOKEN_HOLDER: &str = "client";
