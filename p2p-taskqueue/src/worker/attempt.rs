use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use runtime_bridge::Runtime;
use tokio::sync::watch;

use super::{Handler, Outcome, Stop};
use crate::{
    Caller, ErrorCode, Fence, QueueError, Request, Task, TaskQueue, TaskQueueExt as _,
    api::{Complete, Fail, Operation as _, Release, Renew},
};

/// One attempt at one task, from the claim to the owner's answer to how it ended.
pub(super) struct Attempt<'a> {
    /// The task's owner.
    pub(super) owner: &'a dyn TaskQueue,
    pub(super) handler: &'a dyn Handler,
    pub(super) runtime: &'a Arc<dyn Runtime>,
    pub(super) lease: Duration,
    /// The pool holds the sender; true when the node stops.
    pub(super) stopping: watch::Receiver<bool>,
}

/// Why a handler was told to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    CancelRequested,
    LeaseLost,
    NodeStops,
}

impl Attempt<'_> {
    /// Runs the handler under a renewed lease; says what to report, if anything.
    pub(super) async fn run(&self, task: &Task, fence: Fence) -> Option<Request> {
        let (stop, stopped) = Stop::channel();
        let mut work = self.handler.run(task, stopped);
        let reason = tokio::select! {
            outcome = &mut work => return report(task, fence, outcome, None),
            reason = self.watch(task, fence) => reason,
        };
        stop.send_replace(true);
        let grace = self.runtime.sleep_until(self.runtime.now() + STOP_GRACE);
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = grace => Outcome::Stopped,
        };
        report(task, fence, outcome, Some(reason))
    }

    /// Repeats the report until the owner has answered it, or the node stops.
    pub(super) async fn deliver(&self, report: Request) {
        let deliver = self.deliver_at_last(&report);
        let stopping = async {
            let mut stopping = self.stopping.clone();
            // A node that is gone without a word stops as well.
            drop(stopping.wait_for(|stopping| *stopping).await);
            self.runtime.sleep_until(self.runtime.now() + REPORT_GRACE).await;
        };
        tokio::select! {
            () = deliver => {}
            () = stopping => {
                let operation = report.name();
                tracing::warn!(operation, "stopping before the report was delivered: the task is done again after its lease");
            }
        }
    }

    async fn deliver_at_last(&self, report: &Request) {
        let mut pauses = retry_pauses();
        loop {
            let Err(error) = self.owner.call(&Caller::Local, report.clone()).await else { return };
            if !error.retryable {
                tracing::warn!(operation = report.name(), code = error.code.as_str(), %error, "the report was refused");
                return;
            }
            tracing::debug!(operation = report.name(), %error, "the report could not be delivered; trying again");
            pause(self.runtime, &mut pauses).await;
        }
    }

    /// Renews the lease until there is a reason to stop.
    async fn watch(&self, task: &Task, fence: Fence) -> Reason {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            reason = self.renew_until_told(task, fence) => reason,
            _ = stopping.wait_for(|stopping| *stopping) => Reason::NodeStops,
        }
    }

    async fn renew_until_told(&self, task: &Task, fence: Fence) -> Reason {
        let renewal = Renew::new(task.task_id, fence, self.lease.as_secs_f64());
        loop {
            self.runtime.sleep_until(self.runtime.now() + self.lease / RENEWALS_PER_LEASE).await;
            match self.owner.renew(&Caller::Local, renewal.clone()).await {
                Ok(renewed) if renewed.cancel_requested => return Reason::CancelRequested,
                Ok(_) => {}
                Err(error) if is_lost(&error) => {
                    tracing::warn!(task_id = %task.task_id, code = error.code.as_str(), "the lease is lost");
                    return Reason::LeaseLost;
                }
                // The owner may be restarting: the work may still count when it is back.
                Err(error) => tracing::debug!(task_id = %task.task_id, %error, "the lease could not be renewed"),
            }
        }
    }
}

/// A pause between two tries, ever longer.
pub(super) async fn pause(runtime: &Arc<dyn Runtime>, pauses: &mut impl Iterator<Item = Duration>) {
    let length = pauses.next().unwrap_or(RETRY_PAUSE_MAX);
    runtime.sleep_until(runtime.now() + length).await;
}

pub(super) fn retry_pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_PAUSE_MIN)
        .with_max_delay(RETRY_PAUSE_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}

fn is_lost(error: &QueueError) -> bool {
    matches!(
        error.code,
        ErrorCode::StaleFence | ErrorCode::NotFound | ErrorCode::AlreadyFinished | ErrorCode::WrongState
    )
}

fn report(task: &Task, fence: Fence, outcome: Outcome, reason: Option<Reason>) -> Option<Request> {
    let task_id = task.task_id;
    let fail = |error: String, retryable| Fail { task_id, fence, error, retryable, delay_s: None }.into_request();
    match (outcome, reason) {
        (Outcome::Done(result), _) => Some(Complete::new(task_id, fence, Some(result)).into_request()),
        (Outcome::Failed { error, retryable }, _) => Some(fail(error, retryable)),
        (Outcome::Stopped, Some(Reason::CancelRequested)) => {
            Some(fail("called off while it was running".to_owned(), false))
        }
        (Outcome::Stopped, Some(Reason::LeaseLost)) => None,
        (Outcome::Stopped, Some(Reason::NodeStops) | None) => {
            let reason = "the worker's node is stopping".to_owned();
            Some(Release { task_id, fence, delay_s: 0.0, reason }.into_request())
        }
    }
}

/// Two renewals may be lost before the lease is.
const RENEWALS_PER_LEASE: u32 = 3;

/// Short enough that a peer which is back after a restart is asked within a breath.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Long enough that a peer which is away for hours costs nothing.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A stopping node has two seconds in all, and a command half a second of them.
const STOP_GRACE: Duration = Duration::from_millis(700);

/// An owner that can be reached answers within milliseconds.
const REPORT_GRACE: Duration = Duration::from_millis(900);
