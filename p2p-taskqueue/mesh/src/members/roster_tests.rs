use libp2p::identity::Keypair;
use taskqueue_api::Grants;

use super::{super::key::RootKey, *};
use crate::MeshSecret;

/// A mesh with its root key.
struct Mesh {
    root: RootKey,
    roster: Roster,
}

impl Mesh {
    fn new() -> Self {
        let root = RootKey::from_secret_bytes([1; 32]);
        Self { roster: Roster::new(root.mesh()), root }
    }

    /// The root key gives a new machine a role.
    fn add(&mut self, name: &str, role: Role) -> Keypair {
        let keypair = Keypair::generate_ed25519();
        self.set(&keypair, name, role, false).unwrap();
        keypair
    }

    fn set(&mut self, machine: &Keypair, name: &str, role: Role, removed: bool) -> Option<Entry> {
        self.roster.change(change(machine, name, role, removed), SigningKey::Root(&self.root))
    }

    fn set_as(&mut self, admin: &Keypair, machine: &Keypair, name: &str, role: Role, removed: bool) -> Option<Entry> {
        let key = SigningKey::Admin { keypair: admin, term: self.term(admin) };
        self.roster.change(change(machine, name, role, removed), key)
    }

    fn term(&self, admin: &Keypair) -> u64 {
        self.roster.entry(&id(admin)).map_or(1, |entry| entry.get().admin_since)
    }

    fn role(&self, machine: &Keypair) -> Option<Role> {
        self.roster.member(&id(machine)).map(|member| member.grants.role())
    }
}

fn change(machine: &Keypair, name: &str, role: Role, removed: bool) -> Change {
    Change { peer: id(machine), name: name.parse().unwrap(), grants: Grants::of(role), removed }
}

fn id(machine: &Keypair) -> PeerId {
    machine.public().to_peer_id()
}

#[test]
fn an_admin_adds_members_and_takes_them_out_but_decides_about_no_admin() {
    let mut mesh = Mesh::new();
    let [admin, other] = ["a", "b"].map(|name| mesh.add(name, Role::Admin));
    let machine = Keypair::generate_ed25519();
    mesh.set_as(&admin, &machine, "box", Role::Worker, false).unwrap();
    assert_eq!(mesh.role(&machine), Some(Role::Worker));
    assert!(mesh.set_as(&admin, &machine, "box", Role::Admin, false).is_none(), "only the root key makes an admin");
    assert!(mesh.set_as(&admin, &other, "b", Role::Member, false).is_none(), "an admin is changed by the root key");
    assert!(mesh.set_as(&admin, &other, "b", Role::Member, true).is_none());
    mesh.set_as(&other, &machine, "box", Role::Worker, true).unwrap();
    assert!(mesh.role(&machine).is_none() && mesh.roster.is_removed(&id(&machine)));
    assert!(mesh.set_as(&admin, &machine, "box", Role::Worker, false).is_none(), "a removal stands against admins");
    mesh.set(&machine, "box", Role::Agent, false).unwrap();
    assert_eq!(mesh.role(&machine), Some(Role::Agent), "the root key takes it back");
}

#[test]
fn what_a_removed_admin_signed_no_longer_counts_unless_it_is_adopted() {
    let mut mesh = Mesh::new();
    let admin = mesh.add("a", Role::Admin);
    let [kept, dropped, changed] = [(); 3].map(|()| Keypair::generate_ed25519());
    mesh.set(&changed, "old", Role::Member, false).unwrap();
    for (machine, name) in [(&kept, "kept"), (&dropped, "dropped"), (&changed, "new")] {
        mesh.set_as(&admin, machine, name, Role::Worker, false).unwrap();
    }
    let signer = Signer::Admin { peer: id(&admin), term: mesh.term(&admin) };
    let root = mesh.root.clone();
    let adopted = mesh.roster.adopt(signer, |member| member.peer == id(&kept), SigningKey::Root(&root));
    assert_eq!(adopted.len(), 1);
    mesh.set(&admin, "a", Role::Admin, true).unwrap();
    assert_eq!(mesh.role(&kept), Some(Role::Worker));
    assert_eq!(mesh.role(&dropped), None);
    assert!(!mesh.roster.is_removed(&id(&dropped)), "it is a stranger now");
    assert_eq!(mesh.role(&changed), Some(Role::Member), "what the root key said before shows again");
    // In a new term nothing of the old one counts.
    mesh.set(&admin, "a", Role::Admin, false).unwrap();
    assert_eq!(mesh.role(&dropped), None);
}

#[test]
fn nobody_signs_for_another() {
    let mut mesh = Mesh::new();
    let (admin, member) = (mesh.add("a", Role::Admin), mesh.add("m", Role::Member));
    let machine = Keypair::generate_ed25519();
    let other_root = RootKey::from_secret_bytes([9; 32]);
    for key in [
        SigningKey::Admin { keypair: &member, term: 1 },
        SigningKey::Admin { keypair: &machine, term: 1 },
        SigningKey::Admin { keypair: &admin, term: 7 },
        SigningKey::Root(&other_root),
    ] {
        let before = mesh.roster.clone();
        assert!(mesh.roster.change(change(&machine, "box", Role::Member, false), key).is_none(), "{key:?}");
        assert_eq!(mesh.roster, before);
    }
}

#[test]
fn an_entry_that_was_changed_or_is_too_large_is_not_believed() {
    let mut mesh = Mesh::new();
    let machine = Keypair::generate_ed25519();
    let entry = mesh.set(&machine, "box", Role::Agent, false).unwrap();
    let travels = serde_json::to_string(entry.source()).unwrap();
    let read = |text: &str, mesh| {
        let newcomer = Roster::new(mesh);
        newcomer.verify(serde_json::from_str(text).unwrap()).map(|entry| entry.unwrap().get().clone())
    };
    assert_eq!(read(&travels, mesh.roster.mesh()).as_ref(), Ok(entry.get()));
    assert!(read(&travels.replace("agent", "admin"), mesh.roster.mesh()).is_err());
    assert_eq!(read(&travels.replace("agent", "member"), mesh.roster.mesh()), Err(SignedError::Signature));
    let other = RootKey::from_secret_bytes([9; 32]).mesh();
    assert_eq!(read(&travels, other), Err(SignedError::OtherMesh));
    let large = travels.replacen("box", &"x".repeat(2_000), 1);
    assert_eq!(read(&large, mesh.roster.mesh()), Err(SignedError::Size));
    let known = mesh.roster.verify(serde_json::from_str(&travels).unwrap());
    assert_eq!(known, Ok(None), "what is known already is not checked again");
}

#[test]
fn names_are_unique_and_every_node_gives_the_same_ones() {
    let mut mesh = Mesh::new();
    let mut machines: Vec<_> = (0..3).map(|_| mesh.add("box", Role::Member)).collect();
    machines.push(mesh.add("box-2", Role::Member));
    let names = mesh.roster.names();
    let of = |name: &str| {
        names.iter().filter(|(_, given)| given.as_str() == name).map(|(peer, _)| *peer).collect::<Vec<_>>()
    };
    let lowest = machines[..3].iter().map(id).min().unwrap();
    assert_eq!(of("box"), [lowest]);
    assert_eq!(of("box-2"), [id(&machines[3])], "who chose the name keeps it");
    assert_eq!((of("box-3").len(), of("box-4").len()), (1, 1));
}

#[test]
fn the_credentials_of_a_member_convince_a_node_that_knows_nobody() {
    let mut mesh = Mesh::new();
    let admin = mesh.add("a", Role::Admin);
    let machine = Keypair::generate_ed25519();
    mesh.set_as(&admin, &machine, "box", Role::Worker, false).unwrap();
    let shown: Vec<Entry> = mesh.roster.credentials(&id(&machine)).into_iter().cloned().collect();
    assert_eq!(shown.len(), 2);
    let mut newcomer = Roster::new(mesh.roster.mesh());
    newcomer.merge(shown);
    assert_eq!(newcomer.member(&id(&machine)), mesh.roster.member(&id(&machine)));
    assert!(mesh.roster.credentials(&PeerId::random()).is_empty());
}

#[test]
fn an_admin_that_floods_the_roster_crowds_out_nobody_elses_entries() {
    let mut mesh = Mesh::new();
    let (flooder, honest) = (mesh.add("f", Role::Admin), mesh.add("h", Role::Admin));
    let machine = Keypair::generate_ed25519();
    mesh.set_as(&honest, &machine, "box", Role::Worker, false).unwrap();
    let key = SigningKey::Admin { keypair: &flooder, term: mesh.term(&flooder) };
    let mesh_id = mesh.roster.mesh();
    let flood = (0..SIGNED_BY_ADMIN_MAX + 50)
        .filter_map(|_| change(&Keypair::generate_ed25519(), "x", Role::Agent, false).sign(mesh_id, None, 1, key));
    mesh.roster.merge(flood.collect::<Vec<_>>());
    assert_eq!(mesh.roster.members().count(), 3 + SIGNED_BY_ADMIN_MAX);
    assert_eq!(mesh.role(&machine), Some(Role::Worker));
    mesh.set(&flooder, "f", Role::Member, false).unwrap();
    assert_eq!(mesh.roster.members().count(), 3, "without the role nothing of the flood is left");
}

#[test]
fn the_root_key_makes_no_more_admins_than_there_is_room_for() {
    let mut mesh = Mesh::new();
    for number in 0..ADMINS_MAX {
        mesh.add(&format!("a{number}"), Role::Admin);
    }
    assert!(mesh.set(&Keypair::generate_ed25519(), "one-more", Role::Admin, false).is_none());
}

#[test]
fn the_newest_secret_of_somebody_who_may_draw_one_is_in_use() {
    let mut mesh = Mesh::new();
    let (admin, member) = (mesh.add("a", Role::Admin), mesh.add("m", Role::Member));
    let secrets = [1, 2, 3].map(|byte| MeshSecret::from_bytes([byte; 32]));
    let (id_of_mesh, root) = (mesh.roster.mesh(), mesh.root.clone());
    let note = |generation, secret: &MeshSecret, key| SecretNote::sign(id_of_mesh, generation, secret, key).unwrap();
    let as_admin = SigningKey::Admin { keypair: &admin, term: mesh.term(&admin) };
    assert!(mesh.roster.merge_secret(note(1, &secrets[0], SigningKey::Root(&root))));
    assert!(mesh.roster.merge_secret(note(2, &secrets[1], as_admin)));
    assert!(!mesh.roster.merge_secret(note(2, &secrets[1], as_admin)), "it is no news");
    assert!(!mesh.roster.merge_secret(note(9, &secrets[2], SigningKey::Admin { keypair: &member, term: 1 })));
    assert!(mesh.roster.secret().unwrap().is_of(&secrets[1]) && !mesh.roster.secret().unwrap().is_of(&secrets[0]));
    mesh.set(&admin, "a", Role::Admin, true).unwrap();
    assert!(mesh.roster.secret().unwrap().is_of(&secrets[0]), "a removed admin draws no secrets");
}

#[test]
fn a_signer_that_floods_the_roster_undoes_no_removal() {
    let mut mesh = Mesh::new();
    let admin = mesh.add("a", Role::Admin);
    let term = mesh.term(&admin);
    // The removal is about the machine with the highest id of all.
    let mut machines: Vec<Keypair> = (0..=SIGNED_BY_ADMIN_MAX).map(|_| Keypair::generate_ed25519()).collect();
    machines.sort_by_key(id);
    let gone = machines.pop().unwrap();
    mesh.set(&gone, "gone", Role::Member, false).unwrap();
    mesh.set_as(&admin, &gone, "gone", Role::Member, true).unwrap();
    let key = SigningKey::Admin { keypair: &admin, term };
    let sign = |machine: &Keypair| change(machine, "box", Role::Member, false).sign(mesh.roster.mesh(), None, 1, key);
    let flood: Vec<Entry> = machines.iter().filter_map(sign).collect();
    mesh.roster.merge(flood);
    assert!(mesh.roster.is_removed(&id(&gone)));
}
