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

/// The probe that tells whether the queue answers.
///
/// It takes no place among the requests of clients, so a full server is not taken for a dead one. A supervisor that
/// restarts a full server would only make it worse.
#[derive(Debug)]
pub(crate) struct Probes {
    gate: Arc<Gate>,
    queue: Arc<dyn TaskQueue>,
    /// The last probe. The lock is held while the queue is asked. Anybody may probe without a token, so the queue is
    /// asked by one probe at a time, however many there are.
    last: Mutex<Option<Probed>>,
}

#[derive(Debug)]
struct Probed {
    began: Instant,
    outcome: Result<(), ErrorCode>,
}

/// Answers `/healthz`, with 200 as long as the process answers at all.
pub(crate) async fn healthz() -> Response {
    reply(StatusCode::OK, OK.to_owned())
}

/// Answers `/readyz`, with 200 only if the queue answers. A load balancer or supervisor sends work only then.
pub(crate) async fn readyz(State(probes): State<Arc<Probes>>) -> Response {
    match probes.probe().await {
        Ok(()) => reply(StatusCode::OK, OK.to_owned()),
        Err(code) => {
            // Anybody may ask without a token. So the body has the code, but not the queue's message.
            let body = format!(r#"{{"ok":false,"error":{{"code":"{}"}}}}"#, code.as_str());
            reply(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

/// Refuses a request, other than a probe, on a connection beyond the allowed number.
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

    /// Asks the queue, unless another probe has asked it after `since`.
    async fn ask_once(&self, since: Instant) -> Result<(), ErrorCode> {
        let mut last = self.last.lock().await;
        if let Some(probed) = last.as_ref().filter(|probed| probed.began > since) {
            return probed.outcome;
        }
        let began = Instant::now();
        // Waiting for the probe before this one took all the time that there was.
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

/// How long a probe may take: half of the time that supervisors commonly allow.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
