use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use runtime_bridge::Runtime;
use taskqueue_api::{
    Caller, Complete, Fail, Fence, Operation as _, QueueError, Release, Request, TaskQueue, TaskRecord,
    limits::ERROR_BYTES_MAX,
};
use tokio::sync::watch;

use super::{
    AttemptEnd, Contact, Handler, Source,
    contact::clipped,
    renewals::{Lost, Renewals, is_refused},
};

/// One attempt at one task, from the claim to the owner's answer to how it ended.
pub(super) struct Attempt<'a> {
    /// The task's owner.
    pub(super) owner: &'a dyn TaskQueue,
    pub(super) handler: &'a dyn Handler,
    pub(super) runtime: &'a Arc<dyn Runtime>,
    /// The source of the task, and the length of its lease.
    pub(super) source: Source,
    /// The pool holds the sender. The value is true when the node stops.
    pub(super) stopping: watch::Receiver<bool>,
}

/// The reason why a handler was told to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Lost(Lost),
    NodeStops,
}

impl Attempt<'_> {
    /// Runs the handler and renews the lease meanwhile. Returns the report to deliver, if there is one.
    pub(super) async fn run(&self, task: &TaskRecord, fence: Fence) -> Option<Request> {
        let (stop, contact, told) = Contact::new(self.source);
        let renewals = Renewals {
            owner: self.owner,
            runtime: self.runtime,
            lease: self.source.lease,
            task_id: task.task_id,
            fence,
            told: &told,
        };
        let mut work = self.handler.run(task, contact);
        let reason = tokio::select! {
            outcome = &mut work => return report(task, fence, outcome, None),
            reason = self.watch(&renewals) => reason,
        };
        stop.send_replace(true);
        let grace = self.runtime.sleep_until(self.runtime.now() + STOP_GRACE);
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = grace => AttemptEnd::Stopped,
        };
        report(task, fence, outcome, Some(reason))
    }

    /// Repeats the report until the owner has answered it, or the node stops.
    pub(super) async fn deliver(&self, report: Request) {
        let deliver = self.deliver_at_last(&report);
        let stopping = async {
            let mut stopping = self.stopping.clone();
            // A dropped sender means that the node is gone, which is a stop as well.
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

    /// Delivers a report. If the owner refuses a result, the attempt fails for good: another attempt would have the
    /// same result, and without a report the task would be run again after each lease.
    async fn deliver_at_last(&self, report: &Request) {
        let Err(error) = self.tell(report).await else { return };
        let Request::Complete(Complete { task_id, fence, .. }) = report else { return };
        if is_refused(&error) {
            let error = format!("the result was refused: {error}");
            let (task_id, fence, error) = (*task_id, *fence, clipped(&error, ERROR_BYTES_MAX).to_owned());
            let fail = Fail { task_id, fence, error, retryable: false, delay_s: None };
            // The outcome is logged by `tell`.
            drop(self.tell(&fail.into_request()).await);
        }
    }

    /// Repeats a report until the owner has answered it.
    async fn tell(&self, report: &Request) -> Result<(), QueueError> {
        let mut pauses = retry_pauses();
        loop {
            let Err(error) = self.owner.call(&Caller::Local, report.clone()).await else { return Ok(()) };
            if !error.retryable {
                tracing::warn!(operation = report.name(), code = error.code.as_str(), %error, "the report was refused");
                return Err(error);
            }
            tracing::debug!(operation = report.name(), %error, "the report could not be delivered; trying again");
            pause(self.runtime, &mut pauses).await;
        }
    }

    /// Renews the lease until there is a reason to stop, and returns that reason.
    async fn watch(&self, renewals: &Renewals<'_>) -> Reason {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            lost = renewals.until_lost() => Reason::Lost(lost),
            _ = stopping.wait_for(|stopping| *stopping) => Reason::NodeStops,
        }
    }
}

/// Pauses before another try. Each pause is longer than the one before, up to a maximum.
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

fn report(task: &TaskRecord, fence: Fence, outcome: AttemptEnd, reason: Option<Reason>) -> Option<Request> {
    let task_id = task.task_id;
    let fail = |error: String, retryable| Fail { task_id, fence, error, retryable, delay_s: None }.into_request();
    match (outcome, reason) {
        (AttemptEnd::Done(result), _) => Some(Complete::new(task_id, fence, Some(result)).into_request()),
        (AttemptEnd::Failed { error, retryable }, _) => {
            Some(fail(clipped(&error, ERROR_BYTES_MAX).to_owned(), retryable))
        }
        (AttemptEnd::Stopped, Some(Reason::Lost(Lost::CancelRequested))) => {
            Some(fail("called off while it was running".to_owned(), false))
        }
        (AttemptEnd::Stopped, Some(Reason::Lost(Lost::LeaseLost))) => None,
        (AttemptEnd::Stopped, Some(Reason::NodeStops) | None) => {
            let reason = "the worker's node is stopping".to_owned();
            Some(Release { task_id, fence, delay_s: 0.0, reason }.into_request())
        }
    }
}

/// The first pause between two tries. It is so short that a peer is asked again right after a restart.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause between two tries. A peer that is away for hours then costs almost nothing.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long a handler may go on after it was told to stop. A stopping node has two seconds in all, and a command takes
/// half a second of them.
const STOP_GRACE: Duration = Duration::from_millis(700);

/// How long a stopping node still tries to deliver a report. An owner that can be reached answers within milliseconds.
const REPORT_GRACE: Duration = Duration::from_millis(900);
