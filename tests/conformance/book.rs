use std::collections::BTreeMap;

use rmcp::model::{JsonObject, Prompt, Resource, ResourceTemplate, Tool};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::dialogue::Dialogue;

/// The tools, prompts and resources that the suite expects of a server, as data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Book {
    pub(crate) tools: Vec<Tool>,
    /// The results of tools that answer at once.
    pub(crate) results: BTreeMap<String, Value>,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) messages: BTreeMap<String, Value>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) templates: Vec<ResourceTemplate>,
    pub(crate) contents: BTreeMap<String, Value>,
    /// The tools and prompts that ask their client before they answer.
    pub(crate) dialogues: BTreeMap<String, Dialogue>,
}

impl Book {
    pub(crate) fn open() -> serde_json::Result<Self> {
        serde_json::from_str(include_str!("fixtures.json"))
    }
}

/// Returns the result with each `{name}` replaced by that argument, and `{arguments}` by all of them.
pub(crate) fn filled<T: DeserializeOwned>(result: &Value, arguments: &JsonObject) -> serde_json::Result<T> {
    let mut result = fill(result, arguments);
    if let Value::Object(fields) = &mut result {
        fields.insert("resultType".to_owned(), "complete".into());
    }
    serde_json::from_value(result)
}

fn fill(value: &Value, arguments: &JsonObject) -> Value {
    match value {
        Value::String(text) => fill_text(text, arguments).into(),
        Value::Array(items) => items.iter().map(|item| fill(item, arguments)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), fill(value, arguments))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

pub(crate) fn fill_text(text: &str, arguments: &JsonObject) -> String {
    let whole = text.replace("{arguments}", &Value::from(arguments.clone()).to_string());
    arguments.iter().fold(whole, |text, (name, argument)| {
        let argument = argument.as_str().map_or_else(|| argument.to_string(), str::to_owned);
        text.replace(&format!("{{{name}}}"), &argument)
    })
}

/// Returns the value of a template's `{name}` in this URI; `None` when the URI does not fit the template.
pub(crate) fn expansion(template: &str, uri: &str) -> Option<JsonObject> {
    let (before, rest) = template.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    let argument = uri.strip_prefix(before)?.strip_suffix(after)?;
    Some(JsonObject::from_iter([(name.to_owned(), argument.into())]))
}
