use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use futures::StreamExt;
use rmcp::model::RequestId;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use taskqueue_api::{ErrorCode, Outcome, QueueError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{mirror::Mirrors, params};
use crate::{
    error::Refusal,
    metrics::{TASKS_UPDATE, TOOLS_CALL, method_label},
    overload::overloaded,
};

/// The bounds under which request bodies are read.
#[derive(Debug)]
pub(super) struct Bodies {
    bytes_max: usize,
    timeout: Duration,
    /// The room for all bodies together, in KiB. Each body holds its part until its request is answered.
    room: Arc<Semaphore>,
}

impl Bodies {
    pub(super) fn new(bytes_max: usize, timeout: Duration) -> Self {
        let room = ALL_BYTES_MAX.max(bytes_max).div_ceil(KIB);
        Self { bytes_max, timeout, room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))) }
    }

    /// Reads a body to its end.
    ///
    /// # Errors
    ///
    /// `limit_exceeded` for a body that is too long, `timeout` for one that takes too long, `overloaded` when all
    /// bodies together take too much memory, `invalid_argument` when the body breaks off.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the bytes that were read are lost.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        self.check_len(declared.unwrap_or_default())?;
        tokio::time::timeout(self.timeout, self.collect(body)).await.unwrap_or_else(|_| {
            let message = format!("the request's body did not come within {} s", self.timeout.as_secs_f64());
            let mut error = QueueError::new(ErrorCode::Timeout, message);
            error.outcome = Outcome::NotApplied;
            Err(Refusal::from(error).with_status(StatusCode::REQUEST_TIMEOUT))
        })
    }

    async fn collect(&self, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        let (mut first, mut whole, mut bytes_len) = (Bytes::new(), Vec::new(), 0);
        let mut held: Option<OwnedSemaphorePermit> = None;
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                let error = QueueError::new(ErrorCode::InvalidArgument, format!("the body broke off: {error}"));
                Refusal::from(error)
            })?;
            bytes_len += chunk.len();
            self.check_len(bytes_len)?;
            let more = bytes_len.div_ceil(KIB) - held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more =
                u32::try_from(more).ok().and_then(|more| Arc::clone(&self.room).try_acquire_many_owned(more).ok());
            let more = more.ok_or_else(|| overloaded("too many bytes of requests at once"))?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            // Most bodies come in one piece, which is not copied. Several pieces are copied into one, because each of
            // them would hold more memory than its own bytes.
            if bytes_len == chunk.len() {
                first = chunk;
            } else {
                if whole.is_empty() {
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&chunk);
            }
        }
        Ok((if whole.is_empty() { first } else { whole.into() }, held))
    }

    fn check_len(&self, bytes_len: usize) -> Result<(), Refusal> {
        if bytes_len > self.bytes_max {
            return Err(QueueError::over_limit("body", bytes_len, self.bytes_max, "bytes").into());
        }
        Ok(())
    }
}

/// The text of a JSON object as the client wrote it: the arguments of a tool call, or the answers of `tasks/update`.
///
/// Payloads, results and answers are passed on as given. rmcp's parsed values would alter them, and large ones would be
/// parsed for nothing.
#[derive(Debug, Clone)]
pub(crate) struct RawArguments(pub(crate) Bytes);

/// A message, taken apart.
pub(super) struct Taken {
    pub(super) arguments: RawArguments,
    /// The message without the arguments, or with them if rmcp has to see them.
    pub(super) rest: Bytes,
    /// The label of its method, as [`method_label`] returns it.
    pub(super) method: &'static str,
    /// Its id as JSON text, if it has one.
    pub(super) id: Option<Box<RawValue>>,
}

/// Takes the arguments out of the body of a tool call, or the answers out of the body of a `tasks/update`.
///
/// # Errors
///
/// A refusal when the body is not a JSON-RPC message, when a tool call names no tool or has arguments that are not an
/// object, or when a parameter of another method has a wrong type.
pub(super) fn take_arguments(body: &Bytes, mirrors: &Mirrors) -> Result<Taken, Refusal> {
    let message: Message<'_> = serde_json::from_slice(body)
        .map_err(|error| if error.is_data() { Refusal::not_a_message(error) } else { Refusal::malformed(error) })?;
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::not_a_message("send the messages of a batch one by one"));
    }
    check_form(&message)?;
    let method = method_label(message.method.as_deref());
    let id = message.id.map(ToOwned::to_owned);
    let none = |id| Taken { arguments: RawArguments(Bytes::from_static(b"{}")), rest: body.clone(), method, id };
    // The status is that with which rmcp answers parameters that it refuses. Of these parameters it would say only that
    // it does not know such a message.
    let refusal = |error| Refusal::from(error).with_status(StatusCode::OK).with_id(message.id);
    if method != TOOLS_CALL {
        params::check(method, message.params).map_err(refusal)?;
        let responses = message.params.filter(|_| method == TASKS_UPDATE).and_then(input_responses);
        return Ok(match responses {
            Some(responses) => cut(body, responses, method, id),
            None => none(id),
        });
    }
    let params = message.params.ok_or_else(|| refusal(QueueError::invalid("params", "is required")))?;
    let call: CallParams<'_> = serde_json::from_str(params.get()).map_err(|error| {
        // The wrong parameter is looked for only now, to name it.
        let named = params::check(method, Some(params)).err();
        refusal(named.unwrap_or_else(|| QueueError::invalid("params", error)))
    })?;
    let Some(arguments) = call.arguments else { return Ok(none(id)) };
    if !arguments.get().starts_with('{') {
        return Err(refusal(QueueError::invalid("arguments", "must be a JSON object")));
    }
    if mirrors.has(&call.name) {
        return Ok(Taken {
            arguments: RawArguments(body.slice_ref(arguments.get().as_bytes())),
            rest: body.clone(),
            method,
            id,
        });
    }
    Ok(cut(body, arguments, method, id))
}

/// Returns the answers of a `tasks/update` if they are an object. Anything else is left for rmcp to refuse.
fn input_responses(params: &RawValue) -> Option<&RawValue> {
    let update: UpdateParams<'_> = serde_json::from_str(params.get()).ok()?;
    update.input_responses.filter(|responses| responses.get().starts_with('{'))
}

/// Takes an object out of the body and leaves `{}` in its place.
fn cut(body: &Bytes, object: &RawValue, method: &'static str, id: Option<Box<RawValue>>) -> Taken {
    let object = body.slice_ref(object.get().as_bytes());
    let start = object.as_ptr().addr() - body.as_ptr().addr();
    let (before, after) = (body.get(..start), body.get(start + object.len()..));
    let rest = [before.unwrap_or_default(), b"{}", after.unwrap_or_default()].concat();
    Taken { arguments: RawArguments(object), rest: rest.into(), method, id }
}

/// Checks the members that every message has, and says which one is wrong. rmcp would say only that this is not a
/// message, or take it for a notification.
fn check_form(message: &Message<'_>) -> Result<(), Refusal> {
    let not_a_message = |reason: &str| Refusal::not_a_message(reason).with_id(message.id.filter(|id| is_id(id)));
    if message.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
        return Err(not_a_message("jsonrpc must be \"2.0\""));
    }
    if message.id.is_some_and(|id| !is_id(id)) {
        return Err(not_a_message("id must be a text or an integer"));
    }
    if message.method.is_none() && message.result.is_none() && message.error.is_none() {
        return Err(not_a_message("it has no method"));
    }
    Ok(())
}

/// Returns whether rmcp reads the value as an id. It reads `1.0` as an integer.
fn is_id(id: &RawValue) -> bool {
    serde_json::from_str::<RequestId>(id.get()).is_ok()
}

/// The members of a message that are needed here. rmcp judges the others.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<&'a RawValue>,
    /// A `null` is kept apart from a missing id, because it is refused.
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(default)]
    result: Option<IgnoredAny>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct CallParams<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct UpdateParams<'a> {
    #[serde(borrow, default, rename = "inputResponses")]
    input_responses: Option<&'a RawValue>,
}

const KIB: usize = 1024;

/// The most bytes of all request bodies together: 64 KiB for each of the requests that are served at once by default.
const ALL_BYTES_MAX: usize = 256 * KIB * KIB;

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> (String, String) {
        let taken = take_arguments(&Bytes::copy_from_slice(body.as_bytes()), &Mirrors::none()).unwrap();
        let Taken { arguments: RawArguments(arguments), rest, .. } = taken;
        (String::from_utf8(arguments.to_vec()).unwrap(), String::from_utf8(rest.to_vec()).unwrap())
    }

    #[test]
    fn arguments_are_taken_as_written() {
        let (arguments, rest) = take(
            r#"{"jsonrpc":"2.0","method":"tools\/call","params":{"arguments": {"a":1.50, "b":"é"} ,"name":"x"},"id":1}"#,
        );
        assert_eq!(arguments, r#"{"a":1.50, "b":"é"}"#);
        assert_eq!(rest, r#"{"jsonrpc":"2.0","method":"tools\/call","params":{"arguments": {} ,"name":"x"},"id":1}"#);
    }

    #[test]
    fn answers_to_a_worker_are_taken_as_written() {
        let (answers, rest) = take(
            r#"{"jsonrpc":"2.0","method":"tasks/update","params":{"taskId":"x","inputResponses":{"n": 1.10}},"id":1}"#,
        );
        assert_eq!(answers, r#"{"n": 1.10}"#);
        assert_eq!(
            rest,
            r#"{"jsonrpc":"2.0","method":"tasks/update","params":{"taskId":"x","inputResponses":{}},"id":1}"#
        );
    }

    #[test]
    fn other_messages_stay_as_they_are() {
        for body in [
            r#"{"jsonrpc":"2.0","method":"tools/list","params":{"arguments":{"a":1}},"id":1}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x","arguments":null}}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"}}"#,
            r#"{"jsonrpc":"2.0","method":"tasks/update","params":{"inputResponses":[1.10]}}"#,
            r#"{"jsonrpc":"2.0","method":"tasks/update","params":[1]}"#,
            r#"{"jsonrpc":"2.0","result":{},"id":1}"#,
        ] {
            assert_eq!(take(body), ("{}".to_owned(), body.to_owned()));
        }
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded() {
        let bodies = Bodies { bytes_max: 4 * KIB, timeout: Duration::from_secs(30), room: Arc::new(Semaphore::new(3)) };
        let body = || Body::from(vec![b'x'; 2 * KIB]);
        let headers = HeaderMap::new();
        let first = bodies.read(&headers, body()).await;
        assert!(first.is_ok());
        let refused = bodies.read(&headers, body()).await.unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert!(bodies.read(&headers, body()).await.is_ok());
    }
}
