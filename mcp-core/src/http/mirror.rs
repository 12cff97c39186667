//! Arguments that clients repeat in the headers of the request (SEP-2243), so that programs that read only headers can
//! tell calls apart. rmcp compares the two, so it has to be given the arguments of such a call.

use std::{fmt, sync::Arc};

use rmcp::ServerHandler;
use serde_json::{Map, Value};

/// The test whether a tool has such arguments.
#[derive(Clone)]
pub(crate) struct Mirrors(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl Mirrors {
    pub(crate) fn of<H: ServerHandler>(handler: H) -> Self {
        Self(Arc::new(move |tool| handler.get_tool(tool).is_some_and(|tool| marks_any(&tool.input_schema))))
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Arc::new(|_| false))
    }

    pub(super) fn has(&self, tool: &str) -> bool {
        (self.0)(tool)
    }
}

/// Returns whether the mark is anywhere in the schema. rmcp judges the place.
fn marks_any(schema: &Map<String, Value>) -> bool {
    schema.iter().any(|(key, value)| {
        key == MARK
            || match value {
                Value::Object(inner) => marks_any(inner),
                Value::Array(inner) => inner.iter().filter_map(Value::as_object).any(marks_any),
                _ => false,
            }
    })
}

impl fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirrors").finish_non_exhaustive()
    }
}

const MARK: &str = "x-mcp-header";
