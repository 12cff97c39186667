use std::{fmt, future::Future, sync::Arc};

use rmcp::{RoleServer, model::ProtocolVersion, service::RequestContext};
use taskqueue_api::{ErrorCode, Get, Outcome, QueueError, Submitted, Target, Wait};

use super::{
    progress, record,
    work::{Reply, Shape, Work},
};
use crate::{
    call::{Asker, Calls},
    handler::splice,
};

/// Tool calls that are tasks, and the methods by which clients follow them.
#[derive(Clone)]
pub(crate) struct DurableTasks {
    pub(super) calls: Arc<Calls>,
    pub(super) shape: Shape,
}

impl DurableTasks {
    pub(crate) fn new(calls: Arc<Calls>, shape: Shape) -> Self {
        Self { calls, shape }
    }

    #[cfg(feature = "fixtures")]
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Submits the work and answers with its handle. A client that cannot be given a handle gets the end of the task
    /// instead.
    ///
    /// # Cancel safety
    ///
    /// A task that was submitted goes on.
    pub(crate) async fn run(&self, mut work: Work, asker: Asker<'_>, context: &RequestContext<RoleServer>) -> Reply {
        let names = std::mem::take(&mut work.names);
        let reply =
            if declares(context) { hand_out(work, asker).await } else { self.wait_for(work, asker, context).await };
        reply.unwrap_or_else(|error| Reply::refused(&names.restore(error), &splice(context)))
    }

    async fn wait_for(
        &self,
        work: Work,
        asker: Asker<'_>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Reply, QueueError> {
        let submitted = asker.ask(work.target.clone(), work.submit).await?;
        let wait = Wait::one(submitted.task_id, work.timeout_s);
        let waited = progress::wait(asker, work.target, wait, context).await;
        let waited = waited.map_err(|error| submitted_but(&submitted, "waiting for it", error))?;
        let task = waited.task.ok_or_else(no_record)?;
        Ok(Reply::ended(self.shape.result(task, waited.done, &splice(context))))
    }
}

impl fmt::Debug for DurableTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableTasks").field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// Returns whether the request itself declares that its client follows tasks.
///
/// A declaration in `initialize` does not count: the extension belongs to 2026-07-28, and an older client could not use
/// a handle.
pub(crate) fn declares(context: &RequestContext<RoleServer>) -> bool {
    is_modern(context) && context.meta.client_capabilities().is_some_and(|client| client.supports_tasks())
}

pub(super) fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    // Versions are dates, and their texts have the same order.
    let version = context.meta.protocol_version();
    version.is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

/// Submits the work and answers with its handle. The handle is given only when the record can be read without a target,
/// because `tasks/get` will read it in this way.
async fn hand_out(work: Work, asker: Asker<'_>) -> Result<Reply, QueueError> {
    let submitted = asker.ask(work.target, work.submit).await?;
    let got = asker.ask(Target::default(), Get { task_id: submitted.task_id }).await;
    let got = got.map_err(|error| submitted_but(&submitted, "reading it", error))?;
    Ok(Reply::handle(record::handle(&got.task)))
}

/// Makes the error for a task that was submitted before something else failed. It names the task, so that the client
/// does not submit it again.
fn submitted_but(submitted: &Submitted, doing: &str, mut error: QueueError) -> QueueError {
    error.message = format!(
        "task {} was submitted, but {doing} failed: {}; go on with p2p_taskqueue_wait_task",
        submitted.task_id, error.message
    );
    error.outcome = Outcome::Unknown;
    error
}

fn no_record() -> QueueError {
    QueueError::new(ErrorCode::Internal, "the queue answered a wait without the record")
}

/// Runs the work until the client goes away. rmcp itself would let the handler run on.
///
/// # Errors
///
/// `interrupted` when the client went away.
pub(crate) async fn until_gone<T>(
    context: &RequestContext<RoleServer>,
    work: impl Future<Output = T>,
) -> Result<T, QueueError> {
    tokio::select! {
        done = work => Ok(done),
        () = context.ct.cancelled() => Err(QueueError::new(ErrorCode::Interrupted, "the client went away")),
    }
}
