//! The rendezvous points: registering with them, and asking them who is there.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    rendezvous::{self, Cookie, ErrorCode, Registration},
};
use taskqueue_api::peer_of;

use super::{
    finding::TOO_MANY_SEARCHES,
    limits::{POINTS_EVERY, POINTS_RETRY, SEARCHES_MAX},
};
use crate::discovery::{
    Namespace, Search,
    rendezvous::{REGISTERED_MAX, Registered},
};

/// The configured points, what they have answered, and the searches that wait for answers.
///
/// The caller says whether a point can be asked, which is so while it is connected.
#[derive(Debug)]
pub(super) struct Points {
    /// The addresses of the points, as configured.
    configured: Vec<Multiaddr>,
    points: BTreeMap<PeerId, Point>,
    registered: Registered,
    searches: Vec<Asking>,
}

/// An action that the caller is to carry out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PointAction {
    /// Register this node at the point, and report by [`Points::asked_to_register`] whether the point was asked.
    Register(PeerId),
    /// Withdraw the registration under this name.
    Unregister { point: PeerId, namespace: rendezvous::Namespace },
    /// Ask the point for what is new since the cookie.
    Ask { point: PeerId, cookie: Option<Cookie> },
    /// A point has named a peer.
    Found { peer: PeerId, addresses: Vec<Multiaddr> },
    /// No point vouches for the peer any more: its registration has expired or was given up.
    LostSight(PeerId),
}

/// One point. While it cannot be asked, nothing is due.
#[derive(Debug, Default)]
struct Point {
    register_at: Option<Instant>,
    ask_at: Option<Instant>,
    /// Marks what this node has heard from the point already.
    cookie: Option<Cookie>,
    /// How many questions it has not answered yet.
    asked: usize,
}

/// A search, and how many answers it waits for from each point.
///
/// It waits for as many as were outstanding right after it asked, its own included. So at least one of the answers that
/// it hears was given after it asked.
#[derive(Debug)]
struct Asking {
    search: Search,
    awaited: BTreeMap<PeerId, usize>,
    /// Why a point did not answer. It is told only if no other point answered.
    failure: Option<String>,
    is_answered: bool,
}

impl Points {
    /// Creates the points at these addresses.
    pub(super) fn new(configured: Vec<Multiaddr>) -> Self {
        let points = configured.iter().filter_map(peer_of).map(|peer| (peer, Point::default())).collect();
        Self { configured, points, registered: Registered::default(), searches: Vec::new() }
    }

    /// Tells the search what the points have said before, and asks every point that can be asked.
    pub(super) fn search(
        &mut self,
        search: Search,
        is_askable: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> Vec<PointAction> {
        self.searches.retain(|asking| !asking.search.is_over());
        if self.searches.len() >= SEARCHES_MAX {
            search.fail(TOO_MANY_SEARCHES);
            return Vec::new();
        }
        let askable: Vec<PeerId> = self.points.keys().filter(|point| is_askable(point)).copied().collect();
        if askable.is_empty() {
            search.fail(self.why_nobody_is_asked());
            return Vec::new();
        }
        let mut actions = self.forget_expired(now);
        for (peer, addresses) in self.registered.peers() {
            search.tell(peer, addresses);
        }
        let mut awaited = BTreeMap::new();
        for point in askable {
            actions.extend(self.ask(point, now));
            awaited.insert(point, self.points.get(&point).map_or(0, |point| point.asked));
        }
        self.searches.push(Asking { search, awaited, failure: None, is_answered: false });
        actions
    }

    fn why_nobody_is_asked(&self) -> String {
        match &*self.configured {
            [] => "no rendezvous point is configured: name a node of the mesh that serves as one".to_owned(),
            [first, others @ ..] => format!(
                "none of the {} rendezvous points is connected: check that {first} runs and can be reached from here",
                others.len() + 1
            ),
        }
    }

    /// Returns whether there is a point that can be asked.
    pub(super) fn can_ask(&self, is_askable: impl Fn(&PeerId) -> bool) -> bool {
        self.points.keys().any(is_askable)
    }

    /// Returns what is due: registrations, and questions for what is new.
    pub(super) fn due(&mut self, is_askable: impl Fn(&PeerId) -> bool, now: Instant) -> Vec<PointAction> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let points = self.points.iter();
        let points: Vec<_> =
            points.map(|(peer, point)| (*peer, is_due(point.register_at), is_due(point.ask_at))).collect();
        let mut actions = Vec::new();
        for (point, registers, asks) in points.into_iter().filter(|(_, registers, asks)| *registers || *asks) {
            if !is_askable(&point) {
                self.lost(&point);
                continue;
            }
            if registers {
                actions.push(PointAction::Register(point));
            }
            if asks {
                actions.extend(self.forget_expired(now));
                actions.extend(self.ask(point, now));
            }
        }
        actions
    }

    /// Returns when something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.points.values().flat_map(|point| [point.register_at, point.ask_at]).flatten().min()
    }

    fn ask(&mut self, peer: PeerId, now: Instant) -> Option<PointAction> {
        let point = self.points.get_mut(&peer)?;
        point.ask_at = Some(now + POINTS_EVERY);
        point.asked += 1;
        Some(PointAction::Ask { point: peer, cookie: point.cookie.clone() })
    }

    /// Notes whether the point was asked to register this node. A node without addresses has nothing to register until
    /// it gets some.
    pub(super) fn asked_to_register(&mut self, point: PeerId, is_asked: bool, now: Instant) {
        self.register_at(point, is_asked.then(|| now + POINTS_EVERY));
    }

    /// Notes that the point has registered this node for `ttl_s` seconds.
    pub(super) fn has_registered(&mut self, point: PeerId, ttl_s: u64, now: Instant) {
        self.register_at(point, Some(now + renew_after(ttl_s)));
    }

    /// Notes that the point has refused to register this node.
    pub(super) fn has_not_registered(&mut self, point: PeerId, now: Instant) {
        self.register_at(point, Some(now + POINTS_RETRY));
    }

    fn register_at(&mut self, peer: PeerId, at: Option<Instant>) {
        if let Some(point) = self.points.get_mut(&peer) {
            point.register_at = at;
        }
    }

    /// Notes that the peer can be asked. If it is a point, this node registers with it and asks it at once.
    pub(super) fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(point) = self.points.get_mut(peer) {
            (point.register_at, point.ask_at) = (Some(now), Some(now));
        }
    }

    fn lost(&mut self, peer: &PeerId) {
        if let Some(point) = self.points.get_mut(peer) {
            (point.register_at, point.ask_at, point.cookie) = (None, None, None);
        }
    }

    /// Makes a registration due at every point. At points that are not connected it has no effect.
    pub(super) fn register_soon(&mut self, now: Instant) {
        self.points.values_mut().for_each(|point| point.register_at = Some(now));
    }

    /// Takes a point's answer to the question which peers are there.
    pub(super) fn answered(
        &mut self,
        point: PeerId,
        registrations: &[Registration],
        cookie: Cookie,
        namespace: &Namespace,
        now: Instant,
    ) -> Vec<PointAction> {
        let mut actions = Vec::new();
        for registration in registrations.iter().take(REGISTERED_MAX) {
            if let Some((peer, addresses)) = self.registered.take(registration, namespace, now) {
                self.searches.iter().for_each(|asking| asking.search.tell(peer, &addresses));
                actions.push(PointAction::Found { peer, addresses });
            }
        }
        self.settled(point, Ok(cookie));
        actions
    }

    /// Takes a point's refusal of a question. If the point has forgotten the cookie, asks it again without one.
    pub(super) fn not_answered(&mut self, peer: PeerId, error: ErrorCode, now: Instant) -> Option<PointAction> {
        let point = self.points.get_mut(&peer)?;
        // The point has started anew, and does not remember what it has told this node.
        let is_forgotten = point.cookie.take().is_some() && matches!(error, ErrorCode::InvalidCookie);
        point.ask_at = Some(now + POINTS_RETRY);
        if is_forgotten {
            point.asked = point.asked.saturating_sub(1);
            return self.ask(peer, now);
        }
        self.settled(peer, Err(error));
        None
    }

    /// Notes that a question is settled. Ends the searches that have waited for nothing else.
    fn settled(&mut self, peer: PeerId, answer: Result<Cookie, ErrorCode>) {
        let error = answer.as_ref().err().copied();
        if let Some(point) = self.points.get_mut(&peer) {
            point.asked = point.asked.saturating_sub(1);
            point.cookie = answer.ok();
        }
        for asking in &mut self.searches {
            asking.heard(peer, error);
        }
        for over in self.searches.extract_if(.., |asking| asking.awaited.is_empty()) {
            if let Some(failure) = over.failure.filter(|_| !over.is_answered) {
                over.search.fail(failure);
            }
        }
    }

    fn forget_expired(&mut self, now: Instant) -> Vec<PointAction> {
        self.registered.expire(now).into_iter().map(PointAction::LostSight).collect()
    }

    /// Withdraws the registrations under the name of the old mesh, and forgets what the points have said under it.
    pub(super) fn leave(&mut self, old: &Namespace, now: Instant) -> Vec<PointAction> {
        let mut actions = Vec::new();
        if let Some(namespace) = old.at_points() {
            // Points that are not connected are included: otherwise the client would register there again under the old
            // name.
            let points = self.points.keys().copied();
            actions.extend(points.map(|point| PointAction::Unregister { point, namespace: namespace.clone() }));
        }
        let registered = std::mem::take(&mut self.registered);
        actions.extend(registered.peers().map(|(peer, _)| PointAction::LostSight(peer)));
        self.points.values_mut().for_each(|point| point.cookie = None);
        self.register_soon(now);
        actions
    }
}

impl Asking {
    fn heard(&mut self, peer: PeerId, error: Option<ErrorCode>) {
        let Some(awaited) = self.awaited.get_mut(&peer) else { return };
        *awaited = awaited.saturating_sub(1);
        if *awaited == 0 {
            self.awaited.remove(&peer);
        }
        match error {
            None => self.is_answered = true,
            Some(error) => {
                self.failure = Some(format!("the rendezvous point {peer} did not say who is there: {error:?}"));
            }
        }
    }
}

/// Returns the pause before a registration is renewed: three quarters of its time, within bounds. The lower bound is
/// for a point that grants no time, the upper one for a point that grants time without end.
fn renew_after(ttl_s: u64) -> Duration {
    (Duration::from_secs(ttl_s.min(u64::from(u32::MAX))) * 3 / 4).clamp(POINTS_RETRY, Duration::from_secs(24 * 3_600))
}

#[cfg(test)]
#[path = "finding_rendezvous_tests.rs"]
mod tests;
