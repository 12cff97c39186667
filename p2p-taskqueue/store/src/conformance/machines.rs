//! Tests of what a store knows of machines: who submitted a task, who tried it, and how the leases of one are ended.

use taskqueue_api::{
    Attempt, AttemptOutcome, Free,
    limits::{ATTEMPT_ERROR_BYTES_MAX, ATTEMPTS_SHOWN_MAX, CLAIMS_MAX},
};

use super::*;

/// Another machine than the one that keeps the tasks.
fn other() -> (PeerId, Caller) {
    let machine = PeerId::random();
    (machine, Caller::member(machine))
}

fn tireless(task_type: &str) -> Submit {
    Submit { max_attempts: 0, backoff_s: 0.0, ..Submit::new(task_type, Json::null()) }
}

async fn claim_by(rig: &Rig, caller: &Caller) -> Result<TaskRecord, Box<dyn Error>> {
    Ok(soon(rig.store.claim(caller, Claim::new("v"))).await?.task.ok_or("nothing to claim")?)
}

async fn free(rig: &Rig, machine: PeerId) -> Result<u64, QueueError> {
    Ok(soon(rig.store.free(&ME, Free { machine })).await?.freed)
}

fn outcomes(task: &TaskRecord) -> Vec<Option<AttemptOutcome>> {
    task.attempts.iter().map(|attempt| attempt.outcome).collect()
}

pub(crate) async fn a_record_names_the_machine_that_submitted_it(rig: Rig) -> TestResult {
    let (machine, other) = other();
    let child = || Submit::new("child", Json::null());
    let one = soon(rig.store.submit(&other, Submit::new("a", Json::null()))).await?.task_id;
    let leased = claim_by(&rig, &ME).await?;
    let by_owner = Complete { submit: vec![child()], ..complete(&leased, "r") };
    let own_child = soon(rig.store.complete(&ME, by_owner)).await?.submitted[0];
    let own = rig.submit("b").await?;
    let only = |task_type: &str| Claim { supported_task_types: vec![task_type.to_owned()], ..Claim::new("v") };
    let leased = soon(rig.store.claim(&other, only("b"))).await?.task.ok_or("a task")?;
    let by_other = Complete { submit: vec![child()], ..complete(&leased, "r") };
    let other_child = soon(rig.store.complete(&other, by_other)).await?.submitted[0];
    let many = soon(rig.store.submit_many(&other, SubmitMany { tasks: vec![child(); 2] })).await?.results;
    let many: Vec<_> = many.into_iter().filter_map(|result| Some(result.submitted?.task_id)).collect();
    let expected = [
        (one, Some(machine)),
        (own_child, None),
        (own, None),
        (other_child, Some(machine)),
        (many[0], Some(machine)),
        (many[1], Some(machine)),
    ];
    let rig = rig.reopened();
    for (task, by) in expected {
        assert_eq!(rig.get(task).await?.submitted_by, by);
    }
    let listed = soon(rig.store.list(&ME, List { order: Order::Oldest, ..List::default() })).await?.tasks;
    let listed: Vec<_> = listed.iter().map(|task| (id(task), task.submitted_by)).collect();
    assert!(expected.iter().all(|one| listed.contains(one)) && listed.len() == expected.len(), "{listed:?}");
    Ok(())
}

pub(crate) async fn the_same_id_of_another_machine_is_another_task(rig: Rig) -> TestResult {
    let ((_, one), (_, two)) = (other(), other());
    let named = Submit { task_id: Some(TaskId::from_bytes([5; 16])), ..Submit::new("a", Json::null()) };
    soon(rig.store.submit(&one, named.clone())).await?;
    assert!(soon(rig.store.submit(&one, named.clone())).await?.duplicate);
    for caller in [&two, &ME] {
        assert_eq!(code(soon(rig.store.submit(caller, named.clone())).await), ErrorCode::Conflict);
    }
    Ok(())
}

pub(crate) async fn a_record_shows_what_it_demands(rig: Rig) -> TestResult {
    let pin_to = Some(peer());
    let requires = vec!["gpu".to_owned(), "a100".to_owned()];
    let concurrency_key = Some("k".to_owned());
    let task = Submit { pin_to, requires, concurrency_key, ..Submit::new("a", Json::null()) };
    let task = rig.submit_as(task).await?.task_id;
    let rig = rig.reopened();
    let task = rig.get(task).await?;
    assert_eq!((task.pin_to, task.concurrency_key.as_deref()), (pin_to, Some("k")));
    assert_eq!(task.requires, ["gpu", "a100"]);
    Ok(())
}

pub(crate) async fn a_record_shows_who_tried_and_how_that_ended(rig: Rig) -> TestResult {
    let (machine, other) = other();
    let task = rig.submit_as(tireless("a")).await?.task_id;
    assert_eq!(rig.get(task).await?.attempts, []);
    let leased = rig.claim_now().await?;
    let started_at = START.as_secs();
    let running = |machine, worker_id: &str| Attempt {
        machine,
        machine_name: None,
        worker_id: worker_id.to_owned(),
        started_at,
        ended_at: None,
        outcome: None,
        error: None,
    };
    assert_eq!(leased.attempts, [running(peer(), "w")], "the claim's answer has it too");
    assert_eq!(rig.get(task).await?.attempts, leased.attempts);
    rig.pass(1.0).await;
    soon(rig.store.release(&ME, Release { reason: "busy".to_owned(), ..release(&leased, 0.0) })).await?;
    let released = Attempt {
        ended_at: Some(started_at + 1.0),
        outcome: Some(AttemptOutcome::Released),
        error: Some("busy".to_owned()),
        ..running(peer(), "w")
    };
    assert_eq!(rig.get(task).await?.attempts, [released]);
    let leased = claim_by(&rig, &other).await?;
    soon(rig.store.fail(&other, fail(&leased))).await?;
    claim_by(&rig, &other).await?;
    rig.pass(301.0).await;
    claim_by(&rig, &other).await?;
    assert_eq!(free(&rig, machine).await?, 1);
    let leased = rig.claim_now().await?;
    soon(rig.store.cancel(&ME, Cancel { task_id: task, reason: "enough".to_owned() })).await?;
    soon(rig.store.fail(&ME, fail(&leased))).await?;
    // The history of a task that is queued again stays.
    soon(rig.store.retry(&ME, Retry { selection: Selection::ids(vec![task]) })).await?;
    let leased = rig.claim_now().await?;
    let rig = rig.reopened();
    let shown = rig.get(task).await?;
    assert_eq!(shown.attempts.last().map(|last| (last.ended_at, last.outcome)), Some((None, None)));
    soon(rig.store.complete(&ME, complete(&leased, "r"))).await?;
    let rig = rig.reopened();
    let shown = rig.get(task).await?.attempts;
    let expected = [
        (peer(), AttemptOutcome::Released, Some("busy")),
        (machine, AttemptOutcome::Failed, Some("broken")),
        (machine, AttemptOutcome::LeaseExpired, Some("lease")),
        (machine, AttemptOutcome::Freed, Some("machine")),
        (peer(), AttemptOutcome::Cancelled, Some("broken")),
        (peer(), AttemptOutcome::Completed, None),
    ];
    assert_eq!(shown.len(), expected.len(), "{shown:?}");
    for (attempt, (machine, outcome, error)) in shown.iter().zip(expected) {
        assert_eq!((attempt.machine, attempt.outcome), (machine, Some(outcome)), "{attempt:?}");
        let is_told = attempt.error.as_deref().zip(error).is_some_and(|(text, part)| text.contains(part));
        assert!(is_told || attempt.error.as_deref() == error, "{attempt:?}");
        assert!(attempt.ended_at.is_some_and(|at| at >= attempt.started_at), "{attempt:?}");
    }
    Ok(())
}

pub(crate) async fn an_attempt_ends_with_the_deadline_and_with_a_failure_for_good(rig: Rig) -> TestResult {
    let late = rig.submit_as(Submit { deadline_s: Some(10.0), ..tireless("a") }).await?.task_id;
    rig.claim_now().await?;
    rig.pass(11.0).await;
    assert_eq!(outcomes(&rig.get(late).await?), [Some(AttemptOutcome::DeadlinePassed)]);
    let spoilt = rig.submit("a").await?;
    let leased = rig.claim_now().await?;
    let error = Some("spoilt".to_owned());
    let done = Complete { status: CompletedStatus::Failed, error: error.clone(), ..complete(&leased, "r") };
    soon(rig.store.complete(&ME, done)).await?;
    let shown = rig.get(spoilt).await?;
    assert_eq!((outcomes(&shown), &shown.attempts[0].error), (vec![Some(AttemptOutcome::Failed)], &error));
    // Who is called off before anybody has tried has no attempts.
    let unwanted = rig.submit("a").await?;
    soon(rig.store.cancel(&ME, Cancel { task_id: unwanted, reason: String::new() })).await?;
    assert_eq!(rig.get(unwanted).await?.attempts, []);
    Ok(())
}

pub(crate) async fn a_record_shows_the_last_attempts_and_short_errors(rig: Rig) -> TestResult {
    let task = rig.submit_as(tireless("a")).await?.task_id;
    let count = ATTEMPTS_SHOWN_MAX + 3;
    for number in 0..count {
        let leased = rig.claim_as(Claim::new(format!("w{number}"))).await?.ok_or("a task")?;
        assert_eq!(leased.attempts.len(), (number + 1).min(ATTEMPTS_SHOWN_MAX));
        let error = "x".repeat(2 * ATTEMPT_ERROR_BYTES_MAX);
        soon(rig.store.fail(&ME, Fail { error, ..fail(&leased) })).await?;
    }
    let rig = rig.reopened();
    let shown = rig.get(task).await?;
    let names: Vec<_> = shown.attempts.iter().map(|attempt| attempt.worker_id.clone()).collect();
    let expected: Vec<_> = (3..count).map(|number| format!("w{number}")).collect();
    assert_eq!(names, expected);
    let is_short = |attempt: &Attempt| attempt.error.as_ref().map(String::len) == Some(ATTEMPT_ERROR_BYTES_MAX);
    assert!(shown.attempts.iter().all(is_short));
    assert_eq!(shown.error.map(|error| error.len()), Some(2 * ATTEMPT_ERROR_BYTES_MAX), "the task keeps all of it");
    Ok(())
}

pub(crate) async fn a_claim_that_nobody_received_is_no_attempt(rig: Rig) -> TestResult {
    let task = rig.submit_as(tireless("a")).await?.task_id;
    let leased = rig.claim_now().await?;
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    // When the release is answered, so is the claim.
    soon(rig.store.release(&ME, release(&leased, 0.0))).await?;
    drop(claim);
    let leased = soon(rig.store.claim(&ME, waiting())).await?.task.ok_or("given back")?;
    assert_eq!((leased.task_id, outcomes(&leased)), (task, vec![Some(AttemptOutcome::Released), None]));
    Ok(())
}

pub(crate) async fn a_freed_lease_goes_to_another_machine_at_once(rig: Rig) -> TestResult {
    let ((machine, other), (_, third)) = (other(), other());
    let task = rig.submit_as(tireless("a")).await?.task_id;
    let late = claim_by(&rig, &other).await?;
    let own = rig.submit_as(tireless("b")).await?.task_id;
    let own_lease = rig.claim_now().await?;
    rig.submit_as(tireless("c")).await?;
    let third_lease = claim_by(&rig, &third).await?;
    let mut waits = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut waits).now_or_never().is_none());
    assert_eq!(free(&rig, machine).await?, 1);
    let again = soon(waits).await?.task.ok_or("the task")?;
    assert_eq!((again.task_id, again.attempt), (task, 2), "the attempt counts");
    assert_eq!(outcomes(&again), [Some(AttemptOutcome::Freed), None]);
    assert_eq!((again.attempts[0].machine, again.attempts[1].machine), (machine, peer()));
    // What the machine says later is refused.
    let before = rig.get(task).await?;
    assert_eq!(code(soon(rig.store.renew(&other, renew(&late, 9.0))).await), ErrorCode::StaleFence);
    assert_eq!(code(soon(rig.store.complete(&other, complete(&late, "x"))).await), ErrorCode::StaleFence);
    assert_eq!(code(soon(rig.store.fail(&other, fail(&late))).await), ErrorCode::StaleFence);
    assert_eq!(code(soon(rig.store.release(&other, release(&late, 0.0))).await), ErrorCode::StaleFence);
    assert_eq!(rig.get(task).await?, before);
    // The leases of others stand, and asked again there is nothing to end.
    soon(rig.store.renew(&third, renew(&third_lease, 300.0))).await?;
    soon(rig.store.renew(&ME, renew(&own_lease, 300.0))).await?;
    assert_eq!(free(&rig, machine).await?, 0);
    // Local workers hold their leases for the machine that keeps the tasks.
    assert_eq!(free(&rig, peer()).await?, 2);
    assert_eq!(code(soon(rig.store.complete(&ME, complete(&own_lease, "x"))).await), ErrorCode::StaleFence);
    soon(rig.store.renew(&third, renew(&third_lease, 300.0))).await?;
    let rig = rig.reopened();
    let shown = rig.get(own).await?;
    assert_eq!((shown.status, outcomes(&shown)), (TaskStatus::Queued, vec![Some(AttemptOutcome::Freed)]));
    Ok(())
}

pub(crate) async fn a_freed_lease_ends_as_an_expired_one(rig: Rig) -> TestResult {
    let (machine, other) = other();
    let last = rig.submit_as(Submit { max_attempts: 1, ..Submit::new("a", Json::null()) }).await?.task_id;
    let backs_off = rig.submit_as(Submit { backoff_s: 100.0, ..Submit::new("b", Json::null()) }).await?.task_id;
    let called_off = rig.submit("c").await?;
    for _ in 0..3 {
        claim_by(&rig, &other).await?;
    }
    soon(rig.store.cancel(&ME, Cancel { task_id: called_off, reason: "enough".to_owned() })).await?;
    let watch = rig.store.watch(&[last, called_off])?;
    assert_eq!(free(&rig, machine).await?, 3);
    soon(watch.done()).await;
    let dead = rig.get(last).await?;
    assert_eq!((dead.status, dead.dead, dead.failed_by), (TaskStatus::Failed, true, Some(FailedBy::Queue)));
    assert!(dead.error.as_ref().is_some_and(|error| error.contains("machine")), "{dead:?}");
    let waits = rig.get(backs_off).await?;
    assert_eq!((waits.status, waits.attempt), (TaskStatus::Queued, 1));
    assert!(waits.not_before.is_some_and(|at| at >= START.as_secs() + 80.0), "{waits:?}");
    assert_eq!(rig.get(called_off).await?.status, TaskStatus::Cancelled);
    for task in [last, backs_off, called_off] {
        assert_eq!(outcomes(&rig.get(task).await?), [Some(AttemptOutcome::Freed)]);
    }
    Ok(())
}

pub(crate) async fn thousands_of_leases_end_while_others_renew(rig: Rig) -> TestResult {
    const LEASES: usize = 5_000;
    let (machine, other) = other();
    rig.submit("own").await?;
    let own = rig.claim_now().await?;
    for _ in 0..LEASES / 1_000 {
        let tasks = vec![Submit::new("crowd", Json::null()); 1_000];
        soon(rig.store.submit_many(&ME, SubmitMany { tasks })).await?;
    }
    let mut held = 0;
    while held < LEASES {
        let many = ClaimMany { claim: Claim::new("v"), max_tasks: CLAIMS_MAX };
        held += soon(rig.store.claim_many(&other, many)).await?.tasks.len();
    }
    let mut freeing = Box::pin(rig.store.free(&ME, Free { machine }));
    let mut renewed = 0;
    let freed = loop {
        if let Some(freed) = (&mut freeing).now_or_never() {
            break freed?.freed;
        }
        soon(rig.store.renew(&ME, renew(&own, 300.0))).await?;
        renewed += 1;
    };
    assert_eq!(freed, LEASES as u64);
    assert!(renewed >= 10, "only {renewed} renewals were answered meanwhile");
    assert_eq!(rig.stats().await?.totals["running"], 1);
    Ok(())
}
