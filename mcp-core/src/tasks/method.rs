//! `tasks/get`, `tasks/update` and `tasks/cancel`.

use std::collections::BTreeMap;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CancelTaskMethod, CancelTaskParams, ConstString, GetTaskMethod, GetTaskParams, GetTaskResult, UpdateTaskMethod,
        UpdateTaskParams,
    },
    service::RequestContext,
};
use serde_json::value::RawValue;
use taskqueue_api::{Answer, Cancel, ErrorCode, Get, Json, QueueError, Target, TaskId, TaskRecord};

use super::{
    DurableTasks,
    handle::{is_modern, until_gone},
    record,
};
use crate::{
    call::Asker,
    error::rpc_error,
    handler::{principal, raw_responses, splice},
    principal::Principal,
};

impl DurableTasks {
    /// Returns the state of a task.
    ///
    /// # Errors
    ///
    /// As [`Self::of_client`].
    pub(crate) async fn get(
        &self,
        params: GetTaskParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        check_era::<GetTaskMethod>(context)?;
        let principal = principal(context);
        let found = self.of_client(&params.task_id, &principal);
        let task = until_gone(context, found).await.map_err(|error| rpc_error(&error))??;
        let client = context.meta.client_capabilities().unwrap_or_default();
        Ok(GetTaskResult::new(record::state(task, &client, self.shape, &splice(context))))
    }

    /// Passes the client's answers on to the worker. Answers to questions that are not open are dropped.
    ///
    /// # Errors
    ///
    /// As [`Self::of_client`], and the queue's refusal of the answers.
    pub(crate) async fn update(
        &self,
        params: UpdateTaskParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        check_era::<UpdateTaskMethod>(context)?;
        let principal = principal(context);
        let answering = async {
            let task = self.of_client(&params.task_id, &principal).await?;
            let raw = raw_responses(&params, context)?;
            let given: BTreeMap<String, &RawValue> = serde_json::from_slice(&raw).map_err(|error| refused(&error))?;
            let open = given.into_iter().filter(|(key, _)| task.input_requests.contains_key(key));
            let read = |(key, response): (String, &RawValue)| {
                let json = Json::parse(response.get().to_owned());
                let json =
                    json.map_err(|error| rpc_error(&QueueError::not_json(&format!("{RESPONSES}.{key}"), &error)));
                Ok((key, json?))
            };
            let input_responses = open.map(read).collect::<Result<BTreeMap<_, _>, ErrorData>>()?;
            if input_responses.is_empty() {
                return Ok(());
            }
            let answer = Answer { task_id: task.task_id, input_responses };
            let asker = Asker::new(&self.calls, &principal);
            let answered = asker.ask(Target::default(), answer).await;
            answered.map(|_| ()).or_else(|error| acknowledge(&error))
        };
        until_gone(context, answering).await.map_err(|error| rpc_error(&error))?
    }

    /// Cancels a task. The worker of a running task is told to stop.
    ///
    /// # Errors
    ///
    /// As [`Self::of_client`], and the queue's refusal.
    pub(crate) async fn cancel(
        &self,
        params: CancelTaskParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        check_era::<CancelTaskMethod>(context)?;
        let principal = principal(context);
        let cancelling = async {
            let task = self.of_client(&params.task_id, &principal).await?;
            if task.status.is_terminal() {
                return Ok(());
            }
            let cancel = Cancel { task_id: task.task_id, reason: REASON.to_owned() };
            let asker = Asker::new(&self.calls, &principal);
            let cancelled = asker.ask(Target::default(), cancel).await;
            cancelled.map(|_| ()).or_else(|error| acknowledge(&error))
        };
        until_gone(context, cancelling).await.map_err(|error| rpc_error(&error))?
    }

    /// Reads the record of a task that the client itself submitted.
    ///
    /// # Errors
    ///
    /// One and the same error for an id that is malformed, unknown or expired, and for a task of another client, so
    /// that nobody can find out ids by trying. Otherwise the queue's own error, with its code, when the record cannot
    /// be read now.
    async fn of_client(&self, task_id: &str, principal: &Principal) -> Result<TaskRecord, ErrorData> {
        let task_id: TaskId = task_id.parse().map_err(|_| unknown_task())?;
        let got = Asker::new(&self.calls, principal).ask(Target::default(), Get { task_id }).await;
        let task = got.map_err(|error| refusal(&error))?.task;
        if task.submitter.as_deref() == principal.name() { Ok(task) } else { Err(unknown_task()) }
    }
}

/// Fails with "method not found" before 2026-07-28: older revisions do not have these methods.
fn check_era<M: ConstString>(context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    if is_modern(context) { Ok(()) } else { Err(ErrorData::method_not_found::<M>()) }
}

/// Accepts `already_finished` as success: a task that has ended meanwhile needs no answer and no cancellation.
fn acknowledge(error: &QueueError) -> Result<(), ErrorData> {
    if error.code == ErrorCode::AlreadyFinished { Ok(()) } else { Err(refusal(error)) }
}

fn refusal(error: &QueueError) -> ErrorData {
    if error.code == ErrorCode::NotFound { unknown_task() } else { rpc_error(error) }
}

fn refused(error: &serde_json::Error) -> ErrorData {
    rpc_error(&QueueError::invalid(RESPONSES, error))
}

fn unknown_task() -> ErrorData {
    rpc_error(&QueueError::new(ErrorCode::NotFound, "no such task of yours, or its result has expired"))
}

/// The argument of `tasks/update` that holds the answers.
const RESPONSES: &str = "inputResponses";

/// The reason that the record of a task gives when `tasks/cancel` cancelled it.
const REASON: &str = "cancelled by its client";
