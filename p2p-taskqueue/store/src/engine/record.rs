use std::{collections::BTreeMap, sync::Arc};

use taskqueue_api::PeerId;
use taskqueue_api::{Attempt, FailedBy, Json, TaskRecord, TaskStatus, WaitingFor};

use super::{Inputs, Live, Now, Phase, Spec, Standing, Wall, waiting::waiting_for};

/// A task as a store keeps it: everything but the peer that owns the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The part that the submit fixed.
    pub spec: Spec,
    /// The work's input.
    pub payload: Json,
    /// The task's present state.
    pub standing: Standing,
    /// The result of the task.
    pub result: Option<Json>,
}

impl Record {
    /// The bytes of the worker's questions and the answers.
    #[must_use]
    pub fn inputs_bytes(&self) -> usize {
        match &self.standing {
            Standing::Live(Live { inputs: Some(inputs), .. }) => inputs.bytes(),
            _ => 0,
        }
    }

    /// Estimates the bytes in an answer of the attempts, of the demands on the worker, and of the reason why the task
    /// waits.
    pub(crate) fn names_bytes(&self) -> usize {
        let attempts = match &self.standing {
            Standing::Live(live) => &live.attempts,
            Standing::Ended(ended) => &ended.attempts,
        };
        let reason = if self.standing.status() == TaskStatus::Queued { REASON_BYTES } else { 0 };
        attempts.bytes() + self.spec.requires.iter().map(String::len).sum::<usize>() + reason
    }

    /// Makes the record that operations answer. `owner` is the peer that keeps the store, and `now` gives the wall
    /// clock for dates.
    #[must_use]
    pub fn into_task(self, owner: PeerId, now: Now) -> TaskRecord {
        let Self { spec, payload, standing, result } = self;
        let status = standing.status();
        let Shown {
            waiting_for,
            updated_at,
            not_before,
            deadline,
            attempt,
            worker,
            attempts,
            lease_until,
            progress,
            status_message,
            error,
            dead,
            failed_by,
            input_requests,
        } = Shown::of(standing, now);
        TaskRecord {
            task_id: spec.id,
            task_type: spec.task_type,
            model_name: spec.model_name,
            payload,
            status,
            waiting_for,
            priority: spec.priority,
            attempt,
            max_attempts: spec.policy.max_attempts,
            created_at: spec.created_at.as_secs(),
            updated_at: updated_at.as_secs(),
            not_before: not_before.map(Wall::as_secs),
            deadline: deadline.map(Wall::as_secs),
            assigned_worker: worker,
            attempts,
            lease_until: lease_until.map(Wall::as_secs),
            progress,
            status_message,
            result,
            error,
            failed_by,
            input_requests,
            submitter: spec.submitter,
            submitted_by: spec.submitted_by,
            labels: spec.labels,
            requires: spec.requires,
            result_ttl_s: spec.policy.result_ttl_s,
            session: spec.session,
            pin_to: spec.pin_to,
            concurrency_key: spec.concurrency_key,
            after: spec.after,
            owner,
            dead,
            fence: None,
        }
    }
}

/// The fields that a record shows, whether or not the task has ended.
struct Shown {
    waiting_for: Option<WaitingFor>,
    updated_at: Wall,
    not_before: Option<Wall>,
    deadline: Option<Wall>,
    attempt: u32,
    worker: Option<String>,
    attempts: Vec<Attempt>,
    lease_until: Option<Wall>,
    progress: Option<f64>,
    status_message: Option<String>,
    error: Option<String>,
    dead: bool,
    failed_by: Option<FailedBy>,
    input_requests: BTreeMap<String, Json>,
}

impl Shown {
    fn of(standing: Standing, now: Now) -> Self {
        match standing {
            Standing::Live(live) => Self {
                waiting_for: waiting_for(&live, now),
                updated_at: live.updated_at,
                not_before: match live.phase {
                    Phase::Delayed => Some(now.date_of(live.ready_at)),
                    _ => live.not_before,
                },
                deadline: live.deadline.map(|at| now.date_of(at)),
                attempt: live.attempt,
                worker: live.worker,
                attempts: live.attempts.shown(),
                lease_until: live.lease_until,
                progress: live.progress,
                status_message: live.status_message,
                error: live.error,
                dead: false,
                failed_by: None,
                input_requests: live.inputs.map(Arc::unwrap_or_clone).map(Inputs::into_open).unwrap_or_default(),
            },
            Standing::Ended(ended) => Self {
                waiting_for: None,
                updated_at: ended.at,
                not_before: ended.not_before,
                deadline: ended.deadline.map(|at| now.date_of(at)),
                attempt: ended.attempt,
                worker: ended.worker,
                attempts: ended.attempts.shown(),
                lease_until: None,
                progress: ended.progress,
                status_message: ended.status_message,
                error: ended.error,
                dead: ended.dead,
                failed_by: ended.failed_by,
                input_requests: BTreeMap::new(),
            },
        }
    }
}

/// The bytes of the reason why a task waits, with the names that it has in it, as JSON.
const REASON_BYTES: usize = 192;
