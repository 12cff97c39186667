use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{
    Reference,
    constants::{Constants, Value},
    internal::INTERNAL,
};

#[test]
fn every_bound_of_the_reference_is_the_one_of_the_code() -> Result<()> {
    let (reference, constants) = (Reference::read()?, Constants::read()?);
    let (mut compared, mut wrong) = (0, Vec::new());
    for (text, names) in marked(&reference.0) {
        for name in names {
            compared += 1;
            match constants.find(name).and_then(|path| constants.value(path)) {
                Ok(value) if shows(text, value) => {}
                Ok(value) => wrong.push(format!("{name} is {value:?}, and the reference says: {text}")),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
    }
    println!("{compared} bounds compared");
    ensure!(wrong.is_empty(), "{wrong:#?}");
    ensure!(compared > 100, "only {compared} bounds are marked");
    Ok(())
}

#[test]
fn every_bound_of_the_code_stands_in_the_reference_or_concerns_nobody_outside() -> Result<()> {
    let (reference, constants) = (Reference::read()?, Constants::read()?);
    let (mut known, mut wrong) = (BTreeSet::new(), Vec::new());
    let documented = marked(&reference.0).flat_map(|(_, names)| names);
    for name in documented.chain(INTERNAL.iter().flat_map(|(_, names)| names.iter().copied())) {
        match constants.find(name) {
            Ok(path) if known.insert(path) => {}
            Ok(_) => wrong.push(format!("{name} stands there twice")),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    let missing = constants.paths().filter(|path| is_bound(path) && !known.contains(path));
    wrong.extend(missing.map(|path| format!("the reference says nothing of {path}")));
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn a_wrong_number_is_noticed() {
    let mebibyte = Value::Whole(1024 * 1024);
    assert!(shows("1 MiB each", mebibyte) && shows("16, 24, 32 MiB", Value::Whole(24 * 1024 * 1024)));
    assert!(!shows("2 MiB each", mebibyte) && !shows("1,024 KiB", Value::Whole(1024)) && !shows("11 MiB", mebibyte));
    assert!(shows("1,000; 128", Value::Whole(1_000)) && !shows("10,000; 128", Value::Whole(1_000)));
    assert!(shows("10 s, 30 s", Value::Seconds(30.0)) && shows("half a second or 500 ms", Value::Seconds(0.5)));
    assert!(shows("1–10", Value::Range(1.0, 10.0)) && shows("1 to 86,400", Value::Range(1.0, 86_400.0)));
    assert!(!shows("1–100", Value::Range(1.0, 10.0)));
}

fn is_bound(path: &str) -> bool {
    let name = path.rsplit("::").next().unwrap_or_default();
    name.split('_').any(|word| matches!(word, "MAX" | "MIN" | "RANGE" | "TIMEOUT" | "DEADLINE" | "WINDOW"))
}

/// Returns the lines that name constants, with these names.
fn marked(reference: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    let lines = reference.lines().filter_map(|line| {
        let (text, rest) = line.split_once("<!-- ")?;
        let (names, _) = rest.split_once(" -->")?;
        Some((text, names))
    });
    let of_constants = |names: &str| names.split(", ").all(|name| name.rsplit("::").next().is_some_and(is_constant));
    lines.filter(move |(_, names)| of_constants(names)).map(|(text, names)| (text, names.split(", ").collect()))
}

fn is_constant(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Whether the text contains the value, in one of the forms in which people write it.
fn shows(text: &str, value: Value) -> bool {
    let numbers: BTreeSet<&str> = text
        .split(|c: char| !(c.is_ascii_digit() || matches!(c, ',' | '.')))
        .map(|number| number.trim_matches([',', '.']))
        .collect();
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphabetic()).collect();
    let has = |number: f64, unit: &str| {
        let fits = (number * 1e3).fract() == 0.0;
        fits && numbers.contains(grouped(number).as_str()) && (unit.is_empty() || words.contains(unit))
    };
    match value {
        Value::Range(from, to) => has(from, "") && has(to, ""),
        Value::Seconds(seconds) => has(seconds, "s") || has(seconds * 1e3, "ms"),
        Value::Whole(_) | Value::Fraction(_) => {
            let number = value.number().unwrap_or(f64::NAN);
            let is_count = !["MiB", "KiB"].iter().any(|unit| text.contains(&format!("{} {unit}", grouped(number))));
            has(number / 1_048_576.0, "MiB") || has(number / 1_024.0, "KiB") || is_count && has(number, "")
        }
    }
}

/// Returns a number with commas between its thousands.
fn grouped(number: f64) -> String {
    let text = number.to_string();
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{out}.{fraction}"),
        None => out,
    }
}
