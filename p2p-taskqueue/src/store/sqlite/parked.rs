use std::time::Duration;

use super::command::{Answer, ClaimWork, Command, Work};
use crate::api::{ErrorCode, QueueError};

/// Claims that wait for a task, in the order in which they came. They are served in the transaction that makes a task
/// claimable, so nothing is polled and nothing is woken in vain.
#[derive(Debug, Default)]
pub(super) struct Parked {
    claims: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    command: Command,
    deadline: Duration,
}

impl Parked {
    /// Lets a claim wait, if it wants to and there is room.
    pub(super) fn park(&mut self, command: Command) {
        let deadline = match &command.work {
            Work::Claim(claim) => claim.deadline,
            _ => None,
        };
        let Some(deadline) = deadline else { return answer(command, Ok(Answer::Claimed(None))) };
        if self.claims.len() >= PARKED_MAX {
            self.claims.retain(|waiting| !waiting.command.reply.is_closed());
        }
        if self.claims.len() >= PARKED_MAX {
            let error = QueueError::new(ErrorCode::Overloaded, format!("more than {PARKED_MAX} claims wait already"));
            return answer(command, Err(error.with_retry_after_s(PARKED_RETRY_AFTER_S)));
        }
        self.claims.push(Waiting { command, deadline });
    }

    /// The waiting claims whose callers are still there, with their places.
    pub(super) fn open(&self) -> impl Iterator<Item = (usize, &ClaimWork)> {
        self.claims.iter().enumerate().filter_map(|(place, waiting)| match &waiting.command.work {
            Work::Claim(claim) if !waiting.command.reply.is_closed() => Some((place, &**claim)),
            _ => None,
        })
    }

    /// Answers the claims at these places, which are in ascending order.
    pub(super) fn answer(&mut self, answers: Vec<(usize, Result<Answer, QueueError>)>) {
        // From the last, so that the places before it stay right.
        for (place, result) in answers.into_iter().rev() {
            if place < self.claims.len() {
                answer(self.claims.remove(place).command, result);
            }
        }
    }

    /// Answers those whose wait is over, and forgets those whose callers have gone.
    pub(super) fn end_waits(&mut self, now: Duration) {
        if self.claims.iter().all(|waiting| waiting.deadline > now && !waiting.command.reply.is_closed()) {
            return;
        }
        for waiting in std::mem::take(&mut self.claims) {
            if waiting.deadline <= now {
                answer(waiting.command, Ok(Answer::Claimed(None)));
            } else if !waiting.command.reply.is_closed() {
                self.claims.push(waiting);
            }
        }
    }

    /// When the first wait ends.
    pub(super) fn first_deadline(&self) -> Option<Duration> {
        self.claims.iter().map(|waiting| waiting.deadline).min()
    }

    /// Turns all of them away.
    pub(super) fn refuse(&mut self, error: &QueueError) {
        self.claims.drain(..).for_each(|waiting| answer(waiting.command, Err(error.clone())));
    }
}

/// Answers a command. A caller that has gone away misses it; a task that it was given then goes back by itself.
pub(super) fn answer(command: Command, result: Result<Answer, QueueError>) {
    drop(command.reply.send(result));
}

/// Claims that wait at once: every worker of a large mesh.
const PARKED_MAX: usize = 1_024;

/// A waiting claim ends within this order of time.
const PARKED_RETRY_AFTER_S: f64 = 5.0;
