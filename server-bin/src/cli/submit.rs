//! `submit`.

use std::{future::pending, pin::pin, process::ExitCode};

use clap::Args;
use futures::future::{Either, select};
use p2p_taskqueue::{
    TaskId, TaskStatus,
    api::{
        OnParentFailure, QueueError, Submit, Submitted, TaskRecord, Wait, WaitReason,
        limits::{BACKOFF_S_MAX, DEADLINE_S_MIN, MAX_ATTEMPTS_MAX, PRIORITY_RANGE, SPAN_S_MAX},
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
    /// Wait until the task has ended and print its result. While no worker takes the task, standard error says why.
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
    /// Absent when the wait was broken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskRecord>,
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
    let peer = args.peer.peer;
    if !args.wait {
        let submitted = with_client(data_dir, peer, async move |client| client.ask(submit).await)?;
        output.answer(&submitted, || submitted.task_id.to_string());
        let absent = submitted.waiting_for.filter(|waiting| waiting.reason == WaitReason::WorkerAbsent);
        absent.iter().for_each(|waiting| Output::note(&waiting.message));
        return Ok(ExitCode::SUCCESS);
    }
    let ended = with_client(data_dir, peer, async move |client| {
        let mut submitted = client.ask(submit).await?;
        tracing::info!(task_id = %submitted.task_id, "submitted; waiting for its end");
        let waiting = pin!(wait_for_end(&client, submitted.task_id, Output::note));
        let task = match select(waiting, pin!(interrupted())).await {
            Either::Left((task, _)) => Some(task?),
            Either::Right(_) => None,
        };
        // What it waited for at first is of no interest any more.
        submitted.waiting_for = submitted.waiting_for.filter(|_| task.is_none());
        Ok(Ended { submitted, done: task.is_some(), task })
    })?;
    Ok(print(&ended, output))
}

/// Prints the end of the task, and returns the exit code.
fn print(ended: &Ended, output: Output) -> ExitCode {
    let Some(task) = &ended.task else {
        let id = ended.submitted.task_id;
        output.absent(ended, &format!("the task goes on: `taskmesh wait {id}` waits for its end"));
        return ExitCode::from(INTERRUPTED);
    };
    if task.status == TaskStatus::Completed {
        output.result(ended, || result_text(task.result.as_ref()));
        return ExitCode::SUCCESS;
    }
    let error = task.error.as_ref().map_or_else(String::new, |error| format!(": {}", Foreign(error)));
    output.answer(ended, || format!("{} {}{error}", task.task_id, task.status));
    ExitCode::FAILURE
}

/// Waits for the end of the task. Passes to `say` why no worker takes it, and each change of the reason.
async fn wait_for_end(client: &Client, task_id: TaskId, say: impl Fn(&str)) -> Result<TaskRecord, QueueError> {
    let (mut said, mut length) = (None, FIRST_WAIT_S);
    loop {
        let waited = client.ask(Wait::one(task_id, length)).await.map_err(|mut error| {
            // The task is safe, whatever happened to the wait.
            error.message += &format!("; the task was submitted: `taskmesh wait {task_id}` goes on");
            error
        })?;
        length = RUNNING_WAIT_S;
        let Some(task) = waited.task else { continue };
        if waited.done {
            return Ok(task);
        }
        if task.status == TaskStatus::Queued {
            length = QUEUED_WAIT_S;
        }
        if let Some(waiting) = task.waiting_for {
            // The message counts seconds, so it alone is no reason to say it again.
            let reason = Some((waiting.reason, waiting.lacking));
            if said != reason {
                say(&waiting.message);
                said = reason;
            }
        }
    }
}

/// Resolves when the user presses ctrl-c.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // The system does not say it to this process, so ctrl-c ends the process itself.
        pending::<()>().await;
    }
}

/// The time until a person is told why the task waits. Most tasks have begun by then.
const FIRST_WAIT_S: f64 = 1.0;

/// The time between two looks at the reason why a task waits.
const QUEUED_WAIT_S: f64 = 5.0;

/// The time between two looks at a task that runs. It may be queued again, and then wait for something.
const RUNNING_WAIT_S: f64 = 30.0;

/// The exit code of a program that ctrl-c has ended, as shells give it.
const INTERRUPTED: u8 = 130;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use p2p_taskqueue::{
        Caller, Request, Response, TaskQueue,
        api::{Waited, WaitingFor},
    };
    use serde_json::json;

    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff";

    /// A queue that answers each wait with the next of these records, and notes how long it was to wait.
    #[derive(Debug)]
    struct Waits {
        records: Mutex<Vec<TaskRecord>>,
        lengths: Mutex<Vec<f64>>,
    }

    #[async_trait::async_trait]
    impl TaskQueue for Waits {
        async fn call(&self, _: &Caller, request: Request) -> Result<Response, QueueError> {
            let Request::Wait(wait) = request else { panic!("not a wait") };
            self.lengths.lock().unwrap().push(wait.timeout_s);
            let task = self.records.lock().unwrap().remove(0);
            let done = task.status.is_terminal();
            Ok(Response::Waited(Waited { task: Some(task), tasks: None, done }))
        }
    }

    fn record(status: TaskStatus, waiting_for: Option<WaitingFor>) -> TaskRecord {
        let task = json!({
            "task_id": ID, "task_type": "t", "status": status, "priority": 5, "attempt": 0, "max_attempts": 3,
            "created_at": 1.0, "updated_at": 1.0, "owner": p2p_taskqueue::PeerId::random().to_string(),
        });
        TaskRecord { waiting_for, ..serde_json::from_value(task).unwrap() }
    }

    #[tokio::test]
    async fn a_reason_to_wait_is_said_once_and_again_when_it_is_another() {
        let queued =
            |reason, message: &str| record(TaskStatus::Queued, Some(WaitingFor::new(reason, message.to_owned())));
        let records = Mutex::new(vec![
            queued(WaitReason::WorkerAbsent, "no machine takes 't'"),
            queued(WaitReason::WorkerAbsent, "no machine takes 't' still"),
            queued(WaitReason::WorkerBusy, "all are busy"),
            record(TaskStatus::Queued, None),
            record(TaskStatus::Running, None),
            queued(WaitReason::Backoff, "in 4 s"),
            queued(WaitReason::Backoff, "in 2 s"),
            record(TaskStatus::Completed, None),
        ]);
        let queue = Arc::new(Waits { records, lengths: Mutex::default() });
        let client = Client::over(Arc::<Waits>::clone(&queue));
        let said = Mutex::new(Vec::new());
        let say = |text: &str| said.lock().unwrap().push(text.to_owned());
        let task = wait_for_end(&client, ID.parse().unwrap(), say).await.unwrap();
        assert_eq!(task.status, TaskStatus::Completed);
        assert_eq!(*said.lock().unwrap(), ["no machine takes 't'", "all are busy", "in 4 s"]);
        assert_eq!(*queue.lengths.lock().unwrap(), [1.0, 5.0, 5.0, 5.0, 5.0, 30.0, 5.0, 5.0]);
    }

    #[tokio::test]
    async fn a_task_that_ends_at_once_says_nothing() {
        let records = Mutex::new(vec![record(TaskStatus::Failed, None)]);
        let client = Client::over(Arc::new(Waits { records, lengths: Mutex::default() }));
        let task = wait_for_end(&client, ID.parse().unwrap(), |text| panic!("{text}")).await.unwrap();
        assert_eq!(task.status, TaskStatus::Failed);
    }
}
