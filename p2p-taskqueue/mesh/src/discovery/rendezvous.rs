//! Rendezvous: places where the nodes of a mesh leave their addresses, and look for those of others.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    rendezvous::{DEFAULT_TTL, Registration, client, server},
};

use super::{namespace::Namespace, record::kept};
use crate::Identity;

/// How many namespaces a node is registered in: that of its mesh, and for a moment two when it changes its mesh.
const REGISTRATIONS_PER_PEER_MAX: usize = 4;

/// How many registrations one rendezvous server keeps: one for each peer of the largest mesh.
const REGISTRATIONS_MAX: usize = 1_024;

/// Who asked and has heard of what: each is a list of up to [`REGISTRATIONS_MAX`] numbers.
const COOKIES_MAX: usize = 256;

/// The shortest life of a registration: repeating it more often makes no sense.
const TTL_MIN_S: u64 = 60;

/// The peers that one point is asked for at a time, and that are remembered of all of them.
pub(crate) const REGISTERED_MAX: usize = 256;

/// How long a registration is believed. Servers of other makers keep one for up to three days.
const BELIEVED_MAX: Duration = Duration::from_secs(DEFAULT_TTL);

pub(crate) fn client(identity: &Identity) -> client::Behaviour {
    client::Behaviour::new(identity.keypair().clone())
}

pub(crate) fn server() -> server::Behaviour {
    let config = server::Config::default()
        .with_min_ttl(TTL_MIN_S)
        .with_max_ttl(DEFAULT_TTL)
        .with_max_registration_per_peer(REGISTRATIONS_PER_PEER_MAX)
        .with_max_registration_total(REGISTRATIONS_MAX)
        .with_max_stored_cookies(COOKIES_MAX);
    server::Behaviour::new(config)
}

/// The peers that rendezvous points have named, for as long as their registrations are valid.
#[derive(Debug, Default)]
pub(crate) struct Registered(BTreeMap<PeerId, (Vec<Multiaddr>, Instant)>);

impl Registered {
    /// Takes a registration. Returns where the peer is, if it belongs to this mesh and there is room for it.
    pub(crate) fn take(
        &mut self,
        registration: &Registration,
        namespace: &Namespace,
        now: Instant,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        let peer = registration.record.peer_id();
        let has_room = self.0.len() < REGISTERED_MAX || self.0.contains_key(&peer);
        if !has_room || namespace.at_points().as_ref() != Some(&registration.namespace) {
            return None;
        }
        let addresses: Vec<_> = kept(registration.record.addresses()).collect();
        let until = now + Duration::from_secs(registration.ttl).min(BELIEVED_MAX);
        self.0.insert(peer, (addresses.clone(), until));
        Some((peer, addresses))
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = (PeerId, &[Multiaddr])> {
        self.0.iter().map(|(peer, (addresses, _))| (*peer, &**addresses))
    }

    /// Forgets the peers whose registrations have expired, and returns them.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<PeerId> {
        let (gone, standing) = std::mem::take(&mut self.0).into_iter().partition(|(_, (_, until))| *until <= now);
        self.0 = standing;
        let gone: BTreeMap<_, _> = gone;
        gone.into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::PeerRecord;

    use super::*;
    use crate::MeshSecret;

    fn registration(namespace: &Namespace, ttl: u64) -> Registration {
        let identity = Identity::generate().unwrap();
        let addresses = vec!["/ip4/192.0.2.1/tcp/1".parse().unwrap()];
        let record = PeerRecord::new(identity.keypair(), addresses).unwrap();
        Registration { namespace: namespace.at_points().unwrap(), record, ttl }
    }

    #[test]
    fn what_a_point_says_is_believed_for_its_time_and_not_for_ever() {
        let (mut registered, now) = (Registered::default(), Instant::now());
        let namespace = Namespace::of(&MeshSecret::from_bytes([1; 32]));
        let (brief, endless) = (registration(&namespace, 60), registration(&namespace, u64::MAX));
        assert!(registered.take(&brief, &namespace, now).is_some());
        assert!(registered.take(&endless, &namespace, now).is_some());
        assert_eq!(registered.expire(now + Duration::from_secs(59)), []);
        assert_eq!(registered.expire(now + Duration::from_secs(60)), [brief.record.peer_id()]);
        assert_eq!(registered.expire(now + BELIEVED_MAX), [endless.record.peer_id()]);
        assert_eq!(registered.peers().count(), 0);
    }

    #[test]
    fn peers_of_another_mesh_and_more_than_there_is_room_for_are_left_out() {
        let (mut registered, now) = (Registered::default(), Instant::now());
        let [ours, theirs] = [1, 2].map(|byte| Namespace::of(&MeshSecret::from_bytes([byte; 32])));
        assert_eq!(registered.take(&registration(&theirs, 60), &ours, now), None);
        for _ in 0..REGISTERED_MAX {
            assert!(registered.take(&registration(&ours, 60), &ours, now).is_some());
        }
        assert_eq!(registered.take(&registration(&ours, 60), &ours, now), None);
    }
}
