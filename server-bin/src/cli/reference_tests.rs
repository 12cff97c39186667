//! Checks that the command line and `docs/reference.md` agree.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory as _};

use super::Cli;

const REFERENCE: &str = include_str!("../../../docs/reference.md");

/// Options of other programs that the reference mentions.
const OF_OTHERS: [&str; 3] = ["--no-default-features", "--features", "--stdin"];

/// Returns every command below `command` with its full name, such as `cache get`.
fn commands(command: &Command, above: &str) -> Vec<(String, Command)> {
    let mut all = Vec::new();
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        let name = format!("{above}{}", inner.get_name());
        all.extend(commands(inner, &format!("{name} ")));
        all.push((name, inner.clone()));
    }
    all
}

fn options(command: &Command) -> impl Iterator<Item = String> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    shown.filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
}

/// Returns the reference's section about the command line.
fn section() -> &'static str {
    let (_, text) = REFERENCE.split_once("\n## Command line\n").unwrap();
    text.split("\n## ").next().unwrap()
}

/// Returns the options that a text mentions.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 4).map(str::to_owned).collect()
}

#[test]
fn every_command_and_option_stands_in_the_reference() {
    let cli = Cli::command();
    let (section, named) = (section(), named(REFERENCE));
    let mut missing = Vec::new();
    let mut compared = 0;
    let mut look = |is_there: bool, what: String| {
        compared += 1;
        missing.extend((!is_there).then_some(what));
    };
    for (name, command) in commands(&cli, "") {
        let is_group = command.get_subcommands().next().is_some();
        let is_shown = ["`", "`taskmesh "].iter().any(|before| section.contains(&format!("{before}{name}")));
        look(is_group || is_shown, name.clone());
        options(&command).for_each(|option| look(named.contains(&option), format!("{option} of {name}")));
    }
    options(&cli).for_each(|option| look(named.contains(&option), option));
    println!("{compared} commands and options compared");
    assert!(missing.is_empty(), "the reference says nothing of {missing:?}");
}

#[test]
fn every_option_of_the_reference_is_there() {
    let cli = Cli::command();
    let mut known: BTreeSet<String> = commands(&cli, "").iter().flat_map(|(_, command)| options(command)).collect();
    known.extend(options(&cli));
    known.extend(OF_OTHERS.map(str::to_owned));
    let unknown: Vec<_> = named(REFERENCE).into_iter().filter(|option| !known.contains(option)).collect();
    assert!(unknown.is_empty(), "no command has {unknown:?}");
}
