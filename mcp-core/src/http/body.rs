use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use futures::StreamExt;
use p2p_taskqueue::{ErrorCode, QueueError, api::Outcome};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{gate::overloaded, mirror::Mirrors};
use crate::{
    error::Refusal,
    metrics::{TASKS_UPDATE, TOOLS_CALL, method_label},
};

/// The bounds under which request bodies are read.
#[derive(Debug)]
pub(super) struct Bodies {
    bytes_max: usize,
    timeout: Duration,
    /// Room for all bodies together, in KiB; held by each until its request is answered.
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
    /// `limit_exceeded` for one that is too long, `timeout` for one that takes too long, `overloaded` when all together
    /// take too much memory, `interrupted` when it breaks off.
    ///
    /// # Cancel safety
    ///
    /// What was read is lost.
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
            // Most bodies come in one piece and are not copied; pieces are, for each would hold more than its own bytes.
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

/// The arguments of a tool call, or the answers of `tasks/update`, as the client wrote them: a JSON object. Payloads, results
/// and answers are passed on as given, which they would not be after a way through rmcp's values; and large ones are not taken
/// apart for nothing.
#[derive(Debug, Clone)]
pub(crate) struct RawArguments(pub(crate) Bytes);

/// A message in its parts.
pub(super) struct Taken {
    pub(super) arguments: RawArguments,
    /// The same message without them, or with them if rmcp has to see them.
    pub(super) rest: Bytes,
    /// Its method where that is one of MCP's.
    pub(super) method: &'static str,
}

/// Takes the arguments out of a tool call's body, and the answers out of that of `tasks/update`.
///
/// # Errors
///
/// A refusal when the body is no JSON-RPC message or the call names no tool or has arguments that are no object.
pub(super) fn take_arguments(body: &Bytes, mirrors: &Mirrors) -> Result<Taken, Refusal> {
    let message: Message<'_> = serde_json::from_slice(body)
        .map_err(|error| if error.is_data() { Refusal::not_a_message(error) } else { Refusal::malformed(error) })?;
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::not_a_message("send the messages of a batch one by one"));
    }
    let method = method_label(message.method.as_deref());
    let none = || Taken { arguments: RawArguments(Bytes::from_static(b"{}")), rest: body.clone(), method };
    if method == TASKS_UPDATE {
        let update = message.params.and_then(|params| serde_json::from_str::<UpdateParams<'_>>(params.get()).ok());
        let responses = update.and_then(|update| update.input_responses);
        // What is no object is rmcp's to refuse.
        let responses = responses.filter(|responses| responses.get().starts_with('{'));
        return Ok(responses.map_or_else(none, |responses| cut(body, responses, method)));
    }
    if method != TOOLS_CALL {
        return Ok(none());
    }
    // As rmcp answers parameters that it refuses; of these it would say only that it knows no such message.
    let refusal = |error| Refusal::from(error).with_status(StatusCode::OK).with_id(message.id);
    let params = message.params.ok_or_else(|| refusal(QueueError::invalid("params", "is required")))?;
    let call: CallParams<'_> =
        serde_json::from_str(params.get()).map_err(|error| refusal(QueueError::invalid("params", error)))?;
    let Some(arguments) = call.arguments else { return Ok(none()) };
    if !arguments.get().starts_with('{') {
        return Err(refusal(QueueError::invalid("arguments", "must be a JSON object")));
    }
    if mirrors.has(&call.name) {
        let arguments = body.slice_ref(arguments.get().as_bytes());
        return Ok(Taken { arguments: RawArguments(arguments), rest: body.clone(), method });
    }
    Ok(cut(body, arguments, method))
}

/// Leaves `{}` where an object of the body was.
fn cut(body: &Bytes, object: &RawValue, method: &'static str) -> Taken {
    let object = body.slice_ref(object.get().as_bytes());
    let start = object.as_ptr().addr() - body.as_ptr().addr();
    let (before, after) = (body.get(..start), body.get(start + object.len()..));
    let rest = [before.unwrap_or_default(), b"{}", after.unwrap_or_default()].concat();
    Taken { arguments: RawArguments(object), rest: rest.into(), method }
}

/// As much of a message as is needed; everything else is rmcp's to judge.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
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

/// All request bodies together: as many requests as are served at once, of 64 KiB each.
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
        let (arguments, rest) =
            take(r#"{"method":"tools\/call","params":{"arguments": {"a":1.50, "b":"é"} ,"name":"x"},"id":1}"#);
        assert_eq!(arguments, r#"{"a":1.50, "b":"é"}"#);
        assert_eq!(rest, r#"{"method":"tools\/call","params":{"arguments": {} ,"name":"x"},"id":1}"#);
    }

    #[test]
    fn answers_to_a_worker_are_taken_as_written() {
        let (answers, rest) =
            take(r#"{"method":"tasks/update","params":{"taskId":"x","inputResponses":{"n": 1.10}},"id":1}"#);
        assert_eq!(answers, r#"{"n": 1.10}"#);
        assert_eq!(rest, r#"{"method":"tasks/update","params":{"taskId":"x","inputResponses":{}},"id":1}"#);
    }

    #[test]
    fn other_messages_stay_as_they_are() {
        for body in [
            r#"{"method":"tools/list","params":{"arguments":{"a":1}},"id":1}"#,
            r#"{"method":"tools/call","params":{"name":"x","arguments":null}}"#,
            r#"{"method":"tools/call","params":{"name":"x"}}"#,
            r#"{"method":"tasks/update","params":{"inputResponses":[1.10]}}"#,
            r#"{"method":"tasks/update","params":[1]}"#,
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
