use std::sync::Arc;

use rmcp::model::{Tool as RpcTool, ToolAnnotations};
use serde_json::{Value, json};
use taskqueue_api::{Json, QueueError, Submit, ToolOffer};

use crate::tools::{Arguments, Inputs, Machines, Object, run_task_output};

/// A tool that a worker of the mesh offers.
#[derive(Debug, Clone)]
pub(crate) struct MeshTool {
    listed: RpcTool,
    takes: Takes,
}

/// The part of the arguments that becomes the payload of the task.
#[derive(Debug, Clone)]
enum Takes {
    /// All arguments together.
    Arguments,
    /// The single argument [`PAYLOAD`], for a worker whose input is not an object.
    Payload(Arc<Inputs>),
}

impl MeshTool {
    /// Makes the tool of an offer. Returns `None` when its name is not one that clients accept.
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

    /// Returns the tool as clients see it.
    pub(crate) const fn listed(&self) -> &RpcTool {
        &self.listed
    }

    /// Makes the task of a call with these arguments.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when the arguments are not an object, or when the worker takes a single value and another
    /// argument is given.
    pub(crate) fn submit(&self, arguments: &[u8]) -> Result<Submit, QueueError> {
        let given = Arguments::parse(arguments)?;
        let payload = match &self.takes {
            Takes::Arguments => text(arguments)?,
            Takes::Payload(inputs) => {
                given.normalize(inputs, &mut Machines::default())?.take(PAYLOAD)?.unwrap_or_default()
            }
        };
        Ok(Submit::new(self.name(), payload))
    }
}

/// Returns the arguments as they were written.
fn text(arguments: &[u8]) -> Result<Json, QueueError> {
    let text = String::from_utf8_lossy(arguments).into_owned();
    Json::parse(text).map_err(|error| QueueError::not_json("arguments", &error))
}

/// Makes the schema of the arguments. If the worker's own schema describes an object, it is that one. Otherwise it
/// describes an object with the worker's input as its only member.
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
            let inputs = Inputs::new(&schema, &[], Vec::new(), &[]);
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

/// Returns whether clients accept the name: it consists of the characters that MCP allows, and is no longer than the
/// shortest bound of common model APIs.
pub(super) fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_letter)
}

/// The name of the argument for a worker that takes a single value.
const PAYLOAD: &str = "payload";

const ANY: &str = "The worker's input: any JSON value, often a text.";

/// The text that follows every mesh tool's own description.
const ABOUT: &str = "\n\nRuns on one of the user's machines as a durable task. Answers task (its status, and its result or error) \
                     and done; with done:false the time was up and the task goes on: call p2p_taskqueue_wait_task with its \
                     task_id, do not call the tool again.";

const NAME_CHARS_MAX: usize = 64;

/// The longest description of a tool that is passed on to models, in characters.
const DESCRIPTION_CHARS_MAX: usize = 4_096;

/// The largest schema of a tool that is passed on, in bytes. It is bounded because every list of tools carries it.
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
