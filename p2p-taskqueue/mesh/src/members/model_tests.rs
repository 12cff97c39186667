//! Random histories of several admins on several nodes that hear of each other late, in part, and in any order.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::{PeerId, identity::Keypair};
use proptest::{collection::vec, prelude::*};
use taskqueue_api::{Grants, Role};

use super::{
    entry::{Change, MemberEntry},
    key::RootKey,
    roster::{Entry, Roster},
    signed::{Signer, SigningKey},
};

const NODES: usize = 4;
const MACHINES: usize = 6;

/// One step: somebody changes a machine on a node, or two nodes meet.
#[derive(Debug, Clone)]
enum Step {
    /// The root key signs on the node.
    Root { node: usize, machine: usize, role: Role, removed: bool },
    /// The machine signs as an admin, if the node knows it as one.
    Admin { node: usize, admin: usize, machine: usize, role: Role, removed: bool },
    /// The first node hears from the second one. The connection breaks after some entries.
    Meet { to: usize, from: usize, heard: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let role = || prop::sample::select(Role::ALL.to_vec());
    let removed = || prop::bool::weighted(0.25);
    prop_oneof![
        (0..NODES, 0..MACHINES, role(), removed()).prop_map(|(node, machine, role, removed)| Step::Root {
            node,
            machine,
            role,
            removed
        }),
        (0..NODES, 0..MACHINES, 0..MACHINES, role(), removed())
            .prop_map(|(node, admin, machine, role, removed)| Step::Admin { node, admin, machine, role, removed }),
        (0..NODES, 0..NODES, 0..40_usize).prop_map(|(to, from, heard)| Step::Meet { to, from, heard }),
    ]
}

struct World {
    root: RootKey,
    machines: Vec<Keypair>,
    nodes: Vec<Roster>,
    /// Every entry that was ever signed.
    signed: Vec<Entry>,
}

impl World {
    fn new() -> Self {
        let root = RootKey::from_secret_bytes([1; 32]);
        let key = |number: usize| Keypair::ed25519_from_bytes([u8::try_from(number).unwrap() + 2; 32]).unwrap();
        let nodes = vec![Roster::new(root.mesh()); NODES];
        Self { root, machines: (0..MACHINES).map(key).collect(), nodes, signed: Vec::new() }
    }

    fn peer(&self, machine: usize) -> PeerId {
        self.machines[machine].public().to_peer_id()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Root { node, machine, role, removed } => {
                let change = self.change(machine, role, removed);
                self.signed.extend(self.nodes[node].change(change, SigningKey::Root(&self.root)));
            }
            Step::Admin { node, admin, machine, role, removed } => {
                let Some(Signer::Admin { term, .. }) =
                    self.nodes[node].member(&self.peer(admin)).and_then(MemberEntry::as_admin)
                else {
                    return;
                };
                let change = self.change(machine, role, removed);
                let key = SigningKey::Admin { keypair: &self.machines[admin], term };
                self.signed.extend(self.nodes[node].change(change, key));
            }
            Step::Meet { to, from, heard } => {
                let entries: Vec<Entry> = self.nodes[from].entries().take(heard).cloned().collect();
                self.nodes[to].merge(entries);
            }
        }
    }

    fn change(&self, machine: usize, role: Role, removed: bool) -> Change {
        let name = format!("m{machine}").parse().unwrap();
        Change { peer: self.peer(machine), name, grants: Grants::of(role), removed }
    }
}

fn union(a: &Roster, b: &Roster) -> Roster {
    let mut both = a.clone();
    both.merge(b.entries().cloned());
    both
}

/// What counts about each machine, worked out in another way than the roster does: from the list of all entries, by the
/// words of the rules.
fn by_the_rules(entries: &[Entry]) -> BTreeMap<PeerId, String> {
    let all: Vec<&MemberEntry> = entries.iter().map(Entry::get).collect();
    let text_of = |one: &MemberEntry| entries.iter().find(|entry| entry.get() == one).unwrap().source().text.clone();
    let newest = |ones: Vec<&MemberEntry>| -> Option<MemberEntry> {
        let mut ones: Vec<_> = ones.into_iter().map(|one| (one.version, one.removed, text_of(one), one)).collect();
        ones.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        ones.pop().map(|last| last.3.clone())
    };
    let of_root =
        |peer: PeerId| newest(all.iter().copied().filter(|one| one.peer == peer && one.by == Signer::Root).collect());
    let counts = |one: &MemberEntry| match one.by {
        Signer::Root => true,
        Signer::Admin { peer, term } => of_root(peer)
            .is_some_and(|admin| !admin.removed && admin.grants.role() == Role::Admin && admin.admin_since == term),
    };
    let peers: BTreeSet<PeerId> = all.iter().map(|one| one.peer).collect();
    let mut standing = BTreeMap::new();
    for peer in peers {
        let root = of_root(peer);
        let decided = root.clone().filter(|root| root.removed || root.grants.role() == Role::Admin);
        let theirs: Vec<&MemberEntry> =
            all.iter().copied().filter(|one| one.peer == peer && one.by != Signer::Root && counts(one)).collect();
        // Of each signer only the last word counts.
        let signers: BTreeSet<Signer> = theirs.iter().map(|one| one.by).collect();
        let last_of = |signer: Signer| newest(theirs.iter().copied().filter(|one| one.by == signer).collect());
        let last: Vec<MemberEntry> = signers.into_iter().filter_map(last_of).collect();
        let removal = newest(last.iter().filter(|one| one.removed).collect());
        let removal = removal.filter(|removal| root.as_ref().is_none_or(|root| root.version <= removal.version));
        let live = newest(last.iter().filter(|one| !one.removed).chain(&root).collect());
        if let Some(entry) = decided.or(removal).or(live) {
            standing.insert(peer, text_of(&entry));
        }
    }
    standing
}

fn standing(roster: &Roster) -> BTreeMap<PeerId, String> {
    let peers: BTreeSet<PeerId> = roster.entries().map(|entry| entry.get().peer).collect();
    let text = |peer: PeerId| Some((peer, roster.entry(&peer)?.source().text.clone()));
    peers.into_iter().filter_map(text).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn rosters_merge_alike_in_every_order(steps in vec(step(), 1..60), order in any::<u64>()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        let [a, b, c] = [0, 1, 2].map(|node| &world.nodes[node]);
        prop_assert_eq!(union(a, b), union(b, a), "commutative");
        prop_assert_eq!(union(&union(a, b), c), union(a, &union(b, c)), "associative");
        prop_assert_eq!(&union(a, a), a, "idempotent");
        prop_assert_eq!(union(&union(a, b), b), union(a, b), "idempotent after a union");

        // Everybody hears everybody, twice around.
        for round in 0..2 * NODES {
            let (to, from) = ((round + 1) % NODES, round % NODES);
            let entries: Vec<Entry> = world.nodes[from].entries().cloned().collect();
            world.nodes[to].merge(entries);
        }
        let first = &world.nodes[0];
        for other in &world.nodes[1..] {
            prop_assert_eq!(standing(first), standing(other));
            prop_assert_eq!(first.digest(), other.digest());
        }
        // At once, in a random order.
        let mut shuffled = world.signed.clone();
        let mut seed = order;
        for at in (1..shuffled.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, usize::try_from(seed >> 33).unwrap() % (at + 1));
        }
        let mut heard_at_once = Roster::new(world.root.mesh());
        // As another node reads them.
        let travelled = shuffled.iter().map(|entry| Roster::new(world.root.mesh()).verify(entry.source().clone()).unwrap().unwrap());
        heard_at_once.merge(travelled);
        prop_assert_eq!(standing(&heard_at_once), standing(first));
        prop_assert_eq!(standing(first), by_the_rules(&world.signed), "by the rules");
        prop_assert!(!first.merge_again(), "nothing is news twice");
    }
}

impl Roster {
    fn merge_again(&self) -> bool {
        let entries: Vec<Entry> = self.entries().cloned().collect();
        self.clone().merge(entries)
    }
}
