use taskqueue_api::{Got, Submitted, TaskRecord, ToolCalled, Waited, WaitingFor};

/// An answer that is about one task.
pub(super) trait OfTask {
    /// Returns why no worker has claimed the task, if it waits for one.
    fn waiting_for(&self) -> Option<&WaitingFor>;
}

impl OfTask for Submitted {
    fn waiting_for(&self) -> Option<&WaitingFor> {
        self.waiting_for.as_ref()
    }
}

impl OfTask for TaskRecord {
    fn waiting_for(&self) -> Option<&WaitingFor> {
        self.waiting_for.as_ref()
    }
}

impl OfTask for Got {
    fn waiting_for(&self) -> Option<&WaitingFor> {
        self.task.waiting_for()
    }
}

impl OfTask for ToolCalled {
    fn waiting_for(&self) -> Option<&WaitingFor> {
        self.task.waiting_for()
    }
}

impl OfTask for Waited {
    fn waiting_for(&self) -> Option<&WaitingFor> {
        self.task.as_ref().and_then(OfTask::waiting_for)
    }
}

/// Says in a sentence why a task is still queued.
pub(crate) fn queued(waiting_for: &WaitingFor) -> String {
    format!("queued: {}", waiting_for.message)
}
