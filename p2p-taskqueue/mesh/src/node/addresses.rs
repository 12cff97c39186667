use libp2p::Multiaddr;

use super::address::without_peer;
use crate::wire::limits::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};

/// The addresses at which a peer can be dialled, as far as is known.
///
/// Configured addresses, and those at which the peer has proved itself, have places of their own, which no other
/// address takes. Addresses that the peer or somebody else has named fill the places that are left.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Addresses that anybody may have named come last. Within each of the two groups the newest comes first.
    known: Vec<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    address: Multiaddr,
    source: Source,
    /// Whether the configuration names it.
    is_configured: bool,
}

/// How an address became known. The best source comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The peer has proved itself over a connection that this node dialled there.
    Proven,
    /// The configuration names it.
    Configured,
    /// The peer itself named it: in a handshake or a ticket, perhaps before a restart of this node.
    Told,
    /// Somebody else named it: a sender on the local network, a directory or a caller.
    Found,
}

impl Addresses {
    /// Takes these addresses, the best first. Returns whether one was added, or now has a better source than before.
    pub(super) fn learn(&mut self, source: Source, addresses: impl IntoIterator<Item = Multiaddr>) -> bool {
        let mut merged: Vec<Known> = Vec::new();
        let has_length = |address: &Multiaddr| !address.is_empty() && address.len() <= ADDRESS_BYTES_MAX;
        for address in addresses.into_iter().map(without_peer).filter(has_length).take(ADDRESSES_MAX) {
            let before = self.known.iter().find(|known| known.address == address);
            // An address from a better source keeps its place: what anybody says must not make it the newest.
            let stays = source == Source::Found && before.is_some_and(|before| before.source != Source::Found);
            if !stays && merged.iter().all(|known| known.address != address) {
                let is_configured = source == Source::Configured || before.is_some_and(|before| before.is_configured);
                let source = before.map_or(source, |before| before.source.min(source));
                merged.push(Known { address, source, is_configured });
            }
        }
        let before = std::mem::take(&mut self.known);
        let others = before.iter().filter(|known| merged.iter().all(|new| new.address != known.address));
        let others: Vec<Known> = others.cloned().collect();
        merged.extend(others);
        // The sort is stable, so the newest stay first.
        merged.sort_by_key(|known| known.source == Source::Found);
        self.known = bounded(merged);
        self.known
            .iter()
            .any(|known| before.iter().all(|before| before.address != known.address || known.source < before.source))
    }

    /// Removes an address at which another peer answers. A configured address stays, because a person chose it.
    pub(super) fn forget(&mut self, address: &Multiaddr) {
        self.known.retain(|known| known.address != *address || known.is_configured);
    }

    /// Returns all addresses, in the order in which they are to be tried.
    pub(super) fn all(&self) -> Vec<Multiaddr> {
        self.known.iter().map(|known| known.address.clone()).collect()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns the addresses that are kept over a restart: those that are proven or that the peer itself named.
    pub(super) fn worth_keeping(&self) -> Vec<Multiaddr> {
        self.of(&[Source::Proven, Source::Told])
    }

    /// Returns the addresses at which the peer has proved itself.
    pub(super) fn proven(&self) -> Vec<Multiaddr> {
        self.of(&[Source::Proven])
    }

    fn of(&self, sources: &[Source]) -> Vec<Multiaddr> {
        let of_these = self.known.iter().filter(|known| sources.contains(&known.source));
        of_these.map(|known| known.address.clone()).collect()
    }
}

/// Leaves out the addresses for which there is no room: of each source the oldest.
fn bounded(mut known: Vec<Known>) -> Vec<Known> {
    let count = |is_so: fn(&Known) -> bool| known.iter().filter(|known| is_so(known)).count();
    let configured = count(|known| known.is_configured).min(KEPT_MAX);
    let proven = count(|known| known.source == Source::Proven && !known.is_configured).min(KEPT_MAX - configured);
    let (told, found) = (count(|known| known.source == Source::Told), count(|known| known.source == Source::Found));
    let room = ADDRESSES_MAX - configured - proven;
    // When there are too many of both, each gets half of the room.
    let found = found.min((room / 2).max(room.saturating_sub(told)));
    let mut rooms = [configured, proven, room - found, found];
    known.retain(|known| {
        let at = match known {
            Known { is_configured: true, .. } => 0,
            Known { source: Source::Proven, .. } => 1,
            Known { source: Source::Told | Source::Configured, .. } => 2,
            Known { source: Source::Found, .. } => 3,
        };
        let has_room = rooms.get_mut(at).filter(|room| **room > 0);
        has_room.map(|room| *room -= 1).is_some()
    });
    known
}

/// The most addresses that are kept because they are configured or proven. It is three quarters of all, so that there
/// is room for the new addresses of a peer that has moved.
const KEPT_MAX: usize = ADDRESSES_MAX / 4 * 3;

#[cfg(test)]
mod tests {
    use taskqueue_api::PeerId;

    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    fn ports(ports: impl IntoIterator<Item = u16>) -> Vec<Multiaddr> {
        ports.into_iter().map(address).collect()
    }

    #[test]
    fn the_newest_addresses_come_first_and_the_oldest_fall_off() {
        let mut addresses = Addresses::default();
        assert!(addresses.learn(Source::Found, ports(0..10)));
        addresses.learn(Source::Found, ports(5..21));
        assert_eq!(addresses.all(), ports(5..21));
        let with_peer = format!("/ip4/192.0.2.1/tcp/6/p2p/{}", PeerId::random()).parse().unwrap();
        addresses.learn(Source::Found, [address(3), with_peer]);
        assert_eq!(addresses.all()[..3], [address(3), address(6), address(5)]);
        assert!(!addresses.learn(Source::Found, [address(5)]), "no news");
    }

    #[test]
    fn what_anybody_says_displaces_nothing_that_is_configured_or_proven() {
        let mut addresses = Addresses::default();
        addresses.learn(Source::Configured, ports([1, 2]));
        addresses.learn(Source::Proven, ports([3]));
        addresses.learn(Source::Told, ports([4, 5]));
        for flood in 0..100 {
            addresses.learn(Source::Found, ports((0..16).map(|port| 1_000 + 16 * flood + port)));
            addresses.learn(Source::Found, ports([2]));
            let known = addresses.all();
            assert_eq!(known[..5], ports([4, 5, 3, 1, 2]));
            assert_eq!(known.len(), ADDRESSES_MAX);
        }
    }

    #[test]
    fn what_a_peer_says_of_itself_has_half_of_the_room_that_is_left_and_so_has_what_is_found() {
        let mut addresses = Addresses::default();
        addresses.learn(Source::Proven, ports(1..=2));
        addresses.learn(Source::Found, ports(100..116));
        addresses.learn(Source::Told, ports(200..216));
        addresses.learn(Source::Found, ports(300..316));
        let expected = [ports(200..207), ports(1..=2), ports(300..307)].concat();
        assert_eq!(addresses.all(), expected);
    }

    #[test]
    fn the_proven_are_displaced_by_the_proven_alone_and_leave_room_for_a_peer_that_has_moved() {
        let mut addresses = Addresses::default();
        for port in 0..20 {
            addresses.learn(Source::Proven, ports([port]));
        }
        let newest = ports((8..20).rev());
        assert!(addresses.learn(Source::Told, ports([100])) && addresses.learn(Source::Found, ports([200])));
        assert_eq!(addresses.all(), [ports([100]), newest, ports([200])].concat());
        assert!(addresses.learn(Source::Proven, ports([200])), "from a better source");
        assert_eq!(addresses.proven()[0], address(200));
    }

    #[test]
    fn configured_addresses_stay_whatever_becomes_of_them() {
        let mut addresses = Addresses::default();
        addresses.learn(Source::Configured, ports([1]));
        addresses.learn(Source::Proven, ports([1, 2]));
        for port in 10..40 {
            addresses.learn(Source::Proven, ports([port]));
        }
        assert!(addresses.all().contains(&address(1)) && !addresses.all().contains(&address(2)));
        addresses.forget(&address(1));
        addresses.forget(&address(39));
        assert!(addresses.all().contains(&address(1)) && !addresses.all().contains(&address(39)));
        assert!(!addresses.worth_keeping().contains(&address(3)));
    }
}
