use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use taskqueue_api::{Caller, ErrorCode, QueueError, StatusQuery, TaskQueue, TaskQueueExt as _};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::Gate;
use crate::{error::Refusal, overload::RETRY_AFTER_S};

/// What tells whether the queue answers. It takes no place of the clients', nor may a full house be taken for a dead one: a
/// supervisor that restarts it for that only makes it worse.
#[derive(Debug)]
pub(crate) struct Probes {
    gate: Arc<Gate>,
    queue: Arc<dyn TaskQueue>,
    /// What the last one came to; held while the queue is asked. Whoever probes need not have shown a token, so the queue is
    /// asked once at a time, however many there are.
    last: Mutex<Option<Probed>>,
}

#[derive(Debug)]
struct Probed {
    began: Instant,
    outcome: Result<(), ErrorCode>,
}

/// Answers while the process does.
pub(crate) async fn healthz() -> Response {
    reply(StatusCode::OK, OK.to_owned())
}

/// Answers whether the queue does: a load balancer or supervisor sends work only then.
pub(crate) async fn readyz(State(probes): State<Arc<Probes>>) -> Response {
    match probes.probe().await {
        Ok(()) => reply(StatusCode::OK, OK.to_owned()),
        Err(code) => {
            // Whoever asks need not have shown the token: the code, not what the queue says of itself.
            let body = format!(r#"{{"ok":false,"error":{{"code":"{}"}}}}"#, code.as_str());
            reply(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

/// Answers what finds no connection free, but for probes.
pub(crate) async fn no_connection() -> Response {
    let error = QueueError::new(ErrorCode::Overloaded, "too many connections at once");
    Refusal::from(error.with_retry_after_s(RETRY_AFTER_S)).into_response()
}

impl Probes {
    pub(crate) fn new(gate: Arc<Gate>, queue: Arc<dyn TaskQueue>) -> Self {
        Self { gate, queue, last: Mutex::default() }
    }

    async fn probe(&self) -> Result<(), ErrorCode> {
        if self.gate.is_stopping() {
            return Err(ErrorCode::ShuttingDown);
        }
        let came = Instant::now();
        let probed = timeout(READY_TIMEOUT, self.ask_once(came)).await;
        probed.unwrap_or(Err(ErrorCode::Timeout))
    }

    /// Asks the queue, unless somebody else has since then.
    async fn ask_once(&self, since: Instant) -> Result<(), ErrorCode> {
        let mut last = self.last.lock().await;
        if let Some(probed) = last.as_ref().filter(|probed| probed.began > since) {
            return probed.outcome;
        }
        let began = Instant::now();
        // The one before had all the time that there was.
        if began.duration_since(since) >= READY_TIMEOUT {
            return Err(ErrorCode::Timeout);
        }
        let query = StatusQuery { timeout_s: READY_TIMEOUT.as_secs_f64(), detail: false };
        let answer = self.queue.status(&Caller::Local, query).await;
        let outcome = answer.map(|_| ()).map_err(|error| error.code);
        *last = Some(Probed { began, outcome });
        outcome
    }
}

fn reply(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

const OK: &str = r#"{"ok":true}"#;

/// Half of the time that probes commonly allow.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
