//! The part of a node's queue about the members of the mesh: the list, tickets and changes.

use std::collections::BTreeMap;

use libp2p::PeerId;
use taskqueue_api::{
    Caller, ChangeMember, ErrorCode, Invitation, Invite, MachineInfo, MemberChanged, MemberRemoved, MembersListed,
    MembersTold, Peer, QueueError, RemoveMember, TakeMeOut, TakenOut, TellMembers,
};

use super::MeshQueue;
use crate::{
    Identity, Mesh, TICKET_ADDRESSES_MAX, Ticket,
    members::{Invited, Keep, MachineName, MembersError, Signer, Statements, TakeError, TicketSecret},
    node::{is_loopback, unix_now},
};

impl MeshQueue {
    pub(super) async fn list_members(&self) -> Result<MembersListed, QueueError> {
        let membership = &self.directory.membership;
        let own = self.directory.peer_id;
        let known: BTreeMap<PeerId, Peer> =
            self.directory.peers(false).await?.into_iter().map(|peer| (peer.peer_id, peer)).collect();
        let names = membership.names();
        let name_of = |peer: &PeerId| names.get(peer).cloned().unwrap_or_else(|| peer.to_string());
        let info = |member: crate::members::MemberEntry| {
            let peer = known.get(&member.peer);
            let is_own = member.peer == own;
            let addresses = peer.map(|peer| peer.addresses.clone()).unwrap_or_default();
            let version = peer.and_then(|peer| peer.version.clone());
            MachineInfo {
                name: name_of(&member.peer),
                peer_id: member.peer,
                added_by: match member.by {
                    Signer::Root => "root key".to_owned(),
                    Signer::Admin { peer, .. } => name_of(&peer),
                },
                role: member.grants,
                connected: is_own || peer.is_some_and(|peer| peer.connected),
                addresses: if is_own { self.directory.addresses.borrow().clone() } else { addresses },
                last_seen: peer.and_then(|peer| peer.last_seen),
                version: if is_own { Some(env!("CARGO_PKG_VERSION").to_owned()) } else { version },
            }
        };
        let mut members: Vec<_> = membership.members().into_iter().map(info).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(MembersListed { mesh: membership.mesh_id().to_string(), self_peer_id: own, members })
    }

    /// Makes a change, and says which of the other members know of it.
    async fn change(
        &self,
        change: impl FnOnce(&mut Mesh, &Identity) -> Result<(), MembersError> + Send + 'static,
    ) -> Result<(Vec<String>, Vec<String>), QueueError> {
        let heard = self.directory.change_members(change).await?;
        let names = self.directory.membership.names();
        let others = names.iter().filter(|(peer, _)| **peer != self.directory.peer_id);
        let (heard, not_heard): (Vec<_>, Vec<_>) = others.partition(|(peer, _)| heard.contains(peer));
        let names = |members: Vec<(&PeerId, &String)>| members.into_iter().map(|(_, name)| name.clone()).collect();
        Ok((names(heard), names(not_heard)))
    }

    pub(super) async fn change_member(&self, request: ChangeMember) -> Result<MemberChanged, QueueError> {
        let membership = &self.directory.membership;
        let peer = membership.resolve(&request.member)?;
        let name = request.name.as_deref().map(MachineName::chosen).transpose()?;
        let role = request.role;
        let (heard, not_heard) = self
            .change(move |mesh, identity| {
                if let Some(role) = role {
                    mesh.set_grants(peer, role, identity)?;
                }
                name.map_or(Ok(()), |name| mesh.rename(peer, name, identity).map(|_| ()))
            })
            .await?;
        let member = membership.members().into_iter().find(|member| member.peer == peer);
        let member = member.ok_or_else(|| QueueError::new(ErrorCode::NotFound, "the machine was removed meanwhile"))?;
        let name = membership.name_of(&peer).unwrap_or_else(|| member.name.to_string());
        Ok(MemberChanged { peer_id: peer, name, role: member.grants, heard, not_heard })
    }

    pub(super) async fn remove_member(&self, request: RemoveMember) -> Result<MemberRemoved, QueueError> {
        let membership = &self.directory.membership;
        let peer = membership.resolve(&request.member)?;
        if peer == self.directory.peer_id {
            return Err(MembersError::Itself.into());
        }
        let keep = match request.keep.as_deref() {
            None => Keep::Unsaid,
            Some([one]) if one == "all" => Keep::All,
            Some([one]) if one == "none" => Keep::These(Vec::new()),
            Some(named) => {
                Keep::These(named.iter().map(|one| membership.resolve(one)).collect::<Result<_, MembersError>>()?)
            }
        };
        let name = membership.name_of(&peer).unwrap_or_else(|| peer.to_string());
        let (heard, not_heard) = self.change(move |mesh, identity| mesh.remove(peer, &keep, identity)).await?;
        Ok(MemberRemoved { peer_id: peer, name, heard, not_heard })
    }

    /// Takes what another node says is new about the members.
    pub(super) fn tell_members(&self, told: TellMembers) -> Result<MembersTold, QueueError> {
        let TellMembers { entries, secret_notes, secret } = told;
        let membership = &self.directory.membership;
        let refused = |error: TakeError| match error {
            TakeError::NotBelieved(error) => QueueError::invalid("entries", error),
            TakeError::Unsaved(error) => QueueError::new(ErrorCode::StorageError, error.to_string()),
        };
        membership
            .take(Statements { entries: entries.clone(), secret_notes: secret_notes.clone() })
            .map_err(refused)?;
        if let Some(secret) = secret {
            let secret = serde_json::from_value(secret.into())
                .map_err(|_| QueueError::invalid("secret", "is 64 hexadecimal digits"))?;
            membership.take_secret(secret).map_err(refused)?;
        }
        let is_known = membership.knows(&Statements { entries, secret_notes });
        Ok(MembersTold { is_known: is_known && membership.has_newest_secret() })
    }

    /// Takes the machine that asks out of the mesh, after the answer.
    pub(super) fn take_me_out(&self, caller: &Caller, _: TakeMeOut) -> Result<TakenOut, QueueError> {
        let Some(peer) = caller.machine() else {
            return Err(QueueError::new(
                ErrorCode::Forbidden,
                "only another machine asks for this: see `taskmesh leave`",
            ));
        };
        // The removal is tried on a copy, so that a refusal is answered. The session would end before an answer to the
        // removal itself.
        self.directory.membership.try_change(|mesh, identity| mesh.remove(peer, &Keep::All, identity))?;
        let directory = std::sync::Arc::clone(&self.directory);
        let removal = async move {
            let removed = directory.change_members(move |mesh, identity| mesh.remove(peer, &Keep::All, identity));
            if let Err(error) = removed.await {
                tracing::warn!(%peer, %error, "a machine that has left could not be taken out of the mesh");
            }
        };
        runtime_bridge::RuntimeExt::spawn(&*self.directory.runtime, removal).detach();
        Ok(TakenOut {})
    }

    pub(super) fn invite(&self, request: Invite) -> Result<Invitation, QueueError> {
        let Invite { role, for_s, uses, name } = request;
        let peer_id = self.directory.peer_id;
        let mut addresses = self.directory.addresses.borrow().clone();
        if !addresses.iter().all(is_loopback) {
            // No other machine can dial a loopback address.
            addresses.retain(|address| !is_loopback(address));
        }
        let name = name.as_deref().map(MachineName::chosen).transpose()?;
        let secret = TicketSecret::generate()
            .map_err(|error| QueueError::new(ErrorCode::Internal, format!("no random number: {error}")))?;
        let now = unix_now();
        let expires_at = now + for_s;
        let invited = Invited {
            secret: secret.clone(),
            grants: role.clone(),
            name,
            uses,
            used_by: Vec::new(),
            until: expires_at,
        };
        let membership = &self.directory.membership;
        membership.change(|mesh, identity| mesh.invite(invited, now, identity))?;
        let told: Vec<_> = addresses.iter().take(TICKET_ADDRESSES_MAX).cloned().collect();
        let ticket = Ticket::new(membership.mesh_id(), peer_id, secret, addresses);
        Ok(Invitation { ticket: ticket.to_text(), peer_id, addresses: told, role, expires_at })
    }
}
