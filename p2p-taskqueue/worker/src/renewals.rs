use std::{collections::BTreeMap, sync::Arc, time::Duration};

use runtime_bridge::Runtime;
use taskqueue_api::{
    Caller, ErrorCode, Fence, Json, QueueError, Renew, Renewed, TaskId, TaskQueue, TaskQueueExt as _,
    limits::CLAIM_WAIT_S_MAX,
};

use super::{
    attempt::{pause, retry_pauses},
    contact::Told,
};

/// Keeps the lease of one attempt, and passes on what its handler reports and asks.
pub(super) struct Renewals<'a> {
    pub(super) owner: &'a dyn TaskQueue,
    pub(super) runtime: &'a Arc<dyn Runtime>,
    pub(super) lease: Duration,
    pub(super) task_id: TaskId,
    pub(super) fence: Fence,
    pub(super) told: &'a Told,
}

/// The reason why a task must not be worked on any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    CancelRequested,
    LeaseLost,
}

impl Renewals<'_> {
    /// Renews the lease until the work is not wanted any more.
    pub(super) async fn until_lost(&self) -> Lost {
        tokio::select! {
            lost = self.stay_told() => lost,
            lost = self.tell_progress() => lost,
        }
    }

    /// Keeps one renewal waiting at the owner, which answers when there is something to tell.
    async fn stay_told(&self) -> Lost {
        let pace = (self.lease / RENEWALS_PER_LEASE).min(Duration::from_secs_f64(CLAIM_WAIT_S_MAX));
        let mut waits = true;
        let mut pauses = retry_pauses();
        // A short task ends before its first renewal.
        let nothing = self.told.questions();
        tokio::select! {
            () = self.told.asks_more(&nothing) => {}
            () = self.runtime.sleep_until(self.runtime.now() + FIRST_AFTER.min(pace)) => {}
        }
        loop {
            let started = self.runtime.now();
            let questions = self.told.questions();
            let wait_s = if waits { pace.as_secs_f64() } else { 0.0 };
            let renewal = Renew { input_requests: questions.clone(), wait_s, ..self.renewal() };
            let answer = tokio::select! {
                biased;
                answer = self.owner.renew(&Caller::Local, renewal) => answer,
                // A renewal that waits at the owner has already taken effect, so dropping it loses nothing.
                () = self.told.asks_more(&questions) => continue,
                // The lease must not expire while this renewal hangs.
                () = self.runtime.sleep_until(started + 2 * pace) => continue,
            };
            waits = true;
            match answer {
                Ok(Renewed { cancel_requested: true, .. }) => return Lost::CancelRequested,
                Ok(renewed) => {
                    pauses = retry_pauses();
                    let has_answers = !renewed.input_responses.is_empty();
                    self.told.answered(renewed.input_responses);
                    if has_answers {
                        continue;
                    }
                    // An owner of an earlier version does not wait, so it must not be asked without a pause.
                    tokio::select! {
                        () = self.told.asks_more(&questions) => {}
                        () = self.runtime.sleep_until(started + pace) => {}
                    }
                }
                Err(error) if is_lost(&error) => return self.lost(&error),
                Err(error) if is_refused(&error) && !questions.is_empty() => self.sift(questions).await,
                Err(error) => {
                    // The owner may be restarting, and the work may still count when it is back. An owner with too many
                    // waiting renewals still accepts those that do not wait.
                    tracing::debug!(task_id = %self.task_id, %error, "the lease could not be renewed");
                    waits = error.code != ErrorCode::Overloaded;
                    pause(self.runtime, &mut pauses).await;
                }
            }
        }
    }

    /// Asks the questions one by one that were refused together, so that one refused question does not cost the others
    /// their answers.
    async fn sift(&self, questions: BTreeMap<String, Json>) {
        for (key, question) in questions {
            let renewal = Renew { input_requests: [(key.clone(), question)].into(), ..self.renewal() };
            match self.owner.renew(&Caller::Local, renewal).await {
                Ok(renewed) => self.told.answered(renewed.input_responses),
                Err(error) if is_refused(&error) => self.told.refused(&key, &error),
                // The next renewal meets the same error.
                Err(_) => return,
            }
        }
    }

    /// Reports progress to the owner. While one report is under way, only the newest progress is kept for the next one.
    async fn tell_progress(&self) -> Lost {
        let mut pauses = retry_pauses();
        loop {
            let (fraction, status_message) = self.told.progress().await;
            let renewal = Renew { progress: Some(fraction), status_message: status_message.clone(), ..self.renewal() };
            match self.owner.renew(&Caller::Local, renewal).await {
                Ok(renewed) if renewed.cancel_requested => return Lost::CancelRequested,
                Ok(_) => {
                    pauses = retry_pauses();
                    self.runtime.sleep_until(self.runtime.now() + PROGRESS_PAUSE).await;
                }
                Err(error) if is_lost(&error) => return self.lost(&error),
                Err(error) => {
                    tracing::debug!(task_id = %self.task_id, %error, "the progress could not be told");
                    self.told.keep((fraction, status_message));
                    pause(self.runtime, &mut pauses).await;
                }
            }
        }
    }

    const fn renewal(&self) -> Renew {
        Renew::new(self.task_id, self.fence, self.lease.as_secs_f64())
    }

    fn lost(&self, error: &QueueError) -> Lost {
        tracing::warn!(task_id = %self.task_id, code = error.code.as_str(), "the lease is lost");
        Lost::LeaseLost
    }
}

fn is_lost(error: &QueueError) -> bool {
    matches!(
        error.code,
        ErrorCode::StaleFence | ErrorCode::NotFound | ErrorCode::AlreadyFinished | ErrorCode::WrongState
    )
}

/// Returns whether the owner refuses the request for good.
pub(super) fn is_refused(error: &QueueError) -> bool {
    matches!(error.code, ErrorCode::InvalidArgument | ErrorCode::LimitExceeded)
}

/// The number of renewals in the length of a lease. Two of them may be lost before the lease is.
const RENEWALS_PER_LEASE: u32 = 3;

/// The time before the first renewal. Most tasks that end before a person could cancel them have ended by then.
const FIRST_AFTER: Duration = Duration::from_millis(200);

/// The shortest pause between two reports of progress. People and clients read progress a few times a second, and each
/// report is a write at the owner.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
