//! JSON texts that some programs change or cannot read when they parse them into values. The tests of all crates share
//! this file.

use proptest::{
    prelude::*,
    strategy::{Strategy, ValueTree as _},
    test_runner::TestRunner,
};

/// The deepest nesting of a value that is accepted. It states the promise independently of the code.
pub const DEEPEST: usize = 100;

/// Texts that are accepted, and answered unchanged to the last byte.
#[must_use]
pub fn kept() -> Vec<String> {
    let texts = [
        // Numbers that change their text or their value when they pass through 64 bits.
        "-0",
        "-0.0",
        "1.10",
        "1e5",
        "1E+05",
        "[18446744073709551616,-9223372036854775809]",
        "1e-400",
        "1.7976931348623157e308",
        "0.1000000000000000055511151231257827021181583404541015625",
        // Members that get lost or change their order.
        r#"{"a":1,"a":2}"#,
        r#"{"b":1,"a":{"a":1,"\u0061":2},"":{"":[]}}"#,
        // Escapes that stand for one character, and characters that readers of lines or terminals treat specially.
        r#""""#,
        r#""\u0000""#,
        r#"["\u0000",{"\u0000":"\u001b[2J"}]"#,
        r#""\u00e9\/\ud83d\ude00 é""#,
        "\"\u{2028}\u{202e}\u{feff}\u{ffff}\u{10ffff}\u{7f}\"",
        r#"["a\r\n\ndata: {\"jsonrpc\":\"2.0\"}\n\n"]"#,
        // White space of every kind, also at the ends of lines.
        "[ 1 ,\n\t2 ,\r\n 3,\r4 ]",
        "{\n  \"ok\" : false ,\n\n  \"error\" : { }\n}",
        // A text that is private only as a key is ordinary anywhere else.
        r#"["$serde_json::private::RawValue",{"a":"$serde_json::private::Number"}]"#,
        r#"{"$serde_json":1,"serde_json::private::RawValue":"[1,"}"#,
        "null",
        "[]",
    ];
    let deepest = [nested(DEEPEST), format!("{}1.10{}", r#"{"a":"#.repeat(DEEPEST), "}".repeat(DEEPEST))];
    texts.into_iter().map(str::to_owned).chain(deepest).collect()
}

/// Texts that are valid JSON but are refused. Common readers stop at them, and so lose the whole answer that holds
/// them.
#[must_use]
pub fn refused() -> Vec<String> {
    let texts = [
        "1e400",
        "[0,{\"a\":-1.5E+400}]",
        r#""\ud800""#,
        r#""\udc00""#,
        r#"["\ud800\ud800"]"#,
        r#"{"a":"\ud83dx"}"#,
        r#"{"\uDFFF":1}"#,
        r#"{"$serde_json::private::RawValue":"1"}"#,
        r#"{"$serde_json::private::RawValue":"[1,"}"#,
        r#"[{"a":1,"$serde_json::private::Number":"1"}]"#,
        r#"{"\u0024serde_json::\u0070rivate::RawValue":null}"#,
    ];
    let long = format!("1{}", "0".repeat(400));
    let too_deep = [nested(DEEPEST + 1), format!("{}1{}", r#"{"a":["#.repeat(60), "]}".repeat(60))];
    texts.into_iter().map(str::to_owned).chain([long]).chain(too_deep).collect()
}

/// Arrays nested this deep.
#[must_use]
pub fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// Samples of [`any_text`].
#[must_use]
pub fn some(count: usize) -> Vec<String> {
    let (mut runner, any) = (TestRunner::default(), any_text());
    std::iter::repeat_with(|| any.new_tree(&mut runner).ok().map(|tree| tree.current())).flatten().take(count).collect()
}

/// Any JSON text that is accepted.
pub fn any_text() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?";
    let word = prop_oneof![Just("null"), Just("true"), Just("false")].prop_map(str::to_owned);
    let leaf = prop_oneof![number, string(), word, prop::sample::select(kept())];
    leaf.prop_recursive(6, 48, 6, |inner| {
        let spaced =
            (space(), inner, space()).prop_map(|(before, value, after)| format!("{before}{value}{after}")).boxed();
        let array = prop::collection::vec(spaced.clone(), 0..6).prop_map(|values| format!("[{}]", values.join(",")));
        let member = (space(), key(), space(), spaced)
            .prop_map(|(before, key, after, value)| format!("{before}{key}{after}:{value}"));
        let object = prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")));
        prop_oneof![array, object]
    })
    .prop_filter("nested no deeper than is taken", |text| deepest(text) <= DEEPEST)
}

/// A small set of keys, so that some occur twice.
fn key() -> impl Strategy<Value = String> {
    let few = prop_oneof![Just(r#""a""#), Just(r#""\u0061""#), Just(r#""""#)].prop_map(str::to_owned);
    prop_oneof![few, string()]
}

fn string() -> impl Strategy<Value = String> {
    let escapes = ["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u0000", "\\u00E9", "\\ud83d\\uDE00"];
    let escape = prop::sample::select(escapes.to_vec()).prop_map(str::to_owned);
    let plain = any::<char>().prop_filter("stands for itself", |c| *c >= ' ' && !matches!(c, '"' | '\\'));
    let piece = prop_oneof![escape, plain.prop_map(String::from)];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn space() -> impl Strategy<Value = String> {
    let spaces = ["", "", "", " ", "\n", "\r\n", "\t", " \r "];
    prop::sample::select(spaces.to_vec()).prop_map(str::to_owned)
}

fn deepest(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
