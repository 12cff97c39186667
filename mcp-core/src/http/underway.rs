use std::{sync::Arc, time::Instant};

use axum::{
    body::{Body, HttpBody as _},
    http::StatusCode,
    response::Response,
};
use futures::StreamExt as _;
use tokio::sync::OwnedSemaphorePermit;

use crate::metrics::{CallNote, Metrics, OTHER, TOOLS_CALL, class};

/// One request from its arrival to its end: the places that it holds, and the facts for the metrics. It is dropped when
/// the request has ended, or when its client has gone away.
#[derive(Debug)]
pub(super) struct Underway {
    metrics: Arc<Metrics>,
    since: Instant,
    /// The label of the method, known once the body has been read. A request that is refused before is no operation.
    method: Option<&'static str>,
    note: CallNote,
    status: Option<StatusCode>,
    code: Option<&'static str>,
    places: Vec<OwnedSemaphorePermit>,
}

impl Underway {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            since: Instant::now(),
            method: None,
            note: CallNote::default(),
            status: None,
            code: None,
            places: Vec::with_capacity(PLACES),
        }
    }

    /// Keeps a place until the request ends.
    pub(super) fn hold(&mut self, place: impl Into<Option<OwnedSemaphorePermit>>) {
        self.places.extend(place.into());
    }

    /// Notes the method of the request. Returns the note for the handler of the request.
    pub(super) fn is(&mut self, method: &'static str) -> CallNote {
        self.method = Some(method);
        self.note.clone()
    }

    /// Notes the code with which the request was refused.
    pub(super) fn refused(&mut self, code: &'static str) {
        self.code = Some(code);
    }

    /// Notes that the answer begins. If the answer is a stream, the operation goes on in it, so the stream holds the
    /// places of the request until it ends.
    pub(super) fn answer(mut self, response: Response) -> Response {
        self.status = Some(response.status());
        self.metrics.answered(response.status(), self.code);
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| {
            let chunks = body.into_data_stream().map(move |chunk| {
                let _until_the_end = &self;
                chunk
            });
            Body::from_stream(chunks)
        })
    }

    fn tool_and_error(&self, method: &str) -> (&'static str, &'static str) {
        match (self.note.read(), self.status) {
            (Some((tool, outcome)), _) => (tool, if outcome == OK { "" } else { outcome }),
            // The client has gone away before the answer.
            (None, None) => (tool_of(method), INTERRUPTED),
            (None, Some(status)) if status.is_success() && method == TOOLS_CALL => (OTHER, INTERRUPTED),
            (None, Some(status)) if status.is_success() => ("", ""),
            (None, Some(status)) => (tool_of(method), self.code.unwrap_or_else(|| class(status))),
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let Some(method) = self.method {
            let (tool, error) = self.tool_and_error(method);
            self.metrics.ended(method, tool, error, self.since.elapsed());
        }
    }
}

fn tool_of(method: &str) -> &'static str {
    if method == TOOLS_CALL { OTHER } else { "" }
}

const OK: &str = "ok";

/// The code of a call whose client did not wait for its end.
const INTERRUPTED: &str = "interrupted";

/// The most places of one request: one of the server, one of the client, and one of the bodies.
const PLACES: usize = 3;
