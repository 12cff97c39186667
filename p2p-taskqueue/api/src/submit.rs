use crate::PeerId;
use serde::{Deserialize, Serialize};

use super::{
    QueueError,
    check::{Check, content, labels, name, seconds, text},
    limits::{
        AFTER_MAX, BACKOFF_S_MAX, DATE_S_MAX, DEADLINE_S_MIN, IDEMPOTENCY_KEY_BYTES_MAX, LABELS_MAX, MAX_ATTEMPTS_MAX,
        NAME_BYTES_MAX, PRIORITY_RANGE, REQUEST_JSON_BYTES_MAX, SPAN_S_MAX, SUBMITS_MAX,
    },
};
use crate::{Json, TaskId, WaitingFor};

/// Asks the owner to queue a task. The answer comes when the task is on stable storage (clause T1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Submit {
    /// The task's id, drawn at random by the node that passes the submit on: the same submit with the same id is the same
    /// task, so that a lost answer costs nothing. Left out, the owner draws one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub task_id: Option<TaskId>,
    /// Who submits it, as the server that let them in calls them: shown in the record, and part of the scope of
    /// `idempotency_key`. No proof of anything by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub submitter: Option<String>,
    /// What kind of work it is; workers claim by it.
    pub task_type: String,
    /// Which model it asks for.
    #[serde(default)]
    pub model_name: String,
    /// The input: any JSON value up to 1 MiB, nested up to 100 levels, stored as given.
    #[serde(default)]
    pub payload: Json,
    /// 1 to 10, 10 first.
    #[serde(default = "default_priority")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10)))]
    pub priority: u8,
    /// Not claimable for this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 316_224_000)))]
    pub delay_s: Option<f64>,
    /// Not claimable before this time, in Unix seconds; not together with `delay_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 4_294_967_295_u32)))]
    pub not_before: Option<f64>,
    /// Given up when it has not ended so many seconds after it was accepted: it then fails, also while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.001, max = 316_224_000)))]
    pub deadline_s: Option<f64>,
    /// How often it may be claimed; 0 is without limit.
    #[serde(default = "default_max_attempts")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1_000)))]
    pub max_attempts: u32,
    /// Seconds before the second attempt; doubles with each, with 20 % of jitter, up to 300.
    #[serde(default = "default_backoff_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 300)))]
    pub backoff_s: f64,
    /// A repeat with the same key answers the first task's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// How long the key is remembered, in seconds.
    #[serde(default = "default_day_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 316_224_000)))]
    pub idempotency_window_s: f64,
    /// Marks for listing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Labels that the worker must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Only a worker on this peer may claim it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::place::some_peer_id")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub pin_to: Option<PeerId>,
    /// Only a worker of the same session may claim it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Tasks of the same node that must complete first, up to 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<TaskId>,
    /// What to do when one of these fails or is called off.
    #[serde(default)]
    pub on_parent_failure: OnParentFailure,
    /// Of the tasks with the same key only so many run at once as the key's limit allows: 1 unless `limit` says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// How long its result is kept after its end, in seconds; a minute at the least.
    #[serde(default = "default_day_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 316_224_000)))]
    pub result_ttl_s: f64,
}

/// What happens to a task when a task that it comes after fails or is cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnParentFailure {
    /// It fails with that reason.
    #[default]
    Fail,
    /// It runs all the same.
    Run,
}

impl Submit {
    /// Makes a task of this type with this payload; everything else has its default.
    #[must_use]
    pub fn new(task_type: impl Into<String>, payload: Json) -> Self {
        Self {
            task_id: None,
            submitter: None,
            task_type: task_type.into(),
            model_name: String::new(),
            payload,
            priority: default_priority(),
            delay_s: None,
            not_before: None,
            deadline_s: None,
            max_attempts: default_max_attempts(),
            backoff_s: default_backoff_s(),
            idempotency_key: None,
            idempotency_window_s: default_day_s(),
            labels: Vec::new(),
            requires: Vec::new(),
            pin_to: None,
            session: None,
            after: Vec::new(),
            on_parent_failure: OnParentFailure::Fail,
            concurrency_key: None,
            result_ttl_s: default_day_s(),
        }
    }
}

impl Check for Submit {
    fn check(&self) -> Result<(), QueueError> {
        name("task_type", &self.task_type)?;
        self.submitter.iter().try_for_each(|submitter| name("submitter", submitter))?;
        text("model_name", &self.model_name, NAME_BYTES_MAX)?;
        content("payload", &self.payload)?;
        if !PRIORITY_RANGE.contains(&self.priority) {
            return Err(QueueError::invalid("priority", "must be from 1 to 10"));
        }
        if self.max_attempts > MAX_ATTEMPTS_MAX {
            let value = self.max_attempts as usize;
            return Err(QueueError::over_limit("max_attempts", value, MAX_ATTEMPTS_MAX as usize, "attempts"));
        }
        if self.delay_s.is_some() && self.not_before.is_some() {
            return Err(QueueError::invalid("delay_s", "give either delay_s or not_before, not both"));
        }
        seconds("delay_s", self.delay_s, 0.0..=SPAN_S_MAX)?;
        seconds("not_before", self.not_before, 0.0..=DATE_S_MAX)?;
        seconds("deadline_s", self.deadline_s, DEADLINE_S_MIN..=SPAN_S_MAX)?;
        seconds("backoff_s", Some(self.backoff_s), 0.0..=BACKOFF_S_MAX)?;
        seconds("idempotency_window_s", Some(self.idempotency_window_s), 0.0..=SPAN_S_MAX)?;
        seconds("result_ttl_s", Some(self.result_ttl_s), 0.0..=SPAN_S_MAX)?;
        if let Some(key) = &self.idempotency_key {
            if key.is_empty() {
                return Err(QueueError::invalid("idempotency_key", "must not be empty"));
            }
            text("idempotency_key", key, IDEMPOTENCY_KEY_BYTES_MAX)?;
        }
        labels("labels", &self.labels, LABELS_MAX)?;
        labels("requires", &self.requires, LABELS_MAX)?;
        if self.after.len() > AFTER_MAX {
            return Err(QueueError::over_limit("after", self.after.len(), AFTER_MAX, "ids"));
        }
        self.concurrency_key.iter().try_for_each(|key| name("concurrency_key", key))?;
        self.session.iter().try_for_each(|session| name("session", session))
    }
}

/// Checks tasks that are submitted together. `field` is the argument that holds them, and `beside` is the number of
/// bytes that the request carries besides them.
pub(super) fn check_all(field: &str, submits: &[Submit], beside: usize) -> Result<(), QueueError> {
    if submits.len() > SUBMITS_MAX {
        return Err(QueueError::over_limit(field, submits.len(), SUBMITS_MAX, "tasks"));
    }
    let bytes = beside + submits.iter().map(|submit| submit.payload.len_bytes()).sum::<usize>();
    if !submits.is_empty() && bytes > REQUEST_JSON_BYTES_MAX {
        return Err(QueueError::over_limit(field, bytes, REQUEST_JSON_BYTES_MAX, "bytes of payloads"));
    }
    let check =
        |(at, submit): (usize, &Submit)| submit.check().map_err(|error| error.within(&format!("{field}[{at}]")));
    submits.iter().enumerate().try_for_each(check)
}

/// Asks the owner to queue up to 1,000 tasks with one sync. Each task is accepted or refused by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SubmitMany {
    /// The tasks; together up to 4 MiB of payloads.
    #[serde(deserialize_with = "super::bounded::submits")]
    pub tasks: Vec<Submit>,
}

impl Check for SubmitMany {
    fn check(&self) -> Result<(), QueueError> {
        if self.tasks.is_empty() {
            return Err(QueueError::invalid("tasks", "must not be empty"));
        }
        check_all("tasks", &self.tasks, 0)
    }
}

/// The answer to a [`SubmitMany`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SubmittedMany {
    /// One answer for each task, in the order asked for.
    pub results: Vec<SubmitResult>,
}

/// The outcome of one of several submits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SubmitResult {
    /// Whether the task is queued.
    pub ok: bool,
    /// What a submit answers.
    #[serde(flatten)]
    pub submitted: Option<Submitted>,
    /// Why it is not queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<QueueError>,
}

impl From<Result<Submitted, QueueError>> for SubmitResult {
    fn from(result: Result<Submitted, QueueError>) -> Self {
        match result {
            Ok(submitted) => Self { ok: true, submitted: Some(submitted), error: None },
            Err(error) => Self { ok: false, submitted: None, error: Some(error) },
        }
    }
}

/// The answer to a [`Submit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Submitted {
    /// The task's id: a new one, or the first one's when it is a repeat.
    pub task_id: TaskId,
    /// The peer that keeps the task.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "crate::peer_text")]
    pub peer_id: PeerId,
    /// Whether the idempotency key had been seen.
    #[serde(default)]
    pub duplicate: bool,
    /// What has happened to it before this answer.
    pub durability: Durability,
    /// Why no worker can claim it now. Absent when a worker is free for it, and for a repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
}

/// What is known to be on stable storage when a submit is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// The task is on stable storage.
    Synced,
    /// The task is written, and on stable storage within 50 milliseconds.
    Relaxed,
    /// The task is in memory only: the store is one that says so.
    Volatile,
}

const fn default_priority() -> u8 {
    5
}

const fn default_max_attempts() -> u32 {
    3
}

const fn default_backoff_s() -> f64 {
    1.0
}

pub(crate) const fn default_day_s() -> f64 {
    86_400.0
}
