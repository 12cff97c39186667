use std::sync::Arc;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use p2p_taskqueue::{
    Caller, ErrorCode, Fence, Json, QueueError, TaskId, TaskQueue, TaskQueueExt as _, TaskStatus,
    api::{Cancel, Claim, Complete, Fail, OnParentFailure, Release, Renew, Submit, TaskRecord},
};
use tokio::task::JoinSet;

use super::{say, talk::Said};

/// Works on the queue with `clients` clients, each with one operation in flight, for as long as the process lives.
pub(crate) async fn run(queue: &Arc<dyn TaskQueue>, seed: u64, clients: usize) -> Result<()> {
    let mut set = JoinSet::new();
    for client in 0..clients {
        let mut client = Client {
            queue: Arc::clone(queue),
            rng: Rng::with_seed(seed.wrapping_add(client as u64)),
            name: format!("{seed:x}.{client}"),
            submits: 0,
            own: Vec::new(),
        };
        set.spawn(async move { client.work().await });
    }
    set.join_next().await.context("no client")??
}

struct Client {
    queue: Arc<dyn TaskQueue>,
    rng: Rng,
    /// A name that no other client of any load has.
    name: String,
    submits: u64,
    /// The tasks that this client has submitted and not tried to cancel.
    own: Vec<TaskId>,
}

impl Client {
    async fn work(&mut self) -> Result<()> {
        loop {
            match self.rng.u8(0..10) {
                0..4 => self.submit().await?,
                4..9 => self.claim().await?,
                _ => self.cancel().await?,
            }
        }
    }

    async fn submit(&mut self) -> Result<()> {
        self.submits += 1;
        let payload = format!("{}.{}", self.name, self.submits);
        let mut submit = submit_of(&payload);
        submit.priority = self.rng.u8(1..=10);
        submit.idempotency_key = (self.rng.u8(0..4) == 0).then(|| format!("key of {payload}"));
        submit.concurrency_key = (self.rng.u8(0..16) == 0).then(|| "one at a time".to_owned());
        submit.after = (0..self.rng.usize(0..3)).filter_map(|_| self.rng.choice(&self.own).copied()).collect();
        if self.rng.bool() {
            submit.on_parent_failure = OnParentFailure::Run;
        }
        say(&Said::Submitting(submit.clone()))?;
        let Some(submitted) = refused(self.queue.submit(&Caller::Local, submit.clone()).await)? else { return Ok(()) };
        self.own.push(submitted.task_id);
        say(&Said::Submitted(submitted.task_id, submit))
    }

    /// Claims a task and does something with it. When a completion answers with the next task, does something with that
    /// one, too.
    async fn claim(&mut self) -> Result<()> {
        let claimed = refused(self.queue.claim(&Caller::Local, self.next_claim()).await)?;
        let mut claimed = claimed.and_then(|claimed| claimed.task);
        while let Some(task) = claimed.take() {
            let fence = task.fence.context("a claimed task has a fence")?;
            say(&Said::Claimed(task.task_id, fence, task.payload.clone()))?;
            match self.rng.u8(0..20) {
                0..9 => claimed = self.complete(&task, fence, 0, None).await?,
                9..11 => claimed = self.complete(&task, fence, 0, Some(self.next_claim())).await?,
                11 => claimed = self.complete(&task, fence, CHILDREN, None).await?,
                12 => claimed = self.complete(&task, fence, CHILDREN, Some(self.next_claim())).await?,
                13..16 => {
                    self.renew(&task, fence).await?;
                    claimed = self.complete(&task, fence, 0, None).await?;
                }
                16 => self.fail(&task, fence, true).await?,
                17 => self.fail(&task, fence, false).await?,
                18 => self.release(&task, fence).await?,
                // Does nothing: the lease expires.
                _ => {}
            }
        }
        Ok(())
    }

    fn next_claim(&self) -> Claim {
        Claim { lease_s: LEASE_S, ..Claim::new(self.name.clone()) }
    }

    async fn complete(
        &self,
        task: &TaskRecord,
        fence: Fence,
        children: usize,
        claim_next: Option<Claim>,
    ) -> Result<Option<TaskRecord>> {
        let payload: String = task.payload.to()?;
        // The result says how many children the completion submits. The test checks that all of them exist, or none.
        let result = Json::from_value(&(&payload, children))?;
        let children: Vec<_> = (0..children).map(|child| submit_of(&format!("{payload}/{child}"))).collect();
        for child in &children {
            say(&Said::Submitting(child.clone()))?;
        }
        let complete = Complete::new(task.task_id, fence, Some(result.clone()));
        let complete = Complete { submit: children.clone(), claim_next, ..complete };
        let Some(completed) = refused(self.queue.complete(&Caller::Local, complete).await)? else { return Ok(None) };
        say(&Said::Completed(task.task_id, fence, result, completed.submitted.into_iter().zip(children).collect()))?;
        Ok(completed.next)
    }

    async fn renew(&self, task: &TaskRecord, fence: Fence) -> Result<()> {
        let renew = Renew { progress: Some(0.5), ..Renew::new(task.task_id, fence, LEASE_S) };
        match refused(self.queue.renew(&Caller::Local, renew).await)? {
            Some(_) => say(&Said::Renewed(task.task_id, fence)),
            None => Ok(()),
        }
    }

    async fn fail(&self, task: &TaskRecord, fence: Fence, retryable: bool) -> Result<()> {
        let fail = Fail { task_id: task.task_id, fence, error: "by choice".to_owned(), retryable, delay_s: None };
        let failed = refused(self.queue.fail(&Caller::Local, fail).await)?;
        failed.map_or(Ok(()), |failed| let_go(task, fence, failed.status))
    }

    async fn release(&self, task: &TaskRecord, fence: Fence) -> Result<()> {
        let release = Release { task_id: task.task_id, fence, delay_s: 0.0, reason: "by choice".to_owned() };
        let released = refused(self.queue.release(&Caller::Local, release).await)?;
        released.map_or(Ok(()), |released| let_go(task, fence, released.status))
    }

    async fn cancel(&mut self) -> Result<()> {
        if self.own.is_empty() {
            return Ok(());
        }
        let task_id = self.own.swap_remove(self.rng.usize(0..self.own.len()));
        let cancel = Cancel { task_id, reason: "by choice".to_owned() };
        match refused(self.queue.cancel(&Caller::Local, cancel).await)? {
            Some(cancelled) => say(&Said::Cancelled(task_id, cancelled.status)),
            None => Ok(()),
        }
    }
}

fn submit_of(payload: &str) -> Submit {
    // Attempts are unlimited and have no backoff, so every task that has not ended can be claimed after one lease.
    Submit { max_attempts: 0, backoff_s: 0.0, ..Submit::new("load", Json::from_text(payload)) }
}

fn let_go(task: &TaskRecord, fence: Fence, status: TaskStatus) -> Result<()> {
    say(&Said::LetGo(task.task_id, fence, status))
}

/// Returns the answer, or `None` when the request was refused. Refusals are reported to the test, except for two codes
/// that are expected: clients get in each other's way, and on a slow machine leases expire.
fn refused<T>(answer: Result<T, QueueError>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.code, ErrorCode::StaleFence | ErrorCode::AlreadyFinished) => Ok(None),
        Err(error) => {
            say(&Said::Refused(error))?;
            Ok(None)
        }
    }
}

/// The shortest lease that the queue accepts, in seconds.
const LEASE_S: f64 = 1.0;

/// The number of tasks that one completion submits.
const CHILDREN: usize = 2;
