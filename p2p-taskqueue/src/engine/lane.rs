use libp2p::PeerId;

use super::Spec;

/// The demands that a task makes of its worker. Tasks with the same demands stand in one line, so that a claim looks at
/// the head of each line that it may take from, and never at the tasks behind it (clause T6).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    /// The type of work.
    pub(crate) task_type: String,
    /// Labels that the worker must have, in order.
    pub(crate) requires: Vec<String>,
    /// The session that the worker must be of.
    pub(crate) session: Option<String>,
    /// The peer that the worker must be on.
    pub(crate) pin_to: Option<PeerId>,
}

/// What a claim says of the worker.
#[derive(Debug, Clone)]
pub(crate) struct Claimant {
    /// The peer that the worker is on.
    pub(crate) peer: PeerId,
    /// The types that it takes; empty is any.
    pub(crate) types: Vec<String>,
    /// What it has.
    pub(crate) labels: Vec<String>,
    /// Its session.
    pub(crate) session: Option<String>,
}

impl Lane {
    /// The lane of a task.
    pub(crate) fn of(spec: &Spec) -> Self {
        let mut requires = spec.requires.clone();
        requires.sort_unstable();
        Self { task_type: spec.task_type.clone(), requires, session: spec.session.clone(), pin_to: spec.pin_to }
    }

    /// Whether the worker may take tasks of this lane: a task with a session goes only to a worker of that session, one
    /// without goes to any.
    pub(crate) fn admits(&self, claimant: &Claimant) -> bool {
        (claimant.types.is_empty() || claimant.types.contains(&self.task_type))
            && (self.session.is_none() || self.session == claimant.session)
            && self.pin_to.is_none_or(|peer| peer == claimant.peer)
            && self.requires.iter().all(|label| claimant.labels.contains(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_demand_is_met_or_refused() {
        let peer = PeerId::random();
        let lane = Lane { task_type: "echo".into(), requires: vec![], session: None, pin_to: None };
        let claimant = Claimant { peer, types: vec![], labels: vec!["gpu".into()], session: Some("s".into()) };
        assert!(lane.admits(&claimant));
        assert!(!lane.admits(&Claimant { types: vec!["other".into()], ..claimant.clone() }));
        assert!(lane.admits(&Claimant { types: vec!["other".into(), "echo".into()], ..claimant.clone() }));
        assert!(Lane { requires: vec!["gpu".into()], ..lane.clone() }.admits(&claimant));
        assert!(!Lane { requires: vec!["gpu".into(), "ssd".into()], ..lane.clone() }.admits(&claimant));
        assert!(Lane { pin_to: Some(peer), ..lane.clone() }.admits(&claimant));
        assert!(!Lane { pin_to: Some(PeerId::random()), ..lane.clone() }.admits(&claimant));
        assert!(Lane { session: Some("s".into()), ..lane.clone() }.admits(&claimant));
        assert!(!Lane { session: Some("t".into()), ..lane.clone() }.admits(&claimant));
        assert!(!Lane { session: Some("s".into()), ..lane }.admits(&Claimant { session: None, ..claimant }));
    }
}
