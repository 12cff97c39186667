//! Tests in which one caller drives a bound to its limit, and the others must go on.

use super::*;

pub(crate) async fn t10_a_crowd_that_is_retried_again_and_again_holds_up_no_other_dependant(rig: Rig) -> TestResult {
    let parent = rig.submit_as(Submit { max_attempts: 1, ..Submit::new("crowd", Json::null()) }).await?.task_id;
    let child = Submit { after: vec![parent], ..Submit::new("child", Json::null()) };
    for _ in 0..4 {
        soon(rig.store.submit_many(&ME, SubmitMany { tasks: vec![child.clone(); 1_000] })).await?;
    }
    let of = |task_type: &str| Claim { supported_task_types: vec![task_type.to_owned()], ..waiting() };
    let small = rig.submit("small").await?;
    let after_small = rig.submit_as(Submit { after: vec![small], ..Submit::new("last", Json::null()) }).await?.task_id;
    for _ in 0..3 {
        let leased = soon(rig.store.claim(&ME, of("crowd"))).await?.task.ok_or("the parent")?;
        // Both requests reach the writer before the first one is answered.
        let mut failing = Box::pin(rig.store.fail(&ME, fail(&leased)));
        let mut retrying = Box::pin(rig.store.retry(&ME, Retry { selection: Selection::ids(vec![parent]) }));
        assert!((&mut failing).now_or_never().is_none());
        let at_once = (&mut retrying).now_or_never();
        soon(failing).await?;
        let retried = match at_once {
            Some(answer) => answer?.retried,
            None => soon(retrying).await?.retried,
        };
        if retried == 0 {
            soon(rig.store.retry(&ME, Retry { selection: Selection::ids(vec![parent]) })).await?;
        }
    }
    let leased = soon(rig.store.claim(&ME, of("small"))).await?.task.ok_or("the small one")?;
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    let next = soon(rig.store.claim(&ME, of("last"))).await?.task.ok_or("what comes after it")?;
    assert_eq!(id(&next), after_small);
    assert!(rests(&rig), "the writer has something to do for ever");
    Ok(())
}

pub(crate) async fn reads_of_what_is_held_back_hold_up_no_submit(rig: Rig) -> TestResult {
    // Each task is of a kind of its own, so that one list asks about as many kinds as there can be.
    let keyed =
        |number: usize| Submit { concurrency_key: Some(format!("k{number}")), ..Submit::new("a", Json::null()) };
    soon(rig.store.submit_many(&ME, SubmitMany { tasks: (0..400).map(keyed).collect() })).await?;
    rig.store.pause(&ME, Pause::default()).await?;
    let page = soon(rig.store.list(&ME, List { limit: 400, ..List::default() })).await?.tasks;
    let read = async |mut tasks: Vec<TaskRecord>| {
        rig.store.explain(&mut tasks).await;
        tasks.iter().filter(|task| task.waiting_for.is_some()).count()
    };
    let mut reads = Box::pin(futures::future::join_all((0..40).map(|_| read(page.clone()))));
    let at_once = (&mut reads).now_or_never();
    rig.submit("b").await?;
    let reasons = match at_once {
        Some(reasons) => reasons,
        None => soon(reads).await,
    };
    assert!(reasons.iter().all(|count| [0, page.len()].contains(count)), "{reasons:?}");
    assert!(reasons.contains(&page.len()), "{reasons:?}");
    assert_eq!(rig.store.vitals(false).in_use.kinds_asked, 0);
    Ok(())
}

pub(crate) async fn idle_workers_hold_none_of_the_room_that_their_results_took(rig: Rig) -> TestResult {
    // As many workers as fill the room for commands.
    const WORKERS: usize = 64;
    let large = || Json::from_text(&"x".repeat(JSON_BYTES_MAX - 2));
    let tasks = vec![Submit::new("a", Json::null()); WORKERS];
    soon(rig.store.submit_many(&ME, SubmitMany { tasks })).await?;
    let mut held = Vec::new();
    while let Some(leased) = rig.claim().await? {
        held.push(leased);
    }
    let mut idle = Vec::new();
    for (number, leased) in held.into_iter().enumerate() {
        let done =
            Complete { claim_next: Some(waiting()), ..Complete::new(id(&leased), fence(&leased), Some(large())) };
        let mut completing = Box::pin(rig.store.complete(&ME, done));
        let answer = (&mut completing).now_or_never();
        assert!(answer.is_none(), "worker {number} was answered {answer:?}");
        rig.store.vitals(false);
        idle.push(completing);
    }
    let in_use = rig.store.vitals(false).in_use;
    assert_eq!(in_use.parked, WORKERS);
    assert!(in_use.command_bytes <= WORKERS * 1_024, "{in_use:?}");
    // A submit of the largest size is accepted, and ends the wait of the first worker.
    let task = soon(rig.store.submit(&ME, Submit::new("b", large()))).await?.task_id;
    let completed = soon(idle.swap_remove(0)).await?;
    assert_eq!(completed.next.map(|next| id(&next)), Some(task));
    Ok(())
}

/// Whether the writer comes to rest.
fn rests(rig: &Rig) -> bool {
    (0..5_000).any(|_| {
        let vitals = rig.store.vitals(false);
        vitals.next_due.is_none_or(|due| due > vitals.now)
    })
}
