//! `--payload` and `--text`: given in place, from a file, or from standard input.

use std::io::Read as _;

use anyhow::{Context as _, anyhow};
use p2p_taskqueue::{
    Json, QueueError,
    api::{JsonError, limits::JSON_BYTES_MAX},
};
use serde::Serialize;

use crate::failure::Failure;

/// The payload of a submit.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct PayloadArgs {
    /// The payload as JSON: in place, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    payload: Option<String>,
    /// The payload as a text, which becomes a JSON string: in place, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "TEXT|@FILE|-", allow_hyphen_values = true)]
    text: Option<String>,
}

impl PayloadArgs {
    pub(crate) fn read(&self) -> Result<Json, Failure> {
        read_either("--payload", self.payload.as_deref(), self.text.as_deref())
    }
}

/// A value of the cache.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ValueArgs {
    /// The value as JSON: in place, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    value: Option<String>,
    /// The value as a text, which becomes a JSON string: in place, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "TEXT|@FILE|-", allow_hyphen_values = true)]
    text: Option<String>,
}

impl ValueArgs {
    pub(crate) fn read(&self) -> Result<Json, Failure> {
        read_either("--value", self.value.as_deref(), self.text.as_deref())
    }
}

/// What a worker's command asks.
#[derive(Debug, clap::Args)]
pub(crate) struct QuestionArgs {
    /// Ask for a form to be filled in, under this text.
    #[arg(long, value_name = "TEXT", required_unless_present = "request")]
    message: Option<String>,
    /// The form's fields, as a JSON Schema of an object with plain properties: in place, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", requires = "message")]
    schema: Option<String>,
    /// The whole request as JSON instead: in place, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", conflicts_with = "message")]
    request: Option<String>,
}

impl QuestionArgs {
    pub(crate) fn read(&self) -> Result<Json, Failure> {
        match (&self.message, &self.request) {
            (_, Some(request)) => read_json("--request", request),
            (message, None) => {
                let requested_schema = &read_json("--schema", self.schema.as_deref().unwrap_or(NO_FIELDS))?;
                let params = Form { mode: "form", message: message.as_deref().unwrap_or_default(), requested_schema };
                Json::from_value(&Elicitation { method: "elicitation/create", params })
                    .map_err(|error| Failure::argument("--schema", error))
            }
        }
    }
}

/// A request for a form, as MCP defines it.
#[derive(Serialize)]
struct Elicitation<'a> {
    method: &'static str,
    params: Form<'a>,
}

#[derive(Serialize)]
struct Form<'a> {
    mode: &'static str,
    message: &'a str,
    #[serde(rename = "requestedSchema")]
    requested_schema: &'a Json,
}

/// The schema of a form without fields, which can only be accepted or declined.
const NO_FIELDS: &str = r#"{"type":"object","properties":{}}"#;

/// The answer to a question.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ResponseArgs {
    /// What the form is filled in with, as JSON: in place, `@FILE`, or `-` for standard input.
    #[arg(value_name = "JSON|@FILE|-")]
    content: Option<String>,
    /// Decline to answer.
    #[arg(long)]
    decline: bool,
    /// The whole answer as JSON instead, for a question that is no form.
    #[arg(long, value_name = "JSON|@FILE|-")]
    response: Option<String>,
}

impl ResponseArgs {
    pub(crate) fn read(&self) -> Result<Json, Failure> {
        if let Some(response) = &self.response {
            return read_json("--response", response);
        }
        let content = self.content.as_deref().map(|content| read_json("JSON", content)).transpose()?;
        let action = if content.is_some() { "accept" } else { "decline" };
        Json::from_value(&Filled { action, content }).map_err(|error| Failure::argument("JSON", error))
    }
}

/// An answer to a form, as MCP defines it.
#[derive(Serialize)]
struct Filled {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Json>,
}

/// The arguments of a tool.
#[derive(Debug, clap::Args)]
pub(crate) struct ToolArgs {
    /// The tool's arguments as JSON: in place, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    args: Option<String>,
}

impl ToolArgs {
    pub(crate) fn read(&self) -> Result<Json, Failure> {
        let Some(source) = &self.args else { return Ok(Json::null()) };
        read_json("--args", source)
    }
}

fn read_json(option: &str, source: &str) -> Result<Json, Failure> {
    let hint = "a text is written in quotation marks";
    parse(option, read_source(option, source)?, hint)
}

/// Parses the JSON of an option.
///
/// # Errors
///
/// JSON that is nested too deeply is refused with the error that the queue has for it, everything else as a mistake in
/// the argument.
fn parse(option: &str, text: String, hint: &str) -> Result<Json, Failure> {
    Json::parse(text).map_err(|error| match &error {
        JsonError::TooDeep { .. } => QueueError::not_json(option.trim_start_matches('-'), &error).into(),
        _ => Failure::argument(option, format!("{error}; {hint}")),
    })
}

/// Reads the JSON of `option`, or the text of `--text`; null when neither is given.
fn read_either(option: &str, json: Option<&str>, text: Option<&str>) -> Result<Json, Failure> {
    if let Some(source) = json {
        let text = read_source(option, source)?;
        let hint = "a plain text is given with --text";
        return parse(option, text, hint);
    }
    match text {
        Some(source) => Ok(Json::from_text(&read_source("--text", source)?)),
        None => Ok(Json::null()),
    }
}

/// Reads a text that is given in place, as `@FILE`, or as `-` for standard input.
pub(crate) fn read_source(option: &str, source: &str) -> Result<String, Failure> {
    let read = |reader: &mut dyn std::io::Read, name: &str| -> anyhow::Result<String> {
        let mut text = Vec::new();
        // One byte above the limit is read, so that a text over the limit is noticed.
        reader.take(JSON_BYTES_MAX as u64 + 1).read_to_end(&mut text).with_context(|| format!("cannot read {name}"))?;
        if text.len() > JSON_BYTES_MAX {
            return Err(anyhow!("{name} is over the limit of {JSON_BYTES_MAX} bytes"));
        }
        String::from_utf8(text).with_context(|| format!("{name} is not UTF-8 text"))
    };
    let text = match (source, source.strip_prefix('@')) {
        ("-", _) => read(&mut std::io::stdin().lock(), "standard input"),
        (_, Some(path)) => std::fs::File::open(path)
            .with_context(|| format!("cannot open {path}"))
            .and_then(|mut file| read(&mut file, path)),
        (text, None) => Ok(text.to_owned()),
    };
    text.map_err(|error| Failure::argument(option, format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(payload: Option<&str>, text: Option<&str>) -> PayloadArgs {
        PayloadArgs { payload: payload.map(str::to_owned), text: text.map(str::to_owned) }
    }

    #[test]
    fn a_payload_is_json_and_a_text_becomes_a_string() {
        assert_eq!(args(Some("[1, 2]"), None).read().unwrap().get(), "[1, 2]");
        assert_eq!(args(None, Some("a \"b\"")).read().unwrap().get(), r#""a \"b\"""#);
        assert_eq!(args(None, None).read().unwrap().get(), "null");
    }

    #[test]
    fn a_payload_that_is_no_json_is_refused_with_a_hint() {
        let error = args(Some("hello"), None).read().unwrap_err().to_string();
        assert!(error.contains("--payload") && error.contains("--text"), "{error}");
    }

    #[test]
    fn a_question_and_its_answer_have_the_forms_of_mcp() {
        let question = |message: Option<&str>, schema: Option<&str>, request: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let args = QuestionArgs { message: owned(message), schema: owned(schema), request: owned(request) };
            args.read().unwrap().get().to_owned()
        };
        assert_eq!(
            question(Some("Go on?"), Some(r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#), None),
            r#"{"method":"elicitation/create","params":{"mode":"form","message":"Go on?","requestedSchema":{"type":"object","properties":{"n":{"type":"integer"}}}}}"#
        );
        assert_eq!(question(None, None, Some("[1]")), "[1]");
        let response = |content: Option<&str>, response: Option<&str>| {
            let (content, response) = (content.map(str::to_owned), response.map(str::to_owned));
            ResponseArgs { decline: content.is_none(), content, response }.read().unwrap().get().to_owned()
        };
        assert_eq!(response(Some(r#"{"n":1.50}"#), None), r#"{"action":"accept","content":{"n":1.50}}"#);
        assert_eq!(response(None, None), r#"{"action":"decline"}"#);
        assert_eq!(response(None, Some("[2]")), "[2]");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = args(None, Some("@/no/such/file")).read().unwrap_err().to_string();
        assert!(error.contains("/no/such/file"), "{error}");
    }
}
