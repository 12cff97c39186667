//! `progress` and `ask`, for a command that a worker runs, and `answer`, for the one who waits for the task.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use p2p_taskqueue::{
    ErrorCode, Fence, Json, PeerId, QueueError, TaskId,
    api::{Answer, Renew, Renewed, Target, limits::LEASE_S_RANGE},
};
use serde::{Deserialize, Serialize};

use super::PeerArg;
use crate::{
    client::{Client, with_client},
    data_dir::DataDir,
    failure::Failure,
    foreign::Foreign,
    number::{fraction, seconds},
    output::Output,
    payload::{QuestionArgs, ResponseArgs},
};

/// The attempt that a command is part of. A worker's command has all of it in its environment.
#[derive(Debug, Args)]
struct AttemptArgs {
    /// The task that this command works on; a command of `--worker` has it in its environment, as all that follows.
    #[arg(long, value_name = "TASK_ID", env = "TASKMESH_TASK_ID")]
    task_id: TaskId,
    /// What shows that the task is this attempt's.
    #[arg(long, env = "TASKMESH_FENCE", hide_env_values = true)]
    fence: Fence,
    /// How long the lease runs without another renewal: 1 to 86,400 seconds.
    #[arg(long, value_name = "SECONDS", env = "TASKMESH_LEASE_S", default_value_t = 30.0,
          allow_hyphen_values = true, value_parser = seconds(LEASE_S_RANGE))]
    lease: f64,
    /// The peer that keeps the task [default: the local node].
    #[arg(long, value_name = "PEER_ID", env = "TASKMESH_OWNER")]
    owner: Option<PeerId>,
}

#[derive(Debug, Args)]
pub(super) struct ProgressArgs {
    /// How far the work is, 0 to 1.
    #[arg(allow_hyphen_values = true, value_parser = fraction())]
    fraction: f64,
    /// The same in a sentence, for whoever waits.
    message: Option<String>,
    #[command(flatten)]
    attempt: AttemptArgs,
}

#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// What the question is called: one question only in the life of the task. A later attempt that asks it has the answer.
    key: String,
    #[command(flatten)]
    question: QuestionArgs,
    #[command(flatten)]
    attempt: AttemptArgs,
}

#[derive(Debug, Args)]
pub(super) struct AnswerArgs {
    /// The task's id.
    task_id: TaskId,
    /// What the question is called, as the task's `input_requests` have it.
    key: String,
    #[command(flatten)]
    response: ResponseArgs,
    #[command(flatten)]
    peer: PeerArg,
}

/// The answer to a question, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Answered {
    response: Json,
}

/// The answer to a form.
#[derive(Debug, Deserialize)]
struct Filled {
    action: String,
    #[serde(default)]
    content: Json,
}

/// Reports progress. Prints nothing without `--json`, because the standard output of a worker's command is its result.
pub(super) fn progress(args: ProgressArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let renew = Renew { progress: Some(args.fraction), status_message: args.message, ..args.attempt.renewal() };
    let renewed = with_client(data_dir, None, async move |client| args.attempt.owner_of(client).ask(renew).await)?;
    output.quiet(&renewed);
    if renewed.cancel_requested {
        tracing::warn!("{CALLED_OFF}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn ask(args: AskArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let AskArgs { key, question, attempt } = args;
    let question = question.read()?;
    let response = with_client(data_dir, None, async move |client| {
        let renew = Renew { input_requests: BTreeMap::from([(key.clone(), question)]), ..attempt.renewal() };
        wait_for_answer(&attempt.owner_of(client), renew, &key).await
    })?;
    // A response that is not the answer to a form is printed unchanged.
    let (action, content) = match response.to::<Filled>() {
        Ok(filled) => (filled.action, filled.content),
        Err(_) => (ACCEPT.to_owned(), response.clone()),
    };
    let answered = Answered { response };
    if action != ACCEPT {
        output.absent(&answered, &format!("not answered: {}", Foreign(&action)));
        return Ok(ExitCode::FAILURE);
    }
    output.result(&answered, || content.get().to_owned());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn answer(args: AnswerArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let AnswerArgs { task_id, key, response, peer } = args;
    let answer = Answer { task_id, input_responses: BTreeMap::from([(key, response.read()?)]) };
    let answered = with_client(data_dir, peer.peer, async move |client| client.ask(answer).await)?;
    if answered.accepted == 0 {
        output.absent(&answered, &format!("the task is {} and asks no such thing", answered.status));
        return Ok(ExitCode::FAILURE);
    }
    output.answer(&answered, || format!("answered; {} more to answer", answered.open));
    Ok(ExitCode::SUCCESS)
}

/// Renews the lease until there is an answer. When the owner cannot be asked, it is tried again as long as the lease
/// can last.
async fn wait_for_answer(owner: &Client, renew: Renew, key: &str) -> Result<Json, QueueError> {
    let lease = Duration::try_from_secs_f64(renew.lease_s).unwrap_or_default();
    let wait = lease / WAITS_PER_LEASE;
    let renew = Renew { wait_s: wait.as_secs_f64(), ..renew };
    let mut renewed_at = Instant::now();
    loop {
        let started = Instant::now();
        let pause = match owner.ask(renew.clone()).await {
            Ok(Renewed { mut input_responses, cancel_requested, .. }) => {
                if let Some(answer) = input_responses.remove(key) {
                    return Ok(answer);
                }
                if cancel_requested {
                    return Err(QueueError::new(ErrorCode::WrongState, CALLED_OFF));
                }
                renewed_at = started;
                // An owner of an earlier version answers without waiting.
                wait.saturating_sub(started.elapsed())
            }
            Err(error) if error.retryable && renewed_at.elapsed() < lease => RETRY_PAUSE,
            Err(error) => return Err(error),
        };
        owner.pause(pause).await;
    }
}

impl AttemptArgs {
    const fn renewal(&self) -> Renew {
        Renew::new(self.task_id, self.fence, self.lease)
    }

    /// Returns a client of the task's owner. It asks through the local node, which has the connection.
    fn owner_of(&self, client: Client) -> Client {
        match self.owner {
            Some(owner) => client.through_to(Target::peer(owner)),
            None => client,
        }
    }
}

const CALLED_OFF: &str = "the task was called off: stop working on it";

/// The action of an answer whose form was filled in.
const ACCEPT: &str = "accept";

/// The waits in one lease: two renewals may fail before the lease is lost.
const WAITS_PER_LEASE: u32 = 3;

/// The pause before another try. A node or peer that restarts is back within seconds.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
