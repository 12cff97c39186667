//! Tests of due work that cannot be done: the writer comes to rest all the same, and other work has its turn.

use std::{error::Error, sync::Arc, time::Duration};

use taskqueue_api::{
    CacheSet, Caller, Claim, Complete, Durability, Fail, Json, OnParentFailure, Submit, SubmitMany, TaskId,
    TaskQueueExt as _, TaskStatus,
};

use super::{
    Core, chores,
    timeline::Timeline,
    turn::{Memory, Turn},
};
use crate::{
    Backend as _, Clock, ManualClock, StoreOptions, Watches,
    conformance::{START, peer, soon},
    engine::Now,
    faulty::{FaultyBackend, FaultyRows, Plan},
    memory::MemoryBackend,
};

const ME: Caller = Caller::Local;

type TestResult = Result<(), Box<dyn Error>>;

struct Rig {
    core: Core,
    clock: Arc<ManualClock>,
    plan: Arc<Plan>,
    backend: MemoryBackend,
}

impl Rig {
    fn new() -> Result<Self, Box<dyn Error>> {
        let (backend, plan) = (MemoryBackend::default(), Arc::new(Plan::default()));
        let clock = Arc::new(ManualClock::new(START));
        let manual: Arc<ManualClock> = Arc::clone(&clock);
        let rows = Box::new(FaultyRows { inner: backend.open_rows()?, plan: Arc::clone(&plan) });
        let faulty = FaultyBackend { inner: backend.clone(), plan: Arc::clone(&plan) };
        let options = StoreOptions::new(peer()).with_clock(manual);
        let core = Core::start(Box::new(faulty), rows, options, Durability::Volatile)?;
        Ok(Self { core, clock, plan, backend })
    }

    async fn submit(&self, change: impl FnOnce(&mut Submit)) -> Result<TaskId, Box<dyn Error>> {
        let mut submit = Submit::new("a", Json::null());
        change(&mut submit);
        Ok(soon(self.core.submit(&ME, submit)).await?.task_id)
    }

    async fn complete_next(&self) -> Result<TaskId, Box<dyn Error>> {
        let task = soon(self.core.claim(&ME, Claim::new("w"))).await?.task.ok_or("a task")?;
        soon(self.core.complete(&ME, Complete::new(task.task_id, task.fence.ok_or("a fence")?, None))).await?;
        Ok(task.task_id)
    }

    /// Whether the writer comes to rest, with nothing to do right now.
    fn rests(&self) -> bool {
        (0..TURNS_MAX).any(|_| {
            let vitals = self.core.vitals(false);
            vitals.next_due.is_none_or(|due| due > vitals.now)
        })
    }
}

/// The most turns until then: many more than a few tasks need.
const TURNS_MAX: usize = 200;

#[tokio::test]
async fn a_timer_that_cannot_be_cleared_is_set_aside_and_others_go_on() -> TestResult {
    for timer in ["deadline", "ready", "removal"] {
        let rig = Rig::new()?;
        let with = |submit: &mut Submit, seconds: f64| match timer {
            "deadline" => submit.deadline_s = Some(seconds),
            "ready" => submit.delay_s = Some(seconds),
            _ => submit.result_ttl_s = 60.0,
        };
        rig.submit(|submit| with(submit, 10.0)).await?;
        if timer == "removal" {
            rig.complete_next().await?;
            rig.clock.advance(Duration::from_secs(50));
        }
        rig.plan.break_for_good("clear_timer");
        rig.clock.advance(Duration::from_secs(11));
        assert!(rig.rests(), "{timer}: the writer looks at it again and again");
        // A task that comes later is not held up by it.
        rig.submit(|submit| submit.delay_s = Some(5.0)).await?;
        rig.clock.advance(Duration::from_secs(6));
        assert!(rig.rests(), "{timer}");
        let next = soon(rig.core.claim(&ME, Claim { wait_s: 10.0, ..Claim::new("w") })).await?;
        assert!(next.task.is_some(), "{timer}: a timer behind it was not looked at");
    }
    Ok(())
}

#[tokio::test]
async fn keys_and_cached_values_that_cannot_be_removed_are_left_for_later() -> TestResult {
    for broken in ["remove_keys", "remove_cached", "cache_expired"] {
        let rig = Rig::new()?;
        let key = |submit: &mut Submit| {
            (submit.idempotency_key, submit.idempotency_window_s) = (Some("k".to_owned()), 10.0);
        };
        rig.submit(key).await?;
        let set = CacheSet { key: "k".to_owned(), value: Json::null(), ttl_s: Some(10.0) };
        soon(rig.core.cache_set(&ME, set)).await?;
        rig.plan.break_for_good(broken);
        rig.clock.advance(Duration::from_secs(11));
        assert!(rig.rests(), "{broken}: the writer looks at it again and again");
        // Leases and everything else that depends on time go on.
        let task = soon(rig.core.claim(&ME, Claim { lease_s: 5.0, ..Claim::new("w") })).await?.task;
        assert!(task.is_some(), "{broken}");
        rig.clock.advance(Duration::from_secs(6));
        assert!(rig.rests(), "{broken}");
        let got = soon(rig.core.get(&ME, taskqueue_api::Get { task_id: task.ok_or("a task")?.task_id })).await?;
        assert_eq!(got.task.status, TaskStatus::Queued, "{broken}: a lease did not end");
    }
    Ok(())
}

#[tokio::test]
async fn a_parent_that_cannot_be_read_or_let_go_is_set_aside_and_its_removal_with_it() -> TestResult {
    for broken in ["ended", "task", "remove_edge"] {
        let rig = Rig::new()?;
        let parent = rig.submit(|submit| submit.result_ttl_s = 60.0).await?;
        let child = Submit {
            after: vec![parent],
            on_parent_failure: OnParentFailure::Run,
            ..Submit::new("child", Json::null())
        };
        soon(rig.core.submit_many(&ME, SubmitMany { tasks: vec![child; 20] })).await?;
        let task = soon(rig.core.claim(&ME, Claim::new("w"))).await?.task.ok_or("a task")?;
        rig.plan.break_for_good(broken);
        let fail = Fail {
            task_id: task.task_id,
            fence: task.fence.ok_or("a fence")?,
            error: String::new(),
            retryable: false,
            delay_s: None,
        };
        soon(rig.core.fail(&ME, fail)).await?;
        assert!(rig.rests(), "{broken}: the writer looks at the parent again and again");
        rig.clock.advance(Duration::from_secs(61));
        assert!(rig.rests(), "{broken}: the writer tries to remove the parent again and again");
    }
    Ok(())
}

#[tokio::test]
async fn a_removal_that_is_due_before_all_are_told_follows_when_they_are() -> TestResult {
    let rig = Rig::new()?;
    let parent = rig.submit(|submit| submit.result_ttl_s = 0.0).await?;
    let child = Submit { after: vec![parent], ..Submit::new("child", Json::null()) };
    soon(rig.core.submit_many(&ME, SubmitMany { tasks: vec![child; 400] })).await?;
    rig.complete_next().await?;
    rig.clock.advance(Duration::from_secs(61));
    assert!(rig.rests());
    assert!(
        soon(rig.core.get(&ME, taskqueue_api::Get { task_id: parent })).await.is_err(),
        "the parent is still there"
    );
    let stats = soon(rig.core.stats()).await?;
    assert_eq!(stats.totals["queued"], 400);
    let claim = taskqueue_api::ClaimMany { claim: Claim::new("w"), max_tasks: 128 };
    assert_eq!(soon(rig.core.claim_many(&ME, claim)).await?.tasks.len(), 128);
    Ok(())
}

/// Leases, deadlines, delays and results that all end at once are handled in turns of bounded length, and a claim has
/// its turn in between.
#[tokio::test]
async fn a_burst_of_ends_is_bounded_work_in_each_turn() -> TestResult {
    const COUNT: usize = 400;
    let rig = Rig::new()?;
    let many = |change: &dyn Fn(&mut Submit)| {
        let mut submit = Submit::new("a", Json::null());
        change(&mut submit);
        SubmitMany { tasks: vec![submit; COUNT] }
    };
    let parents = soon(rig.core.submit_many(&ME, many(&|submit| submit.max_attempts = 1))).await?.results;
    for _ in 0..COUNT {
        soon(rig.core.claim(&ME, Claim { lease_s: 10.0, ..Claim::new("w") })).await?.task.ok_or("a task")?;
    }
    // Some ends have to be told to many children.
    for parent in parents.iter().filter_map(|result| result.submitted.as_ref()).take(50) {
        let child = Submit { after: vec![parent.task_id], ..Submit::new("child", Json::null()) };
        soon(rig.core.submit_many(&ME, SubmitMany { tasks: vec![child; 40] })).await?;
    }
    soon(rig.core.submit_many(&ME, many(&|submit| submit.deadline_s = Some(10.0)))).await?;
    soon(rig.core.submit_many(&ME, many(&|submit| submit.delay_s = Some(10.0)))).await?;
    rig.core.close();
    let mut rows = rig.backend.open_rows()?;
    let start = Timeline::resume(Arc::clone(&rig.clock) as Arc<dyn Clock>, rows.meta()?.clocks).now();
    let (mut memory, watches) = (Memory::load(&mut *rows, start)?, Watches::default());
    let later = Now {
        monotonic: start.monotonic + Duration::from_secs(20),
        wall: start.wall.after(20.0),
        elapsed: start.elapsed.after(20.0),
        ..start
    };
    let (mut done, mut turns) = (0, 0);
    while memory.running.first_end().is_some() || !memory.unsettled.is_empty() || turns == 0 {
        rows.begin()?;
        let mut turn = Turn::new(&mut *rows, &mut memory, later, &watches);
        chores::before(&mut turn, &[]).map_err(|halt| format!("{halt:?}"))?;
        let changed = turn.rows.written().changed.len();
        assert!(changed <= 4 * chores::CHORES_MAX, "{changed} tasks were changed in one turn");
        done += changed;
        turns += 1;
        assert!(turns < 10 * COUNT, "no end");
        rows.commit()?;
    }
    assert!(done >= 3 * COUNT + 50 * 40, "{done}");
    Ok(())
}
