//! A store and its model side by side: each step is done to both.

use std::{cell::Cell, collections::HashSet, fmt, sync::Arc, time::Duration};

use futures::executor::block_on;
use taskqueue_api::{
    Caller, Claim, Durability, Fence, Json, Operation, PeerId, QueueError, Request, Response, Submit, TaskId,
};

use super::{
    queue::{Clocks, Queue},
    refusals::Refusals,
    step::{Draft, Hold, Pick, Restart, Step, Wait, Want, Which, Who},
    task::{State, micros},
    waits::{Grant, Waiter, Waiting},
};
use crate::{Clock, ManualClock, TaskStore, engine::Wall};

/// Closes the store, runs the given function, and opens what the store left.
pub(crate) type Reopen = Box<dyn Fn(Arc<dyn TaskStore>, &dyn Fn()) -> Arc<dyn TaskStore>>;

/// A store under test without tasks, with its clock and its owner.
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) owner: PeerId,
    /// The durability that its answers give for a task that is accepted.
    pub(crate) durability: Durability,
    pub(crate) reopen: Reopen,
    /// Returns the content of its rows.
    pub(crate) rows: Box<dyn Fn() -> String>,
}

/// What a store did against a clause, and that clause.
#[derive(Debug)]
pub(crate) struct Violation {
    clause: &'static str,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.clause, self.what)
    }
}

pub(super) fn broken<T>(clause: &'static str, what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { clause, what: what.into() })
}

/// Fails with the clause unless the condition is true.
macro_rules! hold {
    ($clause:expr, $condition:expr, $($what:tt)+) => {
        if !$condition {
            return crate::model::world::broken($clause, format!($($what)+));
        }
    };
}
pub(super) use hold;

pub(super) struct World {
    subject: Subject,
    other: PeerId,
    pub(super) queue: Queue,
    /// Every fence in an answer so far.
    pub(super) fences: HashSet<Fence>,
    /// The last epoch before the store was opened.
    pub(super) epoch_before: Option<u64>,
    /// The clause to blame when a task changes that this step does not concern.
    pub(super) clause: &'static str,
    /// Whether time has passed, and the store may not have done what is due.
    pub(super) is_due: Cell<bool>,
    /// The waiting claims, the one that has waited longest first.
    pub(super) waiting: Vec<Waiting>,
    pub(super) grants: Vec<Grant>,
    pub(super) watches: Vec<Waiter>,
    /// The refusals that have changed something, when histories check that.
    pub(super) refusals: Option<Refusals>,
}

impl World {
    pub(super) fn new(subject: Subject) -> Self {
        let queue = Queue::new(subject.clock.read().wall.as_micros());
        let (fences, other) = (HashSet::new(), PeerId::random());
        let (waiting, grants, watches) = (Vec::new(), Vec::new(), Vec::new());
        let (clause, is_due) = ("", Cell::new(false));
        let refusals = None;
        Self { subject, other, queue, fences, epoch_before: None, clause, is_due, waiting, grants, watches, refusals }
    }

    /// Does the steps, and after each compares the store with the model.
    pub(super) fn live_through(&mut self, steps: &[Step]) -> Result<(), Violation> {
        for (number, step) in steps.iter().enumerate() {
            self.queue.step = number + 1;
            let named = self.act(step)?;
            self.queue.note_crowd();
            self.note_ends();
            self.look_at_refusals()?;
            if self.is_due.get() {
                continue;
            }
            self.rest()?;
            self.serve()?;
            // All tasks are compared now and then, and those that the step concerns each time.
            let all = number % LOOK_AT_ALL == 0
                || matches!(step, Step::Restart(_) | Step::Jump(_) | Step::Sleep(_))
                || number + 1 == steps.len();
            self.look(named, all)?;
        }
        self.give_all_out()?;
        self.give_all_back()?;
        self.subject.store.close();
        Ok(())
    }

    /// Does a step, and returns the task that it names.
    fn act(&mut self, step: &Step) -> Result<Option<TaskId>, Violation> {
        self.clause = "T3";
        match step {
            Step::Submit(who, draft) => self.submit(*who, self.submit_of(draft)).map(|()| None),
            Step::SubmitMany(who, drafts) => {
                let submits = drafts.iter().map(|draft| self.submit_of(draft)).collect();
                self.submit_many(*who, submits).map(|()| None)
            }
            Step::Repeat(who, task, other) => self.repeat(*who, *task, *other).map(|()| None),
            Step::Claim(who, want) => self.claim(*who, &claim_of(want)).map(|()| None),
            Step::ClaimMany(who, want, count) => self.claim_many(*who, &claim_of(want), *count).map(|()| None),
            Step::Renew(hold, lease_s, progress) => self.renew(self.held(*hold), *lease_s, *progress).map(Some),
            Step::Ask(hold, key, question) => self.question(self.held(*hold), key, *question).map(Some),
            Step::Answer(task, keys, response) => self.answer(self.pick(*task), keys, *response).map(Some),
            Step::Complete(hold, status, result, children, next) => {
                let children = children.iter().map(|draft| self.submit_of(draft)).collect();
                let next = next.as_ref().map(claim_of);
                let result = result.map(json);
                self.complete(self.held(*hold), *status, result, children, next).map(Some)
            }
            Step::Fail(hold, retryable, delay_s) => self.fail(self.held(*hold), *retryable, *delay_s).map(Some),
            Step::Release(hold, delay_s) => self.release(self.held(*hold), *delay_s).map(Some),
            Step::Free(who) => self.free(*who).map(|()| None),
            Step::Cancel(task, reason) => self.cancel(self.pick(*task), *reason).map(Some),
            Step::Get(task) => self.get(self.pick(*task)).map(Some),
            Step::List(sieve, limit, order) => self.list(sieve, *limit, *order).map(|()| None),
            Step::Retry(chosen) => self.retry(chosen).map(|()| None),
            Step::Purge(chosen) => self.purge(chosen).map(|()| None),
            Step::Pause(kinds, drain) => self.pause(kinds, *drain).map(|()| None),
            Step::Resume(kinds) => self.resume(kinds).map(|()| None),
            Step::LimitType(kind, max) => self.limit_type(kind, *max).map(|()| None),
            Step::Crowd(parent, count, policy) => {
                let child = Submit {
                    after: vec![self.pick(*parent)],
                    on_parent_failure: *policy,
                    backoff_s: 0.0,
                    ..Submit::new("a", json(0))
                };
                self.submit_many(Who::Owner, vec![child; *count]).map(|()| None)
            }
            Step::Watch(picks) => self.watch(picks).map(|()| None),
            Step::Leave(number) => {
                self.leave(*number);
                Ok(None)
            }
            Step::LimitKey(key, max) => self.limit_key(key, *max).map(|()| None),
            Step::CacheSet(key, value, ttl_s) => self.cache_set(key, *value, *ttl_s).map(|()| None),
            Step::CacheGet(key) => self.cache_get(key).map(|()| None),
            Step::CacheHas(key) => self.cache_has(key).map(|()| None),
            Step::CacheDelete(key) => self.cache_delete(key).map(|()| None),
            Step::Advance(seconds, at_once) => self.advance(*seconds, *at_once).map(|()| None),
            Step::Jump(seconds) => self.jump(*seconds).map(|()| None),
            Step::Sleep(seconds) => self.sleep(*seconds).map(|()| None),
            Step::Restart(restart) => self.restart(*restart).map(|()| None),
        }
    }

    pub(super) fn ask<O>(&self, who: Who, operation: O) -> Result<O::Answer, QueueError>
    where
        O: Operation + Send + 'static,
        O::Answer: Send,
    {
        let request = operation.into_request();
        assert!(taskqueue_api::Check::check(&request).is_ok(), "a history has good arguments only: {request:?}");
        if reads_first(&request) {
            self.catch_up();
        }
        let before = self.before_refusal();
        self.is_due.set(false);
        let mut answer = block_on(self.subject.store.call(&self.caller(who), request));
        answer.iter_mut().for_each(|response| self.explain(response));
        self.after_refusal(before, &answer);
        O::answer(answer?)
    }

    /// Asks the store why the queued tasks in an answer wait.
    fn explain(&self, response: &mut Response) {
        let tasks = match response {
            Response::Got(got) => std::slice::from_mut(&mut got.task),
            Response::GotMany(got) => &mut got.tasks,
            Response::Listed(listed) => &mut listed.tasks,
            _ => return,
        };
        block_on(self.subject.store.explain(tasks));
    }

    pub(super) const fn store(&self) -> &Arc<dyn TaskStore> {
        &self.subject.store
    }

    /// Returns the content of the store's rows.
    pub(super) fn rows(&self) -> String {
        (self.subject.rows)()
    }

    pub(super) fn advance_clock(&self, by: Duration) {
        self.subject.clock.advance(by);
    }

    pub(super) fn caller(&self, who: Who) -> Caller {
        match who {
            Who::Owner => Caller::Local,
            Who::Other => Caller::member(self.other),
        }
    }

    pub(super) const fn durability(&self) -> Durability {
        self.subject.durability
    }

    pub(super) fn scope(&self, who: Who) -> String {
        self.caller(who).scope()
    }

    pub(super) const fn peer(&self, who: Who) -> PeerId {
        match who {
            Who::Owner => self.subject.owner,
            Who::Other => self.other,
        }
    }

    fn advance(&mut self, seconds: f64, at_once: bool) -> Result<(), Violation> {
        self.catch_up();
        self.clause = "T4";
        let Clocks { wall, mono, elapsed } = &mut self.queue.clocks;
        [wall, mono, elapsed].into_iter().for_each(|clock| *clock += micros(seconds));
        self.subject.clock.advance(Duration::from_secs_f64(seconds));
        self.queue.pass();
        // Removals may take several turns, and the length of a backoff has to be read from the record.
        let is_open = self.removed() > 0 || self.queue.tasks.iter().any(|task| task.backoff.is_some());
        self.queue.note_crowd();
        // When claims wait, the order in which they are served cannot be predicted.
        let is_busy = self.queue.crowded.contains(&self.queue.step) || !self.waiting.is_empty();
        self.is_due.set(at_once && !is_open && !is_busy);
        if self.is_due.get() { Ok(()) } else { self.when_passed() }
    }

    fn jump(&mut self, seconds: f64) -> Result<(), Violation> {
        self.catch_up();
        self.clause = "T5";
        self.queue.clocks.wall += micros(seconds);
        self.subject.clock.set_wall(Wall::from_micros(self.queue.clocks.wall));
        self.queue.pass();
        self.when_passed()
    }

    fn sleep(&mut self, seconds: f64) -> Result<(), Violation> {
        self.catch_up();
        self.clause = "T5";
        self.queue.clocks.wall += micros(seconds);
        self.queue.clocks.elapsed += micros(seconds);
        self.subject.clock.sleep(Duration::from_secs_f64(seconds));
        self.queue.pass();
        self.when_passed()
    }

    /// Closes and opens the store. While the machine is on, only the time that really passes ends a span. While it is
    /// off, only the wall clock shows how much time passes.
    fn restart(&mut self, restart: Restart) -> Result<(), Violation> {
        let Restart { off_s, jump_s, reboots } = restart;
        self.catch_up();
        self.clause = "T8";
        self.epoch_before = self.fences.iter().map(|fence| fence.epoch).max();
        let store = Arc::clone(&self.subject.store);
        store.close();
        self.turned_away()?;
        let wall = self.queue.clocks.wall + micros(off_s) + micros(jump_s);
        let clock = Arc::clone(&self.subject.clock);
        let meanwhile = || {
            if reboots {
                clock.reboot(Duration::from_secs_f64(off_s));
            } else {
                clock.advance(Duration::from_secs_f64(off_s));
                clock.restart();
            }
            clock.set_wall(Wall::from_micros(wall));
        };
        self.subject.store = (self.subject.reopen)(store, &meanwhile);
        let passed = if reboots { (wall - self.queue.clocks.wall).max(0) } else { micros(off_s) };
        self.queue.clocks = Clocks { wall, mono: 0, elapsed: self.queue.clocks.elapsed + passed };
        self.queue.reopen();
        self.when_passed()
    }

    /// Lets the store do what is due, if that is still to be done.
    pub(super) fn catch_up(&self) {
        if self.is_due.replace(false) {
            drop(self.rest());
        }
    }

    /// Returns when the store has done what is due.
    fn when_passed(&self) -> Result<(), Violation> {
        self.rest().map(drop)
    }

    /// Returns the number of tasks that time has removed and whose removal was not compared yet.
    fn removed(&self) -> usize {
        self.queue.tasks.iter().filter(|task| task.gone && task.changed.is_some()).count()
    }

    pub(super) fn pick(&self, pick: Pick) -> TaskId {
        let among = |wanted: &dyn Fn(State) -> bool, number: usize| {
            let tasks = &self.queue.tasks;
            let fitting: Vec<_> = tasks.iter().filter(|task| !task.gone && wanted(task.state)).collect();
            let (number, fitting) = (number, if fitting.is_empty() { tasks.iter().collect() } else { fitting });
            number.checked_rem(fitting.len()).map_or(UNKNOWN, |at| fitting[at].id)
        };
        match pick {
            Pick::Any(number) => {
                number.checked_rem(self.queue.tasks.len()).map_or(UNKNOWN, |at| self.queue.tasks[at].id)
            }
            Pick::Running(number) => among(&|state| state == State::Running, number),
            Pick::Ended(number) => among(&|state| matches!(state, State::Ended(_)), number),
            Pick::Unknown => UNKNOWN,
        }
    }

    fn held(&self, hold: Hold) -> (TaskId, Fence) {
        let id = self.pick(hold.task);
        let mut of_task = self.queue.tasks.iter().filter(|task| task.id == id).flat_map(|task| &task.fences).rev();
        let fence = match hold.fence {
            Which::Last => of_task.next(),
            Which::Earlier => of_task.nth(1),
            Which::Foreign => {
                self.queue.tasks.iter().filter(|task| task.id != id).flat_map(|task| &task.fences).next_back()
            }
        };
        (id, fence.copied().unwrap_or(FOREIGN))
    }

    fn submit_of(&self, draft: &Draft) -> Submit {
        let (delay_s, not_before) = match draft.wait {
            Wait::None => (None, None),
            Wait::Delay(seconds) => (Some(seconds), None),
            Wait::NotBefore(seconds) => (None, Some(super::task::as_secs(self.queue.clocks.wall + micros(seconds)))),
        };
        Submit {
            priority: draft.priority,
            delay_s,
            not_before,
            deadline_s: draft.deadline_s,
            max_attempts: draft.max_attempts,
            backoff_s: draft.backoff_s,
            idempotency_key: draft.key.map(|(key, _)| key.to_owned()),
            idempotency_window_s: draft.key.map_or(86_400.0, |(_, window_s)| window_s),
            submitter: draft.submitter.map(str::to_owned),
            labels: if draft.label { vec!["l".to_owned(), "m".to_owned()] } else { Vec::new() },
            requires: if draft.requires { vec!["gpu".to_owned()] } else { Vec::new() },
            pin_to: draft.pin_to.map(|who| self.peer(who)),
            session: draft.session.map(str::to_owned),
            after: draft.after.iter().map(|parent| self.pick(*parent)).collect(),
            on_parent_failure: draft.policy,
            concurrency_key: draft.concurrency_key.map(str::to_owned),
            result_ttl_s: draft.result_ttl_s,
            ..Submit::new(draft.kind, json(draft.payload))
        }
    }
}

/// Returns whether the operation, or its first part, is answered before the store's timer has its turn, or still counts
/// an expired value that was not removed yet.
const fn reads_first(request: &Request) -> bool {
    matches!(
        request,
        Request::Get(_)
            | Request::GetMany(_)
            | Request::List(_)
            | Request::StatsQuery(_)
            | Request::Retry(_)
            | Request::Purge(_)
            | Request::CacheGet(_)
            | Request::CacheHas(_)
            | Request::CacheDelete(_)
    )
}

fn claim_of(want: &Want) -> Claim {
    Claim {
        supported_task_types: want.kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        labels: if want.gpu { vec!["ssd".to_owned(), "gpu".to_owned()] } else { Vec::new() },
        session: want.session.map(str::to_owned),
        lease_s: want.lease_s,
        wait_s: want.wait_s,
        ..Claim::new("w")
    }
}

pub(super) fn json(number: u8) -> Json {
    Json::parse(number.to_string()).expect("a number is JSON")
}

const UNKNOWN: TaskId = TaskId::from_bytes([0xee; 16]);

const FOREIGN: Fence = Fence { epoch: u64::MAX, counter: 7 };

/// All tasks are compared after this many steps, not only those that have changed.
const LOOK_AT_ALL: usize = 10;
