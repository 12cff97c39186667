use std::sync::Arc;

use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};
use taskqueue_api::{
    PeerId, Submit,
    testing::{DEADLINE, odd_json, task},
};

use super::{talk::ERROR_TAIL_BYTES, *};

const SOURCE: Source = Source { owner: None, lease: Duration::from_millis(1500) };

/// Runs a command for a payload on an executor thread. `contact` decides when the command is told to stop, if ever.
fn run_until(line: &str, payload: &str, contact: Contact) -> AttemptEnd {
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default()).unwrap();
    let handler = CommandHandler::parse(line, thread.runtime()).unwrap();
    let task = task(PeerId::random(), Submit::new("t", Json::parse(payload.to_owned()).unwrap()));
    thread.bridge().run_in_p2p_blocking(async move { handler.run(&task, contact).await }).unwrap()
}

fn run(line: &str, payload: &str) -> AttemptEnd {
    let (_sender, contact, _told) = Contact::new(SOURCE);
    run_until(line, payload, contact)
}

fn done(json: &str) -> AttemptEnd {
    AttemptEnd::Done(Json::parse(json.to_owned()).unwrap())
}

#[test]
fn output_that_is_one_json_value_is_that_value() {
    assert_eq!(run("wc -w", r#""one two three""#), done("3"));
    assert_eq!(run("cat", r#"{ "b": 1.50, "a": [] }"#), done(r#"{"b":1.50,"a":[]}"#));
}

/// The output of a command becomes compact JSON, or the text of a string.
#[test]
fn odd_values_go_through_a_command_as_they_are() {
    for text in odd_json::kept().into_iter().chain(odd_json::some(20)) {
        let payload = Json::parse(text.clone()).unwrap();
        let expected = match payload.to::<String>() {
            Ok(plain) => result(plain.as_bytes()),
            Err(_) => AttemptEnd::Done(Json::parse(payload.compact()).unwrap()),
        };
        assert_eq!(run("cat", &text), expected, "{text}");
    }
}

#[test]
fn output_that_a_result_may_not_be_is_a_string() {
    for text in odd_json::refused() {
        assert_eq!(result(format!("{text}\n").as_bytes()), AttemptEnd::Done(Json::from_text(&text)), "{text}");
    }
    let AttemptEnd::Done(kept) = result(b" {\"a\": 1.10} \n") else { panic!("it is done") };
    assert_eq!(kept.get(), r#"{"a": 1.10}"#);
}

#[test]
fn any_other_output_is_a_string_without_its_final_newline() {
    assert_eq!(run("printf 'a b\\n\\n'", "null"), done(r#""a b\n""#));
    assert_eq!(run("printf '1 2'", "null"), done(r#""1 2""#));
    assert_eq!(run("true", "null"), done(r#""""#));
}

#[test]
fn words_are_split_as_a_shell_does_and_no_shell_runs() {
    assert_eq!(run(r#"printf %s "a  b" '$HOME' c\ d"#, "null"), done(r#""a  b$HOMEc d""#));
    let runtime = ExecutorThread::start(Backend::Tokio, ThreadConfig::default()).unwrap().runtime();
    let refused = |line| CommandHandler::parse(line, Arc::clone(&runtime)).unwrap_err();
    assert_eq!(refused("wc 'open"), ParseCommandError::OpenQuote);
    assert_eq!(refused("  "), ParseCommandError::Empty);
}

#[test]
fn a_failure_has_the_code_and_the_end_of_standard_error() {
    let script = "sh -c 'yes noise | head -c 9000 >&2; echo the reason >&2; exit 7'";
    let AttemptEnd::Failed { error, retryable } = run(script, "null") else { panic!("it has failed") };
    assert!(retryable && error.contains("code 7") && error.ends_with("the reason"), "{error}");
    assert!(error.len() < ERROR_TAIL_BYTES + 100, "{}", error.len());
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let AttemptEnd::Failed { error, .. } = run("/no/such/command", "null") else { panic!("it has failed") };
    assert!(error.contains("/no/such/command"), "{error}");
}

#[test]
fn output_over_the_limit_is_a_permanent_failure() {
    let outcome = run("sh -c 'yes | head -c 2000000'", "null");
    assert!(matches!(outcome, AttemptEnd::Failed { retryable: false, .. }), "{outcome:?}");
}

#[test]
fn a_command_that_reads_nothing_is_no_failure() {
    let long = format!("\"{}\"", "x".repeat(500_000));
    assert_eq!(run("true", &long), done(r#""""#));
}

#[test]
fn a_stop_ends_the_command_and_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // The grandchild ignores SIGTERM and holds the pipe open. The pipe closes when the grandchild has been killed.
    let script = format!("sh -c \"(trap '' TERM; exec 9>{0}; echo up >&9; sleep 1000) & sleep 1000\"", pipe.display());
    let (sender, contact, _told) = Contact::new(SOURCE);
    let reader = std::thread::spawn(move || {
        let mut reader = io::BufReader::new(std::fs::File::open(pipe).unwrap());
        let mut line = String::new();
        io::BufRead::read_line(&mut reader, &mut line).unwrap();
        sender.send(true).unwrap();
        io::Read::read_to_string(&mut reader, &mut line).unwrap();
        line
    });
    assert_eq!(run_until(&script, "null", contact), AttemptEnd::Stopped);
    assert_eq!(reader.join().unwrap(), "up\n");
}

#[test]
fn the_environment_says_what_the_command_works_on() {
    let owner = PeerId::random();
    let (_sender, contact, _told) = Contact::new(Source { owner: Some(owner), ..SOURCE });
    let names = ["TASK_ID", "ATTEMPT", "FENCE", "OWNER", "LEASE_S", "DATA_DIR"].map(|name| format!("$TASKMESH_{name}"));
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default()).unwrap();
    let line = format!("sh -c 'echo {}'", names.join(" "));
    let handler = CommandHandler::parse(&line, thread.runtime()).unwrap().with_env("TASKMESH_DATA_DIR", "/some/folder");
    let mut task = task(owner, Submit::new("t", Json::null()));
    (task.attempt, task.fence) = (2, Some(taskqueue_api::Fence { epoch: 1, counter: 7 }));
    let expected = [
        task.task_id.to_string(),
        "2".to_owned(),
        task.fence.unwrap().to_string(),
        owner.to_string(),
        "1.5".to_owned(),
        "/some/folder".to_owned(),
    ];
    let outcome = thread.bridge().run_in_p2p_blocking(async move { handler.run(&task, contact).await }).unwrap();
    assert_eq!(outcome, AttemptEnd::Done(Json::from_text(&expected.join(" "))));
}

/// Two named pipes. The processes that a command leaves behind hold one of them open, so it closes when all of them
/// have ended. The command itself waits for the other one.
struct Leash {
    folder: tempfile::TempDir,
}

impl Leash {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["held", "ready"] {
            assert!(Command::new("mkfifo").arg(folder.path().join(name)).status().unwrap().success());
        }
        Self { folder }
    }

    /// Makes a script that leaves `background` behind, with the pipe as descriptor 9, once `background` has reported
    /// that it runs.
    fn script(&self, background: &str, then: &str) -> String {
        let folder = self.folder.path().display();
        format!("sh -c \"exec 9>{folder}/held; ({background}) & read up <{folder}/ready; {then}\"")
    }

    fn is_up(&self) -> String {
        format!("echo up >{}/ready", self.folder.path().display())
    }

    /// Runs a command line. Answers the outcome, and everything that was written to the pipe until all writers had
    /// closed it.
    fn hold(&self, line: &str) -> (AttemptEnd, String) {
        let (held, line) = (self.folder.path().join("held"), line.to_owned());
        let (send, said) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || send.send(std::fs::read_to_string(held).unwrap()));
        let outcome = in_time(move || run(&line, "null"));
        (outcome, said.recv_timeout(DEADLINE).unwrap())
    }
}

/// Runs `work` with a deadline.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, done) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || send.send(work()));
    done.recv_timeout(DEADLINE).expect("it is waited for something that does not end")
}

#[test]
fn what_a_command_leaves_behind_keeps_nobody_and_is_ended() {
    let leash = Leash::new();
    let background = format!("trap 'echo asked >&9; exit' TERM; {}; while :; do sleep 0.01; done", leash.is_up());
    let (outcome, said) = leash.hold(&leash.script(&background, "echo done"));
    assert_eq!((outcome, said.as_str()), (done(r#""done""#), "asked\n"));
}

#[test]
fn what_a_failed_command_leaves_behind_is_ended_also_when_it_does_not_want_to() {
    let leash = Leash::new();
    let background = format!("trap '' TERM; {}; exec sleep 1000", leash.is_up());
    let (outcome, said) = leash.hold(&leash.script(&background, "echo why >&2; exit 4"));
    let AttemptEnd::Failed { error, .. } = outcome else { panic!("{outcome:?}") };
    assert!(error.ends_with("exited with code 4: why") && said.is_empty(), "{error}");
}

#[test]
fn all_that_a_command_wrote_counts_whatever_it_left_behind() {
    let line = "sh -c \"sleep 1000 & yes x | head -c 1000000 | tr -d '\\n'\"";
    assert_eq!(in_time(move || run(line, "null")), AttemptEnd::Done(Json::from_text(&"x".repeat(500_000))));
}

#[test]
fn what_has_left_the_group_keeps_nobody() {
    let leash = Leash::new();
    // This process holds the command's pipes as long as the test lets it live.
    let held = leash.folder.path().join("held");
    let line = format!("sh -c 'setsid sh -c \"read line <{}\" & echo done'", held.display());
    assert_eq!(in_time(move || run(&line, "null")), done(r#""done""#));
    in_time(move || std::fs::write(held, "end\n").unwrap());
}
