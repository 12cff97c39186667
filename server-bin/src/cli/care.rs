//! `stats`, `retry`, `purge`, `pause`, `resume`, `limit`, `free`: looking after a queue.

use std::process::ExitCode;

use clap::Args;
use p2p_taskqueue::{
    TaskId, TaskStatus,
    api::{
        Free, Limit, Pause, Purge, Resume, Retry, Stats, StatsQuery, TypeStats,
        limits::{RUNNING_MAX_MAX, SPAN_S_MAX},
    },
};

use super::{
    PeerArg,
    sweep::{Filter, Sweep, What, sweep},
};
use crate::{
    client::with_client,
    data_dir::DataDir,
    failure::Failure,
    foreign::Foreign,
    number::{count, seconds},
    output::{Output, span, table},
};

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    which: RetryWhich,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false)]
struct RetryWhich {
    /// These tasks.
    #[arg(value_name = "TASK_ID")]
    task_ids: Vec<TaskId>,
    /// All tasks that have failed.
    #[arg(long)]
    failed: bool,
    /// All tasks that were called off.
    #[arg(long)]
    cancelled: bool,
}

#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    which: PurgeWhich,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false)]
struct PurgeWhich {
    /// These tasks.
    #[arg(value_name = "TASK_ID")]
    task_ids: Vec<TaskId>,
    /// All tasks that have a result.
    #[arg(long)]
    completed: bool,
    /// All tasks that have failed.
    #[arg(long)]
    failed: bool,
    /// All tasks that were called off.
    #[arg(long)]
    cancelled: bool,
}

/// Which of all those.
#[derive(Debug, Args)]
struct FilterArgs {
    /// Only tasks of this type (repeatable).
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "task_ids")]
    task_types: Vec<String>,
    /// Only tasks with this label.
    #[arg(long, conflicts_with = "task_ids")]
    label: Option<String>,
    /// Only tasks of this session.
    #[arg(long, conflicts_with = "task_ids")]
    session: Option<String>,
    /// Only tasks that ended at least so many seconds ago.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, hide_default_value = true, conflicts_with = "task_ids",
          allow_hyphen_values = true, value_parser = seconds(0.0..=SPAN_S_MAX))]
    older_than: f64,
    /// How many at the most [default: all].
    #[arg(long, value_name = "COUNT", conflicts_with = "task_ids", allow_hyphen_values = true, value_parser = count(1..=u64::MAX))]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// Only these types; none is the whole queue.
    #[arg(value_name = "TYPE")]
    task_types: Vec<String>,
    /// The other way round: refuse new tasks, and still give out those that are queued.
    #[arg(long)]
    drain: bool,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// Only these types; none is the whole queue and every type.
    #[arg(value_name = "TYPE")]
    task_types: Vec<String>,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// What is limited, unless it is a key, and to how many: `TYPE COUNT`, `TYPE --none`, or with --key only `COUNT`.
    #[arg(value_names = ["TYPE", "COUNT"], num_args = 0..=2, allow_negative_numbers = true)]
    words: Vec<String>,
    /// Limit the tasks that were submitted with this concurrency key, instead of a type.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Take the limit away; a key then allows 1 again.
    #[arg(long)]
    none: bool,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
pub(super) struct FreeArgs {
    /// The machine, by its name or peer id; the workers of this node hold their leases for this node's own.
    #[arg(value_name = "MACHINE")]
    machine: String,
}

pub(super) fn stats(args: StatsArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let stats = with_client(data_dir, args.peer.peer, async |client| client.ask(StatsQuery {}).await)?;
    output.answer(&stats, || stats_text(&stats));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn stats_text(stats: &Stats) -> String {
    let mut rows: Vec<_> =
        stats.by_type.iter().map(|(name, of)| stats_row(name, |status| of.count(status), &notes(of))).collect();
    let mut whole = Vec::new();
    whole.extend(stats.paused.then(|| "paused".to_owned()));
    whole.extend(stats.draining.then(|| "draining".to_owned()));
    rows.push(stats_row("(all)", |status| stats.totals.get(status.as_str()).copied().unwrap_or(0), &whole));
    let header = ["TYPE", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "NOTE"];
    let text = table(header, rows.into_iter());
    match stats.oldest_queued_s {
        Some(waited) => format!("{text}\nthe oldest claimable task has waited {}", span(waited)),
        None => text,
    }
}

fn stats_row(name: &str, count: impl Fn(TaskStatus) -> u64, notes: &[String]) -> [String; 7] {
    let [queued, running, completed, failed, cancelled] = TaskStatus::ALL.map(|status| count(status).to_string());
    [name.to_owned(), queued, running, completed, failed, cancelled, notes.join(", ")]
}

fn notes(of: &TypeStats) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(of.paused.then(|| "paused".to_owned()));
    notes.extend(of.draining.then(|| "draining".to_owned()));
    notes.extend(of.running_max.map(|max| format!("at most {max} at once")));
    notes
}

pub(super) fn retry(args: RetryArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let RetryWhich { task_ids, failed, .. } = args.which;
    let status = if failed { TaskStatus::Failed } else { TaskStatus::Cancelled };
    run::<Retry>(args.filter.of(task_ids, status), args.peer, data_dir, output)
}

pub(super) fn purge(args: PurgeArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let PurgeWhich { task_ids, completed, failed, .. } = args.which;
    let status = match (completed, failed) {
        (true, _) => TaskStatus::Completed,
        (false, true) => TaskStatus::Failed,
        (false, false) => TaskStatus::Cancelled,
    };
    run::<Purge>(args.filter.of(task_ids, status), args.peer, data_dir, output)
}

impl FilterArgs {
    /// Returns the named tasks if there are any, otherwise the tasks in the state that pass the filter.
    fn of(self, task_ids: Vec<TaskId>, status: TaskStatus) -> What {
        if !task_ids.is_empty() {
            return What::Named(task_ids);
        }
        let Self { task_types, label, session, older_than: older_than_s, limit } = self;
        What::Ended(Filter { status, task_types, label, session, older_than_s, limit })
    }
}

fn run<S: Sweep>(what: What, peer: PeerArg, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let swept = with_client(data_dir, peer.peer, async move |client| sweep::<S>(&client, what).await)?;
    output.answer(&S::total(swept), || swept.text(S::DONE));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn pause(args: PauseArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let PauseArgs { task_types, drain, peer } = args;
    let paused = with_client(data_dir, peer.peer, async move |client| client.ask(Pause { task_types, drain }).await)?;
    output.answer(&paused, || {
        let state = if drain { "draining: new tasks are refused" } else { "paused: nothing is given out" };
        format!("{state}; {} queued, {} running", paused.queued, paused.running)
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn resume(args: ResumeArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let ResumeArgs { task_types, peer } = args;
    let resumed = with_client(data_dir, peer.peer, async move |client| client.ask(Resume { task_types }).await)?;
    output.answer(&resumed, || format!("resumed; {} queued, {} running", resumed.queued, resumed.running));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn limit(args: LimitArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let limit = args.read()?;
    let (what, max) = (limit.task_type.clone().or_else(|| limit.concurrency_key.clone()), limit.running_max);
    let limited = with_client(data_dir, args.peer.peer, async move |client| client.ask(limit).await)?;
    output.answer(&limited, || {
        let bound = max.map_or_else(|| "no limit of its own".to_owned(), |max| format!("at most {max} at once"));
        format!("{}: {bound}; {} running", Foreign(what.unwrap_or_default()), limited.running)
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn free(args: &FreeArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let machine = data_dir.machine("MACHINE", &args.machine)?;
    let freed = with_client(data_dir, None, async move |client| client.ask(Free { machine }).await)?;
    output.answer(&freed, || match freed.freed {
        1 => "1 lease ended".to_owned(),
        count => format!("{count} leases ended"),
    });
    Ok(ExitCode::SUCCESS)
}

impl LimitArgs {
    fn read(&self) -> Result<Limit, Failure> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let (task_type, count) = match (words.as_slice(), &self.key, self.none) {
            ([task_type, count], None, false) => (Some(*task_type), Some(*count)),
            ([task_type], None, true) => (Some(*task_type), None),
            ([count], Some(_), false) => (None, Some(*count)),
            ([], Some(_), true) => (None, None),
            _ => return Err(Failure::argument("limit", LIMIT_FORMS)),
        };
        let read = self::count(1..=RUNNING_MAX_MAX);
        let count = count.map(|count| {
            read(count).map_err(|problem| Failure::argument("COUNT", format!("{count:?}: {problem}; {LIMIT_FORMS}")))
        });
        Ok(Limit {
            task_type: task_type.map(str::to_owned),
            concurrency_key: self.key.clone(),
            running_max: count.transpose()?,
        })
    }
}

const LIMIT_FORMS: &str = "give TYPE COUNT, TYPE --none, --key KEY COUNT, or --key KEY --none";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Parser)]
    enum Command {
        Retry(RetryArgs),
        Purge(PurgeArgs),
        Limit(LimitArgs),
        Free(FreeArgs),
    }

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Command::try_parse_from(["taskmesh"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn tasks_are_named_or_described_but_not_both() {
        let id = "0".repeat(32);
        for wrong in
            ["retry", "purge", "retry --failed --cancelled", "retry --completed", "purge --type t", "retry --limit 3"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["retry ID --failed", "purge ID --older-than 5", "retry ID --type t", "retry 123"] {
            assert!(parse(&wrong.replace("ID", &id)).is_err(), "{wrong}");
        }
        let Ok(Command::Retry(args)) = parse(&format!("retry {id} {id}")) else { panic!("not a retry") };
        assert!(matches!(args.filter.of(args.which.task_ids, TaskStatus::Failed), What::Named(ids) if ids.len() == 2));
        let line = "purge --cancelled --type a --type b --label l --older-than 60 --limit 7";
        let Ok(Command::Purge(args)) = parse(line) else { panic!("not a purge") };
        let What::Ended(filter) = args.filter.of(args.which.task_ids, TaskStatus::Cancelled) else { panic!("named") };
        assert_eq!((filter.task_types.len(), filter.limit, filter.older_than_s), (2, Some(7), 60.0));
    }

    #[test]
    fn a_limit_is_of_a_type_or_a_key() {
        let read = |line: &str| {
            let Ok(Command::Limit(args)) = parse(line) else { panic!("{line}: not a limit") };
            args.read().map(|limit| (limit.task_type, limit.concurrency_key, limit.running_max))
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(read("limit render 4").unwrap(), (named("render"), None, Some(4)));
        assert_eq!(read("limit render --none").unwrap(), (named("render"), None, None));
        assert_eq!(read("limit --key gpu 2").unwrap(), (None, named("gpu"), Some(2)));
        assert_eq!(read("limit --key gpu --none").unwrap(), (None, named("gpu"), None));
        for wrong in ["limit", "limit render", "limit render 4 --none", "limit --key gpu", "limit --key gpu render 4"] {
            assert!(read(wrong).unwrap_err().to_string().contains("TYPE COUNT"), "{wrong}");
        }
        for count in ["many", "0", "-1", "NaN", "inf", "1e400", "1000001", "1.5"] {
            let problem = read(&format!("limit render {count}")).unwrap_err().to_string();
            assert!(problem.contains(&format!("{count:?}")) && problem.contains("from 1 to 1000000"), "{problem}");
        }
    }

    #[test]
    fn stats_are_a_row_for_each_type() {
        let counts = BTreeMap::from([("queued".to_owned(), 3), ("failed".to_owned(), 1)]);
        let of = TypeStats { queued: 3, failed: 1, paused: true, running_max: Some(2), ..TypeStats::default() };
        let by_type = BTreeMap::from([("render".to_owned(), of)]);
        let stats = Stats { totals: counts, by_type, draining: true, oldest_queued_s: Some(5.0), ..Stats::default() };
        let text = stats_text(&stats);
        let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["render", "3", "0", "0", "1", "0", "paused,", "at", "most", "2", "at", "once"]);
        assert_eq!(lines[2], ["(all)", "3", "0", "0", "1", "0", "draining"]);
        assert!(text.ends_with("has waited 5 s"), "{text}");
    }
}
