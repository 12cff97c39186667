//! Joining a mesh by a ticket, at once or as soon as the machine that invites can be reached, and leaving it.

use std::{sync::Arc, time::Duration};

use libp2p::PeerId;
use runtime_bridge::RuntimeExt as _;
use taskqueue_api::{Caller, ErrorCode, Join, Joined, Leave, Left, QueueError, TakeMeOut, Target, TaskQueueExt as _};

use super::RemoteQueue;
use crate::{
    Mesh, Node, Ticket, host_name,
    members::{MembersError, Standing},
    node::{
        Directory, Patience,
        limits::{JOIN_PAUSE_FIRST, JOIN_PAUSE_MAX, JOIN_TIMEOUT},
    },
};

/// The part of a node that joins and leaves meshes.
#[derive(Debug, Clone)]
pub(crate) struct Joiner {
    pub(crate) directory: Arc<Directory>,
}

impl Joiner {
    fn remote(&self, peer: PeerId) -> Result<RemoteQueue, QueueError> {
        RemoteQueue::new(Arc::clone(&self.directory), &Target::peer(peer))
    }

    pub(super) async fn join(&self, request: Join) -> Result<Joined, QueueError> {
        let Join { ticket, name, leave, keep_trying } = request;
        let ticket: Ticket = ticket.parse().map_err(|error| QueueError::invalid("ticket", error))?;
        let (own, peer_id) = (self.directory.peer_id, ticket.peer_id());
        if peer_id == own {
            return Err(QueueError::invalid("ticket", "is this node's own: use it on another machine"));
        }
        let membership = &self.directory.membership;
        let is_same_mesh = membership.mesh_id() == ticket.mesh();
        if is_same_mesh && matches!(membership.standing(&own), Standing::Member(_)) {
            return Err(QueueError::invalid("ticket", "is of the mesh to which this machine belongs already"));
        }
        let others = membership.members().len().saturating_sub(1);
        if others > 0 && !leave && !is_same_mesh {
            let message = format!(
                "this machine belongs to a mesh with other members ({others}): leave it with `taskmesh join --leave`"
            );
            return Err(QueueError::invalid("leave", message));
        }
        let runtime = Arc::clone(&self.directory.runtime);
        let enter = Node::enter(membership.identity().clone(), &ticket, name.as_deref(), runtime);
        let entered = match Box::pin(enter).await {
            Err(error) if keep_trying && error.code == ErrorCode::Unreachable => {
                let again = Join { ticket: ticket.to_text(), name, leave, keep_trying: false };
                return Err(self.join_later(&again, error));
            }
            entered => entered?,
        };
        if others > 0 && !is_same_mesh {
            self.tell_that_we_leave().await;
        }
        self.directory
            .change_members(move |mesh, _| {
                *mesh = entered;
                Ok(())
            })
            .await?;
        let addresses = ticket.addresses().to_vec();
        self.directory.befriend(peer_id, addresses).await?;
        let connected = self.remote(peer_id)?.connect(Patience::OneAttempt, JOIN_TIMEOUT).await;
        let role = match membership.standing(&own) {
            Standing::Member(grants) => (*grants).clone(),
            Standing::Removed | Standing::Stranger => {
                return Err(QueueError::new(ErrorCode::Unauthorized, "this machine was removed from the mesh again"));
            }
        };
        let name = membership.name_of(&own).unwrap_or_default();
        let error = connected.err().map(|error| error.message);
        Ok(Joined { peer_id, name, role, connected: error.is_none(), error })
    }

    pub(super) async fn leave(&self, request: Leave) -> Result<Left, QueueError> {
        let (membership, own) = (&self.directory.membership, self.directory.peer_id);
        membership.mesh().check_leaving(own, request.force)?;
        let name = membership.name_of(&own).unwrap_or_else(|| host_name(membership.identity()));
        let told = self.tell_that_we_leave().await;
        self.directory
            .change_members(move |mesh, identity| {
                *mesh = Mesh::begin(identity, &name).map_err(|error| MembersError::Unsaved(error.to_string()))?;
                Ok(())
            })
            .await?;
        Ok(Left { told })
    }

    /// Asks a connected admin to take this machine out. Returns the admin's name.
    async fn tell_that_we_leave(&self) -> Option<String> {
        let (membership, own) = (&self.directory.membership, self.directory.peer_id);
        let names = membership.names();
        let admins =
            membership.members().into_iter().filter(|member| member.as_admin().is_some() && member.peer != own);
        for admin in admins {
            if self.directory.standing(admin.peer).is_none() {
                continue;
            }
            let Ok(remote) = self.remote(admin.peer) else { continue };
            match remote.take_me_out(&Caller::Local, TakeMeOut {}).await {
                // The session may end with the removal before its answer.
                Ok(_) => return names.get(&admin.peer).cloned(),
                Err(error) if error.code == ErrorCode::Interrupted => return names.get(&admin.peer).cloned(),
                Err(error) => tracing::info!(admin = %admin.peer, %error, "an admin does not take this machine out"),
            }
        }
        None
    }

    /// Notes that the node goes on trying to join. Returns the error that says so.
    fn join_later(&self, request: &Join, error: QueueError) -> QueueError {
        let text = serde_json::to_string(request).unwrap_or_default();
        if let Err(unsaved) = self.directory.files.save_pending_join(Some(&text)) {
            tracing::warn!(error = %unsaved, "a request to join could not be kept");
            return error;
        }
        self.keep_joining();
        let message = format!("{}; this node goes on trying", error.message);
        error.with_message(message)
    }

    /// Goes on with the request to join that is kept, if there is one, until it succeeds or is refused.
    pub(crate) fn keep_joining(&self) {
        if let Some(text) = self.directory.files.load_pending_join() {
            self.directory.runtime.spawn(self.clone().join_until_settled(text)).detach();
        }
    }

    async fn join_until_settled(self, text: String) {
        let Ok(request) = serde_json::from_str::<Join>(&text) else { return self.settle(&text) };
        let (runtime, mut pause) = (Arc::clone(&self.directory.runtime), Duration::ZERO);
        loop {
            runtime.sleep_until(runtime.now() + pause).await;
            // Another request may have taken the place of this one.
            if self.directory.files.load_pending_join().as_deref() != Some(&*text) {
                return;
            }
            match Box::pin(self.join(request.clone())).await {
                Ok(joined) => {
                    tracing::info!(inviter = %joined.peer_id, name = joined.name, "joined the mesh");
                    return self.settle(&text);
                }
                Err(error) if error.code == ErrorCode::ShuttingDown => return,
                Err(error) if error.retryable => tracing::debug!(%error, "not joined yet"),
                Err(error) => {
                    tracing::warn!(%error, "the mesh of the ticket was not joined");
                    return self.settle(&text);
                }
            }
            pause = (2 * pause).clamp(JOIN_PAUSE_FIRST, JOIN_PAUSE_MAX);
        }
    }

    /// Forgets the request, unless another one has taken its place.
    fn settle(&self, text: &str) {
        if self.directory.files.load_pending_join().as_deref() == Some(text)
            && let Err(error) = self.directory.files.save_pending_join(None)
        {
            tracing::warn!(%error, "a request to join could not be removed");
        }
    }
}
