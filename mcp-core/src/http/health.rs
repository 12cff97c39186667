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
use crate::{call::Calls, principal::Principal};

/// Answers while the process does.
pub(crate) async fn health() -> Response {
    reply(StatusCode::OK, OK.to_owned())
}

/// Answers whether the queue does: a load balancer or supervisor sends work only then.
pub(crate) async fn ready(State((gate, calls)): State<(Arc<Gate>, Arc<Calls>)>) -> Response {
    match probe(&gate, &calls).await {
        Ok(()) => reply(StatusCode::OK, OK.to_owned()),
        Err(error) => {
            // Whoever asks need not have shown the token: the code, not what the queue says of itself.
            let body = format!(r#"{{"ok":false,"error":{{"code":"{}"}}}}"#, error.code.as_str());
            reply(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

async fn probe(gate: &Gate, calls: &Calls) -> Result<(), QueueError> {
    let _room = gate.room()?;
    let query = StatusQuery { timeout_s: READY_TIMEOUT.as_secs_f64(), detail: false };
    tokio::time::timeout(READY_TIMEOUT, calls.ask(&Principal::default(), Target::default(), query))
        .await
        .map_err(|_| QueueError::new(ErrorCode::Timeout, "the queue did not answer"))?
        .map(|_| ())
}

fn reply(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

const OK: &str = r#"{"ok":true}"#;

/// Half of the time that probes commonly allow.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
