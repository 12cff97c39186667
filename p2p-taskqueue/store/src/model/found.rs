//! The shortest histories in which a store once failed.

use taskqueue_api::{CompletedStatus, OnParentFailure};

use super::{
    in_memory, on_disk,
    step::{Draft, Hold, Pick, Step, Wait, Want, Which, Who},
    world::{Violation, World},
};

fn live_through(steps: &[Step]) -> Result<(), Violation> {
    World::new(in_memory()).live_through(steps)?;
    World::new(on_disk()).live_through(steps)
}

#[test]
fn t6_what_a_completion_frees_can_be_claimed_beside_it() -> Result<(), Violation> {
    let keyed = || submit(Draft { concurrency_key: Some("k"), priority: 10, ..plain() });
    let (done, next) = (CompletedStatus::Completed, Some(want()));
    let complete = Step::Complete(holder(0), done, None, vec![], next);
    live_through(&[keyed(), submit(plain()), keyed(), claim(), complete])
}

#[test]
fn t10_a_task_is_ready_at_the_end_of_its_parent_on_a_clock_that_was_set_back() -> Result<(), Violation> {
    let child = Draft { after: vec![Pick::Any(0)], ..plain() };
    let done = Step::Complete(holder(0), CompletedStatus::Completed, None, vec![], None);
    live_through(&[submit(plain()), submit(child), claim(), Step::Jump(-3_600.0), done, claim()])
}

fn submit(draft: Draft) -> Step {
    Step::Submit(Who::Owner, draft)
}

fn claim() -> Step {
    Step::Claim(Who::Owner, want())
}

const fn want() -> Want {
    Want { kinds: Vec::new(), gpu: true, session: None, lease_s: 300.0, wait_s: 0.0 }
}

/// Returns the last fence of one of the running tasks.
const fn holder(number: usize) -> Hold {
    Hold { task: Pick::Running(number), fence: Which::Last }
}

const fn plain() -> Draft {
    Draft {
        kind: "a",
        priority: 5,
        wait: Wait::None,
        deadline_s: None,
        key: None,
        submitter: None,
        requires: false,
        label: false,
        pin_to: None,
        session: None,
        after: Vec::new(),
        policy: OnParentFailure::Fail,
        concurrency_key: None,
        max_attempts: 3,
        backoff_s: 1.0,
        result_ttl_s: 86_400.0,
        payload: 0,
    }
}
