//! The loop's part about rendezvous points: registering with them, and asking them who is there.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    rendezvous::{Cookie, ErrorCode, Registration, client::Event},
};

use super::{
    driver::NodeLoop,
    finding::TOO_MANY_SEARCHES,
    limits::{POINTS_EVERY, POINTS_RETRY, SEARCHES_MAX},
};
use crate::discovery::{
    Namespace, Search,
    rendezvous::{REGISTERED_MAX, Registered},
};

/// The configured points, what they have said, and who waits for their answers.
#[derive(Debug, Default)]
pub(super) struct Points {
    points: BTreeMap<PeerId, Point>,
    registered: Registered,
    searches: Vec<Asking>,
}

/// One point. While it cannot be asked, nothing is due.
#[derive(Debug, Default)]
struct Point {
    register_at: Option<Instant>,
    ask_at: Option<Instant>,
    /// What this node has heard from it already.
    cookie: Option<Cookie>,
    /// Questions that it has not answered yet.
    asked: usize,
}

/// A search, and how many answers it waits for from each point: as many as were under way when it asked, its own among
/// them, so that one of those that it hears was given after it asked.
#[derive(Debug)]
struct Asking {
    search: Search,
    awaited: BTreeMap<PeerId, usize>,
    /// Why a point did not answer, unless another did.
    failure: Option<String>,
    is_answered: bool,
}

impl NodeLoop {
    /// Asks every point that is connected, and tells what they have said before.
    pub(super) fn search_points(&mut self, search: Search) {
        self.finding.points.searches.retain(|asking| !asking.search.is_over());
        if self.finding.points.searches.len() >= SEARCHES_MAX {
            return search.fail(TOO_MANY_SEARCHES);
        }
        let connected = self.askable_points();
        if connected.is_empty() {
            return search.fail(self.why_no_point());
        }
        self.forget_expired(self.directory.runtime.now());
        for (peer, addresses) in self.finding.points.registered.peers() {
            search.tell(peer, addresses);
        }
        let awaited = connected.into_iter().map(|point| (point, self.ask_point(point))).collect();
        self.finding.points.searches.push(Asking { search, awaited, failure: None, is_answered: false });
    }

    fn why_no_point(&self) -> String {
        match &*self.directory.discovery.rendezvous_points {
            [] => "no rendezvous point is configured: name a node of the mesh that serves as one".to_owned(),
            [first, others @ ..] => format!(
                "none of the {} rendezvous points is connected: check that {first} runs and can be reached from here",
                others.len() + 1
            ),
        }
    }

    pub(super) fn askable_points(&self) -> Vec<PeerId> {
        self.finding.points.points.keys().filter(|point| self.is_askable(point)).copied().collect()
    }

    fn is_askable(&self, point: &PeerId) -> bool {
        self.peers.stands(point)
    }

    /// Asks for what is new; says how many answers are under way now.
    fn ask_point(&mut self, peer: PeerId) -> usize {
        let namespace = self.namespace().at_points();
        let now = self.directory.runtime.now();
        let Some(client) = self.swarm.behaviour_mut().rendezvous.as_mut() else { return 0 };
        let Some(point) = self.finding.points.points.get_mut(&peer) else { return 0 };
        client.discover(namespace, point.cookie.clone(), u64::try_from(REGISTERED_MAX).ok(), peer);
        point.ask_at = Some(now + POINTS_EVERY);
        point.asked += 1;
        point.asked
    }

    pub(super) fn ask_points_due(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let points = self.finding.points.points.iter();
        let points: Vec<_> = points.map(|(peer, point)| (*peer, due(point.register_at), due(point.ask_at))).collect();
        for (peer, registers, asks) in points {
            if !registers && !asks {
                continue;
            }
            if !self.is_askable(&peer) {
                self.finding.points.lost(&peer);
                continue;
            }
            if registers {
                self.register_at(peer, now);
            }
            if asks {
                self.forget_expired(now);
                self.ask_point(peer);
            }
        }
    }

    fn register_at(&mut self, peer: PeerId, now: Instant) {
        let namespace = self.namespace().at_points();
        let Some(client) = self.swarm.behaviour_mut().rendezvous.as_mut() else { return };
        // A node without addresses has nothing to register until it gets some.
        let is_asked = namespace.is_some_and(|namespace| client.register(namespace, peer, None).is_ok());
        let next = is_asked.then(|| now + POINTS_EVERY);
        self.finding.points.points.entry(peer).and_modify(|point| point.register_at = next);
    }

    fn forget_expired(&mut self, now: Instant) {
        for peer in self.finding.points.registered.expire(now) {
            self.peers.lost_sight(&peer);
        }
    }

    pub(super) fn on_rendezvous(&mut self, event: Event) {
        let now = self.directory.runtime.now();
        match event {
            Event::Discovered { rendezvous_node, registrations, cookie } => {
                self.on_registrations(&registrations, now);
                self.finding.points.answered(rendezvous_node, Ok(cookie));
            }
            Event::DiscoverFailed { rendezvous_node, error, .. } => {
                tracing::debug!(point = %rendezvous_node, ?error, "a rendezvous point did not answer");
                self.on_not_answered(rendezvous_node, error, now);
            }
            Event::Registered { rendezvous_node, ttl, .. } => {
                tracing::debug!(point = %rendezvous_node, ttl, "registered with a rendezvous point");
                self.finding.points.due_to_register(&rendezvous_node, now + renew_after(ttl));
            }
            Event::RegisterFailed { rendezvous_node, error, .. } => {
                tracing::debug!(point = %rendezvous_node, ?error, "a rendezvous point did not register this node");
                self.finding.points.due_to_register(&rendezvous_node, now + POINTS_RETRY);
            }
            // What the points say is kept, with its time, by this node itself.
            Event::Expired { .. } => {}
        }
    }

    fn on_registrations(&mut self, registrations: &[Registration], now: Instant) {
        let namespace = self.namespace();
        for registration in registrations.iter().take(REGISTERED_MAX) {
            let taken = self.finding.points.registered.take(registration, &namespace, now);
            if let Some((peer, addresses)) = taken {
                self.finding.points.searches.iter().for_each(|asking| asking.search.tell(peer, &addresses));
                self.found(peer, addresses);
            }
        }
    }

    fn on_not_answered(&mut self, peer: PeerId, error: ErrorCode, now: Instant) {
        let Some(point) = self.finding.points.points.get_mut(&peer) else { return };
        // It has started anew, and remembers nothing of what it said.
        let is_forgotten = point.cookie.take().is_some() && matches!(error, ErrorCode::InvalidCookie);
        point.ask_at = Some(now + POINTS_RETRY);
        if is_forgotten {
            point.asked = point.asked.saturating_sub(1);
            self.ask_point(peer);
        } else {
            self.finding.points.answered(peer, Err(error));
        }
    }

    pub(super) fn leave_points(&mut self, old: &Namespace) {
        let now = self.directory.runtime.now();
        if let (Some(client), Some(old)) = (self.swarm.behaviour_mut().rendezvous.as_mut(), old.at_points()) {
            // Those that are not connected too: otherwise the client would register there again under the old name.
            self.finding.points.points.keys().for_each(|point| client.unregister(old.clone(), *point));
        }
        for (peer, _) in std::mem::take(&mut self.finding.points.registered).peers() {
            self.peers.lost_sight(&peer);
        }
        self.finding.points.points.values_mut().for_each(|point| point.cookie = None);
        self.finding.points.register_soon(now);
    }
}

impl Points {
    pub(super) fn new(peers: HashSet<PeerId>) -> Self {
        Self { points: peers.into_iter().map(|peer| (peer, Point::default())).collect(), ..Self::default() }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.points.values().flat_map(|point| [point.register_at, point.ask_at]).flatten().min()
    }

    /// The peer can be asked; if it is a point, it is to hear of this node and to say who is there.
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

    fn due_to_register(&mut self, peer: &PeerId, at: Instant) {
        if let Some(point) = self.points.get_mut(peer) {
            point.register_at = Some(at);
        }
    }

    /// The points that are not connected find out, when this is due, that they are not.
    pub(super) fn register_soon(&mut self, now: Instant) {
        self.points.values_mut().for_each(|point| point.register_at = Some(now));
    }

    /// A point has answered or will not: the searches that have waited for nothing else are over.
    fn answered(&mut self, peer: PeerId, answer: Result<Cookie, ErrorCode>) {
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

/// A registration is made anew when three quarters of its time are over; not at every word of a point that gives no time,
/// and not never.
fn renew_after(ttl_s: u64) -> Duration {
    (Duration::from_secs(ttl_s.min(u64::from(u32::MAX))) * 3 / 4).clamp(POINTS_RETRY, Duration::from_secs(24 * 3_600))
}
