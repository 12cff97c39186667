//! Runs each built example in an empty folder, and checks what it prints.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
    thread,
};

use super::{DEADLINE, TestResult};

/// Returns the path of an example. Cargo puts the examples of a build beside the folder of its test programs.
fn built(name: &str) -> TestResult<PathBuf> {
    let tests = std::env::current_exe()?;
    let profile = tests.parent().and_then(|deps| deps.parent()).ok_or("no target folder")?;
    let program = profile.join("examples").join(name);
    if program.exists() {
        return Ok(program);
    }
    Err(format!("{} is not built: cargo test -p p2p-taskqueue builds it", program.display()).into())
}

/// Runs an example and returns what it prints. It must end in time and without an error.
fn printed(name: &str) -> TestResult<String> {
    let folder = tempfile::tempdir()?;
    let mut child =
        Command::new(built(name)?).current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().ok_or("no standard output")?;
    let (sender, text) = sync_channel(1);
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        sender.send(read).ok();
    });
    let text = text.recv_timeout(DEADLINE);
    // The example has closed its output, or it is late.
    if text.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    let text = text.map_err(|_| format!("{name} has not ended in time"))??;
    assert!(status.success(), "{name}: {status}, {text}");
    Ok(text)
}

#[track_caller]
fn has_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|there| there == *line), "{line:?} is missing in {text}");
    }
}

#[test]
fn local_queue() -> TestResult {
    has_lines(&printed("local_queue")?, &["words: Ok(6)"]);
    Ok(())
}

#[test]
fn worker() -> TestResult {
    let lines = ["42 / 6 = 7", "1 / 0 failed at attempt 1: cannot be divided", "the page is INDEX, at attempt 2"];
    has_lines(&printed("worker")?, &lines);
    Ok(())
}

#[test]
fn two_machines() -> TestResult {
    let lines = [
        "joined, connected: true",
        "the first counts \"three short words\", kept by a peer: true",
        "the first counts \"two words\", kept by a peer: false",
        "kept by the second: Ok(3)",
        "kept by the first: Ok(2)",
    ];
    has_lines(&printed("two_machines")?, &lines);
    Ok(())
}

#[test]
fn axum_handler() -> TestResult {
    has_lines(&printed("axum_handler")?, &["HTTP/1.0 200 OK", "\"hello, world\""]);
    Ok(())
}

#[test]
fn long_job() -> TestResult {
    let lines = [
        "all is set: page 100 is set",
        "asked for the title: \"which title?\"",
        "done: A Room of One's Own, 100 pages",
        "the handler was told to stop",
        "called off: nobody looks any more",
    ];
    has_lines(&printed("long_job")?, &lines);
    Ok(())
}

/// The program in the README is that of an example that runs, and it is short.
#[test]
fn the_readme_has_the_program_of_an_example() -> TestResult {
    let (readme, example) = (include_str!("../../README.md"), include_str!("../../examples/local_queue.rs"));
    let block = |language: &str| {
        let (_, block) = readme.split_once(&format!("```{language}\n"))?;
        block.split_once("```").map(|(block, _)| block)
    };
    let program = block("rust,no_run").ok_or("no program in the README")?;
    assert!(example.ends_with(program), "{program}");
    let manifest = block("toml").ok_or("no lines for Cargo.toml in the README")?;
    let lines = [manifest, program].iter().flat_map(|block| block.lines()).filter(|line| !line.is_empty()).count();
    assert!(lines <= 25, "{lines} lines");
    Ok(())
}
