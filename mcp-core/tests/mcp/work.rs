//! What a worker does, without the server.

use std::{collections::BTreeMap, sync::Arc};

use p2p_taskqueue::{
    Caller, Fence, Json, TaskId, TaskQueue, TaskQueueExt as _,
    api::{Claim, Complete, Fail, Renew, Renewed},
};

/// A task that a worker has.
#[derive(Debug)]
pub(crate) struct Lease {
    queue: Arc<dyn TaskQueue>,
    pub(crate) task_id: TaskId,
    pub(crate) fence: Fence,
}

impl Lease {
    /// Waits for a task of one of these types, or of any type when there are none, and claims it.
    pub(crate) async fn claim(queue: &Arc<dyn TaskQueue>, supported_task_types: Vec<String>) -> Self {
        let claim = Claim { supported_task_types, wait_s: 60.0, ..Claim::new("w") };
        let task = queue.claim(&Caller::Local, claim).await.unwrap().task.expect("no task came");
        Self { queue: Arc::clone(queue), task_id: task.task_id, fence: task.fence.unwrap() }
    }

    /// Reports the progress.
    pub(crate) async fn say(&self, progress: Option<f64>, message: Option<&str>) {
        let status_message = message.map(str::to_owned);
        self.renew(Renew { progress, status_message, ..self.renewal() }).await;
    }

    /// Asks the client that follows the task, and returns the answers so far.
    pub(crate) async fn ask(
        &self,
        questions: impl IntoIterator<Item = (impl Into<String>, Json)>,
    ) -> BTreeMap<String, Json> {
        let input_requests = questions.into_iter().map(|(key, question)| (key.into(), question)).collect();
        self.renew(Renew { input_requests, ..self.renewal() }).await.input_responses
    }

    fn renewal(&self) -> Renew {
        Renew::new(self.task_id, self.fence, 300.0)
    }

    async fn renew(&self, renew: Renew) -> Renewed {
        self.queue.renew(&Caller::Local, renew).await.unwrap()
    }

    pub(crate) async fn complete(self, result: Json) -> TaskId {
        let complete = Complete::new(self.task_id, self.fence, Some(result));
        self.queue.complete(&Caller::Local, complete).await.unwrap();
        self.task_id
    }

    /// Fails the task, for good unless it is `retryable`.
    pub(crate) async fn fail(self, error: &str, retryable: bool) -> TaskId {
        let Self { task_id, fence, .. } = self;
        let fail = Fail { task_id, fence, error: error.to_owned(), retryable, delay_s: None };
        self.queue.fail(&Caller::Local, fail).await.unwrap();
        task_id
    }
}
