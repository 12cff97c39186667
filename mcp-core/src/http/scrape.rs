use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};
use taskqueue_api::{
    BridgeStatus, ErrorCode, Operation as _, QueueError, QueueStatus, StatsQuery, Status, StatusQuery, Target,
};

use super::Gate;
use crate::{
    call::Calls,
    error::Refusal,
    metrics::OTHER,
    principal::{Principal, Share},
};

/// The sources of the metrics, and the places for those who ask for them.
#[derive(Debug)]
pub(crate) struct Scrapes {
    gate: Arc<Gate>,
    calls: Arc<Calls>,
    places: Share,
}

/// Answers with all metrics in the text form of OpenMetrics, which Prometheus reads.
pub(crate) async fn metrics(State(scrapes): State<Arc<Scrapes>>, request: Request) -> Response {
    match scrapes.answer(request).await {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS), (header::CACHE_CONTROL, "no-store")], text).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

impl Scrapes {
    pub(crate) fn new(gate: Arc<Gate>, calls: Arc<Calls>) -> Self {
        Self { gate, calls, places: Share::new(SCRAPES_MAX) }
    }

    async fn answer(&self, request: Request) -> Result<String, Refusal> {
        let principal = self.gate.check(&request)?;
        if !principal.allows(&StatsQuery::FACTS) {
            let message = "the metrics are about everybody's tasks: this client may not read those";
            return Err(QueueError::new(ErrorCode::Forbidden, message).into());
        }
        let _place = self.places.take("too many ask for the metrics at once")?;
        let query = StatusQuery { timeout_s: QUEUE_TIMEOUT.as_secs_f64(), detail: true };
        let nobody = Principal::default();
        let asked = self.calls.ask(&nobody, Target::default(), query);
        // That the queue does not answer is itself a metric, and all other metrics are given anyway.
        let status = tokio::time::timeout(QUEUE_TIMEOUT, asked).await.ok().and_then(Result::ok);
        let mut now = Registry::default();
        self.register_server(&mut now);
        register_queue(&mut now, status);
        let mut text = String::new();
        let written = text::encode_registry(&mut text, self.gate.metrics().registry())
            .and_then(|()| text::encode_registry(&mut text, &now))
            .and_then(|()| text::encode_eof(&mut text));
        written.map_err(|fmt::Error| Refusal::from(unwritable()))?;
        Ok(text)
    }

    fn register_server(&self, now: &mut Registry) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        now.register("taskmesh_build", "The program", build);
        let load = self.gate.load();
        gauge(now, "taskmesh_http_requests_in_flight", "MCP requests that are not answered yet", load.requests);
        gauge(now, "taskmesh_waits_in_flight", "Calls that wait", self.calls.waiting());
        let (requests, waits) = (Family::<_, Gauge>::default(), Family::<_, Gauge>::default());
        for (client, own_requests, own_waits) in load.clients {
            let client = ClientLabel { client };
            requests.get_or_create(&client).set(signed(own_requests as u64));
            waits.get_or_create(&client).set(signed(own_waits as u64));
        }
        now.register("taskmesh_client_requests_in_flight", "MCP requests of each client with a token", requests);
        now.register("taskmesh_client_waits_in_flight", "Calls of each client with a token that wait", waits);
    }
}

/// A client, by its name in the configuration. So there are no more labels than configured clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabel {
    client: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

fn register_queue(now: &mut Registry, status: Option<Status>) {
    gauge(now, "taskmesh_queue_up", "Whether the queue told how it is within a second", usize::from(status.is_some()));
    let Some(status) = status else { return };
    if let Some(queue) = status.queue {
        register_tasks(now, &queue);
    }
    if let Some(bridge) = status.bridge {
        register_bridge(now, &bridge);
    }
}

fn register_tasks(now: &mut Registry, queue: &QueueStatus) {
    let tasks = Family::<_, Gauge>::default();
    for (name, count) in &queue.totals {
        let state = STATES.into_iter().find(|state| state == name).unwrap_or(OTHER);
        tasks.get_or_create(&StateLabel { state }).inc_by(signed(*count));
    }
    now.register("taskmesh_queue_tasks", "Tasks of this node by state", tasks);
    let oldest = Gauge::<f64, AtomicU64>::default();
    oldest.set(queue.oldest_queued_s.unwrap_or_default());
    now.register("taskmesh_queue_oldest_queued_seconds", "How long the oldest queued task has waited", oldest);
}

fn register_bridge(now: &mut Registry, bridge: &BridgeStatus) {
    gauge(now, "taskmesh_bridge_inline", "Whether calls reach the queue without a hop", usize::from(bridge.inline));
    let in_flight = usize::try_from(bridge.in_flight).unwrap_or(usize::MAX);
    gauge(now, "taskmesh_bridge_in_flight", "Calls on the way across the bridge", in_flight);
    for (name, help, value) in [
        ("taskmesh_bridge_calls", "Calls that crossed the bridge", bridge.calls),
        ("taskmesh_bridge_cancelled", "Of these, given up by their callers", bridge.cancelled),
        ("taskmesh_bridge_panicked", "Of these, ended by a panic", bridge.panicked),
        ("taskmesh_bridge_overloaded", "Calls that found the bridge full", bridge.overloaded),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        now.register(name, help, counter);
    }
}

fn gauge(now: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge = Gauge::<i64>::default();
    gauge.set(signed(value as u64));
    now.register(name, help, gauge);
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unwritable() -> QueueError {
    QueueError::new(ErrorCode::Internal, "the metrics cannot be written")
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const STATES: [&str; 5] = ["queued", "running", "completed", "failed", "cancelled"];

/// How long the queue may take to answer. It is well below the ten seconds that a scrape commonly has.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The most scrapes at once: enough for a few monitors. Each one makes the queue count.
const SCRAPES_MAX: usize = 4;
