use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The counters that the server keeps while it works. Values that can be looked up instead are looked up when the
/// metrics are asked for.
///
/// The value of every label is a text of this program. So clients cannot make more series than there are methods, tools
/// and codes.
#[derive(Debug)]
pub(crate) struct Metrics {
    operations: Family<Operation, Histogram, fn() -> Histogram>,
    requests: Family<Answered, Counter>,
    registry: Registry,
}

/// The labels of an operation. The names are those of OpenTelemetry's conventions for MCP, with underscores for the
/// dots, which Prometheus does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    mcp_method_name: &'static str,
    gen_ai_tool_name: &'static str,
    error_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    status: &'static str,
    code: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let (operations, requests) = (Family::new_with_constructor(histogram), Family::default());
        let mut registry = Registry::default();
        registry.register_with_unit(
            "mcp_server_operation_duration",
            "How long an MCP request took; error_type is the code of an answer that is not ok",
            Unit::Seconds,
            Family::clone(&operations),
        );
        registry.register(
            "taskmesh_http_requests",
            "Requests to the MCP endpoint by the class of the HTTP status, and by the code where this server refused",
            Family::clone(&requests),
        );
        Self { operations, requests, registry }
    }

    /// Counts an answered request. `code` is the code of a refusal.
    pub(crate) fn answered(&self, status: StatusCode, code: Option<&'static str>) {
        let answered = Answered { status: class(status), code: code.unwrap_or_default() };
        self.requests.get_or_create(&answered).inc();
    }

    /// Counts an operation that has ended, and how long it took.
    pub(crate) fn ended(&self, method: &'static str, tool: &'static str, error: &'static str, took: Duration) {
        let operation = Operation { mcp_method_name: method, gen_ai_tool_name: tool, error_type: error };
        self.operations.get_or_create(&operation).observe(took.as_secs_f64());
    }

    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// A note by which the handler of a tool call tells the metrics which of the known tools was called, and how the call
/// ended.
///
/// The checks before rmcp put it into the extensions of the HTTP request.
#[derive(Clone, Default)]
pub(crate) struct CallNote(Arc<OnceLock<(&'static str, &'static str)>>);

impl CallNote {
    /// Notes the tool, and `ok` or the code of its error. Only the first note counts.
    pub(crate) fn write(&self, tool: &'static str, outcome: &'static str) {
        // The first note stays. A second one would be about the same call.
        let _again = self.0.set((tool, outcome));
    }

    pub(crate) fn read(&self) -> Option<(&'static str, &'static str)> {
        self.0.get().copied()
    }
}

impl fmt::Debug for CallNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallNote").field(&self.0.get()).finish()
    }
}

/// Returns the label of a method: its name if it is one of MCP's, otherwise [`OTHER`].
pub(crate) fn method_label(method: Option<&str>) -> &'static str {
    let known = |method: &str| METHODS.into_iter().find(|known| *known == method);
    method.and_then(known).unwrap_or(OTHER)
}

/// Returns the class of an HTTP status, such as `4xx`.
pub(crate) fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// The label for names that this program does not know.
pub(crate) const OTHER: &str = "other";

/// The method that brings the client's answers to the questions of a worker.
pub(crate) const TASKS_UPDATE: &str = "tasks/update";

/// The method whose tool and outcome are labels, too. Other methods have the method alone as a label.
pub(crate) const TOOLS_CALL: &str = "tools/call";

const METHODS: [&str; 19] = [
    TOOLS_CALL,
    "tools/list",
    "tasks/get",
    "tasks/update",
    "tasks/cancel",
    "resources/read",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "initialize",
    "ping",
    "server/discover",
    "subscriptions/listen",
    "logging/setLevel",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
];

/// The bounds of the buckets, in seconds. They follow OpenTelemetry's bounds for MCP. Finer ones are below these,
/// because most calls of this server take less than the lowest of them. The highest is an hour, as long as the longest
/// wait.
const BUCKETS: [f64; 18] =
    [0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 300.0, 3_600.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_never_a_clients_own_text() {
        assert_eq!(method_label(Some("tools/call")), "tools/call");
        for method in [None, Some(""), Some("tools/call2"), Some("evil\nlabel")] {
            assert_eq!(method_label(method), OTHER, "{method:?}");
        }
    }
}
