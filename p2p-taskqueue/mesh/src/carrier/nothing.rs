use async_trait::async_trait;
use libp2p::PeerId;
use taskqueue_api::{Caller, ErrorCode, QueueError, Request, Response, RouteBook, TaskId, TaskQueue};

/// What a client keeps: no tasks and no routes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nothing;

#[async_trait]
impl TaskQueue for Nothing {
    async fn call(&self, _: &Caller, request: Request) -> Result<Response, QueueError> {
        let message = format!("a client keeps no tasks: name the peer that {} is for", request.name());
        Err(QueueError::new(ErrorCode::Unsupported, message))
    }
}

#[async_trait]
impl RouteBook for Nothing {
    async fn remember(&self, _: TaskId, _: PeerId) -> Result<(), QueueError> {
        Ok(())
    }

    async fn owner_of(&self, _: TaskId) -> Result<Option<PeerId>, QueueError> {
        Ok(None)
    }
}
