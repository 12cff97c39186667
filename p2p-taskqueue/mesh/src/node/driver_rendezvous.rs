//! The loop's part about rendezvous points: passing on their answers, registering with them and asking them.

use libp2p::{PeerId, rendezvous::client};

use super::{super::finding_rendezvous::PointAction, NodeLoop};
use crate::discovery::rendezvous::REGISTERED_MAX;

impl NodeLoop {
    pub(super) fn on_rendezvous(&mut self, event: client::Event) {
        let now = self.now();
        match event {
            client::Event::Discovered { rendezvous_node: point, registrations, cookie } => {
                let namespace = self.namespace();
                let actions = self.points.answered(point, &registrations, cookie, &namespace, now);
                self.do_at_points(actions);
            }
            client::Event::DiscoverFailed { rendezvous_node: point, error, .. } => {
                tracing::debug!(%point, ?error, "a rendezvous point did not answer");
                let action = self.points.not_answered(point, error, now);
                self.do_at_points(action);
            }
            client::Event::Registered { rendezvous_node: point, ttl, .. } => {
                tracing::debug!(%point, ttl, "registered with a rendezvous point");
                self.points.has_registered(point, ttl, now);
            }
            client::Event::RegisterFailed { rendezvous_node: point, error, .. } => {
                tracing::debug!(%point, ?error, "a rendezvous point did not register this node");
                self.points.has_not_registered(point, now);
            }
            // This node keeps the registrations that it has heard of, and lets them expire by its own clock.
            client::Event::Expired { .. } => {}
        }
    }

    pub(super) fn do_at_points(&mut self, actions: impl IntoIterator<Item = PointAction>) {
        for action in actions {
            match action {
                PointAction::Register(point) => self.register_at(point),
                PointAction::Unregister { point, namespace } => {
                    self.at_points(|client| client.unregister(namespace, point));
                }
                PointAction::Ask { point, cookie } => {
                    let (namespace, limit) = (self.namespace().at_points(), u64::try_from(REGISTERED_MAX).ok());
                    self.at_points(|client| client.discover(namespace, cookie, limit, point));
                }
                PointAction::Found { peer, addresses } => self.peers.found(peer, addresses, self.now()),
                PointAction::LostSight(peer) => self.peers.lost_sight(&peer),
            }
        }
    }

    fn register_at(&mut self, point: PeerId) {
        let namespace = self.namespace().at_points();
        let is_asked = namespace.is_some_and(|namespace| {
            self.at_points(|client| client.register(namespace, point, None).is_ok()).unwrap_or_default()
        });
        self.points.asked_to_register(point, is_asked, self.now());
    }

    /// Acts on the rendezvous client. Returns `None` if rendezvous is switched off.
    fn at_points<T>(&mut self, act: impl FnOnce(&mut client::Behaviour) -> T) -> Option<T> {
        self.swarm.behaviour_mut().rendezvous.as_mut().map(act)
    }
}
