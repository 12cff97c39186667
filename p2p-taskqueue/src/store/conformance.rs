//! What every store must do, whatever it keeps its tasks in: each test runs on each store.

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use futures::FutureExt;

use super::{ManualClock, TaskStore};
use crate::{
    Caller, PeerId, QueueError, TaskQueueExt as _,
    api::{
        Cancel, Claim, Complete, ErrorCode, Fail, Get, GetMany, List, Order, Release, Renew, Stats, StatsQuery, Submit,
        Submitted, limits::LIST_PAGE_BYTES,
    },
    engine::Wall,
    task::{Fence, Json, Task, TaskId, TaskStatus},
};

const ME: Caller = Caller::Local;

pub(super) type TestResult = Result<(), Box<dyn Error>>;

type Reopen = Box<dyn Fn(Arc<dyn TaskStore>) -> Arc<dyn TaskStore>>;

/// A store under test, with the clock that it goes by.
pub(super) struct Rig {
    pub(super) store: Arc<dyn TaskStore>,
    pub(super) clock: Arc<ManualClock>,
    /// Closes the store and opens what it left.
    pub(super) reopen: Reopen,
}

impl Rig {
    fn reopened(self) -> Self {
        let Self { store, clock, reopen } = self;
        let store = reopen(store);
        Self { store, clock, reopen }
    }

    /// Moves the clock, and returns when the store has done what the time called for.
    async fn pass(&self, seconds: f64) {
        self.clock.advance(Duration::from_secs_f64(seconds));
        // Any change has to wait its turn behind the timer.
        let (task_id, fence) = (TaskId::from_bytes([0; 16]), Fence { epoch: 0, counter: 0 });
        let probe = Renew { task_id, fence, lease_s: 1.0, progress: None, status_message: None };
        assert_eq!(code(soon(self.store.renew(&ME, probe)).await), ErrorCode::NotFound);
    }

    async fn submit(&self, task_type: &str) -> Result<TaskId, QueueError> {
        Ok(self.submit_as(Submit::new(task_type, Json::null())).await?.task_id)
    }

    async fn submit_as(&self, submit: Submit) -> Result<Submitted, QueueError> {
        soon(self.store.submit(&ME, submit)).await
    }

    /// A claim that does not wait.
    async fn claim(&self) -> Result<Option<Task>, QueueError> {
        self.claim_as(Claim::new("w")).await
    }

    async fn claim_as(&self, claim: Claim) -> Result<Option<Task>, QueueError> {
        Ok(soon(self.store.claim(&ME, claim)).await?.task)
    }

    async fn claim_now(&self) -> Result<Task, Box<dyn Error>> {
        Ok(self.claim().await?.ok_or("nothing to claim")?)
    }

    async fn get(&self, task_id: TaskId) -> Result<Task, QueueError> {
        Ok(soon(self.store.get(&ME, Get { task_id })).await?.task)
    }

    async fn status_of(&self, id: TaskId) -> Result<TaskStatus, QueueError> {
        Ok(self.get(id).await?.status)
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        soon(self.store.stats(&ME, StatsQuery {})).await
    }

    async fn list(&self, query: List) -> Result<(Vec<TaskId>, Option<String>), QueueError> {
        let page = soon(self.store.list(&ME, query)).await?;
        Ok((page.tasks.iter().map(id).collect(), page.next_cursor))
    }
}

/// Waits, but not for ever: what does not come in this time does not come.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("an answer in time")
}

/// The peer that keeps the tasks.
pub(super) fn peer() -> PeerId {
    static PEER: std::sync::LazyLock<PeerId> = std::sync::LazyLock::new(PeerId::random);
    *PEER
}

fn waiting() -> Claim {
    Claim { wait_s: 100.0, ..Claim::new("waiter") }
}

fn complete(leased: &Task, result: &str) -> Complete {
    let result = Some(Json::from_text(result));
    Complete::new(leased.task_id, fence(leased), result)
}

fn fail(leased: &Task) -> Fail {
    Fail { task_id: leased.task_id, fence: fence(leased), error: "broken".to_owned(), retryable: true, delay_s: None }
}

fn release(leased: &Task, delay_s: f64) -> Release {
    Release { task_id: leased.task_id, fence: fence(leased), delay_s, reason: String::new() }
}

fn renew(leased: &Task, lease_s: f64) -> Renew {
    let (task_id, fence) = (leased.task_id, fence(leased));
    Renew { task_id, fence, lease_s, progress: None, status_message: None }
}

fn id(task: &Task) -> TaskId {
    task.task_id
}

fn fence(leased: &Task) -> Fence {
    leased.fence.unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, QueueError>) -> ErrorCode {
    result.unwrap_err().code
}

/// Runs every test on a store; `$rig` makes a [`Rig`] and something to keep while the test runs.
macro_rules! conformance {
    ($rig:expr) => {
        crate::store::conformance::conformance! { $rig;
            t2_a_task_has_one_holder
            t3_a_fence_that_is_not_current_changes_nothing
            t4_a_dead_worker_costs_its_task_its_attempts
            t4_a_lease_ends_when_nothing_else_happens
            t5_setting_the_wall_clock_ends_no_lease
            t6_order_is_priority_then_time_then_acceptance
            t6_what_a_worker_may_not_take_hides_nothing
            t7_a_key_answers_the_first_task_or_a_conflict
            t7_repeats_in_one_batch_make_one_task
            t8_a_restart_keeps_what_was_acknowledged
            t11_results_are_removed_after_their_time
            t5_setting_the_wall_clock_removes_no_result_and_no_key
            a_long_poll_is_woken_by_whatever_makes_a_task_claimable
            a_dropped_long_poll_loses_no_task
            waiting_claims_are_served_in_turn_and_by_what_they_take
            cancelling_is_at_once_or_by_the_worker
            a_failed_attempt_waits_for_its_backoff
            delayed_tasks_come_when_the_wall_clock_says
            pages_are_stable_while_tasks_come
            lists_are_filtered_and_bounded_in_bytes
            the_status_counts_and_knows_the_longest_wait
            a_closed_store_turns_everybody_away
        }
    };
    ($rig:expr; $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() -> crate::store::conformance::TestResult {
            let (rig, _keep) = $rig?;
            crate::store::conformance::$test(rig).await
        })*
    };
}
pub(super) use conformance;

pub(super) async fn t6_order_is_priority_then_time_then_acceptance(rig: Rig) -> TestResult {
    let mut submitted = Vec::new();
    for priority in [5, 5, 9, 1, 9] {
        submitted.push(rig.submit_as(Submit { priority, ..Submit::new("echo", Json::null()) }).await?.task_id);
    }
    let late = rig.submit_as(Submit { priority: 9, delay_s: Some(5.0), ..Submit::new("other", Json::null()) }).await?;
    rig.pass(6.0).await;
    let last = rig.submit_as(Submit { priority: 9, ..Submit::new("other", Json::null()) }).await?;
    let mut claimed = Vec::new();
    while let Some(leased) = rig.claim().await? {
        claimed.push(id(&leased));
    }
    let [a, b, c, d, e] = submitted[..] else { panic!() };
    assert_eq!(claimed, [c, e, late.task_id, last.task_id, a, b, d]);
    Ok(())
}

pub(super) async fn t6_what_a_worker_may_not_take_hides_nothing(rig: Rig) -> TestResult {
    let plain = |task_type: &str| Submit { priority: 10, ..Submit::new(task_type, Json::null()) };
    for _ in 0..50 {
        rig.submit_as(Submit { requires: vec!["gpu".to_owned()], ..plain("echo") }).await?;
        rig.submit_as(Submit { session: Some("s".to_owned()), ..plain("echo") }).await?;
        rig.submit_as(Submit { pin_to: Some(PeerId::random()), ..plain("echo") }).await?;
        rig.submit_as(plain("other")).await?;
    }
    let wanted = rig.submit("echo").await?;
    let claim = Claim { supported_task_types: vec!["none".to_owned(), "echo".to_owned()], ..Claim::new("w") };
    assert_eq!(rig.claim_as(claim.clone()).await?.map(|leased| id(&leased)), Some(wanted));
    assert!(rig.claim_as(claim.clone()).await?.is_none());
    let session = Some("s".to_owned());
    let leased = rig.claim_as(Claim { session, ..claim.clone() }).await?.ok_or("a task of the session")?;
    assert_eq!(leased.session.as_deref(), Some("s"));
    let labels = vec!["ssd".to_owned(), "gpu".to_owned()];
    rig.claim_as(Claim { labels, ..claim }).await?.ok_or("a task for a gpu")?;
    let pinned = rig.submit_as(Submit { pin_to: Some(peer()), ..Submit::new("pinned", Json::null()) }).await?.task_id;
    let claim = Claim { supported_task_types: vec!["pinned".to_owned()], ..Claim::new("w") };
    assert!(soon(rig.store.claim(&Caller::Peer(PeerId::random()), claim.clone())).await?.task.is_none());
    assert_eq!(rig.claim_as(claim).await?.map(|leased| id(&leased)), Some(pinned));
    Ok(())
}

pub(super) async fn t7_a_key_answers_the_first_task_or_a_conflict(rig: Rig) -> TestResult {
    let keyed = |text: &str| Submit {
        idempotency_key: Some("k".to_owned()),
        idempotency_window_s: 60.0,
        ..Submit::new("echo", Json::from_text(text))
    };
    let first = rig.submit_as(keyed("a")).await?;
    assert!(!first.duplicate);
    let again = rig.submit_as(keyed("a")).await?;
    assert_eq!((again.task_id, again.duplicate), (first.task_id, true));
    assert_eq!(code(rig.submit_as(keyed("b")).await), ErrorCode::Conflict);
    let elsewhere = soon(rig.store.submit(&Caller::Peer(PeerId::random()), keyed("b"))).await?;
    assert!(!elsewhere.duplicate);
    let rig = rig.reopened();
    assert!(rig.submit_as(keyed("a")).await?.duplicate);
    rig.pass(61.0).await;
    let later = rig.submit_as(keyed("b")).await?;
    assert!(!later.duplicate && later.task_id != first.task_id);
    Ok(())
}

pub(super) async fn t7_repeats_in_one_batch_make_one_task(rig: Rig) -> TestResult {
    let keyed = || Submit { idempotency_key: Some("k".to_owned()), ..Submit::new("echo", Json::null()) };
    let all = (0..20).map(|_| rig.submit_as(keyed()));
    let all: Vec<Submitted> = futures::future::join_all(all).await.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(all.iter().filter(|submission| !submission.duplicate).count(), 1);
    assert!(all.iter().all(|submission| submission.task_id == all[0].task_id));
    Ok(())
}

pub(super) async fn t2_a_task_has_one_holder(rig: Rig) -> TestResult {
    let mut submitted = Vec::new();
    for _ in 0..50 {
        submitted.push(rig.submit("echo").await?);
    }
    let claimants = (0..8).map(|_| async {
        let mut held = Vec::new();
        while let Some(leased) = rig.claim().await? {
            held.push((id(&leased), fence(&leased)));
        }
        Ok::<_, QueueError>(held)
    });
    let held: Vec<(TaskId, Fence)> = futures::future::try_join_all(claimants).await?.concat();
    let mut ids: Vec<_> = held.iter().map(|(id, _)| *id).collect();
    let mut fences: Vec<_> = held.iter().map(|(_, fence)| *fence).collect();
    ids.sort();
    submitted.sort();
    assert_eq!(ids, submitted);
    fences.sort();
    fences.dedup();
    assert_eq!(fences.len(), 50);
    Ok(())
}

pub(super) async fn t3_a_fence_that_is_not_current_changes_nothing(rig: Rig) -> TestResult {
    let task = rig.submit("echo").await?;
    let first = rig.claim_now().await?;
    rig.pass(301.0).await;
    // The lease ended by the timer, with nothing else going on; after the backoff another worker has it.
    rig.pass(2.0).await;
    let second = soon(rig.store.claim(&ME, waiting())).await?.task.ok_or("claimed again")?;
    assert_eq!(id(&second), task);
    let before = rig.get(task).await?;
    assert_eq!(code(rig.store.renew(&ME, renew(&first, 9.0)).await), ErrorCode::StaleFence);
    assert_eq!(code(rig.store.complete(&ME, complete(&first, "x")).await), ErrorCode::StaleFence);
    assert_eq!(code(rig.store.fail(&ME, fail(&first)).await), ErrorCode::StaleFence);
    assert_eq!(code(rig.store.release(&ME, release(&first, 0.0)).await), ErrorCode::StaleFence);
    assert_eq!(rig.get(task).await?, before);
    rig.store.complete(&ME, complete(&second, "y")).await?;
    assert_eq!(code(rig.store.complete(&ME, complete(&first, "y")).await), ErrorCode::AlreadyFinished);
    assert_eq!(rig.get(task).await?.result, Some(Json::from_text("y")));
    assert!(rig.store.complete(&ME, complete(&second, "y")).await?.repeated);
    assert_eq!(code(rig.store.complete(&ME, complete(&second, "z")).await), ErrorCode::AlreadyFinished);
    let unknown = TaskId::from_bytes([1; 16]);
    assert_eq!(code(rig.store.renew(&ME, Renew { task_id: unknown, ..renew(&first, 9.0) }).await), ErrorCode::NotFound);
    let got = soon(rig.store.get_many(&ME, GetMany { task_ids: vec![task, unknown] })).await?;
    assert_eq!((got.tasks.len(), got.missing), (1, vec![unknown]));
    Ok(())
}

pub(super) async fn t4_a_dead_worker_costs_its_task_its_attempts(rig: Rig) -> TestResult {
    let task = rig.submit_as(Submit { max_attempts: 2, ..Submit::new("echo", Json::null()) }).await?.task_id;
    let watch = rig.store.watch(&[task])?;
    for attempt in 1..=2 {
        let leased = soon(rig.store.claim(&ME, waiting())).await?.task.ok_or("claimable")?;
        assert_eq!(leased.attempt, attempt);
        assert!(watch.done().now_or_never().is_none());
        rig.pass(300.0).await;
        rig.pass(2.0).await;
    }
    soon(watch.done()).await;
    let ended = rig.get(task).await?;
    assert_eq!((ended.status, ended.dead), (TaskStatus::Failed, true));
    assert_eq!(ended.error.as_deref(), Some("the lease expired after 2 attempts"));
    Ok(())
}

pub(super) async fn t4_a_lease_ends_when_nothing_else_happens(rig: Rig) -> TestResult {
    let task = rig.submit_as(Submit { max_attempts: 1, ..Submit::new("echo", Json::null()) }).await?.task_id;
    let watch = rig.store.watch(&[task])?;
    rig.claim_now().await?;
    rig.clock.advance(Duration::from_secs(300));
    soon(watch.done()).await;
    assert_eq!(rig.status_of(task).await?, TaskStatus::Failed);
    Ok(())
}

pub(super) async fn t5_setting_the_wall_clock_ends_no_lease(rig: Rig) -> TestResult {
    rig.submit("echo").await?;
    let leased = rig.claim_now().await?;
    for days in [1.0, -2.0, 30.0] {
        let wall = super::Clock::now(&*rig.clock).wall.after(days * 86_400.0);
        rig.clock.set_wall(wall);
        rig.pass(90.0).await;
        rig.store.renew(&ME, renew(&leased, 100.0)).await?;
    }
    rig.pass(100.0).await;
    assert_eq!(code(rig.store.renew(&ME, renew(&leased, 100.0)).await), ErrorCode::StaleFence);
    Ok(())
}

pub(super) async fn t5_setting_the_wall_clock_removes_no_result_and_no_key(rig: Rig) -> TestResult {
    let keyed = || Submit { idempotency_key: Some("k".to_owned()), ..Submit::new("echo", Json::null()) };
    let task = rig.submit_as(keyed()).await?.task_id;
    rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
    rig.clock.set_wall(super::Clock::now(&*rig.clock).wall.after(10.0 * 86_400.0));
    rig.pass(3_600.0).await;
    assert_eq!(rig.get(task).await?.result, Some(Json::from_text("r")));
    assert!(rig.submit_as(keyed()).await?.duplicate);
    Ok(())
}

pub(super) async fn t8_a_restart_keeps_what_was_acknowledged(rig: Rig) -> TestResult {
    let queued = rig.submit_as(Submit { priority: 1, ..Submit::new("echo", Json::from_text("p")) }).await?.task_id;
    let running = rig.submit_as(Submit { priority: 9, ..Submit::new("echo", Json::null()) }).await?.task_id;
    let held = rig.claim_now().await?;
    let done = rig.submit_as(Submit { priority: 9, ..Submit::new("echo", Json::null()) }).await?.task_id;
    let finished = rig.claim_now().await?;
    rig.store.complete(&ME, complete(&finished, "r")).await?;
    rig.pass(200.0).await;

    let rig = rig.reopened();
    assert_eq!(rig.get(queued).await?.payload, Json::from_text("p"));
    assert_eq!(rig.get(done).await?.result, Some(Json::from_text("r")));
    let totals = rig.stats().await?.totals;
    assert_eq!((totals["queued"], totals["running"], totals["completed"]), (1, 1, 1));
    // The lease runs for one more length of it from the start; the old fence is good.
    rig.pass(299.0).await;
    assert_eq!(rig.status_of(running).await?, TaskStatus::Running);
    let next = rig.claim_now().await?;
    assert_eq!(id(&next), queued);
    assert!(fence(&next).epoch > fence(&held).epoch);
    rig.store.renew(&ME, renew(&held, 300.0)).await?;
    let rig = rig.reopened();
    rig.pass(301.0).await;
    assert_eq!(code(rig.store.complete(&ME, complete(&held, "late")).await), ErrorCode::StaleFence);
    assert_eq!(rig.status_of(running).await?, TaskStatus::Queued);
    assert!(rig.store.complete(&ME, complete(&finished, "r")).await?.repeated);
    Ok(())
}

pub(super) async fn t11_results_are_removed_after_their_time(rig: Rig) -> TestResult {
    let keep = |result_ttl_s| Submit { result_ttl_s, ..Submit::new("echo", Json::null()) };
    let mut short = Vec::new();
    for _ in 0..100 {
        short.push(rig.submit_as(keep(10.0)).await?.task_id);
    }
    let long = rig.submit_as(keep(100.0)).await?.task_id;
    while let Some(leased) = rig.claim().await? {
        rig.store.complete(&ME, complete(&leased, "r")).await?;
    }
    rig.pass(9.0).await;
    assert_eq!(rig.get(short[99]).await?.result, Some(Json::from_text("r")));
    rig.pass(2.0).await;
    // The sweep goes on by itself; every command sees it a chunk further.
    while rig.stats().await?.totals["completed"] > 1 {
        rig.submit("tick").await?;
    }
    assert_eq!(code(rig.get(short[99]).await), ErrorCode::NotFound);
    assert_eq!(rig.get(long).await?.result, Some(Json::from_text("r")));
    Ok(())
}

pub(super) async fn a_long_poll_is_woken_by_whatever_makes_a_task_claimable(rig: Rig) -> TestResult {
    let wait = || {
        let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
        assert!((&mut claim).now_or_never().is_none());
        claim
    };
    // A submit.
    let claim = wait();
    let task = rig.submit("echo").await?;
    let leased = soon(claim).await?.task.ok_or("woken by a submit")?;
    assert_eq!(id(&leased), task);
    // A release.
    let claim = wait();
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    let leased = soon(claim).await?.task.ok_or("woken by a release")?;
    // The end of a delay.
    let claim = wait();
    rig.store.release(&ME, release(&leased, 50.0)).await?;
    rig.pass(51.0).await;
    let leased = soon(claim).await?.task.ok_or("woken by the end of a delay")?;
    assert_eq!(leased.attempt, 1);
    // The end of a lease, with no backoff.
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    let task = rig.submit_as(Submit { backoff_s: 0.0, ..Submit::new("echo", Json::null()) }).await?.task_id;
    rig.claim_as(Claim { lease_s: 20.0, ..Claim::new("w") }).await?.ok_or("a task")?;
    let claim = wait();
    rig.pass(20.0).await;
    assert_eq!(id(&soon(claim).await?.task.ok_or("woken by the end of a lease")?), task);
    // The end of the wait.
    let claim = wait();
    rig.pass(101.0).await;
    assert!(soon(claim).await?.task.is_none());
    Ok(())
}

pub(super) async fn a_dropped_long_poll_loses_no_task(rig: Rig) -> TestResult {
    // Dropped while it waits.
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    drop(claim);
    let task = rig.submit("echo").await?;
    let leased = rig.claim_now().await?;
    assert_eq!(id(&leased), task);
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    // Dropped with the answer on its way or in its hands: when the release below is answered, so is the claim.
    let leased = rig.claim_now().await?;
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    drop(claim);
    let leased = soon(rig.store.claim(&ME, waiting())).await?.task.ok_or("given back")?;
    // Two claims count nothing: one was released, one was given back.
    assert_eq!(leased.attempt, 1);
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    // Dropped after any number of polls.
    for polls in 0..4 {
        let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
        for _ in 0..polls {
            if let Some(claimed) = (&mut claim).now_or_never() {
                rig.store.release(&ME, release(&claimed?.task.ok_or("a task")?, 0.0)).await?;
                break;
            }
            rig.get(task).await?;
        }
        drop(claim);
        let leased = soon(rig.store.claim(&ME, waiting())).await?.task.ok_or("still there")?;
        rig.store.release(&ME, release(&leased, 0.0)).await?;
    }
    Ok(())
}

pub(super) async fn waiting_claims_are_served_in_turn_and_by_what_they_take(rig: Rig) -> TestResult {
    let of = |task_type: &str| Claim { supported_task_types: vec![task_type.to_owned()], ..waiting() };
    let mut other = Box::pin(rig.store.claim(&ME, of("other")));
    let mut first = Box::pin(rig.store.claim(&ME, of("echo")));
    let mut second = Box::pin(rig.store.claim(&ME, waiting()));
    for claim in [&mut other, &mut first, &mut second] {
        assert!(claim.now_or_never().is_none());
    }
    let one = rig.submit("echo").await?;
    assert_eq!(id(&soon(first).await?.task.ok_or("first")?), one);
    let two = rig.submit("echo").await?;
    assert_eq!(id(&soon(second).await?.task.ok_or("second")?), two);
    let three = rig.submit("other").await?;
    assert_eq!(id(&soon(other).await?.task.ok_or("other")?), three);
    Ok(())
}

pub(super) async fn cancelling_is_at_once_or_by_the_worker(rig: Rig) -> TestResult {
    let cancel = |task_id| Cancel { task_id, reason: "enough".to_owned() };
    let queued = rig.submit("echo").await?;
    let watch = rig.store.watch(&[queued])?;
    let cancelled = rig.store.cancel(&ME, cancel(queued)).await?;
    assert!(cancelled.cancelled && !cancelled.cancel_requested);
    soon(watch.done()).await;
    assert!(rig.store.cancel(&ME, cancel(queued)).await?.cancelled);
    assert!(rig.claim().await?.is_none());
    let running = rig.submit("echo").await?;
    let leased = rig.claim_now().await?;
    let cancelled = rig.store.cancel(&ME, cancel(running)).await?;
    assert!(!cancelled.cancelled && cancelled.cancel_requested);
    assert!(rig.store.renew(&ME, renew(&leased, 60.0)).await?.cancel_requested);
    assert_eq!(rig.store.fail(&ME, fail(&leased)).await?.status, TaskStatus::Cancelled);
    let ended = rig.get(running).await?;
    assert_eq!((ended.error.as_deref(), ended.dead), (Some("enough"), false));
    let won = rig.submit("echo").await?;
    let leased = rig.claim_now().await?;
    rig.store.cancel(&ME, cancel(won)).await?;
    assert_eq!(rig.store.complete(&ME, complete(&leased, "r")).await?.status, TaskStatus::Completed);
    assert_eq!(code(rig.store.cancel(&ME, cancel(won)).await), ErrorCode::AlreadyFinished);
    Ok(())
}

pub(super) async fn a_failed_attempt_waits_for_its_backoff(rig: Rig) -> TestResult {
    let task = rig.submit_as(Submit { backoff_s: 10.0, max_attempts: 2, ..Submit::new("echo", Json::null()) }).await?;
    let leased = rig.claim_now().await?;
    let failed = rig.store.fail(&ME, fail(&leased)).await?;
    assert_eq!((failed.status, failed.attempt), (TaskStatus::Queued, 1));
    rig.pass(7.9).await;
    assert!(rig.claim().await?.is_none());
    rig.pass(4.2).await;
    let leased = rig.claim_now().await?;
    assert_eq!(rig.store.fail(&ME, fail(&leased)).await?.status, TaskStatus::Failed);
    let ended = rig.get(task.task_id).await?;
    assert!(ended.dead);
    Ok(())
}

pub(super) async fn delayed_tasks_come_when_the_wall_clock_says(rig: Rig) -> TestResult {
    let now = super::Clock::now(&*rig.clock).wall;
    let at = |seconds: f64| Some(now.after(seconds).as_secs());
    let task = rig.submit_as(Submit { not_before: at(86_400.0), ..Submit::new("echo", Json::null()) }).await?.task_id;
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    // Somebody sets the clock a day ahead.
    rig.clock.set_wall(now.after(86_401.0));
    assert_eq!(id(&soon(claim).await?.task.ok_or("its time has come")?), task);
    assert!(rig.claim().await?.is_none());
    Ok(())
}

pub(super) async fn pages_are_stable_while_tasks_come(rig: Rig) -> TestResult {
    let mut all = Vec::new();
    for _ in 0..7 {
        all.push(rig.submit("echo").await?);
    }
    let query = List { limit: 3, ..List::default() };
    let (mut seen, mut cursor) = rig.list(query.clone()).await?;
    while cursor.is_some() {
        if all.len() < 9 {
            all.push(rig.submit("echo").await?);
        }
        let (more, next) = rig.list(List { cursor, ..query.clone() }).await?;
        seen.extend(more);
        cursor = next;
    }
    assert_eq!(seen, all);
    let newest = List { order: Order::Newest, ..query.clone() };
    let (first, cursor) = rig.list(newest.clone()).await?;
    rig.submit("echo").await?;
    let (second, _) = rig.list(List { cursor: cursor.clone(), ..newest }).await?;
    all.reverse();
    assert_eq!([first, second].concat(), all[..6]);
    // A cursor belongs to its order.
    assert_eq!(code(rig.list(List { cursor, ..query }).await), ErrorCode::InvalidArgument);
    Ok(())
}

pub(super) async fn lists_are_filtered_and_bounded_in_bytes(rig: Rig) -> TestResult {
    let marked =
        Submit { labels: vec!["x".to_owned()], session: Some("s".to_owned()), ..Submit::new("a", Json::null()) };
    let marked = rig.submit_as(marked).await?.task_id;
    let plain = rig.submit("b").await?;
    let done = rig.submit_as(Submit { priority: 9, ..Submit::new("b", Json::null()) }).await?.task_id;
    let dead = rig.submit_as(Submit { priority: 8, max_attempts: 1, ..Submit::new("b", Json::null()) }).await?.task_id;
    rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
    rig.store.fail(&ME, fail(&rig.claim_now().await?)).await?;
    let running = rig.submit_as(Submit { priority: 9, ..Submit::new("b", Json::null()) }).await?.task_id;
    rig.claim_now().await?;
    let only = |status| List { status: Some(status), ..List::default() };
    for (query, expected) in [
        (only(TaskStatus::Queued), vec![marked, plain]),
        (only(TaskStatus::Running), vec![running]),
        (only(TaskStatus::Completed), vec![done]),
        (only(TaskStatus::Failed), vec![dead]),
        (only(TaskStatus::Cancelled), vec![]),
        (List { task_types: vec!["a".to_owned(), "c".to_owned()], ..List::default() }, vec![marked]),
        (List { label: Some("x".to_owned()), ..List::default() }, vec![marked]),
        (List { session: Some("s".to_owned()), ..List::default() }, vec![marked]),
        (List { session: Some("t".to_owned()), ..List::default() }, vec![]),
    ] {
        assert_eq!(rig.list(query.clone()).await?, (expected, None), "{query:?}");
    }
    let large = "x".repeat(LIST_PAGE_BYTES / 2);
    for _ in 0..3 {
        rig.submit_as(Submit::new("large", Json::from_text(&large))).await?;
    }
    let large = List { task_types: vec!["large".to_owned()], ..List::default() };
    let (page, cursor) = rig.list(large).await?;
    assert_eq!(page.len(), 1);
    assert!(cursor.is_some());
    Ok(())
}

pub(super) async fn the_status_counts_and_knows_the_longest_wait(rig: Rig) -> TestResult {
    assert_eq!(rig.stats().await?.oldest_queued_s, None);
    rig.submit_as(Submit { priority: 1, ..Submit::new("a", Json::null()) }).await?;
    rig.pass(10.0).await;
    rig.submit_as(Submit { priority: 9, ..Submit::new("a", Json::null()) }).await?;
    rig.submit_as(Submit { priority: 9, ..Submit::new("b", Json::null()) }).await?;
    rig.pass(5.0).await;
    let status = rig.stats().await?;
    assert!((status.oldest_queued_s.unwrap() - 15.0).abs() < 0.01, "{status:?}");
    rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
    rig.claim_now().await?;
    let totals = rig.stats().await?.totals;
    let count = |name: &str| totals[name];
    assert_eq!(["queued", "running", "completed", "failed", "cancelled"].map(count), [1, 1, 1, 0, 0]);
    Ok(())
}

pub(super) async fn a_closed_store_turns_everybody_away(rig: Rig) -> TestResult {
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    rig.store.close();
    assert_eq!(code(soon(claim).await), ErrorCode::ShuttingDown);
    assert_eq!(code(rig.submit("echo").await), ErrorCode::ShuttingDown);
    assert_eq!(code(rig.stats().await), ErrorCode::ShuttingDown);
    rig.store.close();
    Ok(())
}

/// Where the tests' clocks start.
pub(super) const START: Wall = Wall::from_micros(1_700_000_000_000_000);
