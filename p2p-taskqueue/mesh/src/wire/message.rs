//! Messages: the contents of the frames of a session.
//!
//! Every call is answered exactly once; a cancelled call is answered with an error. The envelope is read before the
//! request. So a request that is not understood is answered with an error, and the session goes on. Message kinds and
//! fields that this build does not know are ignored.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use taskqueue_api::{ErrorCode, QueueError, Request, Response};

use super::{
    frame::{FrameError, put_frame},
    request::brief,
};

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Outgoing<'a> {
    Call {
        id: u64,
        request: &'a Request,
    },
    Answer {
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        ok: Option<&'a Response>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a QueueError>,
    },
    Cancel {
        id: u64,
    },
    /// The node is stopping and takes no new calls.
    Goaway,
    Ping,
    Pong,
}

impl Outgoing<'_> {
    /// Appends the message as a frame with at most `bytes_max` bytes of content, the limit of the peer.
    pub(crate) fn put(&self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), FrameError> {
        put_frame(out, bytes_max, |out| serde_json::to_writer(out, self))
    }
}

/// Appends the answer to a call. An answer that is too long for the peer is replaced by an error. Returns whether the
/// answer fitted.
pub(crate) fn put_answer(
    out: &mut Vec<u8>,
    id: u64,
    result: &Result<Response, QueueError>,
    bytes_max: usize,
) -> Result<bool, FrameError> {
    let (ok, error) = match result {
        Ok(response) => (Some(response), None),
        Err(error) => (None, Some(error)),
    };
    match (Outgoing::Answer { id, ok, error }).put(out, bytes_max) {
        Err(FrameError::TooLong { bytes, bytes_max }) => {
            // The operation was carried out, and only its answer is too long. So the outcome is unknown to the caller.
            let error = QueueError::over_limit("answer", bytes, bytes_max, "bytes").with_unknown_outcome();
            Outgoing::Answer { id, ok: None, error: Some(&error) }.put(out, bytes_max).map(|()| false)
        }
        put => put.map(|()| true),
    }
}

#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    Call {
        id: u64,
        request: &'a RawValue,
    },
    Answer {
        id: u64,
        ok: Option<&'a RawValue>,
        error: Option<&'a RawValue>,
    },
    Cancel {
        id: u64,
    },
    Goaway,
    Ping,
    /// A pong, or a kind that this build does not know.
    Other,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    id: Option<u64>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
    #[serde(borrow)]
    ok: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl<'a> Incoming<'a> {
    /// Reads only the envelope. The request or the answer in it stays text.
    pub(crate) fn read(frame: &'a [u8]) -> Result<Self, FrameError> {
        let malformed = |what: &str| FrameError::Malformed(what.to_owned());
        let envelope: Envelope<'a> = serde_json::from_slice(frame).map_err(|error| malformed(&error.to_string()))?;
        let id = envelope.id.ok_or_else(|| malformed("a message without id"));
        Ok(match &*envelope.kind {
            "call" => {
                Self::Call { id: id?, request: envelope.request.ok_or_else(|| malformed("a call without request"))? }
            }
            "answer" => Self::Answer { id: id?, ok: envelope.ok, error: envelope.error },
            "cancel" => Self::Cancel { id: id? },
            "goaway" => Self::Goaway,
            "ping" => Self::Ping,
            _ => Self::Other,
        })
    }
}

/// Reads the answer to a call.
pub(crate) fn read_answer(ok: Option<&RawValue>, error: Option<&RawValue>) -> Result<Response, QueueError> {
    let foreign = |what: &str| {
        QueueError::new(ErrorCode::Internal, format!("the peer's answer is not understood: {}", brief(what)))
    };
    match (ok, error) {
        (Some(ok), None) => serde_json::from_str(ok.get()).map_err(|error| foreign(&error.to_string())),
        (_, Some(error)) => Err(serde_json::from_str(error.get()).unwrap_or_else(|error| foreign(&error.to_string()))),
        (None, None) => Err(foreign("it is empty")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::request::read_request;

    #[test]
    fn what_is_put_is_read() {
        let request = Request::Peers(taskqueue_api::Peers::default());
        let mut out = Vec::new();
        Outgoing::Call { id: 7, request: &request }.put(&mut out, 1_024).unwrap();
        match Incoming::read(&out[4..]).unwrap() {
            Incoming::Call { id: 7, request: raw } => assert_eq!(read_request(raw).unwrap(), request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kinds_and_fields_of_a_newer_peer_are_ignored() {
        assert!(matches!(Incoming::read(br#"{"kind":"gossip","x":1}"#), Ok(Incoming::Other)));
        assert!(matches!(Incoming::read(br#"{"kind":"cancel","id":1,"why":"x"}"#), Ok(Incoming::Cancel { id: 1 })));
    }

    #[test]
    fn a_message_without_what_it_needs_is_malformed() {
        for text in [r#"{"kind":"call","id":1}"#, r#"{"kind":"cancel"}"#, r#"{"id":1}"#, "[]", "nonsense"] {
            assert!(matches!(Incoming::read(text.as_bytes()), Err(FrameError::Malformed(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Incoming::Call { request, .. }) = Incoming::read(&bytes) {
                let _any = read_request(request);
            }
        }

        #[test]
        fn arbitrary_json_does_not_panic(text in r#"\{"(call|get|wait|at|submit)":[\{\["a-z0-9:,\]\}]{0,40}\}"#) {
            if let Ok(raw) = serde_json::from_str::<&RawValue>(&text) {
                let _any = (read_request(raw), read_answer(Some(raw), None), read_answer(None, Some(raw)));
            }
        }
    }
}
