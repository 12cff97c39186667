//! The check for parameters of a wrong type.
//!
//! rmcp treats a message whose parameters it cannot read as one with an unknown method, and a cursor that is not a text
//! as a missing one. Here such a message is refused, and the refusal names the parameter.

use rmcp::model::{
    CallToolRequestParams, CancelTaskParams, GetTaskParams, InitializeRequestParams, PaginatedRequestParams,
    ReadResourceRequestParams, RequestMetaObject, UpdateTaskParams,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use taskqueue_api::QueueError;

use crate::metrics::TOOLS_CALL;

/// Checks that the parameters can be read as rmcp's type for the method. Methods that this server does not have pass.
///
/// # Errors
///
/// `invalid_argument`, naming the parameter.
pub(super) fn check(method: &str, params: Option<&RawValue>) -> Result<(), QueueError> {
    match method {
        // In 2026-07-28 the method is unknown, and rmcp says so.
        "initialize" if !is_modern(params) => required::<InitializeRequestParams>(params),
        "server/discover" => required::<Discover>(params),
        TOOLS_CALL => required::<CallToolRequestParams>(params),
        "tools/list" | "resources/list" | "resources/templates/list" => {
            params.map_or(Ok(()), read::<Option<PaginatedRequestParams>>)
        }
        "resources/read" => required::<ReadResourceRequestParams>(params),
        // Before 2026-07-28 these methods are unknown, and rmcp says so.
        "tasks/get" if is_modern(params) => required::<GetTaskParams>(params),
        "tasks/update" if is_modern(params) => required::<UpdateTaskParams>(params),
        "tasks/cancel" if is_modern(params) => required::<CancelTaskParams>(params),
        _ => Ok(()),
    }
}

fn required<T: DeserializeOwned>(params: Option<&RawValue>) -> Result<(), QueueError> {
    read::<T>(params.ok_or_else(|| QueueError::invalid(PARAMS, "is required"))?)
}

fn read<T: DeserializeOwned>(params: &RawValue) -> Result<(), QueueError> {
    // A list of parameters has positions and no names.
    if params.get().starts_with('[') {
        return Err(QueueError::invalid(PARAMS, "must be an object"));
    }
    let read: Result<T, _> = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(params.get()));
    read.map(drop).map_err(|error| {
        let (path, message) = (error.path().to_string(), error.inner().to_string());
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        match (error.path().iter().next(), missing) {
            (None, Some(name)) => QueueError::invalid(name, "is required"),
            (None, None) => QueueError::invalid(PARAMS, message),
            (Some(_), _) => QueueError::invalid(&path, message),
        }
    })
}

fn is_modern(params: Option<&RawValue>) -> bool {
    params.is_some_and(|params| params.get().contains(PROTOCOL_VERSION))
}

/// The parameters of `server/discover`. rmcp's own type has no fields and allows none, because it is read without
/// `_meta`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discover {
    #[expect(dead_code, reason = "read only for whether it can be")]
    #[serde(rename = "_meta", default)]
    meta: Option<RequestMetaObject>,
}

const PARAMS: &str = "params";

/// The key that requests of 2026-07-28 have in their `_meta`.
const PROTOCOL_VERSION: &str = "\"io.modelcontextprotocol/protocolVersion\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_of_a_wrong_type_is_named() {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        for (method, params, field) in [
            ("resources/read", r#"{"uri":7}"#, Some("uri")),
            ("resources/read", "{}", Some("uri")),
            ("resources/read", r#"["x"]"#, Some("params")),
            ("resources/read", r#"{"uri":"x","_meta":7}"#, Some("_meta")),
            ("resources/read", r#"{"uri":"x","_meta":{"progressToken":1}}"#, None),
            ("tools/list", r#"{"cursor":7}"#, Some("cursor")),
            ("tools/list", "7", Some("params")),
            ("tools/list", "null", None),
            ("tools/list", r#"{"cursor":null}"#, None),
            ("tasks/get", &format!(r#"{{"taskId":7,{meta}}}"#), Some("taskId")),
            ("tasks/get", r#"{"taskId":7}"#, None),
            ("tasks/update", &format!(r#"{{"taskId":"x","inputResponses":7,{meta}}}"#), Some("inputResponses")),
            ("initialize", r#"{"protocolVersion":7,"capabilities":{},"clientInfo":{}}"#, Some("protocolVersion")),
            ("initialize", &format!("{{{meta}}}"), None),
            ("tools/call", r#"{"name":"x","requestState":7}"#, Some("requestState")),
            ("server/discover", &format!("{{{meta}}}"), None),
            ("server/discover", r#"{"_meta":[]}"#, Some("_meta")),
            ("prompts/get", "7", None),
        ] {
            let params = RawValue::from_string(params.to_owned()).unwrap();
            let refused = check(method, Some(&params)).err().and_then(|error| error.field);
            assert_eq!(refused.as_deref(), field, "{method} {params}");
        }
        assert_eq!(check("resources/read", None).unwrap_err().field.as_deref(), Some("params"));
        assert_eq!(check("tools/list", None), Ok(()));
    }
}
