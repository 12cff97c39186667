use std::{fmt, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::Next,
    response::Response,
};
use taskqueue_api::{ErrorCode, QueueError};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    accept,
    body::{self, Bodies},
    clients::Clients,
    mirror::Mirrors,
    record::{self, Asked},
    site::{Hosts, Origins},
    splice::Splice,
    underway::Underway,
    user,
};
use crate::{
    McpConfig,
    call::shutting_down,
    error::Refusal,
    metrics::Metrics,
    principal::{Principal, Share},
};

/// The bounds and checks that every request to `/mcp` passes before rmcp sees it.
pub(crate) struct Gate {
    config: McpConfig,
    hosts: Hosts,
    origins: Origins,
    clients: Clients,
    bodies: Bodies,
    /// The places for requests. Each request holds one until it is answered.
    requests: Share,
    metrics: Arc<Metrics>,
}

/// The gate, with what it has to know of the tools behind it.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) gate: Arc<Gate>,
    pub(crate) mirrors: Mirrors,
}

/// The requests that are not answered yet.
pub(super) struct Load {
    pub(super) requests: usize,
    /// The name of each client, with the numbers of its requests and of its waits.
    pub(super) clients: Vec<(String, usize, usize)>,
}

/// Passes a request on to rmcp, or answers it with a refusal.
///
/// # Cancel safety
///
/// Dropping the future drops rmcp's, which cancels the handler.
pub(crate) async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    let mut underway = Underway::new(Arc::clone(&door.gate.metrics));
    let response = match door.gate.pass(request, next, &door.mirrors, &mut underway).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(?refusal, "request refused");
            underway.refused(refusal.code());
            refusal.into_response()
        }
    };
    underway.answer(response)
}

impl Gate {
    pub(crate) fn new(config: McpConfig) -> Self {
        Self {
            hosts: Hosts::new(&config.allowed_hosts),
            origins: Origins::new(&config.allowed_origins),
            bodies: Bodies::new(config.body_bytes_max, config.body_timeout),
            clients: Clients::new(&config),
            requests: Share::new(config.requests_max),
            metrics: Arc::new(Metrics::new()),
            config,
        }
    }

    /// Takes room for one request.
    ///
    /// # Errors
    ///
    /// `shutting_down` when the server stops, `overloaded` when there is no room.
    pub(super) fn room(&self) -> Result<OwnedSemaphorePermit, QueueError> {
        if self.is_stopping() {
            return Err(shutting_down());
        }
        self.requests.take("too many requests at once")
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.config.shutdown.is_cancelled()
    }

    /// Checks the host, the origin and the token of a request, and returns its client. Where no token is asked for, it
    /// checks the user instead, if that is configured.
    ///
    /// # Errors
    ///
    /// A refusal when the host or the origin is not served, when a token is required and the request shows none that is
    /// known, or when another user of this machine asks.
    pub(super) fn check(&self, request: &Request) -> Result<Principal, Refusal> {
        self.check_site(request.uri(), request.headers())?;
        let shown = request.headers().get(header::AUTHORIZATION);
        let principal = self.clients.who(shown.map(|value| value.as_bytes()))?;
        if self.config.own_user_only && principal.name().is_none() {
            user::check(request.extensions().get())?;
        }
        Ok(principal)
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn load(&self) -> Load {
        let client = |principal: &Principal| {
            let (requests, waits) = principal.load();
            (principal.name().unwrap_or_default().to_owned(), requests, waits)
        };
        Load { requests: self.requests.taken(), clients: self.clients.all().map(client).collect() }
    }

    async fn pass(
        &self,
        mut request: Request,
        next: Next,
        mirrors: &Mirrors,
        underway: &mut Underway,
    ) -> Result<Response, Refusal> {
        underway.hold(self.room()?);
        let principal = self.check(&request)?;
        underway.hold(principal.request()?);
        accept::widen(request.headers_mut());
        if request.method() != Method::POST {
            return Ok(recorded(next.run(request).await, None, underway).await);
        }
        let (mut parts, body) = request.into_parts();
        let (bytes, room) = self.bodies.read(&parts.headers, body).await?;
        underway.hold(room);
        let taken = body::take_arguments(&bytes, mirrors)?;
        parts.extensions.insert(taken.arguments);
        parts.extensions.insert(underway.is(taken.method));
        parts.extensions.insert(principal);
        let splice = Splice::new();
        parts.extensions.insert(splice.clone());
        // The body may have become shorter; rmcp reads it to its end and needs no length.
        parts.headers.remove(header::CONTENT_LENGTH);
        let asked = Asked { id: taken.id, method: taken.method, message: taken.rest.clone() };
        let response = next.run(Request::from_parts(parts, Body::from(taken.rest))).await;
        Ok(recorded(splice.fill(response).await, Some(&asked), underway).await)
    }

    /// Refuses requests that a page of another site may have made a browser send. Such a page sends them directly, or
    /// by a name of its own that it has bound to this address.
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
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Adds the error record to a refusal of rmcp, and notes its code.
async fn recorded(response: Response, asked: Option<&Asked>, underway: &mut Underway) -> Response {
    let (response, code) = record::with_record(response, asked).await;
    if let Some(code) = code {
        underway.refused(code);
    }
    response
}

fn forbidden(message: &str) -> QueueError {
    QueueError::new(ErrorCode::Forbidden, message)
}
