use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    http::header,
    response::Response,
};
use futures::StreamExt as _;
use serde_json::{Value, json};
use taskqueue_api::{ErrorCode, QueueError};

use crate::error::Refusal;

/// The path of an answer's text from the handler to the gate, around rmcp.
///
/// rmcp keeps `structuredContent` as a parsed value. This alters numbers, loses members that come twice, and fails on
/// values that an earlier version may have accepted. So the handler leaves the text here and gives rmcp a mark. When
/// rmcp has written the response, the gate puts the text in place of the mark.
///
/// The mark is random and new for each answer. Nobody can know it when they write the data of the answer, so nothing
/// else in the response contains it.
#[derive(Clone, Default)]
pub(crate) struct Splice(Option<Arc<OnceLock<Left>>>);

struct Left {
    /// The mark as rmcp writes it.
    mark: String,
    text: String,
}

impl Splice {
    /// Makes the splice of a request that came through the gate. The default is for a transport without a gate.
    pub(super) fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// Leaves the text of a JSON object, and returns the value to give rmcp: the mark. Without a gate, or for a second
    /// text, it is the parsed text, or `None` if the text cannot be parsed.
    pub(crate) fn leave(&self, text: &str) -> Option<Value> {
        self.mark(text).or_else(|| serde_json::from_str(text).ok())
    }

    /// Keeps the text and returns its mark. The mark is an object, because rmcp takes anything else out of the
    /// `structuredContent` of older clients.
    fn mark(&self, text: &str) -> Option<Value> {
        let slot = self.0.as_ref()?;
        let mut token = [0; 16];
        getrandom::fill(&mut token).ok()?;
        let key = format!("{:032x}", u128::from_ne_bytes(token));
        let left = Left { mark: format!("{{\"{key}\":0}}"), text: text.to_owned() };
        slot.set(left).ok()?;
        Some(json!({ key: 0 }))
    }

    /// Puts the text in place of the mark in the response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    pub(super) async fn fill(self, response: Response) -> Response {
        if response.body().size_hint().exact().is_none() {
            // The handler may leave the text when the first events have already been sent.
            let fill = move |event: Bytes| self.left().map_or_else(|| event.clone(), |left| left.fill_event(&event));
            return response.map(|body| {
                // rmcp makes one chunk of each event.
                Body::from_stream(body.into_data_stream().map(move |chunk| chunk.map(&fill)))
            });
        }
        let Some(left) = self.left() else { return response };
        let (mut parts, body) = response.into_parts();
        match to_bytes(body, usize::MAX).await {
            Ok(bytes) => {
                parts.headers.remove(header::CONTENT_LENGTH);
                Response::from_parts(parts, Body::from(left.fill(&bytes, &left.text)))
            }
            // The body is in memory, so reading it does not fail.
            Err(error) => Refusal::from(QueueError::new(ErrorCode::Internal, error.to_string())).into_response(),
        }
    }

    fn left(&self) -> Option<&Left> {
        self.0.as_ref()?.get()
    }
}

impl Left {
    /// Returns the bytes with the text in place of the mark.
    fn fill(&self, bytes: &Bytes, text: &str) -> Bytes {
        // Little comes after the mark in a message, so it is searched for from the end.
        let mark = self.mark.as_bytes();
        let Some(start) = bytes.windows(mark.len()).rposition(|window| window == mark) else { return bytes.clone() };
        let (before, after) = (bytes.get(..start), bytes.get(start + mark.len()..));
        [before.unwrap_or_default(), text.as_bytes(), after.unwrap_or_default()].concat().into()
    }

    /// Returns the event with the text in place of the mark. An event ends at the end of its line. In JSON a line can
    /// end only between two tokens, where a space does as well.
    fn fill_event(&self, event: &Bytes) -> Bytes {
        let text = match self.text.contains(LINE_ENDS) {
            true => Cow::Owned(self.text.replace(LINE_ENDS, " ")),
            false => Cow::Borrowed(&*self.text),
        };
        self.fill(event, &text)
    }
}

impl fmt::Debug for Splice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splice").field("bytes", &self.left().map(|left| left.text.len())).finish()
    }
}

const LINE_ENDS: [char; 2] = ['\n', '\r'];

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    const TEXT: &str = "{\"ok\":true,\r\n\"n\":1.10}";

    fn written(mark: &Value) -> String {
        json!({ "id": 1, "result": { "content": [], "structuredContent": mark, "isError": false } }).to_string()
    }

    async fn body_of(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_text_stands_where_the_mark_stood_and_the_length_is_its_own() {
        let splice = Splice::new();
        let written = written(&splice.leave(TEXT).unwrap());
        let response = Response::builder().header(header::CONTENT_LENGTH, written.len()).body(Body::from(written));
        let filled = splice.fill(response.unwrap()).await;
        assert_eq!(filled.headers().get(header::CONTENT_LENGTH), None);
        let length = filled.body().size_hint().exact().unwrap();
        let body = body_of(filled).await;
        assert_eq!(body, format!(r#"{{"id":1,"result":{{"content":[],"structuredContent":{TEXT},"isError":false}}}}"#));
        assert_eq!(length, body.len() as u64);
    }

    #[tokio::test]
    async fn an_event_keeps_to_its_line() {
        let splice = Splice::new();
        let written = written(&splice.leave(TEXT).unwrap());
        let events = [": ping\n\n".to_owned(), format!("data: {written}\n\n")];
        let body = Body::from_stream(stream::iter(events.map(Ok::<_, std::convert::Infallible>)));
        let body = body_of(splice.fill(Response::new(body)).await).await;
        let text = "{\"ok\":true,  \"n\":1.10}";
        let data = format!(r#"{{"id":1,"result":{{"content":[],"structuredContent":{text},"isError":false}}}}"#);
        assert_eq!(body, format!(": ping\n\ndata: {data}\n\n"));
    }

    #[tokio::test]
    async fn what_looks_like_another_answers_mark_stays() {
        let (one, other) = (Splice::new(), Splice::new());
        let (mark, foreign) = (one.leave(TEXT).unwrap(), other.leave(TEXT).unwrap());
        assert_ne!(mark, foreign);
        let response = Response::new(Body::from(written(&foreign)));
        assert_eq!(body_of(one.fill(response).await).await, written(&foreign));
    }

    #[test]
    fn without_a_gate_the_value_itself_is_given() {
        assert_eq!(Splice::default().leave(TEXT), Some(json!({ "ok": true, "n": 1.1 })));
        assert_eq!(Splice::default().leave(r#"{"n":1e400}"#), None);
        let splice = Splice::new();
        assert!(splice.leave(TEXT).is_some());
        assert_eq!(splice.leave("{}"), Some(json!({})), "one text a response");
    }
}
