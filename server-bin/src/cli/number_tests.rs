//! Checks that every option with a number, of every command, refuses a value outside its range.

use std::{any::TypeId, collections::BTreeSet};

use clap::{Arg, Command, CommandFactory as _, Parser as _, error::ErrorKind};

use super::Cli;

/// A command line without the option, the option (empty: the value is a positional argument), the range as it is
/// documented, two values that are accepted, and two that are just outside.
type Row = (&'static str, &'static str, &'static str, [&'static str; 2], [&'static str; 2]);

const ID: &str = "00112233445566778899aabbccddeeff";
const ATTEMPT: &str = "--task-id ID --fence 1.1";

const ROWS: [Row; 15] = [
    ("submit t", "--priority", "from 1 to 10", ["1", "10"], ["0", "11"]),
    ("submit t", "--delay", "from 0 to 316224000", ["-0", "316224000"], ["-0.001", "316224000.1"]),
    ("submit t", "--deadline", "from 0.001 to 316224000", ["0.001", "316224000"], ["0", "316224000.1"]),
    ("submit t", "--max-attempts", "from 0 to 1000", ["0", "1000"], ["-1", "1001"]),
    ("submit t", "--backoff", "from 0 to 300", ["-0.0", "300"], ["-1e-9", "300.0001"]),
    ("wait ID", "--timeout", "from 0 to 3600", ["0", "3600"], ["-1e-9", "3600.5"]),
    ("list", "--limit", "from 1 to 1000", ["1", "1000"], ["0", "1001"]),
    ("progress ATTEMPT", "", "from 0 to 1", ["-0", "1"], ["-0.1", "1.0000001"]),
    ("progress ATTEMPT 0.5", "--lease", "from 1 to 86400", ["1", "86400"], ["0.999", "86400.1"]),
    ("ask ATTEMPT key --message m", "--lease", "from 1 to 86400", ["1", "86400"], ["0.999", "86400.1"]),
    ("retry --failed", "--older-than", "from 0 to 316224000", ["0", "316224000"], ["-1e-9", "316224000.1"]),
    (
        "retry --failed",
        "--limit",
        "from 1 to 18446744073709551615",
        ["1", "18446744073709551615"],
        ["0", "18446744073709551616"],
    ),
    ("cache set k --value 1", "--ttl", "from 0 to 316224000", ["0", "316224000"], ["-1e-9", "316224000.1"]),
    ("discover", "--timeout", "from 0 to 600", ["0", "600"], ["-1e-9", "600.1"]),
    ("discover", "--limit", "from 1 to 1000", ["1", "1000"], ["0", "1001"]),
];

/// More rows, for options that repeat those above.
const MORE: [Row; 5] = [
    ("invite", "--for", "from 1 to 31622400", ["1", "366d"], ["0.9", "367d"]),
    ("invite", "--uses", "from 1 to 256", ["1", "256"], ["0", "257"]),
    ("purge --failed", "--older-than", "from 0 to 316224000", ["0", "316224000"], ["-1e-9", "316224000.1"]),
    ("purge --failed", "--limit", "from 1 to 18446744073709551615", ["1", "5"], ["0", "18446744073709551616"]),
    ("call tool", "--timeout", "from 0 to 600", ["0", "600"], ["-1e-9", "600.1"]),
];

/// Values that no range accepts.
const NEVER: [&str; 14] =
    ["NaN", "nan", "-NaN", "inf", "-inf", "infinity", "1e400", "-1e400", "-1", "", " ", "soon", "1,5", "0x10"];

fn words(line: &str) -> Vec<String> {
    let line = line.replace("ATTEMPT", ATTEMPT).replace("ID", ID);
    ["taskmesh"].into_iter().chain(line.split_whitespace()).map(str::to_owned).collect()
}

/// Returns the line with the value, in each way of writing it.
fn lines(row: &Row, value: &str) -> Vec<Vec<String>> {
    let (line, option, ..) = row;
    let apart = if option.is_empty() { vec![value.to_owned()] } else { vec![(*option).to_owned(), value.to_owned()] };
    let mut lines = vec![[words(line), apart].concat()];
    lines.extend((!option.is_empty()).then(|| [words(line), vec![format!("{option}={value}")]].concat()));
    lines
}

fn rows() -> impl Iterator<Item = Row> {
    ROWS.into_iter().chain(MORE)
}

#[test]
fn what_is_no_number_of_the_range_is_refused_with_the_range_and_an_example() {
    for row in rows() {
        let (.., range, taken, outside) = row;
        for value in NEVER.into_iter().chain(outside) {
            for line in lines(&row, value) {
                let error = Cli::try_parse_from(&line).expect_err(&format!("{line:?}"));
                assert_eq!((error.kind(), error.exit_code()), (ErrorKind::ValueValidation, 2), "{line:?}: {error}");
                let text = error.to_string();
                assert!(text.contains("write ") && text.contains(&format!(" {range}, such as ")), "{line:?}: {text}");
            }
        }
        for value in taken {
            for line in lines(&row, value) {
                Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            }
        }
    }
}

/// An option with a number that is added later, of whatever type, has to be added to the table above.
#[test]
fn the_table_has_every_option_that_takes_a_number() {
    let mut found = BTreeSet::new();
    numbers(&Cli::command(), "", &mut found);
    let listed = rows().map(|(line, option, ..)| {
        let command = line.split_whitespace().next().unwrap_or_default();
        format!("{} {option}", if command == "cache" { "cache set" } else { command })
    });
    assert_eq!(found, listed.collect());
}

fn numbers(command: &Command, path: &str, found: &mut BTreeSet<String>) {
    for argument in command.get_arguments().filter(|argument| is_number(argument)) {
        let option = argument.get_long().map_or_else(String::new, |long| format!("--{long}"));
        found.insert(format!("{path} {option}"));
    }
    for inner in command.get_subcommands() {
        numbers(inner, format!("{path} {}", inner.get_name()).trim(), found);
    }
}

fn is_number(argument: &Arg) -> bool {
    let read = argument.get_value_parser().type_id();
    let numbers = [
        TypeId::of::<f64>(),
        TypeId::of::<f32>(),
        TypeId::of::<u8>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<i64>(),
        TypeId::of::<i32>(),
    ];
    argument.get_action().takes_values() && numbers.into_iter().any(|number| read == number)
}
