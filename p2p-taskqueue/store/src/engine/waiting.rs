use std::time::Duration;

use taskqueue_api::{AttemptOutcome, WaitReason, WaitingFor, span_text};

use super::{Live, Now, Phase};

/// Says why a queued task is not ready. `None` for a task that is ready, or that runs.
pub(crate) fn waiting_for(live: &Live, now: Now) -> Option<WaitingFor> {
    match live.phase {
        Phase::Ready | Phase::Running => None,
        Phase::Blocked => Some(after(live.waiting)),
        Phase::Scheduled => Some(delayed(live.not_before.map_or(Duration::ZERO, |date| now.wall.until(date)))),
        Phase::Delayed if is_backoff(live) => Some(backoff(live, now.elapsed.until(live.ready_at))),
        Phase::Delayed => Some(delayed(now.elapsed.until(live.ready_at))),
    }
}

/// Whether a delayed task waits because an attempt was lost. A worker that gave the task back for a while has lost
/// none: its attempt is not counted.
fn is_backoff(live: &Live) -> bool {
    let last = live.attempts.as_slice().last().and_then(|last| last.end.as_ref());
    // Files of earlier versions do not say how an attempt ended, but only how many have counted.
    live.attempt > 0 && last.is_none_or(|end| end.outcome != AttemptOutcome::Released)
}

fn after(waiting: u32) -> WaitingFor {
    let message = match waiting {
        1 => "it comes after 1 task that has not ended".to_owned(),
        count => format!("it comes after {count} tasks that have not ended"),
    };
    WaitingFor::new(WaitReason::After, message)
}

fn delayed(span: Duration) -> WaitingFor {
    WaitingFor::new(WaitReason::Delayed, format!("it may start in {}", span_text(span.as_secs_f64())))
}

fn backoff(live: &Live, span: Duration) -> WaitingFor {
    let (span, attempt) = (span_text(span.as_secs_f64()), live.attempt);
    let of_all = match live.policy.max_attempts {
        0 => String::new(),
        all => format!(" of {all}"),
    };
    WaitingFor::new(WaitReason::Backoff, format!("its next attempt is due in {span}, after attempt {attempt}{of_all}"))
}

#[cfg(test)]
mod tests {
    use taskqueue_api::PeerId;

    use super::*;
    use crate::engine::{Attempt, AttemptEnd, Attempts, Elapsed, Policy, Wall};

    /// Elapsed time and the wall clock differ, so that one cannot stand for the other.
    const NOW: Now = Now {
        wall: Wall::from_micros(1_000_000_000),
        monotonic: Duration::ZERO,
        elapsed: Elapsed::from_micros(7_000_000),
        wall_ahead: 993_000_000,
    };

    fn live(phase: Phase) -> Live {
        let policy = Policy { max_attempts: 3, backoff_s: 1.0, result_ttl_s: 1.0 };
        Live { phase, ..Live::unclaimed(NOW.elapsed.after(4.2), NOW.wall, policy) }
    }

    fn tried(attempt: u32, last: AttemptOutcome) -> Live {
        let end = AttemptEnd { at: NOW.wall, outcome: last, error: None };
        let (machine, worker) = (PeerId::random(), "w".to_owned());
        let attempts = Attempts::of(vec![Attempt { machine, worker, started_at: NOW.wall, end: Some(end) }]);
        Live { attempt, attempts, ..live(Phase::Delayed) }
    }

    fn told(live: &Live) -> Option<(WaitReason, String)> {
        waiting_for(live, NOW).map(|why| (why.reason, why.message))
    }

    fn is(reason: WaitReason, message: &str) -> Option<(WaitReason, String)> {
        Some((reason, message.to_owned()))
    }

    #[test]
    fn each_phase_has_its_reason() {
        assert_eq!(told(&live(Phase::Ready)), None);
        assert_eq!(told(&live(Phase::Running)), None);
        assert_eq!(told(&live(Phase::Delayed)), is(WaitReason::Delayed, "it may start in 4.2 s"));
        let scheduled = Live { not_before: Some(NOW.wall.after(3_600.0)), ..live(Phase::Scheduled) };
        assert_eq!(told(&scheduled), is(WaitReason::Delayed, "it may start in 60 min"));
        let blocked = |waiting| Live { waiting, ..live(Phase::Blocked) };
        assert_eq!(told(&blocked(1)), is(WaitReason::After, "it comes after 1 task that has not ended"));
        assert_eq!(told(&blocked(2)), is(WaitReason::After, "it comes after 2 tasks that have not ended"));
    }

    #[test]
    fn a_lost_attempt_is_a_backoff_and_one_that_was_given_back_is_not() {
        for lost in [AttemptOutcome::Failed, AttemptOutcome::LeaseExpired, AttemptOutcome::Freed] {
            let message = "its next attempt is due in 4.2 s, after attempt 2 of 3";
            assert_eq!(told(&tried(2, lost)), is(WaitReason::Backoff, message), "{lost:?}");
        }
        let mut unlimited = tried(7, AttemptOutcome::Failed);
        unlimited.policy.max_attempts = 0;
        let message = "its next attempt is due in 4.2 s, after attempt 7";
        assert_eq!(told(&unlimited), is(WaitReason::Backoff, message));
        for counted in [0, 1] {
            let released = tried(counted, AttemptOutcome::Released);
            assert_eq!(told(&released), is(WaitReason::Delayed, "it may start in 4.2 s"));
        }
        // The attempts of earlier versions were counted only.
        assert_eq!(
            told(&Live { attempt: 1, ..live(Phase::Delayed) }).map(|(reason, _)| reason),
            Some(WaitReason::Backoff)
        );
    }

    #[test]
    fn what_is_due_but_not_done_is_due_at_once() {
        let late = Live { ready_at: Elapsed::from_micros(0), ..live(Phase::Delayed) };
        assert_eq!(told(&late), is(WaitReason::Delayed, "it may start in 0.0 s"));
    }
}
