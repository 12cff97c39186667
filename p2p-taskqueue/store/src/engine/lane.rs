use taskqueue_api::PeerId;

use super::Spec;

/// The demands that a task makes of its worker.
///
/// Tasks with the same demands are in one line. So a claim looks at the head of each line that it may take from, and
/// never at the tasks behind it (clause T6).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    /// The type of work.
    pub(crate) task_type: String,
    /// Labels that the worker must have, sorted.
    pub(crate) requires: Vec<String>,
    /// The session that the worker must belong to.
    pub(crate) session: Option<String>,
    /// The peer that the worker must be on.
    pub(crate) pin_to: Option<PeerId>,
    /// The concurrency key. It demands nothing of the worker: it bounds how many tasks with this key run at once.
    pub(crate) concurrency_key: Option<String>,
}

/// The worker as a claim describes it. [`new`](Self::new) builds it, so that claims with the same demands are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Claimant {
    /// The peer that the worker is on.
    pub(crate) peer: PeerId,
    /// The types that it takes; an empty list means any type.
    pub(crate) types: Vec<String>,
    /// The labels that it has.
    pub(crate) labels: Vec<String>,
    /// Its session.
    pub(crate) session: Option<String>,
}

impl Claimant {
    /// Describes a worker on this peer; each type and label appears once.
    pub(crate) fn new(peer: PeerId, mut types: Vec<String>, mut labels: Vec<String>, session: Option<String>) -> Self {
        for names in [&mut types, &mut labels] {
            names.sort_unstable();
            names.dedup();
        }
        Self { peer, types, labels, session }
    }
}

impl Lane {
    /// The lane of a task.
    pub(crate) fn of(spec: &Spec) -> Self {
        let mut requires = spec.requires.clone();
        requires.sort_unstable();
        Self {
            task_type: spec.task_type.clone(),
            requires,
            session: spec.session.clone(),
            pin_to: spec.pin_to,
            concurrency_key: spec.concurrency_key.clone(),
        }
    }

    /// Whether a task belongs to this lane.
    pub(crate) fn is_of(&self, spec: &Spec) -> bool {
        let has_same_requires = match (self.requires.as_slice(), spec.requires.as_slice()) {
            ([], []) => true,
            (known, [only]) => known == [only.as_str()],
            (known, requires) => {
                known.len() == requires.len() && requires.iter().all(|label| known.binary_search(label).is_ok())
            }
        };
        has_same_requires
            && self.task_type == spec.task_type
            && self.session == spec.session
            && self.pin_to == spec.pin_to
            && self.concurrency_key == spec.concurrency_key
    }

    /// The text that names the lane. It is the same for the same demands, and [`parse`](Self::parse) reads it.
    pub(crate) fn to_text(&self) -> String {
        let pin_to = self.pin_to.map(|peer| peer.to_string());
        let demands = (&self.task_type, &self.requires, &self.session, pin_to);
        let text = match &self.concurrency_key {
            None => serde_json::to_string(&demands),
            Some(key) => serde_json::to_string(&(demands.0, demands.1, demands.2, demands.3, key)),
        };
        // Serialising texts and lists of texts cannot fail.
        text.unwrap_or_default()
    }

    /// Reads the text that [`to_text`](Self::to_text) wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let demands: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
        let mut demands = demands.into_iter();
        let task_type = serde_json::from_value(demands.next()?).ok()?;
        let requires = serde_json::from_value(demands.next()?).ok()?;
        let session = serde_json::from_value(demands.next()?).ok()?;
        let pin_to: Option<String> = serde_json::from_value(demands.next()?).ok()?;
        let pin_to = pin_to.map(|peer| peer.parse()).transpose().ok()?;
        let concurrency_key = demands.next().map(serde_json::from_value).transpose().ok()?;
        Some(Self { task_type, requires, session, pin_to, concurrency_key })
    }

    /// Whether the worker may take tasks of this lane. A task with a session goes only to a worker of that session; a
    /// task without one goes to any worker.
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
        let lane =
            Lane { task_type: "echo".into(), requires: vec![], session: None, pin_to: None, concurrency_key: None };
        for lane in [
            lane.clone(),
            Lane { pin_to: Some(peer), session: Some("s".into()), requires: vec!["a".into()], ..lane.clone() },
            Lane { concurrency_key: Some("k".into()), ..lane.clone() },
        ] {
            assert_eq!(Lane::parse(&lane.to_text()), Some(lane));
        }
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
