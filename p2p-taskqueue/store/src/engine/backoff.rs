use taskqueue_api::limits::BACKOFF_S_MAX;

use super::Policy;

/// Returns the seconds to wait after the given attempt: the task's backoff, doubled for each attempt before it, with 20
/// % of jitter either way, and never above [`BACKOFF_S_MAX`]. `chance` is at least 0 and below 1.
pub(super) fn backoff_s(policy: Policy, attempt: u32, chance: f64) -> f64 {
    // After this many doublings any backoff is at its maximum or zero.
    let doublings = attempt.saturating_sub(1).min(64);
    let steady = (policy.backoff_s * f64::from(doublings).exp2()).min(BACKOFF_S_MAX);
    (steady * (1.0 - JITTER + 2.0 * JITTER * chance.clamp(0.0, 1.0))).min(BACKOFF_S_MAX)
}

/// The jitter as a fraction. With it, tasks that failed together do not come back together.
const JITTER: f64 = 0.2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(backoff_s: f64) -> Policy {
        Policy { max_attempts: 0, backoff_s, result_ttl_s: 0.0 }
    }

    #[test]
    fn it_doubles_and_stops_at_the_cap() {
        let middle = |attempt| backoff_s(policy(1.0), attempt, 0.5);
        assert_eq!([1, 2, 3, 4].map(middle), [1.0, 2.0, 4.0, 8.0]);
        assert_eq!(middle(1000), BACKOFF_S_MAX);
        assert_eq!(backoff_s(policy(0.0), 1000, 0.9), 0.0);
    }

    proptest! {
        #[test]
        fn jitter_is_a_fifth_either_way(base in 0.0..=BACKOFF_S_MAX, attempt in 1_u32..2000, chance in 0.0..1.0) {
            let steady = backoff_s(policy(base), attempt, 0.5);
            let jittered = backoff_s(policy(base), attempt, chance);
            prop_assert!(jittered >= steady * 0.8 - 1e-9 && jittered <= (steady * 1.2 + 1e-9).min(BACKOFF_S_MAX));
        }
    }
}
