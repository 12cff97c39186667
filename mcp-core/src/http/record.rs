//! Adds the error record to rmcp's own refusals, which are plain text or JSON without the record.

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use rmcp::model::ErrorCode as RpcCode;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use taskqueue_api::{ErrorCode, QueueError};

use super::params;
use crate::{error::Refusal, metrics::TOOLS_CALL};

/// The parts of a request that are needed to word a refusal of it.
pub(super) struct Asked {
    /// Its id as JSON text, if it has one.
    pub(super) id: Option<Box<RawValue>>,
    pub(super) method: &'static str,
    /// The message as rmcp got it.
    pub(super) message: Bytes,
}

/// Adds the error record to the answer if it is a refusal. Returns the answer, and the code of the record if one was
/// added.
pub(super) async fn with_record(response: Response, asked: Option<&Asked>) -> (Response, Option<&'static str>) {
    let is_json = has_type(response.headers(), "application/json");
    let is_refused = !response.status().is_success();
    // The answer is an event stream, or it is neither JSON nor a refusal.
    if response.body().size_hint().exact().is_none() || !is_json && !is_refused {
        return (response, None);
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    if !is_json {
        let message = plain(&bytes);
        // rmcp answers 415 also for a body that it cannot read. Only its message about a wrong `Content-Type` names
        // that header.
        let is_body = parts.status == StatusCode::UNSUPPORTED_MEDIA_TYPE && !message.contains(CONTENT_TYPE);
        let status = if is_body { StatusCode::BAD_REQUEST } else { parts.status };
        let refusal = Refusal::of_status(status, &message).with_id(asked.and_then(|asked| asked.id.as_deref()));
        let code = refusal.code();
        return (refusal.into_response_with(parts.headers), Some(code));
    }
    let Some(error) = read_error(&bytes) else { return (Response::from_parts(parts, Body::from(bytes)), None) };
    if let Some(refusal) = wrong_params(&error, asked) {
        let code = refusal.code();
        return (refusal.into_response(), Some(code));
    }
    let (bytes, code) = complete(&bytes, error).unwrap_or((bytes, None));
    parts.headers.remove(header::CONTENT_LENGTH);
    (Response::from_parts(parts, Body::from(bytes)), code)
}

/// Returns the refusal of a tool call whose parameters rmcp could not read, so that it took the method for an unknown
/// one.
fn wrong_params(error: &RpcError, asked: Option<&Asked>) -> Option<Refusal> {
    let asked = asked.filter(|asked| error.code == RpcCode::METHOD_NOT_FOUND.0 && asked.method == TOOLS_CALL)?;
    let message: Message<'_> = serde_json::from_slice(&asked.message).ok()?;
    let error = params::check(asked.method, message.params).err()?;
    Some(Refusal::from(error).with_status(StatusCode::OK).with_id(asked.id.as_deref()))
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i32,
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

/// Returns the error of a message. For a message with a result it returns `None`, without reading the result.
fn read_error(message: &[u8]) -> Option<RpcError> {
    let rest = message.strip_prefix(BEFORE_ID).map_or_else(
        || message.strip_prefix(WITHOUT_ID),
        |rest| {
            let mut id = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
            id.next()?.ok()?;
            rest.get(id.byte_offset()..)
        },
    )?;
    let error = rest.strip_prefix(ERROR)?;
    serde_json::Deserializer::from_slice(error).into_iter().next()?.ok()
}

/// Puts the record into the `data` of the error, beside what the protocol wants there. Returns the message and the code
/// of the record, or `None` if the message stays as it is.
fn complete(message: &[u8], error: RpcError) -> Option<(Bytes, Option<&'static str>)> {
    let mut data = match error.data {
        Some(Value::Object(data)) => data,
        Some(_) => return None,
        None => Map::new(),
    };
    if data.contains_key("outcome") {
        return None;
    }
    let record = record(RpcCode(error.code), &error.message);
    let code = record.code.as_str();
    if let Value::Object(record) = serde_json::to_value(&record).ok()? {
        data.extend(record);
    }
    let mut whole: Value = serde_json::from_slice(message).ok()?;
    *whole.get_mut("error")?.as_object_mut()?.entry("data").or_insert(Value::Null) = Value::Object(data);
    Some((serde_json::to_vec(&whole).ok()?.into(), Some(code)))
}

fn record(code: RpcCode, message: &str) -> QueueError {
    let code = match code {
        RpcCode::METHOD_NOT_FOUND => ErrorCode::Unsupported,
        RpcCode::RESOURCE_NOT_FOUND => ErrorCode::NotFound,
        RpcCode::INTERNAL_ERROR => ErrorCode::Internal,
        _ => ErrorCode::InvalidArgument,
    };
    let mut record = QueueError::new(code, message);
    record.field = (code == ErrorCode::InvalidArgument).then(|| named(message)).flatten();
    record
}

/// Returns the header or the parameter that a message of rmcp is about: the one that it names first.
pub(crate) fn named(message: &str) -> Option<String> {
    let position = |name: &&str| message.find(*name);
    let first = NAMES.into_iter().filter(|name| position(name).is_some()).min_by_key(position);
    first.map(str::to_owned)
}

fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..PLAIN_BYTES_MAX).unwrap_or(bytes)).into_owned();
    if text.trim().is_empty() { "refused".to_owned() } else { text }
}

fn has_type(headers: &HeaderMap, name: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    value.is_some_and(|value| value.starts_with(name.as_bytes()))
}

/// How rmcp begins a message, and an error in it.
const BEFORE_ID: &[u8] = br#"{"jsonrpc":"2.0","id":"#;
const WITHOUT_ID: &[u8] = br#"{"jsonrpc":"2.0""#;
const ERROR: &[u8] = br#","error":"#;

/// The most bytes that are read of a plain text. rmcp writes one sentence.
const PLAIN_BYTES_MAX: usize = 1_024;

const CONTENT_TYPE: &str = "Content-Type";

/// The headers and the parameter that rmcp's messages name when they are wrong.
const NAMES: [&str; 6] = [CONTENT_TYPE, "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Param", "_meta"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_from_a_result_by_its_beginning() {
        for (message, is_error) in [
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"m"}}"#, true),
            (r#"{"jsonrpc":"2.0","id":"a,\"error\":\"","error":{"code":-32601,"message":"m"}}"#, true),
            (r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"m"}}"#, true),
            (r#"{"jsonrpc":"2.0","id":",\"error\":","result":{"error":{"code":1,"message":"m"}}}"#, false),
            (r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, false),
            ("", false),
        ] {
            assert_eq!(read_error(message.as_bytes()).is_some(), is_error, "{message}");
        }
    }

    #[test]
    fn the_record_stands_beside_what_the_protocol_wants() {
        let message = br#"{"jsonrpc":"2.0","id":7,"error":{"code":-32022,"message":"m","data":{"supported":["a"]}}}"#;
        let (bytes, code) = complete(message, read_error(message).unwrap()).unwrap();
        let whole: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(code, Some("invalid_argument"));
        let data = &whole["error"]["data"];
        assert_eq!((&data["supported"][0], &data["code"]), (&"a".into(), &"invalid_argument".into()));
        let again = complete(&bytes, read_error(&bytes).unwrap());
        assert!(again.is_none(), "a record that is there stays");
    }
}
