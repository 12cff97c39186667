//! Chooses the connection that makes room for a newcomer when a bound on connections is reached.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr};

use libp2p::swarm::ConnectionId;

/// A connection whose peer has not proved itself, and which could be ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// A later connection has a higher id.
    pub(super) id: ConnectionId,
    /// The network it comes from. `None` when a relay passed it on: all such connections count as from one network.
    pub(super) from: Option<IpAddr>,
    pub(super) has_spoken: bool,
}

/// A new connection that needs room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer {
    pub(super) from: Option<IpAddr>,
    /// Whether members come from its network.
    pub(super) is_at_home: bool,
}

/// Chooses the connection that is ended for the newcomer, or `None` if there is none.
///
/// It is one from the network that has the most, where the newcomer counts too: the one that has waited longest without
/// saying anything, or else the one that has waited longest. So a crowd from one network pushes out its own.
///
/// A network of members keeps `share` connections against newcomers from networks without members.
pub(super) fn who_makes_room(
    candidates: impl IntoIterator<Item = Candidate>,
    newcomer: Newcomer,
    is_home: impl Fn(IpAddr) -> bool,
    share: usize,
) -> Option<ConnectionId> {
    let candidates: Vec<Candidate> = candidates.into_iter().collect();
    let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::from([(newcomer.from, 1)]);
    for candidate in &candidates {
        *counts.entry(candidate.from).or_default() += 1;
    }
    let count = |candidate: &Candidate| counts.get(&candidate.from).copied().unwrap_or_default();
    let is_protected = |candidate: &Candidate| {
        !newcomer.is_at_home && candidate.from.is_some_and(&is_home) && count(candidate) <= share
    };
    let open = candidates.iter().filter(|candidate| !is_protected(candidate));
    let first = open.min_by_key(|candidate| (Reverse(count(candidate)), candidate.has_spoken, candidate.id));
    first.map(|candidate| candidate.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u8) -> Option<IpAddr> {
        Some([192, 0, 2, number].into())
    }

    fn candidate(id: usize, from: u8, has_spoken: bool) -> Candidate {
        Candidate { id: ConnectionId::new_unchecked(id), from: ip(from), has_spoken }
    }

    fn pushed_out(candidates: &[Candidate], from: u8, homes: &[u8]) -> Option<ConnectionId> {
        let newcomer = Newcomer { from: ip(from), is_at_home: homes.contains(&from) };
        let is_home = |address: IpAddr| homes.iter().any(|home| ip(*home) == Some(address));
        who_makes_room(candidates.iter().copied(), newcomer, is_home, 2)
    }

    fn id(number: usize) -> Option<ConnectionId> {
        Some(ConnectionId::new_unchecked(number))
    }

    #[test]
    fn the_longest_silent_one_of_the_largest_crowd_goes() {
        let crowd = [candidate(1, 1, false), candidate(2, 2, true), candidate(3, 2, false), candidate(4, 2, false)];
        assert_eq!(pushed_out(&crowd, 9, &[]), id(3));
        assert_eq!(pushed_out(&crowd[..2], 9, &[]), id(1));
        assert_eq!(pushed_out(&crowd[1..2], 9, &[]), id(2), "one that has spoken, too, if there is no other");
        assert_eq!(pushed_out(&[], 9, &[]), None);
    }

    #[test]
    fn a_crowd_pushes_out_its_own() {
        let candidates = [candidate(1, 1, false), candidate(2, 2, false), candidate(3, 2, true)];
        assert_eq!(pushed_out(&candidates, 2, &[]), id(2));
        assert_eq!(pushed_out(&candidates[..2], 2, &[]), id(2));
    }

    #[test]
    fn the_address_of_members_keeps_a_share_and_no_more() {
        let two = [candidate(1, 1, false), candidate(2, 1, false)];
        assert_eq!(pushed_out(&two, 9, &[1]), None);
        assert_eq!(pushed_out(&two, 9, &[1, 9]), id(1), "to another of members it gives way");
        let three = [two[0], two[1], candidate(3, 1, false)];
        assert_eq!(pushed_out(&three, 9, &[1]), id(1));
        let with_a_stranger = [two[0], two[1], candidate(4, 5, true)];
        assert_eq!(pushed_out(&with_a_stranger, 9, &[1]), id(4));
    }
}
