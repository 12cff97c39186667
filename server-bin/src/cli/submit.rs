//! `submit`.

use std::process::ExitCode;

use clap::Args;
use p2p_taskqueue::{
    TaskId, TaskStatus,
    api::{
        OnParentFailure, QueueError, Submit, Submitted, TaskRecord, Wait,
        limits::{BACKOFF_S_MAX, DEADLINE_S_MIN, MAX_ATTEMPTS_MAX, PRIORITY_RANGE, SPAN_S_MAX, WAIT_S_MAX},
    },
};
use serde::Serialize;

use super::PeerArg;
use crate::{
    client::{Client, with_client},
    data_dir::DataDir,
    failure::Failure,
    foreign::Foreign,
    number::{count, seconds},
    output::{Output, result_text},
    payload::PayloadArgs,
};

#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// What kind of work it is: a worker of this type takes it.
    #[arg(value_name = "TYPE")]
    task_type: String,
    #[command(flatten)]
    payload: PayloadArgs,
    /// Wait until the task has ended and print its result.
    #[arg(long)]
    wait: bool,
    /// 1 to 10, 10 first.
    #[arg(long, default_value_t = 5, allow_hyphen_values = true, value_parser = count(PRIORITY_RANGE))]
    priority: u8,
    /// Not before so many seconds from now, up to ten years.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = seconds(0.0..=SPAN_S_MAX))]
    delay: Option<f64>,
    /// Give it up when it has not ended so many seconds from now, 0.001 and more.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = seconds(DEADLINE_S_MIN..=SPAN_S_MAX))]
    deadline: Option<f64>,
    /// Only when this task of the same node has completed (repeatable).
    #[arg(long, value_name = "TASK_ID")]
    after: Vec<TaskId>,
    /// With --after: also when one of those tasks fails or is called off.
    #[arg(long, requires = "after")]
    run_anyway: bool,
    /// How often it may be tried, up to 1,000; 0 is without limit.
    #[arg(long, value_name = "COUNT", default_value_t = 3, allow_hyphen_values = true, value_parser = count(0..=MAX_ATTEMPTS_MAX))]
    max_attempts: u32,
    /// Seconds before the second try; doubles with each, up to 300.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, allow_hyphen_values = true, value_parser = seconds(0.0..=BACKOFF_S_MAX))]
    backoff: f64,
    /// A repeat with the same key within a day answers the first task.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// A mark for listing (repeatable).
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    /// Only a worker with this label may take it (repeatable).
    #[arg(long = "require", value_name = "LABEL")]
    requires: Vec<String>,
    /// Only a worker of this session may take it.
    #[arg(long)]
    session: Option<String>,
    /// Of the tasks with the same key only one runs at once, or as many as `taskmesh limit` says.
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// Only a worker on this machine may take it.
    #[arg(long, value_name = "NAME|PEER_ID")]
    pin_to: Option<String>,
    #[command(flatten)]
    peer: PeerArg,
}

/// The answer that is printed after the end of the task was waited for.
#[derive(Debug, Serialize)]
struct Ended {
    #[serde(flatten)]
    submitted: Submitted,
    task: TaskRecord,
    done: bool,
}

pub(super) fn run(args: SubmitArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let submit = Submit {
        priority: args.priority,
        delay_s: args.delay,
        deadline_s: args.deadline,
        after: args.after,
        on_parent_failure: if args.run_anyway { OnParentFailure::Run } else { OnParentFailure::Fail },
        max_attempts: args.max_attempts,
        backoff_s: args.backoff,
        idempotency_key: args.idempotency_key,
        labels: args.labels,
        requires: args.requires,
        session: args.session,
        concurrency_key: args.concurrency_key,
        pin_to: args.pin_to.map(|machine| data_dir.machine("--pin-to", &machine)).transpose()?,
        ..Submit::new(args.task_type, args.payload.read()?)
    };
    if !args.wait {
        let submitted = with_client(data_dir, args.peer.peer, async move |client| client.ask(submit).await)?;
        output.answer(&submitted, || submitted.task_id.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let ended = with_client(data_dir, args.peer.peer, async move |client| {
        let submitted = client.ask(submit).await?;
        tracing::info!(task_id = %submitted.task_id, "submitted; waiting for its end");
        let task = wait_for_end(&client, &submitted).await?;
        Ok(Ended { submitted, task, done: true })
    })?;
    let task = &ended.task;
    let completed = task.status == TaskStatus::Completed;
    if completed {
        output.result(&ended, || result_text(task.result.as_ref()));
    } else {
        let error = task.error.as_ref().map_or_else(String::new, |error| format!(": {}", Foreign(error)));
        output.answer(&ended, || format!("{} {}{error}", task.task_id, task.status));
    }
    Ok(if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn wait_for_end(client: &Client, submitted: &Submitted) -> Result<TaskRecord, QueueError> {
    loop {
        let waited = client.ask(Wait::one(submitted.task_id, WAIT_S_MAX)).await.map_err(|mut error| {
            // The task is safe, whatever happened to the wait.
            error.message += &format!("; the task was submitted: `taskmesh wait {}` goes on", submitted.task_id);
            error
        })?;
        if let (true, Some(task)) = (waited.done, waited.task) {
            return Ok(task);
        }
    }
}
