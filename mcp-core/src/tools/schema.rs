use std::sync::Arc;

use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Map, Value, json};
use taskqueue_api::QueueError;

/// A JSON Schema, as a JSON object.
pub(crate) type Object = Map<String, Value>;

/// One argument of a tool.
#[derive(Debug)]
pub(crate) struct Input {
    name: String,
    pub(super) form: Form,
    pub(super) required: bool,
}

/// The form of an argument, as far as it decides which other forms are accepted for it.
#[derive(Debug)]
pub(crate) enum Form {
    /// A text.
    Text,
    /// The name of a machine, its peer id, or the beginning of its peer id.
    Machine,
    /// A list of texts.
    Texts,
    /// Any JSON value, also an empty text and null.
    Anything,
    /// An object with known members, such as a claim.
    Object(Inputs),
    /// A list of objects with known members, such as tasks.
    Objects(Inputs),
    /// A number, a truth value, a list of something else.
    Other,
    /// Accepted for callers who send it, and dropped.
    Ignored,
}

/// The arguments of a tool, read from its input schema for checking calls.
#[derive(Debug)]
pub(crate) struct Inputs {
    inputs: Vec<Input>,
    aliases: Vec<Alias>,
}

/// Another name of an argument, and the argument's own.
pub(crate) type Alias = (&'static str, &'static str);

impl Inputs {
    /// Reads the inputs from a schema. Some arguments are accepted and dropped, some have aliases, and some name machines,
    /// also within an object.
    pub(crate) fn new(schema: &Object, ignored: &[Named], aliases: Vec<Alias>, machines: &[&str]) -> Self {
        let required: Vec<&str> = strings(schema.get("required"));
        let inputs = properties(schema)
            .map(|(name, property)| Input {
                name: name.clone(),
                form: if ignored.iter().any(|(ignored, _)| ignored == name) {
                    Form::Ignored
                } else {
                    Form::of(name, property, machines)
                },
                required: required.contains(&name.as_str()),
            })
            .collect();
        Self { inputs, aliases }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.name == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|input| input.name.as_str())
    }

    pub(super) fn required(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().filter(|input| input.required).map(|input| input.name.as_str())
    }

    /// Returns the argument's own name, when `alias` is another name of it.
    pub(super) fn meant_by(&self, alias: &str) -> Option<&'static str> {
        self.aliases.iter().find(|(other, _)| *other == alias).map(|(_, name)| *name)
    }
}

impl Form {
    fn of(name: &str, property: &Value, machines: &[&str]) -> Self {
        let inputs = |object: &Value| {
            let object = object.as_object().filter(|object| object.contains_key("properties"))?;
            Some(Inputs::new(object, &[], Vec::new(), machines))
        };
        match (property.get("type").and_then(Value::as_str), property.get("items")) {
            (Some("string"), _) if machines.contains(&name) => Self::Machine,
            (Some("string"), _) => Self::Text,
            (Some("array"), Some(items)) if items.get("type").is_some_and(|name| name == "string") => Self::Texts,
            (Some("array"), Some(items)) => inputs(items).map_or(Self::Other, Self::Objects),
            (Some("object"), _) => inputs(property).map_or(Self::Other, Self::Object),
            (Some(_), _) => Self::Other,
            (None, _) => Self::Anything,
        }
    }
}

/// An argument's name and what it is for.
pub(crate) type Named = (&'static str, &'static str);

/// Makes the schema of a tool's arguments: an object with no other members than the named ones.
pub(super) fn input<T: JsonSchema>() -> Object {
    let mut schema =
        plain(SchemaSettings::draft2020_12(), |settings| settings.into_generator().into_root_schema_for::<T>());
    strict(&mut schema);
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    schema
}

/// Forbids other members than the named ones in objects at every level.
fn strict(schema: &mut Object) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        // Clients and models do better with an argument that may be left out than with one that may also be null.
        properties.values_mut().for_each(without_null);
        properties.values_mut().filter_map(Value::as_object_mut).for_each(strict);
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if let Some(Value::Object(items)) = schema.get_mut("items") {
        strict(items);
    }
}

/// Makes the schema of a tool's answer: `{"ok":true,…}` or `{"ok":false,"error":…}`.
///
/// Clients compare refusals with it too, so it must allow both forms. Some clients accept it only when its top level is
/// an object with properties, so the alternatives stand beside the properties.
pub(super) fn output<A: JsonSchema>() -> Arc<Object> {
    let serialize = || SchemaSettings::draft2020_12().for_serialize();
    let mut answer = plain(serialize(), |settings| settings.into_generator().into_root_schema_for::<A>());
    let mut error = plain(serialize(), |settings| settings.into_generator().into_root_schema_for::<QueueError>());
    slim(&mut answer, 1);
    slim(&mut error, 2);
    error.insert("description".to_owned(), json!("Why it was not done."));
    let mut properties = Object::new();
    properties.insert("ok".to_owned(), json!({ "type": "boolean", "description": "Whether it was done." }));
    properties.extend(self::properties(&answer).map(|(name, property)| (name.clone(), property.clone())));
    properties.insert("error".to_owned(), Value::Object(error));
    let mut done = vec![json!("ok")];
    done.extend(strings(answer.get("required")).into_iter().map(Value::from));
    let schema = json!({
        "type": "object",
        "properties": properties,
        "required": ["ok"],
        "anyOf": [
            { "properties": { "ok": { "const": true } }, "required": done },
            { "properties": { "ok": { "const": false } }, "required": ["ok", "error"] },
        ],
    });
    Arc::new(object(schema))
}

/// Takes out of the schema of an answer what nobody misses: descriptions that stand deep, and the null of a member that is
/// left out instead. Every list of tools carries these schemas, and the one of a record is in many of them.
fn slim(schema: &mut Object, level: usize) {
    let required: Vec<String> = strings(schema.get("required")).into_iter().map(str::to_owned).collect();
    for (name, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if !required.contains(name) {
            without_null(property);
        }
        let Value::Object(property) = property else { continue };
        if level > DESCRIBED_LEVELS {
            property.remove("description");
        }
        slim(property, level + 1);
    }
    for within in ["items", "additionalProperties"] {
        schema.get_mut(within).and_then(Value::as_object_mut).into_iter().for_each(|object| slim(object, level));
    }
    let choices = schema.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten();
    choices.filter_map(Value::as_object_mut).for_each(|object| slim(object, level));
}

/// The levels of an answer whose members are described: the answer itself, and the records in it.
const DESCRIBED_LEVELS: usize = 2;

/// Adds an argument that is a text or, with no type, anything.
pub(super) fn add(schema: &mut Object, name: &str, property: Value) {
    if let Value::Object(properties) = schema.entry("properties").or_insert_with(|| json!({})) {
        properties.insert(name.to_owned(), property);
    }
}

/// Says of the arguments that name machines, at every level, how a machine is named.
pub(super) fn describe_machines(schema: &mut Object, machines: &[&str]) {
    for (name, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if machines.contains(&name.as_str()) {
            let what = property.get("description").and_then(Value::as_str).unwrap_or_default();
            let described = json!(format!("{what} {MACHINE}"));
            property.as_object_mut().and_then(|property| property.insert("description".to_owned(), described));
        }
        property.as_object_mut().into_iter().for_each(|property| describe_machines(property, machines));
    }
    if let Some(Value::Object(items)) = schema.get_mut("items") {
        describe_machines(items, machines);
    }
}

const MACHINE: &str = "A machine: its name, peer id, or the beginning of its peer id.";

pub(super) fn properties(schema: &Object) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// Generates a schema with everything inline, and with keywords that the validator of every client knows.
fn plain(mut settings: SchemaSettings, generate: impl FnOnce(SchemaSettings) -> Schema) -> Object {
    settings.inline_subschemas = true;
    // A schema without a dialect is in the one that MCP names. Validators that do not know this dialect refuse its
    // name.
    settings.meta_schema = None;
    let mut schema = generate(settings.with_transform(simplify));
    // The tool has a title and a description of its own.
    schema.remove("title");
    schema.remove("description");
    object(schema.to_value())
}

fn simplify(schema: &mut Schema) {
    transform_subschemas(&mut simplify, schema);
    // Validators do not know the widths of numbers as formats. The bounds say the same.
    schema.remove("format");
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    // The list already describes its entries. The description of the shared type is for readers of the code.
    if let Some(Value::Object(items)) = schema.get_mut("items") {
        items.remove("description");
    }
    merge_constants(schema);
}

/// Turns a choice of constants into one list of texts, which both models and validators understand.
fn merge_constants(schema: &mut Schema) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let mut texts = Vec::new();
    for choice in choices {
        match (choice.get("const"), choice.get("enum")) {
            (Some(text @ Value::String(_)), _) => texts.push(text.clone()),
            (None, Some(Value::Array(more))) => texts.extend(more.iter().cloned()),
            _ => return,
        }
    }
    schema.remove("oneOf");
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), Value::Array(texts));
}

fn without_null(property: &mut Value) {
    let Value::Object(property) = property else { return };
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            property.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = property.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            property.remove("anyOf");
            for (key, value) in only {
                property.entry(key).or_insert(value);
            }
        }
    }
}

fn strings(list: Option<&Value>) -> Vec<&str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
