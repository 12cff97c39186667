use serde_json::{Value, json};

use crate::{client::Client, queue::TestQueue};

/// Compares a value with a schema. It knows only the keywords that the tools use and fails on any other, so that none
/// is skipped.
pub(crate) fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{at}: {what}: {value} against {schema}"));
    for (keyword, rule) in schema.as_object().ok_or_else(|| format!("{at}: no schema: {schema}"))? {
        match keyword.as_str() {
            "type" if !types(rule).any(|name| is(name, value)) => return wrong("type"),
            "enum" if !rule.as_array().unwrap().contains(value) => return wrong("enum"),
            "const" if rule != value => return wrong("const"),
            "minimum" if value.as_f64() < rule.as_f64() && value.is_number() => return wrong("minimum"),
            "maximum" if value.as_f64() > rule.as_f64() && value.is_number() => return wrong("maximum"),
            "pattern" if rule != "^[0-9a-f]{32}$" => return wrong("unknown pattern"),
            "pattern" if value.as_str().is_some_and(|text| text.len() != 32) => return wrong("pattern"),
            "required" => {
                let missing = rule.as_array().unwrap().iter().find(|name| value.get(name.as_str().unwrap()).is_none());
                if let (Some(missing), true) = (missing, value.is_object()) {
                    return wrong(&format!("{missing} is missing"));
                }
            }
            "properties" => {
                for (name, property) in rule.as_object().unwrap() {
                    value.get(name).map_or(Ok(()), |value| check(property, value, &format!("{at}.{name}")))?;
                }
            }
            "additionalProperties" => {
                let named = |name: &str| schema["properties"].get(name).is_some();
                for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| !named(name)) {
                    match rule {
                        Value::Bool(allowed) if *allowed => {}
                        Value::Bool(_) => return wrong(&format!("{name} is unknown")),
                        rule => check(rule, value, &format!("{at}.{name}"))?,
                    }
                }
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|value| check(rule, value, &format!("{at}[]")))?;
            }
            "anyOf" => {
                let tried: Vec<_> = rule.as_array().unwrap().iter().map(|rule| check(rule, value, at)).collect();
                if tried.iter().all(Result::is_err) {
                    return wrong(&format!("anyOf: {tried:?}"));
                }
            }
            "description" | "default" | "type" | "enum" | "const" | "minimum" | "maximum" | "pattern" => {}
            unknown => return wrong(&format!("keyword {unknown} is not known here")),
        }
    }
    Ok(())
}

fn types(rule: &Value) -> impl Iterator<Item = &str> {
    rule.as_str().into_iter().chain(rule.as_array().into_iter().flatten().map(|name| name.as_str().unwrap()))
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[test]
fn the_check_can_fail() {
    let schema = json!({
        "type": "object",
        "properties": { "n": { "type": ["integer", "null"], "maximum": 3 }, "l": { "items": { "enum": ["a"] } } },
        "required": ["n"],
        "additionalProperties": false,
        "anyOf": [{ "required": ["l"] }],
    });
    assert_eq!(check(&schema, &json!({ "n": null, "l": ["a"] }), "$"), Ok(()));
    for wrong in [
        json!([]),
        json!({ "l": [] }),
        json!({ "n": 4, "l": [] }),
        json!({ "n": "x", "l": [] }),
        json!({ "n": 1, "l": ["b"] }),
        json!({ "n": 1, "l": [], "m": 1 }),
        json!({ "n": 1 }),
    ] {
        assert!(check(&schema, &wrong, "$").is_err(), "{wrong}");
    }
    assert!(check(&json!({ "oneOf": [] }), &json!({}), "$").is_err());
}

#[tokio::test]
async fn schemas_are_such_as_every_client_takes() {
    for tool in Client::new(TestQueue::new()).tools().await {
        for (which, schema) in [("input", &tool["inputSchema"]), ("output", &tool["outputSchema"])] {
            let name = format!("{} {which}", tool["name"]);
            assert_eq!(schema["type"], "object", "{name}");
            assert!(schema["properties"].is_object(), "{name}");
            let text = schema.to_string();
            // References, dialects and number formats are what validators and model APIs stumble over.
            for word in ["$ref", "$schema", "$defs", "\"format\"", "\"oneOf\"", "clause T"] {
                assert!(!text.contains(word), "{name} has {word}: {text}");
            }
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{}", tool["name"]);
        for (name, input) in tool["inputSchema"]["properties"].as_object().unwrap() {
            assert!(input["description"].is_string(), "{} {name}", tool["name"]);
            assert!(!input["type"].is_array() && input.get("anyOf").is_none(), "{} {name}: {input}", tool["name"]);
        }
    }
}

/// Every list of tools carries the schemas of all answers, and that of a record is in many of them.
#[tokio::test]
async fn the_schemas_of_answers_describe_records_and_say_little_of_what_is_in_them() {
    let tools = Client::new(TestQueue::new()).tools().await;
    let schema = |tool: &str, place: &str| {
        let tool = tools.iter().find(|known| known["name"] == tool).unwrap();
        tool["outputSchema"].pointer(place).unwrap_or_else(|| panic!("{place} of {tool}")).clone()
    };
    for (tool, record) in [
        ("p2p_taskqueue_get_task", "/properties/task"),
        ("run_task", "/properties/task"),
        ("p2p_taskqueue_wait_task", "/properties/task"),
        ("p2p_taskqueue_wait_task", "/properties/tasks/items"),
        ("p2p_taskqueue_list_tasks", "/properties/tasks/items"),
    ] {
        let member = |name: &str| schema(tool, &format!("{record}/properties/{name}"));
        let (status, waiting_for) = (member("status"), member("waiting_for"));
        assert!(status["description"].is_string() && waiting_for["description"].is_string(), "{tool}");
        assert_eq!(waiting_for["type"], "object", "{tool}: it is left out where there is none");
        assert_eq!(waiting_for["properties"]["message"], json!({ "type": "string" }), "{tool}");
        assert_eq!(waiting_for["required"], json!(["reason", "message"]), "{tool}");
        assert_eq!(member("deadline")["type"], json!(["number", "null"]), "{tool}: it is null where there is none");
        assert_eq!(member("attempts")["items"]["properties"]["error"], json!({ "type": "string" }), "{tool}");
    }
    assert!(schema("p2p_taskqueue_workers", "/properties/workers/items/properties/slots")["description"].is_string());
}
