use std::time::{Duration, Instant};

use super::limits::{REDIAL_FIRST, REDIAL_MAX, REDIAL_OTHER_MESH};

/// The time of the next attempt to reach a peer.
///
/// The pause is a quarter of the time for which the peer has been away. So a peer that restarts is reached again within
/// a quarter of its absence, and a peer that is off costs a dial every half minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Redial {
    away_since: Instant,
    next: Instant,
}

impl Redial {
    /// Plans an attempt at once.
    pub(super) const fn at_once(now: Instant) -> Self {
        Self { away_since: now, next: now }
    }

    /// Plans an attempt after a connection broke. A node that restarts needs a moment.
    pub(super) fn after_loss(now: Instant) -> Self {
        Self { away_since: now, next: now + REDIAL_FIRST }
    }

    /// Plans the next attempt after one has failed. `chance` is from 0 to 1: it spreads nodes that lost the same peer
    /// at the same time.
    pub(super) fn failed(&mut self, now: Instant, chance: f64) {
        let pause = (now.saturating_duration_since(self.away_since) / 4).clamp(REDIAL_FIRST, REDIAL_MAX);
        self.next = now + spread(pause, chance);
    }

    /// Plans the next attempt for now.
    pub(super) const fn hasten(&mut self, now: Instant) {
        self.next = now;
    }

    /// Plans the next attempt after the peer has turned out to belong to another mesh.
    pub(super) fn turned_away(&mut self, now: Instant, chance: f64) {
        self.next = now + spread(REDIAL_OTHER_MESH, chance);
    }

    /// Returns when the next attempt is due.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }
}

/// Returns a part of the pause, from four fifths of it to all of it.
fn spread(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(0.2f64.mul_add(chance.clamp(0.0, 1.0), 0.8))
}

/// Draws a number from 0 to 1.
pub(super) fn chance() -> f64 {
    // Without randomness every node waits equally long, which is a nuisance but does no harm.
    getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the times of the attempts, each of which fails at once, until the peer has been away for `away`.
    fn attempts(away: Duration, chance: f64) -> Vec<Duration> {
        let start = Instant::now();
        let mut redial = Redial::after_loss(start);
        let mut times = Vec::new();
        while redial.next() < start + away {
            times.push(redial.next() - start);
            redial.failed(redial.next(), chance);
        }
        times
    }

    #[test]
    fn a_peer_that_was_away_for_three_seconds_is_tried_within_another() {
        let times = attempts(Duration::from_secs(4), 1.0);
        assert!(times.iter().any(|time| (3.0..4.0).contains(&time.as_secs_f64())), "{times:?}");
        assert!(times.len() < 40, "{times:?}");
    }

    #[test]
    fn a_peer_that_is_off_costs_a_dial_every_half_minute() {
        let times = attempts(Duration::from_secs(3_600), 0.0);
        let last = times.windows(2).next_back().unwrap();
        assert!(last[1] - last[0] >= Duration::from_secs(24), "{last:?}");
        assert!(times.len() < 200, "{}", times.len());
    }
}
