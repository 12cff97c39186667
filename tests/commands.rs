//! A worker's command, and the processes that it has started, when its attempt or its node ends.

use std::{
    collections::HashSet,
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Gate, Node, at};

/// A script that writes its process id and then stays, ignoring SIGTERM.
const MEMBER: &str = "trap '' TERM; echo $$ >&9; exec sleep 1000 9>&-";

/// Returns a script that starts three members: one in its process group, one in a session of its own, and one in a
/// session of its own whose parent has ended. They write their process ids to the gate.
fn children(gate: &Path) -> String {
    let start = "member=$TASKMESH_DATA_DIR/member; sh $member & setsid sh $member & (setsid sh $member &)";
    format!("exec 9>{}; {start}", gate.display())
}

/// Returns such a script that becomes a member itself at the end.
fn family(gate: &Path) -> String {
    format!("{}; exec sh $member", children(gate))
}

/// Starts a node whose worker runs this script.
fn node(script: &str) -> Result<Node> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("script");
    fs::write(&file, script)?;
    fs::write(folder.path().join("member"), MEMBER)?;
    let worker = format!("family=sh {}", file.display());
    Node::start_on(folder, None, &["--p2p-listen", "/ip4/127.0.0.1/tcp/0", "--worker", &worker])
}

/// Reads the processes of a family, and checks that it is complete.
fn members(gate: &Gate) -> Result<Vec<Pid>> {
    let mut ids = HashSet::new();
    for line in gate.read_to_end()?.lines() {
        ids.insert(Pid::from_raw(line.parse()?).context("no process id")?);
    }
    ensure!(ids.len() == 4, "{ids:?}");
    Ok(ids.into_iter().collect())
}

/// Waits until these processes have ended. Fails, and kills them, when they do not end in time.
fn gone(processes: &[Pid]) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    for process in processes {
        // A process that its parent has waited for does not exist any more.
        let Ok(end) = pidfd_open(*process, PidfdFlags::empty()) else { continue };
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))?;
        if poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&left))? == 0 {
            kill(processes);
            bail!("{process:?} of {processes:?} goes on");
        }
    }
    Ok(())
}

fn kill(processes: &[Pid]) {
    for process in processes {
        kill_process(*process, Signal::KILL).ok();
    }
}

/// Whether the process has not ended. A zombie has ended.
fn is_running(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with(['Z', 'X']))
}

fn submit(node: &Node) -> Result<String> {
    let submitted = node.ask(&["submit", "family", "--max-attempts", "3", "--backoff", "0.01"])?;
    Ok(at(&submitted, "/task_id").as_str().context("no id")?.to_owned())
}

#[test]
fn a_killed_node_takes_its_commands_with_it() -> Result<()> {
    let gate = Gate::new()?;
    let mut node = node(&family(gate.path()))?;
    submit(&node)?;
    let family = members(&gate)?;
    node.kill()?;
    // The node is not started again, because the next attempt may be made on another machine.
    gone(&family)
}

#[test]
fn a_cancelled_task_leaves_nothing_behind() -> Result<()> {
    let gate = Gate::new()?;
    let node = node(&family(gate.path()))?;
    let task = submit(&node)?;
    let family = members(&gate)?;
    node.ask(&["cancel", &task])?;
    gone(&family)
}

#[test]
fn what_a_command_leaves_behind_ends_before_its_answer() -> Result<()> {
    let (gate, go) = (Gate::new()?, Gate::new()?);
    let own = format!("echo $$ >&9; exec 9>&-; read go <{}; echo done", go.path().display());
    let node = node(&format!("{}; {own}", children(gate.path())))?;
    let task = submit(&node)?;
    let members = members(&gate)?;
    go.write("go\n")?;
    let waited = node.ask(&["wait", &task])?;
    assert_eq!(at(&waited, "/task/result"), &json!("done"), "{waited}");
    let running: Vec<_> = members.into_iter().filter(|process| is_running(*process)).collect();
    kill(&running);
    assert!(running.is_empty(), "{running:?}");
    Ok(())
}

#[test]
fn one_command_after_the_other_is_supervised_by_the_same_process() -> Result<()> {
    let node = node("echo $PPID; sleep 60 & [ $(cat) != fail ]")?;
    let run = |text: &str| node.run(&["submit", "family", "--text", text, "--max-attempts", "1", "--wait"]);
    let first = run("first")?.stdout;
    ensure!(first.trim().parse::<i32>().is_ok_and(|supervisor| supervisor != 1), "{first}");
    assert_eq!(run("fail")?.code, Some(1));
    assert_eq!(run("last")?.stdout, first);
    Ok(())
}

#[test]
fn a_command_that_cannot_be_started_says_why_each_time() -> Result<()> {
    let node = Node::start(&["--worker", "absent=/no/such/command"])?;
    for _ in 0..2 {
        let answered = node.run(&["submit", "absent", "--max-attempts", "1", "--wait"])?;
        let why = "could not start /no/such/command: No such file or directory";
        assert!(answered.code == Some(1) && answered.stdout.contains(why), "{answered:?}");
    }
    Ok(())
}

/// A service manager sends these signals to all processes of a service at once.
#[test]
fn a_node_that_is_stopped_with_all_its_processes_gives_its_task_back() -> Result<()> {
    let gate = Gate::new()?;
    let mut node = node(&format!("trap '' TERM; echo $PPID >{}; exec sleep 1000", gate.path().display()))?;
    let task = submit(&node)?;
    let supervisor = Pid::from_raw(gate.read_to_end()?.trim().parse()?).context("no process id")?;
    let name = fs::read(format!("/proc/{}/cmdline", supervisor.as_raw_nonzero()))?;
    assert!(name.starts_with(b"task-supervisor\0"), "{}", String::from_utf8_lossy(&name));
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        kill_process(supervisor, signal)?;
    }
    let (status, _, stderr) = node.stop(Signal::TERM)?;
    assert_eq!(status.code(), Some(0), "{stderr}");
    gone(&[supervisor])?;
    node.start_again()?;
    let record = record(&node, &task)?;
    assert!(record["error"].is_null() && record["failed_by"].is_null(), "{record}");
    Ok(())
}

#[test]
fn a_command_whose_supervisor_is_killed_is_ended_and_tried_again() -> Result<()> {
    let gate = Gate::new()?;
    // The command gets its input after the node has noted it.
    let node = node(&format!("cat >/dev/null; echo $PPID $$ >{}; read x <{0}; echo done", gate.path().display()))?;
    let task = submit(&node)?;
    let ids = gate.read_to_end()?;
    let ids: Vec<_> = ids.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let ids: Vec<_> = ids.into_iter().filter_map(Pid::from_raw).collect();
    let [supervisor, command] = ids.as_slice() else { bail!("{ids:?}") };
    kill_process(*supervisor, Signal::KILL)?;
    gone(&[*command])?;
    gate.written()?;
    gate.write("go\n")?;
    let waited = node.ask(&["wait", &task])?;
    assert_eq!((at(&waited, "/task/result"), at(&waited, "/task/attempt")), (&json!("done"), &json!(2)), "{waited}");
    Ok(())
}

#[test]
fn a_command_is_what_it_is_without_a_supervisor() -> Result<()> {
    let node = node("case $(cat) in code) exit 7;; signal) kill -USR1 $$;; esac")?;
    for (text, error) in [("code", "exited with code 7"), ("signal", "was ended by signal 10")] {
        let answered = node.run(&["submit", "family", "--text", text, "--max-attempts", "1", "--wait", "--json"])?;
        assert!(answered.stdout.contains(error) || answered.stderr.contains(error), "{answered:?}");
    }
    // Open files, signals, folder and environment are the same as those of a child of this process, and the command
    // leads its process group.
    let look = "ls /proc/self/fd; grep -E '^(Sig(Blk|Ign)|Umask)' /proc/self/status; pwd; \
                env | grep -v -e ^TASKMESH_ -e ^XDG_CACHE_HOME= -e ^RUST_LOG= | sort; \
                [ $(cut -d' ' -f5 /proc/$$/stat) = $$ ] && echo leads";
    let there = self::node(look)?.run(&["submit", "family", "--text", "", "--wait"])?;
    // The node handles these signals, so its children begin with the default for each. A shell that runs the tests in the
    // background has them ignored.
    let mut here = Command::new("env");
    here.args(["--default-signal=HUP,INT,QUIT,TERM", "sh", "-c", look])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let here = String::from_utf8(here.spawn()?.wait_with_output()?.stdout)?;
    assert!(here.ends_with("leads\n"), "{here}");
    assert_eq!(there.stdout, here);
    Ok(())
}

fn record(node: &Node, task: &str) -> Result<Value> {
    Ok(at(&node.ask(&["get", task])?, "/task").clone())
}
