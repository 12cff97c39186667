use serde::Serialize;

use super::{ErrorCode, QueueError};

/// Writes the answer `{"ok":true, …}`, with the fields of `answer` beside `ok`.
///
/// The types are written to text directly, without an intermediate JSON value. So a payload or a result keeps every
/// byte that was given.
///
/// # Errors
///
/// `internal`, with an unknown outcome, when the answer cannot be written. No operation has such an answer.
pub fn write_answer<A: Serialize + ?Sized>(answer: &A) -> Result<String, QueueError> {
    serde_json::to_string(&Done { ok: true, answer })
        .map_err(|error| QueueError::new(ErrorCode::Internal, format!("the answer cannot be written as JSON: {error}")))
}

/// Writes the answer `{"ok":false,"error":…}`.
#[must_use]
pub fn write_refusal(error: &QueueError) -> String {
    serde_json::to_string(&Refused { ok: false, error }).unwrap_or_else(|_| NO_REFUSAL.to_owned())
}

#[derive(Serialize)]
struct Done<'a, A: ?Sized> {
    ok: bool,
    #[serde(flatten)]
    answer: &'a A,
}

#[derive(Serialize)]
struct Refused<'a> {
    ok: bool,
    error: &'a QueueError,
}

/// The fallback when the error record itself cannot be written. A record of texts and numbers can always be written, so
/// this is a safeguard.
const NO_REFUSAL: &str = r#"{"ok":false,"error":{"code":"internal","message":"the error cannot be written","retryable":false,"outcome":"unknown"}}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CacheGot, Json, Listed, Outcome, PeerId, Submit, TaskRecord,
        testing::{self, odd_json},
    };

    #[test]
    fn whatever_a_task_holds_stands_in_its_answer_to_the_last_byte() {
        let texts = odd_json::kept().into_iter().chain(odd_json::refused());
        for text in texts {
            // A text that is refused as new content may be in a store of an earlier version.
            let json = Json::parse(text.clone()).unwrap();
            let one = testing::task(PeerId::random(), Submit::new("t", json.clone()));
            let one = TaskRecord { result: Some(json.clone()), ..one };
            let tasks = vec![one.clone(), one];
            let listed = write_answer(&Listed { tasks, next_cursor: None }).unwrap();
            assert_eq!(listed.matches(&format!(r#""payload":{text}"#)).count(), 2, "{listed}");
            assert_eq!(listed.matches(&format!(r#""result":{text}"#)).count(), 2, "{listed}");
            let got = write_answer(&CacheGot { hit: true, value: json }).unwrap();
            assert_eq!(got, format!(r#"{{"ok":true,"hit":true,"value":{text}}}"#));
        }
    }

    #[test]
    fn an_answer_that_cannot_be_written_leaves_open_what_was_done() {
        let error = write_answer("no fields").unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::Internal, Outcome::Unknown));
    }

    #[test]
    fn a_refusal_is_the_record() {
        let error = QueueError::invalid("payload", "is \"odd\"");
        let expected = format!(r#"{{"ok":false,"error":{}}}"#, serde_json::to_string(&error).unwrap());
        assert_eq!(write_refusal(&error), expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(NO_REFUSAL).unwrap()["error"]["code"], "internal");
    }
}
