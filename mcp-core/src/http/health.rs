use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use p2p_taskqueue::{
    ErrorCode, QueueError,
    api::{StatusQuery, Target},
};

use super::Gate;
use crate::{
    call::Calls,
    principal::{Principal, Share},
};

/// What tells whether the queue answers.
#[derive(Debug)]
pub(crate) struct Probes {
    gate: Arc<Gate>,
    calls: Arc<Calls>,
    /// Apart from the requests': whoever probes need not have shown a token, and may not take the room of those who have.
    places: Share,
}

/// Answers while the process does.
pub(crate) async fn healthz() -> Response {
    reply(StatusCode::OK, OK.to_owned())
}

/// Answers whether the queue does: a load balancer or supervisor sends work only then.
pub(crate) async fn readyz(State(probes): State<Arc<Probes>>) -> Response {
    match probes.probe().await {
        Ok(()) => reply(StatusCode::OK, OK.to_owned()),
        Err(error) => {
            // Whoever asks need not have shown the token: the code, not what the queue says of itself.
            let body = format!(r#"{{"ok":false,"error":{{"code":"{}"}}}}"#, error.code.as_str());
            reply(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

impl Probes {
    pub(crate) fn new(gate: Arc<Gate>, calls: Arc<Calls>) -> Self {
        Self { gate, calls, places: Share::new(PROBES_MAX) }
    }

    async fn probe(&self) -> Result<(), QueueError> {
        let _place = self.places.take("too many probes at once")?;
        // A server without room for a request is not ready for one.
        let _room = self.gate.room()?;
        let query = StatusQuery { timeout_s: READY_TIMEOUT.as_secs_f64(), detail: false };
        tokio::time::timeout(READY_TIMEOUT, self.calls.ask(&Principal::default(), Target::default(), query))
            .await
            .map_err(|_| QueueError::new(ErrorCode::Timeout, "the queue did not answer"))?
            .map(|_| ())
    }
}

fn reply(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

const OK: &str = r#"{"ok":true}"#;

/// Half of the time that probes commonly allow.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// A supervisor, a load balancer or two, and a person.
const PROBES_MAX: usize = 16;
