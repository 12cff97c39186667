//! The terms of a session: the limits and features in each hello, and how each end keeps to those of the other.

use serde::{Deserialize, Serialize};

use super::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MIN, IN_FLIGHT_MAX, IN_FLIGHT_MIN, WAITS_MAX};

/// The optional parts of the protocol that this build knows.
///
/// `repeat`: asking for a change twice has the same effect as asking once, by the task's id, its idempotency key or its
/// fence. So a request whose answer was lost may be asked again.
const FEATURES: [&str; 1] = [REPEAT];
const REPEAT: &str = "repeat";

/// The limits in a hello. An end of the first version names none.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Limits {
    /// The content of the largest frame, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frame_bytes: Option<u64>,
    /// Requests that are not answered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_flight: Option<u64>,
    /// Requests that wait, counted apart from the others. An end that does not name this limit counts them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waits: Option<u64>,
}

/// The limits that this end keeps to when it asks its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The content of the largest frame that the peer takes, in bytes.
    pub(crate) frame_bytes: usize,
    /// The most requests in flight that the peer takes.
    pub(crate) in_flight: usize,
    /// The most requests that wait, counted apart from `in_flight`. `None` when the peer counts them among those in
    /// flight.
    pub(crate) waits: Option<usize>,
    /// Whether both ends have the feature `repeat`.
    pub(crate) may_repeat: bool,
}

impl Limits {
    /// Returns the limits of this end.
    pub(super) const fn ours() -> Self {
        Self {
            frame_bytes: Some(FRAME_BYTES_MAX as u64),
            in_flight: Some(IN_FLIGHT_MAX as u64),
            waits: Some(WAITS_MAX as u64),
        }
    }
}

/// Returns the features of this end.
pub(super) fn features() -> Vec<String> {
    FEATURES.map(str::to_owned).to_vec()
}

impl Terms {
    /// Derives the terms from the peer's hello: the features that both ends have, and the peer's limits.
    ///
    /// Each limit is at most the limit of this build. A limit that is not named is the one of this build, except that
    /// `waits` is then `None`. A limit below the least that every end takes is raised to it.
    pub(super) fn new(features: &[String], limits: Limits) -> Self {
        let agreed = |feature: &str| FEATURES.contains(&feature) && features.iter().any(|theirs| theirs == feature);
        Self {
            frame_bytes: within(limits.frame_bytes, FRAME_BYTES_MIN, FRAME_BYTES_MAX),
            in_flight: within(limits.in_flight, IN_FLIGHT_MIN, IN_FLIGHT_MAX),
            waits: limits.waits.map(|waits| within(Some(waits), IN_FLIGHT_MIN, WAITS_MAX)),
            may_repeat: agreed(REPEAT),
        }
    }

    /// Returns the same terms with the limits on requests lowered by 1/32.
    pub(crate) fn with_some_to_spare(self) -> Self {
        let less = |most: usize| most - most / 32;
        Self { in_flight: less(self.in_flight), waits: self.waits.map(less), ..self }
    }

    /// Returns the terms towards a node of this build.
    pub(crate) fn ours() -> Self {
        Self::new(&features(), Limits::ours())
    }
}

impl Default for Terms {
    /// Returns the terms towards a peer whose hello has neither features nor limits.
    fn default() -> Self {
        Self::new(&[], Limits::default())
    }
}

fn within(said: Option<u64>, min: usize, max: usize) -> usize {
    // A number that does not fit is larger than the largest limit.
    said.map_or(max, |said| usize::try_from(said).unwrap_or(max).clamp(min, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(features: &[&str], limits: &str) -> Terms {
        let features: Vec<String> = features.iter().map(|&feature| feature.to_owned()).collect();
        Terms::new(&features, serde_json::from_str(limits).unwrap())
    }

    #[test]
    fn limits_that_make_sense_are_kept_to() {
        let terms = terms(&[], r#"{"frame_bytes":100000,"in_flight":32,"colours":7}"#);
        assert_eq!((terms.frame_bytes, terms.in_flight), (100_000, 32));
    }

    #[test]
    fn limits_that_are_absent_or_make_no_sense_are_read_sanely() {
        let both = |limits: &str| {
            let terms = terms(&[], limits);
            (terms.frame_bytes, terms.in_flight)
        };
        assert_eq!(both("{}"), (FRAME_BYTES_MAX, IN_FLIGHT_MAX));
        assert_eq!(both(r#"{"frame_bytes":null}"#), (FRAME_BYTES_MAX, IN_FLIGHT_MAX));
        assert_eq!(both(r#"{"frame_bytes":0,"in_flight":0}"#), (FRAME_BYTES_MIN, IN_FLIGHT_MIN));
        assert_eq!(
            both(r#"{"frame_bytes":18446744073709551615,"in_flight":9999999}"#),
            (FRAME_BYTES_MAX, IN_FLIGHT_MAX)
        );
    }

    #[test]
    fn waits_are_counted_apart_only_where_the_peer_says_so() {
        let waits = |limits: &str| terms(&[], limits).waits;
        assert_eq!(waits("{}"), None);
        assert_eq!(waits(r#"{"in_flight":32}"#), None);
        assert_eq!(waits(r#"{"waits":100}"#), Some(100));
        assert_eq!(waits(r#"{"waits":0}"#), Some(IN_FLIGHT_MIN));
        assert_eq!(waits(r#"{"waits":9999999}"#), Some(WAITS_MAX));
        assert_eq!(Terms::ours().waits, Some(WAITS_MAX));
    }

    #[test]
    fn only_what_both_ends_have_is_agreed() {
        assert!(terms(&["repeat"], "{}").may_repeat);
        assert!(terms(&["teleport", "repeat", "repeat"], "{}").may_repeat);
        assert!(!terms(&["teleport", "Repeat", ""], "{}").may_repeat);
        assert!(!Terms::default().may_repeat);
    }
}
