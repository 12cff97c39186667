//! Tests the whole life of a task: the clauses hold for any operations in any order.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use taskqueue_api::{
    Answer, Cancel, Complete, CompletedStatus, ErrorCode, Fail, Fence, Json, PeerId, QueueError, Release, Renew,
    Submit, TaskId, TaskStatus,
};

use super::*;

/// One event of a test. A fence is named by the number of the claim that issued it.
#[derive(Debug, Clone)]
enum Event {
    Claim { lease_s: f64 },
    Renew { fence: u64, lease_s: f64, asks: Option<&'static str> },
    Answer { key: &'static str },
    Complete { fence: u64, status: CompletedStatus, result: u8 },
    Fail { fence: u64, retryable: bool },
    Release { fence: u64, delay_s: f64 },
    GiveBack { fence: u64 },
    Cancel,
    Pass { seconds: f64 },
}

fn event() -> impl Strategy<Value = Event> {
    let fence = 0_u64..6;
    let status = prop_oneof![Just(CompletedStatus::Completed), Just(CompletedStatus::Failed)];
    prop_oneof![
        4 => (1.0..50.0).prop_map(|lease_s| Event::Claim { lease_s }),
        2 => (fence.clone(), 1.0..50.0, proptest::option::of(key()))
            .prop_map(|(fence, lease_s, asks)| Event::Renew { fence, lease_s, asks }),
        1 => key().prop_map(|key| Event::Answer { key }),
        1 => (fence.clone(), status, 0_u8..2).prop_map(|(fence, status, result)| Event::Complete { fence, status, result }),
        2 => (fence.clone(), any::<bool>()).prop_map(|(fence, retryable)| Event::Fail { fence, retryable }),
        1 => (fence.clone(), 0.0..20.0).prop_map(|(fence, delay_s)| Event::Release { fence, delay_s }),
        1 => fence.prop_map(|fence| Event::GiveBack { fence }),
        1 => Just(Event::Cancel),
        3 => (0.0..40.0).prop_map(|seconds| Event::Pass { seconds }),
    ]
}

fn key() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["q", "r"])
}

/// A store with one task, and what the test needs to judge it.
#[derive(Debug)]
struct World {
    now: Now,
    standing: Standing,
    result: Option<Json>,
    lease_end: Option<Duration>,
    claims: u64,
}

const ID: TaskId = TaskId::from_bytes([7; 16]);

impl World {
    fn new(max_attempts: u32) -> Self {
        let start = Wall::from_secs(1e9);
        let now = Now {
            wall: start,
            monotonic: Duration::ZERO,
            elapsed: Elapsed::from_micros(0),
            wall_ahead: start.as_micros(),
        };
        let submit = Submit { max_attempts, ..Submit::new("echo", Json::null()) };
        let admission = admit(&taskqueue_api::Caller::Local, submit, ID, now);
        Self { now, standing: Standing::Live(admission.live), result: None, lease_end: None, claims: 0 }
    }

    fn take(&mut self, step: Step) {
        self.standing = match step {
            Step::Stay(live) => Standing::Live(live),
            Step::End(ended) => Standing::Ended(ended),
        };
        if self.standing.status() != TaskStatus::Running {
            self.lease_end = None;
        }
    }

    /// Does the work of the store's timer.
    fn pass(&mut self, seconds: f64) {
        self.now.wall = self.now.wall.after(seconds);
        self.now.elapsed = self.now.elapsed.after(seconds);
        self.now.monotonic += Duration::from_secs_f64(seconds);
        match self.standing.clone() {
            Standing::Live(live) if self.lease_end.is_some_and(|end| end <= self.now.monotonic) => {
                self.take(expire(live, 0.5, self.now));
            }
            Standing::Live(live) if live.phase == Phase::Delayed && live.ready_at <= self.now.elapsed => {
                self.standing = Standing::Live(Live { phase: Phase::Ready, ..live });
            }
            _ => {}
        }
    }

    /// Applies the event; `None` when its outcome says nothing about fences.
    fn apply(&mut self, event: &Event) -> Option<Result<(), QueueError>> {
        let (standing, lease_end, now) = (self.standing.clone(), self.lease_end, self.now);
        let fence = |counter: u64| Fence { epoch: 1, counter };
        let error = "no".to_owned();
        let step = match *event {
            Event::Pass { seconds } => {
                self.pass(seconds);
                return None;
            }
            Event::Claim { lease_s } => {
                if let Standing::Live(live) = standing
                    && live.phase == Phase::Ready
                {
                    let grant = lease(fence(self.claims), lease_s);
                    self.claims += 1;
                    self.standing = Standing::Live(super::grant(&live, grant, now));
                    self.lease_end = Some(now.monotonic + Duration::from_secs_f64(lease_s));
                }
                return None;
            }
            Event::Cancel => {
                if let Ok(Some(step)) = cancel(standing, &Cancel { task_id: ID, reason: String::new() }, now) {
                    self.take(step);
                }
                return None;
            }
            Event::Answer { key } => {
                let input_responses = BTreeMap::from([(key.to_owned(), Json::from_text(key))]);
                if let Ok((Some(live), _)) = answer(standing, &Answer { task_id: ID, input_responses }, now) {
                    self.standing = Standing::Live(live);
                }
                return None;
            }
            Event::GiveBack { fence: number } => {
                if let Some(step) = give_back(standing, ID, fence(number), now) {
                    self.take(step);
                }
                return None;
            }
            Event::Renew { fence: number, lease_s, asks } => {
                let input_requests = asks.into_iter().map(|key| (key.to_owned(), Json::null())).collect();
                let request = Renew { input_requests, ..Renew::new(ID, fence(number), lease_s) };
                renew(standing, lease_end, &request, now).map(|(live, _)| {
                    self.lease_end = Some(now.monotonic + Duration::from_secs_f64(lease_s));
                    Step::Stay(live)
                })
            }
            Event::Complete { fence: number, status, result } => {
                let result = Some(Json::parse(result.to_string()).unwrap());
                let request = Complete { status, ..Complete::new(ID, fence(number), result) };
                match complete(standing, self.result.as_ref(), lease_end, &request, now) {
                    Ok(Completion::Repeated(_)) => return Some(Ok(())),
                    Ok(Completion::End(ended)) => {
                        self.result = request.result;
                        Ok(Step::End(ended))
                    }
                    Err(error) => Err(error),
                }
            }
            Event::Fail { fence: number, retryable } => {
                let request = Fail { task_id: ID, fence: fence(number), error, retryable, delay_s: None };
                fail(standing, lease_end, &request, 0.5, now)
            }
            Event::Release { fence: number, delay_s } => {
                let request = Release { task_id: ID, fence: fence(number), delay_s, reason: String::new() };
                release(standing, lease_end, &request, now)
            }
        };
        Some(step.map(|step| self.take(step)))
    }
}

fn lease(fence: Fence, lease_s: f64) -> NewLease {
    NewLease { fence, machine: PeerId::random(), worker: "w".to_owned(), lease_s }
}

impl Event {
    const fn fence(&self) -> Option<u64> {
        match self {
            Self::Renew { fence, .. }
            | Self::Complete { fence, .. }
            | Self::Fail { fence, .. }
            | Self::Release { fence, .. }
            | Self::GiveBack { fence } => Some(*fence),
            Self::Claim { .. } | Self::Cancel | Self::Answer { .. } | Self::Pass { .. } => None,
        }
    }
}

proptest! {
    #[test]
    fn t2_t3_only_the_current_fence_changes_a_running_task(
        max_attempts in 0_u32..4,
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(max_attempts);
        for event in &events {
            let before = (world.standing.clone(), world.result.clone());
            let held = world.standing.status() == TaskStatus::Running && world.lease_end.unwrap() > world.now.monotonic;
            let current = event.fence().is_some_and(|fence| held && fence + 1 == world.claims);
            let answer = world.apply(event);
            if event.fence().is_some() && !current {
                // The fence is foreign, superseded, expired, or of an ended task. Nothing may change, and only a
                // repeated completion may succeed.
                prop_assert_eq!(&before, &(world.standing.clone(), world.result.clone()));
                match answer {
                    Some(Ok(())) => {
                        let repeats = matches!(event, Event::Complete { fence, .. } if fence + 1 == world.claims);
                        prop_assert!(repeats && before.0.status().is_terminal());
                    }
                    Some(Err(error)) => prop_assert_eq!(
                        error.code,
                        if before.0.status().is_terminal() { ErrorCode::AlreadyFinished } else { ErrorCode::StaleFence }
                    ),
                    None => {}
                }
            } else if current {
                prop_assert!(answer.is_none_or(|answer| answer.is_ok()));
            }
            if let Standing::Ended(ended) = &world.standing {
                prop_assert!(ended.attempts.as_slice().iter().all(|attempt| attempt.end.is_some()));
            }
            if before.0.status().is_terminal() {
                prop_assert_eq!(&before, &(world.standing.clone(), world.result.clone()));
            }
            if let Standing::Live(live) = &world.standing {
                prop_assert!(max_attempts == 0 || live.attempt <= max_attempts);
                prop_assert_eq!(world.lease_end.is_some(), live.phase == Phase::Running);
                prop_assert_eq!(live.attempts.holder().is_some(), live.phase == Phase::Running);
                let open = live.inputs.as_ref().map_or(0, |inputs| inputs.open().len());
                prop_assert!(open == 0 || live.phase == Phase::Running, "what nobody waits for is asked: {live:?}");
                if let Standing::Live(Live { inputs: Some(inputs), .. }) = &before.0 {
                    // While the task lives, an answer is never removed or replaced.
                    let (was, is) = (inputs.answers(), live.inputs.as_ref().map(|inputs| inputs.answers().clone()));
                    prop_assert!(was.iter().all(|(key, answer)| is.as_ref().and_then(|is| is.get(key)) == Some(answer)));
                }
            }
        }
    }
}

fn claimed(max_attempts: u32) -> World {
    let mut world = World::new(max_attempts);
    world.apply(&Event::Claim { lease_s: 10.0 });
    world
}

fn ended(world: &World) -> &Ended {
    match &world.standing {
        Standing::Ended(ended) => ended,
        Standing::Live(live) => panic!("has not ended: {live:?}"),
    }
}

#[test]
fn t4_a_lease_that_expires_costs_an_attempt_and_the_last_one_is_dead_with_the_error_kept() {
    let mut world = claimed(2);
    assert!(world.apply(&Event::Fail { fence: 0, retryable: true }).unwrap().is_ok());
    assert_eq!(world.standing.status(), TaskStatus::Queued);
    world.pass(2.0);
    world.apply(&Event::Claim { lease_s: 10.0 });
    world.pass(10.0);
    let ended = ended(&world);
    assert_eq!((ended.status, ended.dead, ended.attempt), (TaskStatus::Failed, true, 2));
    assert_eq!(ended.error.as_deref(), Some("the lease expired after 2 attempts; the last error was: no"));
}

#[test]
fn t4_without_a_limit_an_expired_task_is_always_queued_again() {
    let mut world = claimed(0);
    for _ in 0..2_000 {
        world.pass(10.0);
        assert_eq!(world.standing.status(), TaskStatus::Queued);
        world.pass(400.0);
        world.apply(&Event::Claim { lease_s: 10.0 });
        assert_eq!(world.standing.status(), TaskStatus::Running);
    }
}

#[test]
fn a_release_gives_the_attempt_back_and_a_permanent_failure_is_dead() {
    let mut world = claimed(1);
    world.apply(&Event::Release { fence: 0, delay_s: 0.0 });
    assert_eq!(world.standing.status(), TaskStatus::Queued);
    world.apply(&Event::Claim { lease_s: 10.0 });
    world.apply(&Event::Fail { fence: 1, retryable: false });
    assert!(ended(&world).dead);
}

#[test]
fn a_running_task_is_called_off_by_its_worker_or_its_lease_but_a_completion_wins() {
    for (event, status) in [
        (Event::Fail { fence: 0, retryable: true }, TaskStatus::Cancelled),
        (Event::Release { fence: 0, delay_s: 0.0 }, TaskStatus::Cancelled),
        (Event::GiveBack { fence: 0 }, TaskStatus::Cancelled),
        (Event::Pass { seconds: 10.0 }, TaskStatus::Cancelled),
        (Event::Complete { fence: 0, status: CompletedStatus::Completed, result: 1 }, TaskStatus::Completed),
    ] {
        let mut world = claimed(3);
        world.apply(&Event::Cancel);
        assert_eq!(world.standing.status(), TaskStatus::Running);
        let request = Renew::new(ID, Fence { epoch: 1, counter: 0 }, 10.0);
        let (_, renewed) = renew(world.standing.clone(), world.lease_end, &request, world.now).unwrap();
        assert!(renewed.cancel_requested);
        world.apply(&event);
        assert_eq!(ended(&world).status, status, "{event:?}");
    }
}

#[test]
fn a_completion_is_repeated_only_word_for_word() {
    let mut world = claimed(3);
    let done = |fence, status, result| Event::Complete { fence, status, result };
    assert!(world.apply(&done(0, CompletedStatus::Completed, 1)).unwrap().is_ok());
    assert!(world.apply(&done(0, CompletedStatus::Completed, 1)).unwrap().is_ok());
    for other in [
        done(0, CompletedStatus::Completed, 0),
        done(0, CompletedStatus::Failed, 1),
        done(1, CompletedStatus::Completed, 1),
    ] {
        assert_eq!(world.apply(&other).unwrap().unwrap_err().code, ErrorCode::AlreadyFinished);
    }
}
