//! Tests with bursts: many callers ask at once, so that one request is served before the effects of another one are
//! done. Their order is open, so no answers are compared. But the store must come to rest after each burst, and in the
//! end every task must end.

use std::{collections::BTreeMap, time::Duration};

use futures::{
    executor::block_on,
    future::{BoxFuture, FutureExt as _, join_all},
};
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use taskqueue_api::{
    Caller, Cancel, Claim, ClaimMany, Complete, Fail, Fence, Free, Json, OnParentFailure, Operation as _, Purge,
    QueueError, Request, Response, Retry, Selection, StatsQuery, Submit, SubmitMany, TaskId, TaskQueueExt as _,
};

use super::{config, in_memory, on_disk, world::Subject};

/// One caller's request. Tasks and fences are chosen from those that existed before the burst.
#[derive(Debug, Clone)]
enum Ask {
    /// This many tasks after an existing one, if there is one. With `true`, they run even if it fails.
    Submit(usize, usize, bool),
    Claim(u32),
    Complete(usize),
    Fail(usize),
    /// A failure, and a retry by another caller that does not wait for the failure to be answered.
    FailAndRetry(usize),
    Retry(usize),
    Cancel(usize),
    Purge(usize),
    /// The leases of all callers end.
    Free,
}

fn ask() -> impl Strategy<Value = Ask> {
    let number = || 0_usize..64;
    prop_oneof![
        3 => (number(), 1_usize..14, any::<bool>()).prop_map(|(parent, count, anyway)| Ask::Submit(parent, count, anyway)),
        4 => (1_u32..4).prop_map(Ask::Claim),
        2 => number().prop_map(Ask::Complete),
        1 => number().prop_map(Ask::Fail),
        3 => number().prop_map(Ask::FailAndRetry),
        1 => number().prop_map(Ask::Retry),
        1 => number().prop_map(Ask::Cancel),
        1 => number().prop_map(Ask::Purge),
        1 => Just(Ask::Free),
    ]
}

type Call = BoxFuture<'static, Result<Response, QueueError>>;

/// A store that gets bursts, and what its callers know.
struct Crowd {
    subject: Subject,
    tasks: Vec<TaskId>,
    held: Vec<(TaskId, Fence)>,
}

impl Crowd {
    fn call(&self, request: Request) -> Call {
        let store = std::sync::Arc::clone(&self.subject.store);
        async move { store.call(&Caller::Local, request).await }.boxed()
    }

    fn calls(&self, ask: &Ask) -> Vec<Call> {
        let task = |number: usize| number.checked_rem(self.tasks.len()).map(|at| self.tasks[at]);
        let held = |number: usize| number.checked_rem(self.held.len()).map(|at| self.held[at]);
        let fail = |(task_id, fence)| {
            Fail { task_id, fence, error: "no".to_owned(), retryable: false, delay_s: None }.into_request()
        };
        let retry = |task| Retry { selection: Selection::ids(vec![task]) }.into_request();
        let requests = match *ask {
            Ask::Submit(parent, count, anyway) => {
                let on_parent_failure = if anyway { OnParentFailure::Run } else { OnParentFailure::Fail };
                let after = task(parent).into_iter().collect();
                let submit = Submit { after, on_parent_failure, ..Submit::new("a", Json::null()) };
                vec![SubmitMany { tasks: vec![submit; count] }.into_request()]
            }
            Ask::Claim(max_tasks) => vec![claim(max_tasks).into_request()],
            Ask::Complete(number) => held(number).map(complete).into_iter().collect(),
            Ask::Fail(number) => held(number).map(fail).into_iter().collect(),
            Ask::FailAndRetry(number) => held(number).map_or_else(Vec::new, |held| vec![fail(held), retry(held.0)]),
            Ask::Retry(number) => task(number).map(retry).into_iter().collect(),
            Ask::Cancel(number) => task(number)
                .map(|task_id| Cancel { task_id, reason: String::new() }.into_request())
                .into_iter()
                .collect(),
            Ask::Free => vec![Free { machine: self.subject.owner }.into_request()],
            Ask::Purge(number) => {
                let purge = |task| Purge { selection: Selection::ids(vec![task]) }.into_request();
                task(number).map(purge).into_iter().collect()
            }
        };
        requests.into_iter().map(|request| self.call(request)).collect()
    }

    fn burst(&mut self, asks: &[Ask]) -> Result<(), TestCaseError> {
        let calls: Vec<_> = asks.iter().flat_map(|ask| self.calls(ask)).collect();
        // Each request is sent when it is first polled, so all are sent before the first answer is awaited.
        for response in block_on(join_all(calls)).into_iter().flatten() {
            match response {
                Response::SubmittedMany(many) => {
                    self.tasks
                        .extend(many.results.iter().filter_map(|result| Some(result.submitted.as_ref()?.task_id)));
                }
                Response::ClaimedMany(claimed) => {
                    self.held.extend(claimed.tasks.iter().filter_map(|task| Some((task.task_id, task.fence?))));
                }
                _ => {}
            }
        }
        self.rests()
    }

    /// Checks that after some turns the writer has nothing to do any more.
    fn rests(&self) -> Result<(), TestCaseError> {
        for _ in 0..TURNS_MAX {
            let vitals = self.subject.store.vitals(false);
            if vitals.next_due.is_none_or(|due| due > vitals.now) {
                return Ok(());
            }
        }
        Err(TestCaseError::fail(format!("the writer has something to do after {TURNS_MAX} turns")))
    }

    /// Checks that workers which complete every task come to an end.
    fn ends(&mut self) -> Result<(), TestCaseError> {
        let unfinished = |totals: &BTreeMap<String, u64>| totals["queued"] + totals["running"];
        let mut totals = BTreeMap::new();
        for _ in 0..TURNS_MAX {
            totals = block_on(self.subject.store.stats(&Caller::Local, StatsQuery {})).expect("the numbers").totals;
            if unfinished(&totals) == 0 {
                return Ok(());
            }
            let completions = std::mem::take(&mut self.held).into_iter().map(complete);
            drop(block_on(join_all(completions.map(|request| self.call(request)).collect::<Vec<_>>())));
            self.burst(&[Ask::Claim(100)])?;
            if self.held.is_empty() {
                // This is past every lease and every backoff.
                self.subject.clock.advance(Duration::from_secs(400));
            }
        }
        Err(TestCaseError::fail(format!("not every task comes to an end: {totals:?}")))
    }
}

fn claim(max_tasks: u32) -> ClaimMany {
    ClaimMany { claim: Claim { lease_s: 300.0, ..Claim::new("w") }, max_tasks }
}

fn complete((task_id, fence): (TaskId, Fence)) -> Request {
    Complete::new(task_id, fence, Some(Json::null())).into_request()
}

fn live_through(subject: Subject, bursts: &[Vec<Ask>]) -> Result<(), TestCaseError> {
    let mut crowd = Crowd { subject, tasks: Vec::new(), held: Vec::new() };
    bursts.iter().try_for_each(|burst| crowd.burst(burst))?;
    crowd.ends()
}

proptest! {
    #![proptest_config(config(HISTORIES, 1))]
    #[test]
    fn whatever_comes_at_once_the_store_comes_to_rest_in_memory(bursts in vec(vec(ask(), 1..8), 1..12)) {
        live_through(in_memory(), &bursts)?;
    }
}

proptest! {
    #![proptest_config(config(HISTORIES / 10, 1))]
    #[test]
    fn whatever_comes_at_once_the_store_comes_to_rest_in_sqlite(bursts in vec(vec(ask(), 1..8), 1..12)) {
        live_through(on_disk(), &bursts)?;
    }
}

/// The number of histories takes some ten seconds of one core.
const HISTORIES: u32 = 500;

/// The most turns: far more than the effects of one history need.
const TURNS_MAX: usize = 1_000;
