//! Tests of the door between two ends that know a secret of the mesh: who is let in, and what both then know.

use std::sync::Arc;

use futures::AsyncReadExt as _;
use libp2p::PeerId;
use taskqueue_api::{Grants, Role as MeshRole};

use super::{
    door::Reason,
    handshake::{Met, Ours, Proven, enter, prove},
    proof::Role,
    refused::HandshakeError,
};
use crate::{
    Identity, Mesh, NoFiles, RootKey,
    members::{Invited, Keep, Membership, MeshId, Standing, Statements, TicketSecret, Unverified, Welcome, Wish},
    testing::{pipe, runtime, soon},
};

/// A machine with its own part in a mesh.
struct Machine {
    peer: PeerId,
    membership: Arc<Membership>,
}

impl Machine {
    /// Begins a mesh.
    fn first() -> Self {
        let identity = Identity::generate().unwrap();
        Self::with(&identity, Mesh::begin(&identity, "first").unwrap())
    }

    fn with(identity: &Identity, mesh: Mesh) -> Self {
        let membership = Membership::new(identity.clone(), mesh, Arc::new(NoFiles));
        Self { peer: identity.peer_id(), membership }
    }

    fn ours(&self) -> Ours {
        let membership = Arc::clone(&self.membership);
        Ours { membership, serves: true, instance: "i".to_owned(), addresses: Vec::new() }
    }

    /// Makes a ticket that can be used for `for_s` seconds.
    fn ticket(&self, role: &str, uses: u32, for_s: f64) -> TicketSecret {
        let secret = TicketSecret::generate().unwrap();
        let grants = role.parse().unwrap();
        let until = unix_now() + for_s;
        let invited = Invited { secret: secret.clone(), grants, name: None, uses, used_by: Vec::new(), until };
        self.membership.change(|mesh, identity| mesh.invite(invited, 0.0, identity)).unwrap();
        secret
    }

    /// Lets a new machine in by a ticket.
    async fn admit(&self, name: &str, role: &str) -> Self {
        self.admit_with(&self.ticket(role, 1, 60.0), name).await
    }

    async fn admit_with(&self, ticket: &TicketSecret, name: &str) -> Self {
        let identity = Identity::generate().unwrap();
        let welcome = self.enter(&identity, ticket, name).await.unwrap();
        Self::with(&identity, newcomer(welcome, &identity))
    }

    async fn enter(&self, newcomer: &Identity, ticket: &TicketSecret, name: &str) -> Result<Welcome, HandshakeError> {
        let (mut near, mut far) = pipe(64 * 1024);
        let (wish, runtime, ours) = (wish(name), runtime(), self.ours());
        let (own, inviter) = (newcomer.peer_id(), self.peer);
        let (entered, _) = soon(async {
            tokio::join!(
                enter(&mut near, own, ticket, &wish, inviter, &*runtime),
                prove(&mut far, &ours, own, Role::Listener, &*runtime)
            )
        })
        .await;
        entered
    }

    fn remove(&self, other: &Self) {
        self.membership.change(|mesh, identity| mesh.remove(other.peer, &Keep::All, identity)).unwrap();
    }

    fn knows(&self, other: &Self) -> Standing {
        self.membership.standing(&other.peer)
    }

    /// Returns this machine as it would be with other files of its own.
    fn again(&self, mesh: Mesh) -> Self {
        Self::with(self.membership.identity(), mesh)
    }
}

fn wish(name: &str) -> Wish {
    Wish { name: name.parse().unwrap(), is_chosen: false }
}

fn newcomer(welcome: Welcome, identity: &Identity) -> Mesh {
    let mesh = welcome.mesh;
    Mesh::of_newcomer(welcome, mesh, identity.peer_id()).unwrap()
}

fn unix_now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

async fn meet(a: &Machine, b: &Machine) -> (Result<Proven, HandshakeError>, Result<Proven, HandshakeError>) {
    let (mut near, mut far) = pipe(64 * 1024);
    let (ours_a, ours_b, runtime) = (a.ours(), b.ours(), runtime());
    let (met_a, met_b) = soon(async {
        tokio::join!(
            prove(&mut near, &ours_a, b.peer, Role::Dialer, &*runtime),
            prove(&mut far, &ours_b, a.peer, Role::Listener, &*runtime)
        )
    })
    .await;
    let proven = |met| match met {
        Met::Member(proven) => *proven,
        Met::Newcomer => panic!("a newcomer"),
    };
    (met_a.map(proven), met_b.map(proven))
}

/// Lets two machines meet that both are members.
async fn exchange(a: &Machine, b: &Machine) {
    let (met_a, met_b) = meet(a, b).await;
    assert!(met_a.is_ok() && met_b.is_ok(), "{met_a:?} {met_b:?}");
    assert_eq!(a.membership.digest(), b.membership.digest());
    assert_eq!(a.membership.newest_secret(), b.membership.newest_secret());
}

fn reason<T: std::fmt::Debug>(met: Result<T, HandshakeError>) -> Reason {
    match met {
        Err(HandshakeError::Refused(reason) | HandshakeError::Refusing(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_newcomer_comes_in_by_its_ticket_and_then_as_a_member() {
    let first = Machine::first();
    let worker = first.admit("gpu-box", "worker:render.*").await;
    let (met_first, met_worker) = meet(&first, &worker).await;
    assert_eq!(*met_first.unwrap().grants, "worker:render.*".parse::<Grants>().unwrap());
    assert_eq!(*met_worker.unwrap().grants, Grants::of(MeshRole::Admin));
    let names: Vec<_> = first.membership.names().values().cloned().collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"gpu-box".to_owned()));
}

#[tokio::test]
async fn members_that_never_met_learn_of_each_other_from_a_third() {
    let first = Machine::first();
    let (a, b) = (first.admit("a", "member").await, first.admit("b", "agent").await);
    // Neither has heard of the other, but each shows an entry that the root key has signed.
    exchange(&a, &b).await;
    exchange(&first, &b).await;
    assert_eq!(a.membership.names(), first.membership.names());
}

#[tokio::test]
async fn a_ticket_that_is_used_expired_or_unknown_says_so() {
    let first = Machine::first();
    let [a, b] = [(); 2].map(|()| Identity::generate().unwrap());
    let once = first.ticket("member", 1, 60.0);
    first.enter(&a, &once, "a").await.unwrap();
    assert!(first.enter(&a, &once, "a").await.is_ok(), "the answer may have been lost");
    assert_eq!(reason(first.enter(&b, &once, "b").await), Reason::TicketUsed);
    let late = first.ticket("member", 1, -1.0);
    assert_eq!(reason(first.enter(&b, &late, "b").await), Reason::TicketExpired);
    assert_eq!(reason(first.enter(&b, &TicketSecret::generate().unwrap(), "b").await), Reason::TicketUnknown);
    assert_eq!(first.membership.standing(&b.peer_id()), Standing::Stranger);
    // Of two machines with one name, the second gets a number behind it.
    let twice = first.ticket("member", 2, 60.0);
    first.enter(&b, &twice, "a").await.unwrap();
    let names = first.membership.names();
    assert_eq!(names[&b.peer_id()], "a-2");
}

#[tokio::test]
async fn a_name_that_a_person_chose_is_not_changed_behind_their_back() {
    let first = Machine::first();
    let ticket = first.ticket("member", 1, 60.0);
    let identity = Identity::generate().unwrap();
    let chosen = Wish { is_chosen: true, ..wish("first") };
    let (mut near, mut far) = pipe(64 * 1024);
    let (runtime, ours) = (runtime(), first.ours());
    let (entered, _) = soon(async {
        tokio::join!(
            enter(&mut near, identity.peer_id(), &ticket, &chosen, first.peer, &*runtime),
            prove(&mut far, &ours, identity.peer_id(), Role::Listener, &*runtime)
        )
    })
    .await;
    assert_eq!(reason(entered), Reason::NameTaken);
    assert!(first.enter(&identity, &ticket, "other").await.is_ok(), "the ticket is not used up");
}

#[tokio::test]
async fn a_ticket_of_another_machine_lets_nobody_in_under_its_id() {
    // Whoever knows the id of a ticket, but not its secret, proves nothing.
    let first = Machine::first();
    let ticket = first.ticket("member", 1, 60.0);
    let (mut near, mut far) = pipe(64 * 1024);
    let (identity, runtime, ours) = (Identity::generate().unwrap(), runtime(), first.ours());
    let forged = super::handshake::tests::hello_with_ticket(ticket.id());
    let (_, met) = soon(async {
        tokio::join!(
            async {
                super::handshake::send(&mut near, &forged).await.unwrap();
                let proofs = super::handshake::Proofs { proofs: vec!["00".repeat(32)] };
                super::handshake::send(&mut near, &proofs).await.unwrap();
                // It reads until the door closes.
                let _closed = near.read_to_end(&mut Vec::new()).await;
            },
            prove(&mut far, &ours, identity.peer_id(), Role::Listener, &*runtime)
        )
    })
    .await;
    assert!(matches!(met, Err(HandshakeError::OtherMesh)), "{met:?}");
    assert_eq!(first.membership.standing(&identity.peer_id()), Standing::Stranger);
}

#[tokio::test]
async fn a_removed_machine_gets_nowhere_with_whatever_it_has_kept() {
    let first = Machine::first();
    let (removed, other) = (first.admit("removed", "member").await, first.admit("other", "member").await);
    for (a, b) in [(&first, &removed), (&first, &other), (&removed, &other)] {
        exchange(a, b).await;
    }
    let all_its_files = removed.membership.mesh();
    first.remove(&removed);
    exchange(&first, &other).await;
    assert_eq!((first.knows(&removed), other.knows(&removed)), (Standing::Removed, Standing::Removed));

    // With all its files and its old secret, as they were.
    for member in [&first, &other] {
        let as_it_was = removed.again(all_its_files.clone());
        for (met, other_met) in [meet(&as_it_was, member).await, swap(meet(member, &as_it_was).await)] {
            assert_eq!((reason(met), reason(other_met)), (Reason::Removed, Reason::Removed));
        }
        assert_eq!(as_it_was.knows(&removed), Standing::Removed, "it is shown that it was removed");
    }
    // With a copy of its identity and a part that it makes up: it has not the root key, so nobody believes it.
    let identity = removed.membership.identity().clone();
    let made_up = removed.again(Mesh::begin(&identity, "removed").unwrap());
    assert!(matches!(meet(&made_up, &first).await.1, Err(HandshakeError::OtherMesh)));
    // Under a new identity, with the files of the old one.
    let new = Identity::generate().unwrap();
    let renewed = Machine::with(&new, all_its_files.clone());
    assert_eq!(reason(meet(&renewed, &other).await.1), Reason::Stranger);
    // With a ticket that it has used, under the old identity and a new one.
    let used = first.ticket("member", 2, 60.0);
    let late = first.admit_with(&used, "late").await;
    first.remove(&late);
    assert_eq!(reason(first.enter(late.membership.identity(), &used, "late").await), Reason::TicketUnknown);
    assert_eq!(reason(first.enter(&new, &used, "late").await), Reason::TicketUnknown);
    // Nobody has told it the new secret.
    assert_ne!(removed.membership.newest_secret(), first.membership.newest_secret());
    assert_eq!(removed.membership.newest_secret(), all_its_files_secret(&all_its_files));
}

fn swap<T>((a, b): (T, T)) -> (T, T) {
    (b, a)
}

fn all_its_files_secret(mesh: &Mesh) -> crate::MeshSecret {
    let identity = Identity::generate().unwrap();
    Machine::with(&identity, mesh.clone()).membership.newest_secret()
}

#[tokio::test]
async fn a_node_that_was_away_hears_of_the_removal_from_any_member_and_closes_the_door() {
    let first = Machine::first();
    let (removed, away) = (first.admit("removed", "member").await, first.admit("away", "member").await);
    for (a, b) in [(&first, &removed), (&first, &away)] {
        exchange(a, b).await;
    }
    first.remove(&removed);
    // It has heard nothing, so it still takes the machine for a member.
    assert!(matches!(away.knows(&removed), Standing::Member(_)));
    exchange(&first, &away).await;
    assert_eq!(reason(meet(&removed, &away).await.1), Reason::Removed);
}

#[tokio::test]
async fn a_node_that_was_away_during_two_rotations_comes_back() {
    let first = Machine::first();
    let away = first.admit("away", "member").await;
    exchange(&first, &away).await;
    for name in ["one", "two"] {
        let machine = first.admit(name, "member").await;
        first.remove(&machine);
    }
    let secret = away.membership.newest_secret();
    assert_ne!(secret, first.membership.newest_secret());
    exchange(&away, &first).await;
    assert_ne!(secret, away.membership.newest_secret());
}

#[tokio::test]
async fn forged_statements_cost_one_check_of_a_signature() {
    let first = Machine::first();
    let before = first.membership.digest();
    let genuine = first.membership.credentials().remove(0);
    let forged = |number: usize| Unverified {
        // A newer version of a real entry, so that its signature is looked at.
        text: genuine.text.replacen("\"version\":1", &format!("\"version\":{}", number + 2), 1),
        signature: genuine.signature.clone(),
    };
    let entries: Vec<_> = (0..10_000).map(forged).collect();
    let refused = first.membership.take(Statements { entries, secret_notes: Vec::new() });
    assert!(refused.is_err());
    assert_eq!(first.membership.digest(), before);
    // What is known already is not looked at again: ten thousand copies change nothing.
    let copies = Statements { entries: vec![genuine; 10_000], secret_notes: Vec::new() };
    assert!(matches!(first.membership.take(copies), Ok(false)));
}

#[tokio::test]
async fn an_admin_without_the_root_key_invites_and_removes_and_makes_no_admins() {
    let first = Machine::first();
    let admin = first.admit("admin", "admin").await;
    exchange(&first, &admin).await;
    let worker = admin.admit("worker", "worker").await;
    exchange(&worker, &first).await;
    let role = |peer, role: &str| {
        let grants = role.parse().unwrap();
        admin.membership.change(move |mesh, identity| mesh.set_grants(peer, grants, identity))
    };
    assert!(role(worker.peer, "admin").is_err() && role(first.peer, "member").is_err());
    assert!(role(worker.peer, "agent").is_ok());
    admin.remove(&worker);
    exchange(&admin, &first).await;
    assert_eq!(first.knows(&worker), Standing::Removed);
}

#[tokio::test]
async fn what_an_admin_removed_stays_removed_when_it_is_no_admin_any_more() {
    for keep in [Some(Keep::All), Some(Keep::These(Vec::new())), None] {
        let first = Machine::first();
        let admin = first.admit("admin", "admin").await;
        // The root key let this machine in, so an older entry about it would show again.
        let gone = first.admit("gone", "member").await;
        exchange(&first, &admin).await;
        admin.remove(&gone);
        exchange(&first, &admin).await;
        assert_eq!(first.knows(&gone), Standing::Removed);
        let before = first.membership.newest_secret();
        let peer = admin.peer;
        let changed = first.membership.change(move |mesh, identity| match keep {
            Some(keep) => mesh.remove(peer, &keep, identity),
            None => mesh.set_grants(peer, Grants::of(MeshRole::Member), identity),
        });
        changed.unwrap();
        assert_eq!(first.knows(&gone), Standing::Removed);
        assert_ne!(first.membership.newest_secret(), before);
    }
}

#[tokio::test]
async fn a_ticket_that_a_removed_machine_has_used_ends_wherever_it_was_given_out() {
    let first = Machine::first();
    let admin = first.admit("admin", "admin").await;
    exchange(&first, &admin).await;
    let ticket = admin.ticket("member", 5, 60.0);
    let guest = admin.admit_with(&ticket, "guest").await;
    exchange(&first, &admin).await;
    first.remove(&guest);
    exchange(&first, &admin).await;
    let another = Identity::generate().unwrap();
    assert_eq!(reason(admin.enter(&another, &ticket, "guest").await), Reason::TicketUnknown);
}

#[tokio::test]
async fn two_admins_that_draw_a_secret_at_the_same_moment_agree_on_one() {
    let first = Machine::first();
    let admin = first.admit("admin", "admin").await;
    let (a, b) = (first.admit("a", "member").await, first.admit("b", "member").await);
    for member in [&admin, &a, &b] {
        exchange(&first, member).await;
    }
    exchange(&first, &admin).await;
    first.remove(&a);
    admin.remove(&b);
    assert_ne!(first.membership.newest_secret(), admin.membership.newest_secret());
    // Whichever of the two is in use, both have it after they have met, and so has a third that knows neither.
    let third = first.admit("third", "member").await;
    exchange(&first, &admin).await;
    exchange(&admin, &third).await;
    assert_eq!(third.membership.newest_secret(), first.membership.newest_secret());
    for removed in [&a, &b] {
        assert!([&first, &admin, &third].iter().all(|node| node.knows(removed) == Standing::Removed));
    }
}

#[tokio::test]
async fn two_and_five_nodes_agree_in_whatever_order_they_hear() {
    for count in [2, 5] {
        let mut machines = vec![Machine::first()];
        for number in 1..count {
            let node = machines[0].admit(&format!("n{number}"), "member").await;
            machines.push(node);
        }
        let gone = machines[0].admit("gone", "member").await;
        machines[0].remove(&gone);
        for order in orders(count) {
            let nodes: Vec<_> = machines.iter().map(|machine| machine.again(machine.membership.mesh())).collect();
            // Each hears from the one before it in this order, and at the end all hear from the last one.
            for pair in order.windows(2) {
                exchange(&nodes[pair[0]], &nodes[pair[1]]).await;
            }
            for pair in order.windows(2).rev() {
                exchange(&nodes[pair[0]], &nodes[pair[1]]).await;
            }
            let digests: std::collections::HashSet<_> = nodes.iter().map(|node| node.membership.digest()).collect();
            assert_eq!(digests.len(), 1, "{order:?}");
            assert!(nodes.iter().all(|node| node.knows(&gone) == Standing::Removed), "{order:?}");
        }
    }
}

/// Returns the orders of so many nodes: all of them.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let place = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, count - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..count).map(|at| place(order, at)).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn a_roster_of_many_members_travels_in_portions() {
    let first = Machine::first();
    let away = first.admit("away", "member").await;
    let root = first.membership.mesh().root_key().unwrap().clone();
    for number in 0..600 {
        let identity = Identity::generate().unwrap();
        let part = Mesh::enrolled(&root, &identity, &format!("m{number}"), Grants::of(MeshRole::Member)).unwrap();
        let one = Machine::with(&identity, part);
        let entries = one.membership.credentials();
        first.membership.take(Statements { entries, secret_notes: Vec::new() }).unwrap();
    }
    exchange(&away, &first).await;
    assert_eq!(away.membership.members().len(), 602);
}

#[test]
fn a_mesh_is_named_by_its_root_key_alone() {
    let root = RootKey::from_secret_bytes([3; 32]);
    let [a, b] = [(); 2].map(|()| Identity::generate().unwrap());
    let id = |identity: &Identity| -> MeshId {
        let part = Mesh::with_root_key(root.clone(), identity, "machine").unwrap();
        Machine::with(identity, part).membership.mesh_id()
    };
    assert_eq!(id(&a), id(&b));
}
