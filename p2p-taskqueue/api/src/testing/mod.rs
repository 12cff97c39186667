//! Test support that this crate shares with the crates above it.

pub mod exchanges;
pub mod odd_json;
mod skipped;

use std::{collections::BTreeMap, time::Duration};

pub use skipped::skipped;

use crate::{Json, PeerId, Submit, TaskId, TaskRecord, TaskStatus};

/// The longest time that a test waits for an event, however busy the machine is.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The record of a task that was just submitted.
#[must_use]
#[expect(clippy::unwrap_used, reason = "a test that has no randomness may fail")]
pub fn task(owner: PeerId, submit: Submit) -> TaskRecord {
    TaskRecord {
        task_id: TaskId::random().unwrap(),
        task_type: submit.task_type,
        model_name: submit.model_name,
        payload: submit.payload,
        status: TaskStatus::Queued,
        priority: submit.priority,
        attempt: 0,
        max_attempts: submit.max_attempts,
        created_at: 1.0,
        updated_at: 1.0,
        not_before: None,
        deadline: None,
        assigned_worker: None,
        attempts: Vec::new(),
        lease_until: None,
        progress: None,
        status_message: None,
        result: None,
        error: None,
        failed_by: None,
        input_requests: BTreeMap::new(),
        submitter: submit.submitter,
        submitted_by: None,
        labels: submit.labels,
        requires: submit.requires,
        result_ttl_s: submit.result_ttl_s,
        session: None,
        pin_to: submit.pin_to,
        concurrency_key: submit.concurrency_key,
        after: Vec::new(),
        owner,
        dead: false,
        fence: None,
        waiting_for: None,
    }
}

/// A payload of about this many bytes.
#[must_use]
pub fn payload(bytes: usize) -> Json {
    Json::from_text(&"x".repeat(bytes))
}
