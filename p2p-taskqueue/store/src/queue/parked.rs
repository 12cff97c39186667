use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use taskqueue_api::QueueError;

use super::work::{ClaimWork, Done, GivenOut, Reply, ReplyTo, Returns};
use crate::engine::{Claimant, Lane};

/// The claims that wait for a task. They are served in the transaction that makes a task claimable, so nothing polls
/// and nobody is woken in vain.
///
/// Claims with the same demands form one class, in the order in which they came. To find the claim for a task, only the
/// classes that name its type are looked at, however many claims wait in each.
#[derive(Debug, Default)]
pub(super) struct Parked {
    classes: HashMap<Arc<Claimant>, Class>,
    /// The classes that name a type. The empty name stands for any type.
    by_type: HashMap<String, HashSet<Arc<Claimant>>>,
    deadlines: BTreeMap<(Duration, Number), Arc<Claimant>>,
    last_number: Number,
}

/// The place of a claim in the order of waiting.
pub(super) type Number = u64;

#[derive(Debug, Default)]
struct Class {
    claims: BTreeMap<Number, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    reply_to: ReplyTo,
    claim: ClaimWork,
    deadline: Duration,
}

/// A claim that waited, on its way to an answer.
#[derive(Debug)]
pub(super) struct Unparked {
    pub(super) reply_to: ReplyTo,
    pub(super) claim: ClaimWork,
    /// Its place in the order of waiting.
    pub(super) number: Number,
    deadline: Duration,
}

impl Parked {
    /// Lets a claim wait, if it asked to and there is room. Otherwise returns its answer.
    pub(super) fn park(
        &mut self,
        reply_to: ReplyTo,
        claim: ClaimWork,
        returns: &Arc<Returns>,
    ) -> Option<(ReplyTo, Reply)> {
        let Some(deadline) = claim.deadline else { return Some((reply_to, nothing(&claim, returns))) };
        if self.deadlines.len() >= PARKED_MAX {
            self.forget_gone();
        }
        if self.deadlines.len() >= PARKED_MAX {
            let error = QueueError::overloaded(PARKED_MAX, "claims that wait", PARKED_RETRY_AFTER_S);
            // The completion stands; only its next task does not come.
            let answer = if claim.form.is_beside_completion() { nothing(&claim, returns) } else { Err(error) };
            return Some((reply_to, answer));
        }
        self.last_number += 1;
        self.put(Unparked { reply_to: reply_to.waiting(), claim, number: self.last_number, deadline });
        None
    }

    /// Takes out the claim that has waited longest among those that may take from this lane and whose callers are still
    /// there.
    pub(super) fn first_for(&mut self, lane: &Lane) -> Option<Unparked> {
        loop {
            let named = self.by_type.get(&lane.task_type).into_iter().flatten();
            let any = self.by_type.get("").into_iter().flatten();
            let fitting = named.chain(any).filter(|class| lane.admits(class));
            let first = |class: &Arc<Claimant>| {
                self.classes.get(class).and_then(|class| class.claims.first_key_value()).map(|(number, _)| *number)
            };
            let (_, class) =
                fitting.filter_map(|class| Some((first(class)?, class))).min_by_key(|(number, _)| *number)?;
            let class = Arc::clone(class);
            let number = first(&class)?;
            let unparked = self.remove(&class, number)?;
            if !unparked.reply_to.is_gone() {
                return Some(unparked);
            }
        }
    }

    /// Puts a claim back into its place.
    pub(super) fn put(&mut self, unparked: Unparked) {
        let Unparked { reply_to, claim, number, deadline } = unparked;
        let class = match self.classes.get_key_value(&claim.claimant) {
            Some((class, _)) => Arc::clone(class),
            None => {
                let class = Arc::new(claim.claimant.clone());
                for task_type in names(&class) {
                    self.by_type.entry(task_type).or_default().insert(Arc::clone(&class));
                }
                class
            }
        };
        self.deadlines.insert((deadline, number), Arc::clone(&class));
        self.classes.entry(class).or_default().claims.insert(number, Waiting { reply_to, claim, deadline });
    }

    /// Takes out the claims whose wait is over, with their answers.
    pub(super) fn end_waits(&mut self, now: Duration, returns: &Arc<Returns>) -> Vec<(ReplyTo, Reply)> {
        let mut ended = Vec::new();
        while self.first_deadline().is_some_and(|deadline| deadline <= now)
            && let Some(((_, number), class)) = self.deadlines.pop_first()
        {
            if let Some(Unparked { reply_to, claim, .. }) = self.remove(&class, number) {
                let answer = nothing(&claim, returns);
                ended.push((reply_to, answer));
            }
        }
        ended
    }

    /// Returns the time at which the first wait ends.
    pub(super) fn first_deadline(&self) -> Option<Duration> {
        self.deadlines.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    /// Takes out all claims.
    pub(super) fn take_all(&mut self) -> Vec<(ReplyTo, ClaimWork)> {
        let waiting = std::mem::take(self).classes.into_values().flat_map(|class| class.claims.into_values());
        waiting.map(|waiting| (waiting.reply_to, waiting.claim)).collect()
    }

    /// Returns the number of waiting claims.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }

    fn remove(&mut self, class: &Arc<Claimant>, number: Number) -> Option<Unparked> {
        let claims = &mut self.classes.get_mut(class)?.claims;
        let Waiting { reply_to, claim, deadline } = claims.remove(&number)?;
        self.deadlines.remove(&(deadline, number));
        if claims.is_empty() {
            self.classes.remove(class);
            for task_type in names(class) {
                if let Some(classes) = self.by_type.get_mut(&task_type) {
                    classes.remove(class);
                    if classes.is_empty() {
                        self.by_type.remove(&task_type);
                    }
                }
            }
        }
        Some(Unparked { reply_to, claim, number, deadline })
    }

    /// Drops the claims whose callers have gone away.
    fn forget_gone(&mut self) {
        let waiting = self.classes.iter().flat_map(|(class, entry)| {
            let gone = entry.claims.iter().filter(|(_, waiting)| waiting.reply_to.is_gone());
            gone.map(|(number, _)| (Arc::clone(class), *number))
        });
        for (class, number) in waiting.collect::<Vec<_>>() {
            drop(self.remove(&class, number));
        }
    }
}

/// Returns the answer of a claim that gets no task.
pub(super) fn nothing(claim: &ClaimWork, returns: &Arc<Returns>) -> Reply {
    Ok(Done::Claimed(GivenOut::new(Vec::new(), claim.form.clone(), returns)))
}

/// Returns the type names under which a class is listed. A claimant names each type once.
fn names(claimant: &Claimant) -> Vec<String> {
    if claimant.types.is_empty() { vec![String::new()] } else { claimant.types.clone() }
}

/// The most claims that wait at once: all workers of a very large mesh, at about 600 bytes each.
const PARKED_MAX: usize = 16_384;

/// A waiting claim ends within about this time.
const PARKED_RETRY_AFTER_S: f64 = 5.0;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use taskqueue_api::{Completed, ErrorCode, PeerId, TaskId, TaskStatus};
    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::queue::work::Form;

    #[test]
    fn a_completion_beside_too_many_claims_that_wait_is_answered_and_stands() {
        let (writer, _messages) = sync_channel(1);
        let (returns, peer) = (Arc::new(Returns::new(writer)), PeerId::random());
        let room = Arc::new(Semaphore::new(PARKED_MAX + 2));
        let mut replies_to = Vec::new();
        let mut reply_to = || {
            let (reply, answered) = oneshot::channel();
            replies_to.push(answered);
            ReplyTo::new(reply, Arc::clone(&room).try_acquire_owned().unwrap())
        };
        let claim = |form| ClaimWork {
            claimant: Claimant::new(peer, Vec::new(), Vec::new(), None),
            worker: String::new(),
            lease_s: 1.0,
            max_tasks: 1,
            deadline: Some(Duration::from_secs(1)),
            form,
        };
        let mut parked = Parked::default();
        for _ in 0..PARKED_MAX {
            assert!(parked.park(reply_to(), claim(Form::One), &returns).is_none());
        }
        let (_, answer) = parked.park(reply_to(), claim(Form::One), &returns).unwrap();
        assert_eq!(answer.unwrap_err().code, ErrorCode::Overloaded);
        let (task_id, status) = (TaskId::from_bytes([1; 16]), TaskStatus::Completed);
        let completed = Completed { task_id, status, repeated: false, submitted: Vec::new(), next: None };
        let (_, answer) = parked.park(reply_to(), claim(Form::Next(Box::new(completed))), &returns).unwrap();
        assert!(matches!(answer, Ok(Done::Claimed(given)) if given.tasks.is_empty()));
        assert_eq!(parked.end_waits(Duration::from_secs(1), &returns).len(), PARKED_MAX);
        assert_eq!((parked.len(), parked.first_deadline()), (0, None));
    }
}
