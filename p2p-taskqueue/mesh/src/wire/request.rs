//! Reads the request of a peer. Nothing in it is trusted.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use taskqueue_api::{ErrorCode, Facts, QueueError, Request};

use super::limits::{REFUSAL_TEXT_BYTES_MAX, REQUEST_BYTES_SMALL};

/// Reads a request.
///
/// # Errors
///
/// The answer to the request: `limit_exceeded` when a request without content is too long, `unsupported` when the
/// operation is not known, and `invalid_argument` when the request is not understood.
pub(crate) fn read_request(raw: &RawValue) -> Result<Request, QueueError> {
    let text = raw.get();
    // A parsed list of empty values takes many times more memory than its text.
    if text.len() > REQUEST_BYTES_SMALL && !carries_content(raw) {
        return Err(QueueError::over_limit("request", text.len(), REQUEST_BYTES_SMALL, "bytes"));
    }
    serde_json::from_str(text).map_err(|error| {
        let error = error.to_string();
        match operation_name(raw) {
            // Only the parser knows the names on the wire, so an unknown operation is recognised by the parser's
            // message.
            Some(name) if error.starts_with(&format!("unknown variant `{name}`")) => QueueError::new(
                ErrorCode::Unsupported,
                format!(
                    "the operation {:?} is not known here: this node may be older than the one that asks",
                    brief(&name)
                ),
            ),
            _ => {
                QueueError::new(ErrorCode::InvalidArgument, format!("the request is not understood: {}", brief(&error)))
            }
        }
    })
}

/// Whether the operation is one that carries payloads, a result or a value.
fn carries_content(raw: &RawValue) -> bool {
    match operation_name(raw).as_deref() {
        Some("at") => serde_json::from_str(raw.get()).is_ok_and(|PassedOn { at }| {
            // A request is passed on only once.
            operation_name(at.request).is_some_and(|name| name != "at") && carries_content(at.request)
        }),
        Some(name) => Facts::of(name).is_some_and(|facts| facts.carries_content),
        None => false,
    }
}

/// A request within another, as text.
#[derive(Deserialize)]
struct PassedOn<'a> {
    #[serde(borrow)]
    at: Inner<'a>,
}

#[derive(Deserialize)]
struct Inner<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
}

/// Returns the start of a peer's text, at most [`REFUSAL_TEXT_BYTES_MAX`] bytes.
pub(super) fn brief(text: &str) -> &str {
    text.get(..text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX)).unwrap_or_default()
}

/// Returns the name of the operation: the first key of the object, or the whole text.
fn operation_name(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok().and_then(|Tag(name)| name)
}

struct Tag(Option<String>);

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TagVisitor)
    }
}

/// Keeps only the name, so that a large request takes no memory.
struct TagVisitor;

impl<'de> Visitor<'de> for TagVisitor {
    type Value = Tag;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }

    fn visit_str<E>(self, name: &str) -> Result<Tag, E> {
        Ok(Tag(Some(name.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tag, A::Error> {
        let first = map.next_entry::<String, IgnoredAny>()?;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Tag(first.map(|(name, IgnoredAny)| name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Incoming, read_answer};

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_unknown_operation_is_told_from_a_bad_request() {
        let code = |text: &str| read_request(raw(text)).unwrap_err().code;
        assert_eq!(code(r#"{"teleport":{"to":"mars"}}"#), ErrorCode::Unsupported);
        assert_eq!(code(r#""teleport""#), ErrorCode::Unsupported);
        assert_eq!(code(r#"{"get":{"task_id":"nonsense"}}"#), ErrorCode::InvalidArgument);
        assert_eq!(code(r#"[1]"#), ErrorCode::InvalidArgument);
    }

    #[test]
    fn a_request_without_content_is_refused_unparsed_when_it_is_large() {
        let nothing = format!("[{}0]", "0,".repeat(REQUEST_BYTES_SMALL / 2));
        let refused = |text: String| {
            let error = read_request(raw(&text)).unwrap_err();
            assert_eq!((error.code, error.limit), (ErrorCode::LimitExceeded, Some(REQUEST_BYTES_SMALL as u64)));
        };
        refused(format!(r#"{{"claim_many":{{"worker_id":"w","x":{nothing}}}}}"#));
        refused(format!(r#"{{"at":{{"target":{{}},"request":{{"list":{{"x":{nothing}}}}}}}}}"#));
        refused(format!(r#"{{"at":{{"request":{{"at":{{"request":{{"submit":{nothing}}}}}}}}}}}"#));
        refused(nothing.clone());
        refused(format!(r#"{{"teleport":{nothing}}}"#));
        let call = format!(r#"{{"call_tool":{{"tool_name":"a","args":{nothing}}}}}"#);
        assert!(read_request(raw(&call)).is_ok());
        let submit = format!(r#"{{"submit":{{"task_type":"a","payload":{nothing}}}}}"#);
        assert!(read_request(raw(&submit)).is_ok());
        assert!(read_request(raw(&format!(r#"{{"at":{{"target":{{}},"request":{submit}}}}}"#))).is_ok());
    }

    #[test]
    fn a_refusal_quotes_little_of_what_it_refuses() {
        let name = "é".repeat(10_000);
        for text in [format!(r#"{{"{name}":{{}}}}"#), format!(r#"{{"get":{{"task_id":1,"{name}":1}}}}"#)] {
            assert!(read_request(raw(&text)).unwrap_err().message.len() < 2 * REFUSAL_TEXT_BYTES_MAX, "{text}");
        }
        let status = format!(r#"{{"got":{{"task":{{"status":"{name}"}}}}}}"#);
        assert!(read_answer(Some(raw(&status)), None).unwrap_err().message.len() < 2 * REFUSAL_TEXT_BYTES_MAX);
    }

    #[test]
    fn nesting_is_bounded_wherever_it_is() {
        let deep = |levels: usize, open: &str, close: &str| format!("{}0{}", open.repeat(levels), close.repeat(levels));
        let arrays = deep(1_000_000, "[", "]");
        assert!(matches!(Incoming::read(format!(r#"{{"kind":"ping","x":{arrays}}}"#).as_bytes()), Ok(Incoming::Ping)));
        for text in [
            arrays.clone(),
            format!(r#"{{"submit":{{"task_type":"a","payload":{arrays}}}}}"#),
            format!(r#"{{"submit":{arrays}}}"#),
            deep(100_000, r#"{"at":{"target":{},"request":"#, "}}"),
            deep(1_000, r#"{"at":{"target":{},"request":"#, "}}"),
        ] {
            assert!(read_request(raw(&text)).is_err());
            assert!(read_answer(Some(raw(&text)), None).is_err() && read_answer(None, Some(raw(&text))).is_err());
        }
        let levels = taskqueue_api::limits::JSON_DEPTH_READ_MAX;
        let payload = |levels| format!(r#"{{"submit":{{"task_type":"a","payload":{}}}}}"#, deep(levels, "[", "]"));
        assert!(read_request(raw(&payload(levels))).is_ok());
        assert!(read_request(raw(&payload(levels + 1))).is_err());
        let within_another = format!(r#"{{"at":{{"target":{{}},"request":{}}}}}"#, payload(levels));
        assert!(read_request(raw(&within_another)).is_ok(), "what a node takes can be passed on to it");
        let children = format!(
            r#"{{"task_id":"{}","fence":"1.1","submit":[{{"task_type":"a","payload":{}}}]}}"#,
            "0".repeat(32),
            deep(levels, "[", "]")
        );
        assert!(read_request(raw(&format!(r#"{{"complete":{children}}}"#))).is_ok());
    }
}
