//! Texts that others wrote, as a person sees them on a terminal. The terminal is a real one: that of `script`.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{Node, PROGRAM, skipped, taskmesh_command};

/// A text that sets the title, clears the screen, rings the bell and overwrites its line, with both ways of writing a
/// control, and reverses the direction of reading.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{8}over\rwritten \u{202e}txt.exe\u{2066}";

/// Runs a command on a terminal, as a person does, and returns everything that the terminal gets.
fn on_terminal(folder: &Path, arguments: &[&str]) -> Result<String> {
    let plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=@".contains(&byte));
    ensure!(arguments.iter().all(|word| plain(word)), "{arguments:?} would need quotation marks");
    let line = format!("{PROGRAM} {}", arguments.join(" "));
    let mut command = taskmesh_command(folder);
    let environment: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command = std::process::Command::new("script");
    command.envs(environment).env("SHELL", "/bin/sh").env_remove("RUST_LOG");
    let output = command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output()?;
    // A terminal turns each line break into `\r\n`.
    Ok(String::from_utf8(output.stdout)?.replace("\r\n", "\n"))
}

fn has_script() -> bool {
    let found = std::process::Command::new("script").arg("--version").stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// Removes the colours of the logs, which the program itself writes on a terminal.
fn colourless(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|char: char| char.is_ascii_digit() || char == ';').len();
        match part[digits..].strip_prefix('m') {
            Some(rest) => plain += rest,
            None => plain += &format!("\u{1b}[{part}"),
        }
    }
    plain
}

fn assert_harmless(what: &str, text: &str) {
    let plain = colourless(text);
    let obeyed: Vec<_> = plain
        .chars()
        .filter(|char| {
            (char.is_control() && *char != '\n') || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        })
        .collect();
    assert!(obeyed.is_empty(), "{what}: {obeyed:?} in {plain:?}");
    assert!(plain.contains("\\u{202e}") || plain.contains("\\u202e"), "{what} does not show it: {plain:?}");
}

#[test]
fn texts_of_others_reach_a_terminal_in_their_written_form() -> Result<()> {
    if !has_script() {
        skipped("there is no `script` to make a terminal");
        return Ok(());
    }
    let node = Node::start(&["--worker", "echo=cat", "--worker", "fail=sh -c 'cat >&2; exit 3'"])?;
    let done = node.run(&["submit", "echo", "--text", HOSTILE, "--wait"])?;
    assert_eq!(done.stdout, format!("{HOSTILE}\n"), "a program gets the result as it is");
    let id = |task: &Value| task["task_id"].as_str().context("no id").map(str::to_owned);
    let failed = node.run(&["submit", "fail", "--text", HOSTILE, "--max-attempts", "1", "--wait", "--json"])?;
    let failed = id(&failed.json()?)?;
    let listed = node.ask(&["list", "--type", "echo"])?;
    let completed = id(&listed["tasks"][0])?;
    let queued = id(&node.ask(&["submit", "no\u{202e}body", "--label", "\u{2066}\u{202e}"])?)?;
    let cached = node.run(&["cache", "set", "key", "--text", HOSTILE])?;
    assert_eq!(cached.code, Some(0), "{cached:?}");
    let file = node.folder().join("payload.json");
    std::fs::write(&file, serde_json::to_string(HOSTILE)?)?;
    let payload = format!("@{}", file.to_str().context("a path that is no text")?);
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["get", &completed],
        &["get", &failed],
        &["get", &completed, &failed, &queued],
        &["get", &completed, "--json"],
        &["wait", &failed],
        &["wait", &queued, "--timeout", "0"],
        &["stats"],
        &["stats", "--json"],
        &["cache", "get", "key"],
        &["call", "fail", "--args", "@PAYLOAD"],
        &["call", "echo", "--args", "@PAYLOAD"],
        &["submit", "fail", "--text", "@PAYLOAD", "--max-attempts", "1", "--wait"],
        &["submit", "echo", "--text", "@PAYLOAD", "--wait"],
    ] {
        let arguments: Vec<_> =
            arguments.iter().map(|word| if *word == "@PAYLOAD" { &*payload } else { word }).collect();
        assert_harmless(&arguments.join(" "), &on_terminal(node.folder(), &arguments)?);
    }
    // A program gets the same texts unchanged.
    assert_eq!(node.run(&["cache", "get", "key"])?.stdout, format!("{HOSTILE}\n"));
    Ok(())
}

#[test]
fn errors_and_logs_reach_a_terminal_in_their_written_form() -> Result<()> {
    if !has_script() {
        skipped("there is no `script` to make a terminal");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let hostile = folder.path().join(OsStr::from_bytes(HOSTILE.replace('/', "").as_bytes()));
    std::fs::create_dir(&hostile)?;
    std::fs::write(hostile.join("peers.json"), "none")?;
    let nobody = "12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu";
    let shown = on_terminal(&hostile, &["status", "--peer", nobody])?;
    assert!(shown.contains("cannot be read") && shown.contains("belongs to no mesh"), "a log and an error: {shown}");
    assert_harmless("a log and an error", &shown);
    assert_harmless("an error", &on_terminal(&hostile, &["status"])?);
    let with_json = on_terminal(&hostile, &["status", "--json"])?;
    assert_harmless("an error with --json", &with_json);
    Ok(())
}
