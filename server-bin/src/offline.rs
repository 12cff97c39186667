//! Joining and leaving a mesh while no node runs on the data folder.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use p2p_taskqueue::{
    Caller, ErrorCode, Identity, Mesh, PeerId, QueueError, TaskQueueExt as _, Ticket,
    api::{Join, Joined, Left, Role, TakeMeOut, Target},
    mesh::{Node, NodeFiles as _, NodeHandle, RememberedPeer, host_name},
};

use crate::{client::on_client_thread, data_dir::LockedDir, failure::Failure};

/// Becomes a member of the mesh of a ticket while no node runs on the folder.
pub(crate) fn join_offline(
    locked: &LockedDir,
    ticket: Ticket,
    name: Option<String>,
    leave: bool,
) -> Result<Joined, Failure> {
    let identity = locked.identity_or_new()?;
    let (own, peer_id) = (identity.peer_id(), ticket.peer_id());
    if peer_id == own {
        return Err(QueueError::invalid("ticket", "is this machine's own: use it on another machine").into());
    }
    let other_mesh = locked.dir().mesh()?.filter(|mesh| !ticket.leads_to(mesh));
    let others = other_mesh.map_or(0, |mesh| mesh.names().keys().filter(|peer| **peer != own).count());
    if others > 0 && !leave {
        let problem =
            format!("this machine belongs to a mesh with other members ({others}): add --leave to leave that one");
        return Err(QueueError::invalid("leave", problem).into());
    }
    let addresses = ticket.addresses().to_vec();
    let files = locked.dir().files();
    let later = Join { ticket: ticket.to_text(), name: name.clone(), leave, keep_trying: false };
    let entered =
        on_client_thread(async move |runtime| Ok(Node::enter(identity, &ticket, name.as_deref(), runtime).await?));
    let mesh = match entered {
        Err(Failure::Answer(error)) if error.code == ErrorCode::Unreachable => {
            let text = serde_json::to_string(&later).context("cannot write the request")?;
            files.save_pending_join(Some(&text)).context("cannot keep the ticket")?;
            let message = format!("{}; `taskmesh serve` goes on trying when it runs", error.message);
            return Err(error.with_message(message).into());
        }
        entered => entered?,
    };
    let mut peers = files.load_peers();
    peers.retain(|known| known.peer_id != peer_id);
    peers.insert(0, RememberedPeer { peer_id, addresses, proven: Vec::new(), last_seen: None });
    files.save_peers(&peers).context("cannot keep the peer")?;
    files.save_mesh(&mesh).context("cannot keep what is known of the mesh")?;
    if files.load_pending_join().is_some() {
        files.save_pending_join(None).context("cannot remove the ticket of an earlier attempt")?;
    }
    let name = mesh.names().remove(&own).unwrap_or_default();
    let role = mesh.grants_of(&own).context("the ticket did not make this machine a member")?;
    Ok(Joined { peer_id, name, role, connected: false, error: None })
}

/// Takes this machine out of its mesh while no node runs on the folder.
pub(crate) fn leave_offline(locked: &LockedDir, force: bool) -> Result<Left, Failure> {
    let dir = locked.dir();
    let (Some(identity), Some(mesh)) = (dir.identity()?, dir.mesh()?) else {
        let path = dir.path().display();
        let message = format!("the data folder {path} belongs to no mesh yet: there is nothing to leave");
        return Err(QueueError::new(ErrorCode::InvalidArgument, message).into());
    };
    let own = identity.peer_id();
    mesh.check_leaving(own, force)?;
    let name = mesh.names().remove(&own).unwrap_or_else(|| host_name(&identity));
    let alone = Mesh::begin(&identity, &name).context("cannot begin a mesh")?;
    let told = match mesh.grants_of(&own) {
        Some(_) => tell_an_admin(identity, mesh, dir.files().load_peers()),
        // It was taken out already.
        None => None,
    };
    locked.save_mesh(&alone).context("cannot keep that this machine has left the mesh")?;
    dir.files().save_peers(&[]).context("cannot forget the peers of the mesh")?;
    Ok(Left { told })
}

/// Asks the admins that can be reached to take this machine out, until one of them does. Returns that one's name.
fn tell_an_admin(identity: Identity, mesh: Mesh, peers: Vec<RememberedPeer>) -> Option<String> {
    let is_admin = |peer: &PeerId| mesh.grants_of(peer).is_some_and(|grants| grants.role() == Role::Admin);
    let mut admins = mesh.names();
    admins.retain(|peer, _| *peer != identity.peer_id() && is_admin(peer));
    let told = on_client_thread(async move |runtime| {
        let node = Node::start_client(identity, mesh, Arc::clone(&runtime)).await;
        let node = node.context("cannot start a libp2p client")?;
        let over = runtime.sleep_until(runtime.now() + TELLING);
        let told = match select(pin!(ask_to_be_taken_out(&node, &admins, peers)), over).await {
            Either::Left((told, _)) => told,
            Either::Right(_) => None,
        };
        node.shutdown().await;
        Ok(told)
    });
    // A machine leaves whether anybody can be told or not.
    told.unwrap_or_else(|error| {
        tracing::warn!(%error, "no admin could be told");
        None
    })
}

async fn ask_to_be_taken_out(
    node: &NodeHandle,
    admins: &BTreeMap<PeerId, String>,
    peers: Vec<RememberedPeer>,
) -> Option<String> {
    let known = peers.into_iter().filter_map(|known| Some((admins.get(&known.peer_id)?, known)));
    let targets = known.flat_map(|(name, known)| {
        let addresses = known.addresses.into_iter().filter_map(move |address| address.with_p2p(known.peer_id).ok());
        addresses.map(move |address| (name, Target { remote_multiaddr: Some(address), remote_peer_id: None }))
    });
    let mut reached: FuturesUnordered<_> =
        targets.map(async |(name, target)| (name, node.connect(&target).await)).collect();
    let mut refusals = Vec::new();
    while let Some((name, connected)) = reached.next().await {
        let Ok(admin) = connected else { continue };
        // An admin has several addresses.
        if refusals.contains(&name) {
            continue;
        }
        match admin.ask(&Caller::Local, TakeMeOut {}).await {
            // The session may end with the removal before its answer.
            Err(error) if error.code != ErrorCode::Interrupted => {
                tracing::info!(admin = name, %error, "an admin does not take this machine out");
                refusals.push(name);
            }
            _ => return Some(name.clone()),
        }
    }
    None
}

/// How long a machine that leaves tries to tell an admin of it: enough for two dials, one after the other.
const TELLING: Duration = Duration::from_secs(10);
