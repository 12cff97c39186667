use sha2::{Digest, Sha256};
use taskqueue_api::PeerId;
use taskqueue_api::{Caller, Fence, Json, OnParentFailure, Submit, TaskId};

use super::{Elapsed, Live, Now, Phase, Policy, Spec, Wall, time::unsigned_zero};

/// A task that was made from a submit.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    /// The part that the submit fixed.
    pub(crate) spec: Spec,
    /// The first state of the task.
    pub(crate) live: Live,
    /// Its input.
    pub(crate) payload: Json,
    /// How a repeated submit is recognised, if the submit asked for that.
    pub(crate) idempotency: Option<Idempotency>,
}

/// How a repeated submit is recognised (clause T7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Idempotency {
    /// The submitter: equal keys of different submitters are different keys.
    pub(crate) scope: String,
    /// The submitter's key.
    pub(crate) key: String,
    /// A hash of everything that the submit asks for, except the key, its window, the task's id and the submitter.
    pub(crate) content: [u8; 32],
    /// The end of the time for which the key is remembered.
    pub(crate) expires_at: Elapsed,
}

/// Returns the id of the task that a completion submits at position `place` of its list.
///
/// The id follows from the completion, and there is one completion for a fence. So a repeated completion finds its
/// tasks again. Nobody can guess the id without knowing the task and the fence.
pub(crate) fn child_id(parent: TaskId, fence: Fence, place: usize) -> TaskId {
    let mut sum = Sha256::new_with_prefix(b"taskmesh: task of a completion");
    sum.update(parent.as_bytes());
    sum.update(fence.epoch.to_le_bytes());
    sum.update(fence.counter.to_le_bytes());
    sum.update((place as u64).to_le_bytes());
    let mut id = [0; 16];
    id.iter_mut().zip(sum.finalize()).for_each(|(byte, of_sum)| *byte = of_sum);
    TaskId::from_bytes(id)
}

/// Makes a task from a submit whose arguments have been checked.
pub(crate) fn admit(caller: &Caller, submit: Submit, id: TaskId, now: Now) -> Admission {
    let submit = with_unsigned_zeros(submit);
    let idempotency = submit.idempotency_key.as_ref().map(|key| Idempotency {
        scope: scope_of(caller, submit.submitter.as_deref()),
        key: key.clone(),
        content: content_hash(&submit),
        expires_at: now.elapsed.after(submit.idempotency_window_s),
    });
    let delay_s = submit.delay_s.unwrap_or(0.0);
    let not_before = submit.not_before.map(Wall::from_secs);
    let phase = if delay_s > 0.0 {
        Phase::Delayed
    } else if not_before.is_some_and(|date| date > now.wall) {
        Phase::Scheduled
    } else {
        Phase::Ready
    };
    let policy =
        Policy { max_attempts: submit.max_attempts, backoff_s: submit.backoff_s, result_ttl_s: submit.result_ttl_s };
    let live = Live {
        phase,
        not_before,
        deadline: submit.deadline_s.map(|seconds| now.elapsed.after(seconds)),
        ..Live::unclaimed(now.elapsed.after(delay_s), now.wall, policy)
    };
    let spec = Spec {
        id,
        submitter: submit.submitter,
        submitted_by: caller.machine(),
        task_type: submit.task_type,
        model_name: submit.model_name,
        priority: submit.priority,
        created_at: now.wall,
        deadline_s: submit.deadline_s,
        labels: submit.labels,
        requires: submit.requires,
        session: submit.session,
        pin_to: submit.pin_to,
        after: submit.after,
        on_parent_failure: submit.on_parent_failure,
        concurrency_key: submit.concurrency_key,
        policy,
    };
    Admission { spec, live, payload: submit.payload, idempotency }
}

/// Replaces every minus zero with zero, whichever way the submit came. The two are the same number, so they must be the
/// same content.
fn with_unsigned_zeros(submit: Submit) -> Submit {
    Submit {
        delay_s: submit.delay_s.map(unsigned_zero),
        not_before: submit.not_before.map(unsigned_zero),
        deadline_s: submit.deadline_s.map(unsigned_zero),
        backoff_s: unsigned_zero(submit.backoff_s),
        result_ttl_s: unsigned_zero(submit.result_ttl_s),
        ..submit
    }
}

/// Returns the scope of a caller's idempotency keys.
///
/// Keys of different submitters never meet. No caller's scope has a space in it, so a scope without a submitter never
/// equals a scope with one.
fn scope_of(caller: &Caller, submitter: Option<&str>) -> String {
    match submitter {
        Some(submitter) => format!("{} {submitter}", caller.scope()),
        None => caller.scope(),
    }
}

/// Hashes the fields one by one, each with its name and length.
///
/// So the hash of the same content stays the same when a later version adds a field. That version must feed the new
/// field only where it is not the default.
fn content_hash(submit: &Submit) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut feed = |name: &str, bytes: &[u8]| {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    feed("task_type", submit.task_type.as_bytes());
    feed("model_name", submit.model_name.as_bytes());
    feed("payload", submit.payload.get().as_bytes());
    feed("priority", &[submit.priority]);
    submit.delay_s.iter().for_each(|delay| feed("delay_s", &delay.to_le_bytes()));
    submit.not_before.iter().for_each(|time| feed("not_before", &time.to_le_bytes()));
    feed("max_attempts", &submit.max_attempts.to_le_bytes());
    feed("backoff_s", &submit.backoff_s.to_le_bytes());
    submit.labels.iter().for_each(|label| feed("labels", label.as_bytes()));
    submit.requires.iter().for_each(|label| feed("requires", label.as_bytes()));
    submit.pin_to.iter().for_each(|peer: &PeerId| feed("pin_to", &peer.to_bytes()));
    submit.session.iter().for_each(|session| feed("session", session.as_bytes()));
    feed("result_ttl_s", &submit.result_ttl_s.to_le_bytes());
    submit.deadline_s.iter().for_each(|deadline| feed("deadline_s", &deadline.to_le_bytes()));
    submit.after.iter().for_each(|parent| feed("after", parent.as_bytes()));
    submit.concurrency_key.iter().for_each(|key| feed("concurrency_key", key.as_bytes()));
    if submit.on_parent_failure == OnParentFailure::Run {
        feed("on_parent_failure", b"run");
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Now = Now {
        wall: Wall::from_micros(1_000_000_000),
        monotonic: Duration::ZERO,
        elapsed: Elapsed::from_micros(7_000_000),
        wall_ahead: 993_000_000,
    };

    fn admitted(change: impl FnOnce(&mut Submit)) -> Admission {
        let mut submit = Submit::new("echo", Json::null());
        submit.idempotency_key = Some("k".to_owned());
        change(&mut submit);
        admit(&Caller::Local, submit, TaskId::from_bytes([1; 16]), NOW)
    }

    #[test]
    fn a_delay_keeps_it_from_being_claimed_and_a_past_time_does_not() {
        let delayed = admitted(|submit| submit.delay_s = Some(2.0));
        assert_eq!((delayed.live.phase, delayed.live.ready_at), (Phase::Delayed, NOW.elapsed.after(2.0)));
        let scheduled = admitted(|submit| submit.not_before = Some(1_001.0));
        assert_eq!((scheduled.live.phase, scheduled.live.not_before), (Phase::Scheduled, Some(NOW.wall.after(1.0))));
        let past = admitted(|submit| submit.not_before = Some(1.0));
        assert_eq!((past.live.phase, past.live.ready_at), (Phase::Ready, NOW.elapsed));
        assert_eq!(past.live.not_before, Some(Wall::from_secs(1.0)));
    }

    #[test]
    fn the_scope_of_a_key_is_the_caller_and_the_submitter() {
        let scope = |caller: &Caller, submitter: Option<&str>| {
            let submit = Submit {
                idempotency_key: Some("k".to_owned()),
                submitter: submitter.map(str::to_owned),
                ..Submit::new("echo", Json::null())
            };
            admit(caller, submit, TaskId::from_bytes([1; 16]), NOW).idempotency.unwrap().scope
        };
        assert_eq!(scope(&Caller::Local, None), "local");
        let scopes = [
            scope(&Caller::Local, None),
            scope(&Caller::Local, Some("a")),
            scope(&Caller::Local, Some("b")),
            scope(&Caller::member(PeerId::random()), Some("a")),
        ];
        for (at, one) in scopes.iter().enumerate() {
            assert!(!scopes[..at].contains(one), "{one} is two scopes");
        }
    }

    #[test]
    fn every_argument_but_key_window_and_id_is_content() {
        let content = |change: fn(&mut Submit)| admitted(change).idempotency.unwrap().content;
        let plain = content(|_| {});
        assert_eq!(plain, content(|submit| submit.idempotency_window_s = 1.0));
        assert_eq!(plain, content(|submit| submit.task_id = Some(TaskId::from_bytes([3; 16]))));
        assert_eq!(plain, content(|submit| submit.idempotency_key = Some("other".to_owned())));
        let changes: [fn(&mut Submit); 17] = [
            |submit| submit.task_type.push('x'),
            |submit| submit.model_name.push('x'),
            |submit| submit.payload = Json::from_text("x"),
            |submit| submit.priority = 6,
            |submit| submit.delay_s = Some(1.0),
            |submit| submit.not_before = Some(1.0),
            |submit| submit.max_attempts = 4,
            |submit| submit.backoff_s = 2.0,
            |submit| submit.labels.push("x".to_owned()),
            |submit| submit.requires.push("x".to_owned()),
            |submit| submit.session = Some("x".to_owned()),
            |submit| submit.pin_to = Some(PeerId::random()),
            |submit| submit.result_ttl_s = 1.0,
            |submit| submit.deadline_s = Some(1.0),
            |submit| submit.after.push(TaskId::from_bytes([2; 16])),
            |submit| submit.on_parent_failure = OnParentFailure::Run,
            |submit| submit.concurrency_key = Some("x".to_owned()),
        ];
        let mut seen = vec![plain];
        for (index, change) in changes.into_iter().enumerate() {
            let content = content(change);
            assert!(!seen.contains(&content), "change {index} is not part of the content");
            seen.push(content);
        }
    }
}
