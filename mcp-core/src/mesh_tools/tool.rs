use std::sync::Arc;

use rmcp::model::{Tool as RpcTool, ToolAnnotations};
use serde_json::{Value, json};
use taskqueue_api::{Json, QueueError, Submit, ToolOffer};

use crate::tools::{Arguments, Inputs, Object, run_task_output};

/// A tool that a worker of the mesh offers.
#[derive(Debug, Clone)]
pub(crate) struct MeshTool {
    listed: RpcTool,
    takes: Takes,
}

/// What becomes the task's payload.
#[derive(Debug, Clone)]
enum Takes {
    /// All arguments together.
    Arguments,
    /// The one argument of this name, for workers that take something else than an object.
    Payload(Arc<Inputs>),
}

impl MeshTool {
    /// The tool that an offer makes; none when its name is not one that clients take.
    pub(super) fn of(offer: &ToolOffer) -> Option<Self> {
        if !is_name(&offer.name) {
            return None;
        }
        let (input, takes) = input(&offer.input_schema);
        let mut description: String = offer.description.chars().take(DESCRIPTION_CHARS_MAX).collect();
        description.push_str(ABOUT);
        let annotations = ToolAnnotations::with_title(&offer.name)
            .read_only(false)
            .destructive(false)
            .idempotent(false)
            .open_world(true);
        let listed = RpcTool::new(offer.name.clone(), description, Arc::new(input))
            .with_title(&offer.name)
            .with_raw_output_schema(run_task_output())
            .with_annotations(annotations);
        Some(Self { listed, takes })
    }

    pub(crate) fn name(&self) -> &str {
        &self.listed.name
    }

    /// The tool as clients see it.
    pub(crate) const fn listed(&self) -> &RpcTool {
        &self.listed
    }

    /// The task that a call is.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when the arguments are no object, or not those of a worker that takes one value.
    pub(crate) fn submit(&self, arguments: &[u8]) -> Result<Submit, QueueError> {
        let given = Arguments::parse(arguments)?;
        let payload = match &self.takes {
            Takes::Arguments => text(arguments)?,
            Takes::Payload(inputs) => given.normalize(inputs)?.take(PAYLOAD)?.unwrap_or_default(),
        };
        Ok(Submit::new(self.name(), payload))
    }
}

/// The arguments to the letter.
fn text(arguments: &[u8]) -> Result<Json, QueueError> {
    let text = String::from_utf8_lossy(arguments).into_owned();
    Json::parse(text).map_err(|error| QueueError::not_json("arguments", &error))
}

/// The schema of the arguments: the worker's own where it is one of an object, else one around it.
fn input(offered: &Json) -> (Object, Takes) {
    let schema: Value = match offered.len_bytes() {
        0..=SCHEMA_BYTES_MAX => offered.to().unwrap_or_default(),
        _ => Value::Null,
    };
    match schema {
        Value::Object(mut schema) if is_of_object(&schema) => {
            schema.entry("type").or_insert_with(|| json!("object"));
            (schema, Takes::Arguments)
        }
        other => {
            let mut payload = if let Value::Object(schema) = other { schema } else { Object::new() };
            payload.entry("description").or_insert_with(|| json!(ANY));
            let mut schema = Object::new();
            schema.insert("type".to_owned(), json!("object"));
            schema.insert("properties".to_owned(), json!({ PAYLOAD: payload }));
            schema.insert("additionalProperties".to_owned(), json!(false));
            let inputs = Inputs::new(&schema, &[], Vec::new());
            (schema, Takes::Payload(Arc::new(inputs)))
        }
    }
}

fn is_of_object(schema: &Object) -> bool {
    match schema.get("type") {
        Some(name) => name == "object",
        None => schema.contains_key("properties"),
    }
}

/// Whether clients take the name: MCP's letters, and not longer than the shortest bound of common model APIs.
pub(super) fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_letter)
}

/// The argument of a worker that takes a single value.
const PAYLOAD: &str = "payload";

const ANY: &str = "The worker's input: any JSON value, often a text.";

/// What is true of every mesh tool.
const ABOUT: &str = "\n\nRuns on one of the user's machines as a durable task. Answers task (its status, and its result or error) \
                     and done; with done:false the time was up and the task goes on: call p2p_taskqueue_wait_task with its \
                     task_id, do not call the tool again.";

const NAME_CHARS_MAX: usize = 64;

/// What a worker may say of itself to a model.
const DESCRIPTION_CHARS_MAX: usize = 4_096;

/// Every list of tools carries it.
const SCHEMA_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(schema: &str) -> MeshTool {
        let input_schema = Json::parse(schema.to_owned()).unwrap();
        let (name, description) = ("scan".to_owned(), "Scans.".to_owned());
        MeshTool::of(&ToolOffer { name, description, input_schema }).unwrap()
    }

    #[test]
    fn arguments_of_an_object_are_the_payload_to_the_letter() {
        let tool = tool(r#"{"type":"object","properties":{"dpi":{"type":"integer"}},"required":["dpi"]}"#);
        assert_eq!(tool.listed().input_schema["required"], json!(["dpi"]));
        let submit = tool.submit(br#"{"dpi": 300.0}"#).unwrap();
        assert_eq!((submit.task_type.as_str(), submit.payload.get()), ("scan", r#"{"dpi": 300.0}"#));
        assert!(tool.submit(b"[1]").is_err());
    }

    #[test]
    fn a_worker_that_takes_anything_else_gets_the_one_argument() {
        for schema in ["null", r#"{"type":"string"}"#, "true", "[1]"] {
            let tool = tool(schema);
            assert_eq!(tool.listed().input_schema["type"], "object", "{schema}");
            assert_eq!(tool.submit(br#"{"payload":"a b"}"#).unwrap().payload.get(), r#""a b""#, "{schema}");
        }
        let tool = tool("null");
        assert_eq!(tool.submit(b"{}").unwrap().payload, Json::null());
        assert_eq!(tool.submit(br#"{"text":"a"}"#).unwrap_err().field.as_deref(), Some("text"));
    }

    #[test]
    fn only_names_that_every_client_takes_are_tools() {
        for (name, is_tool) in
            [("a", true), ("ocr-2.text_x", true), ("", false), ("a b", false), ("é", false), ("a/b", false)]
        {
            assert_eq!(is_name(name), is_tool, "{name}");
        }
        assert!(!is_name(&"a".repeat(NAME_CHARS_MAX + 1)));
    }
}
