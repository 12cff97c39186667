//! `get`, `wait`, `list`, `cancel`.

use std::process::ExitCode;

use clap::Args;
use p2p_taskqueue::{
    TaskId, TaskStatus,
    api::{
        Cancel, Get, GetMany, List, Order, Wait,
        limits::{LIST_LIMIT_MAX, WAIT_S_MAX},
    },
};

use super::PeerArg;
use crate::{
    client::with_client,
    data_dir::DataDir,
    failure::Failure,
    foreign::Foreign,
    names::Names,
    number::{count, seconds},
    output::{Output, task_text, tasks_table},
};

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The tasks' ids, up to 1,000.
    #[arg(value_name = "TASK_ID", required = true)]
    task_ids: Vec<TaskId>,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// The task's id.
    task_id: TaskId,
    /// How long to wait, in seconds, up to 3,600.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, allow_hyphen_values = true, value_parser = seconds(0.0..=WAIT_S_MAX))]
    timeout: f64,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only tasks in this state: queued, running, completed, failed or cancelled.
    #[arg(long)]
    status: Option<TaskStatus>,
    /// Only tasks of this type (repeatable).
    #[arg(long = "type", value_name = "TYPE")]
    task_types: Vec<String>,
    /// Only tasks with this label.
    #[arg(long)]
    label: Option<String>,
    /// Only tasks of this session.
    #[arg(long)]
    session: Option<String>,
    /// How many at the most, up to 1,000.
    #[arg(long, default_value_t = 50, allow_hyphen_values = true, value_parser = count(1..=LIST_LIMIT_MAX))]
    limit: u32,
    /// Where the last page ended.
    #[arg(long)]
    cursor: Option<String>,
    /// The first submitted first, instead of the last.
    #[arg(long)]
    oldest: bool,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The task's id.
    task_id: TaskId,
    /// Why; kept with the task.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    peer: PeerArg,
}

pub(super) fn get(args: GetArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let GetArgs { task_ids, peer } = args;
    let names = Names::of(&data_dir);
    if let [task_id] = *task_ids {
        let got = with_client(data_dir, peer.peer, async move |client| client.ask(Get { task_id }).await)?;
        output.answer(&got, || task_text(&got.task, &names));
        return Ok(ExitCode::SUCCESS);
    }
    let got = with_client(data_dir, peer.peer, async move |client| client.ask(GetMany { task_ids }).await)?;
    output.answer(&got, || {
        let missing: Vec<_> = got.missing.iter().map(|id| format!("\nno task {id}")).collect();
        tasks_table(&got.tasks) + &missing.concat()
    });
    Ok(if got.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn wait(args: WaitArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let names = Names::of(&data_dir);
    let waited = with_client(data_dir, args.peer.peer, async move |client| {
        client.ask(Wait::one(args.task_id, args.timeout)).await
    })?;
    output.answer(&waited, || waited.task.as_ref().map_or_else(String::new, |task| task_text(task, &names)));
    let completed = waited.task.is_some_and(|task| task.status == TaskStatus::Completed);
    Ok(if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn list(args: ListArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let list = List {
        status: args.status,
        task_types: args.task_types,
        session: args.session,
        label: args.label,
        limit: args.limit,
        cursor: args.cursor,
        order: if args.oldest { Order::Oldest } else { Order::Newest },
    };
    let listed = with_client(data_dir, args.peer.peer, async move |client| client.ask(list).await)?;
    output.answer(&listed, || {
        let more = listed.next_cursor.as_ref().map(|cursor| format!("\nmore: --cursor {}", Foreign(cursor)));
        tasks_table(&listed.tasks) + &more.unwrap_or_default()
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn cancel(args: CancelArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let cancel = Cancel { task_id: args.task_id, reason: args.reason };
    let cancelled = with_client(data_dir, args.peer.peer, async move |client| client.ask(cancel).await)?;
    output.answer(&cancelled, || match (cancelled.cancelled, cancelled.cancel_requested) {
        (true, _) => "cancelled".to_owned(),
        (false, true) => "running: its worker is told to stop".to_owned(),
        (false, false) => format!("not cancelled: the task is {}", cancelled.status),
    });
    Ok(ExitCode::SUCCESS)
}
