//! Tests of several tasks in one request, and in one transaction.

use super::*;

pub(crate) async fn a_batch_is_taken_one_by_one(rig: Rig) -> TestResult {
    let keyed =
        |text: &str| Submit { idempotency_key: Some("k".to_owned()), ..Submit::new("a", Json::from_text(text)) };
    rig.store.pause(&ME, Pause { task_types: vec!["closed".to_owned()], drain: true }).await?;
    let tasks =
        vec![keyed("x"), keyed("x"), keyed("y"), Submit::new("closed", Json::null()), Submit::new("b", Json::null())];
    let results = soon(rig.store.submit_many(&ME, SubmitMany { tasks })).await?.results;
    let codes: Vec<_> = results.iter().map(|result| result.error.as_ref().map(|error| error.code)).collect();
    assert_eq!(codes, [None, None, Some(ErrorCode::Conflict), Some(ErrorCode::Paused), None]);
    let submitted: Vec<_> = results.iter().filter_map(|result| result.submitted.as_ref()).collect();
    assert_eq!(submitted[0].task_id, submitted[1].task_id);
    assert!(submitted[1].duplicate && !submitted[0].duplicate);
    assert_eq!(rig.stats().await?.totals["queued"], 2);
    Ok(())
}

pub(crate) async fn a_claim_of_many_takes_what_there_is(rig: Rig) -> TestResult {
    let many = |max_tasks, wait_s| ClaimMany { claim: Claim { wait_s, ..Claim::new("w") }, max_tasks };
    let mut claim = Box::pin(rig.store.claim_many(&ME, many(5, 100.0)));
    assert!((&mut claim).now_or_never().is_none());
    let tasks = (0..8).map(|_| Submit::new("a", Json::null())).collect();
    rig.store.submit_many(&ME, SubmitMany { tasks }).await?;
    let claimed = soon(claim).await?.tasks;
    let mut fences: Vec<_> = claimed.iter().map(fence).collect();
    fences.sort();
    fences.dedup();
    assert_eq!(fences.len(), 5);
    assert_eq!(soon(rig.store.claim_many(&ME, many(5, 0.0))).await?.tasks.len(), 3);
    assert!(soon(rig.store.claim_many(&ME, many(5, 0.0))).await?.tasks.is_empty());
    for _ in 0..6 {
        rig.submit_as(Submit::new("large", Json::from_text(&"x".repeat(JSON_BYTES_MAX - 2)))).await?;
    }
    let large = soon(rig.store.claim_many(&ME, many(6, 0.0))).await?.tasks;
    assert_eq!(large.len(), CLAIMED_BYTES_MAX / JSON_BYTES_MAX);
    // All tasks of a dropped claim go back.
    for task in large {
        rig.store.release(&ME, release(&task, 0.0)).await?;
    }
    let leased = rig.claim_now().await?;
    let mut claim = Box::pin(rig.store.claim_many(&ME, many(2, 100.0)));
    if let Some(claimed) = (&mut claim).now_or_never() {
        for task in claimed?.tasks {
            rig.store.release(&ME, release(&task, 0.0)).await?;
        }
    }
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    drop(claim);
    let mut seen = 0;
    while soon(rig.store.claim(&ME, Claim { wait_s: 1.0, ..Claim::new("w") })).await?.task.is_some() {
        seen += 1;
        if seen == 6 {
            return Ok(());
        }
    }
    Err("a task is lost".into())
}

pub(crate) async fn a_completion_brings_its_children_and_the_next_task(rig: Rig) -> TestResult {
    let task = rig.submit("a").await?;
    let leased = rig.claim_now().await?;
    let child = |after: Vec<TaskId>| Submit { after, ..Submit::new("child", Json::null()) };
    let with = Complete {
        submit: vec![child(vec![task]), child(Vec::new())],
        claim_next: Some(Claim::new("w")),
        ..complete(&leased, "r")
    };
    let completed = soon(rig.store.complete(&ME, with.clone())).await?;
    assert_eq!((completed.status, completed.submitted.len()), (TaskStatus::Completed, 2));
    let next = completed.next.ok_or("the next task")?;
    assert!(completed.submitted.contains(&id(&next)));
    let rest = rig.claim_now().await?;
    assert!(completed.submitted.contains(&id(&rest)) && id(&rest) != id(&next));
    // A repeated completion answers that it is one and which tasks it submitted, and submits nothing again.
    let again = soon(rig.store.complete(&ME, with)).await?;
    assert!(again.repeated && again.next.is_none());
    assert_eq!(again.submitted, completed.submitted);
    // The wait of the next claim delays the answer, not the completion.
    let waits = Complete { claim_next: Some(waiting()), ..complete(&next, "r") };
    let watch = rig.store.watch(&[id(&next)])?;
    let mut completing = Box::pin(rig.store.complete(&ME, waits));
    assert!((&mut completing).now_or_never().is_none());
    soon(watch.done()).await;
    let late = rig.submit("late").await?;
    let completed = soon(completing).await?;
    assert_eq!((completed.task_id, completed.next.map(|next| id(&next))), (id(&next), Some(late)));
    Ok(())
}

pub(crate) async fn a_refused_child_leaves_the_completion_undone(rig: Rig) -> TestResult {
    rig.submit("a").await?;
    let leased = rig.claim_now().await?;
    let orphan = Submit { after: vec![TaskId::from_bytes([9; 16])], ..Submit::new("child", Json::null()) };
    let with = Complete { submit: vec![Submit::new("child", Json::null()), orphan], ..complete(&leased, "r") };
    let error = soon(rig.store.complete(&ME, with)).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NotFound, Some("submit[1].after")));
    assert_eq!(rig.status_of(id(&leased)).await?, TaskStatus::Running);
    assert_eq!(rig.stats().await?.totals["queued"], 0);
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    Ok(())
}

pub(crate) async fn a_completion_that_comes_again_with_other_children_is_refused(rig: Rig) -> TestResult {
    rig.submit("a").await?;
    let leased = rig.claim_now().await?;
    let child = |text: &str| Submit { delay_s: Some(9.0), ..Submit::new("child", Json::from_text(text)) };
    let key = Some("k".to_owned());
    let keyed = Submit { idempotency_key: key, idempotency_window_s: 5.0, ..child("keyed") };
    let with = |submit: Vec<Submit>| Complete { submit, ..complete(&leased, "r") };
    let first = soon(rig.store.complete(&ME, with(vec![child("one"), keyed.clone(), child("two")]))).await?.submitted;
    let rig = rig.reopened();
    // The key expires.
    rig.pass(6.0).await;
    for (submit, expected) in [
        (vec![], &first[..0]),
        (vec![child("one")], &first[..1]),
        (vec![child("one"), keyed.clone(), child("two")], &first[..]),
        (vec![Submit { delay_s: None, ..child("one") }], &first[..1]),
    ] {
        let again = soon(rig.store.complete(&ME, with(submit))).await?;
        assert_eq!((again.repeated, &again.submitted[..]), (true, expected));
    }
    for (submit, field) in [
        (vec![child("two")], "submit[0]"),
        (vec![child("one"), child("one")], "submit[1]"),
        (vec![child("one"), keyed.clone(), child("two"), child("three")], "submit[3]"),
    ] {
        let error = soon(rig.store.complete(&ME, with(submit))).await.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Conflict, Some(field)));
    }
    // A task that is gone cannot be in the answer.
    let gone = Selection::ids(first[2..].to_vec());
    rig.store.cancel(&ME, Cancel { task_id: first[2], reason: String::new() }).await?;
    assert_eq!(rig.store.purge(&ME, Purge { selection: gone }).await?.purged, 1);
    let error = soon(rig.store.complete(&ME, with(vec![child("one"), keyed, child("two")]))).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Conflict, Some("submit[2]")));
    assert_eq!(rig.stats().await?.totals["queued"], 2, "nothing is submitted again");
    Ok(())
}

pub(crate) async fn dead_letters_are_queued_again_or_removed(rig: Rig) -> TestResult {
    let once =
        |label: &str| Submit { max_attempts: 1, labels: vec![label.to_owned()], ..Submit::new("a", Json::null()) };
    let mut dead = Vec::new();
    for label in ["x", "x", "y"] {
        dead.push(rig.submit_as(once(label)).await?.task_id);
        rig.store.fail(&ME, fail(&rig.claim_now().await?)).await?;
    }
    let rig = rig.reopened();
    let marked = Selection { label: Some("x".to_owned()), limit: 1, ..Selection::ended(TaskStatus::Failed) };
    let retried = soon(rig.store.retry(&ME, Retry { selection: marked.clone() })).await?;
    assert_eq!((retried.retried, retried.skipped, retried.more), (1, 0, true));
    let retried = soon(rig.store.retry(&ME, Retry { selection: marked })).await?;
    assert_eq!((retried.retried, retried.more), (1, false));
    let leased = rig.claim_now().await?;
    assert_eq!((leased.attempt, leased.dead, leased.error.as_deref()), (1, false, Some("broken")));
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    let named = Selection::ids(vec![id(&leased), dead[2], TaskId::from_bytes([9; 16])]);
    let retried = soon(rig.store.retry(&ME, Retry { selection: named.clone() })).await?;
    assert_eq!((retried.retried, retried.skipped), (1, 2));
    let purged = soon(rig.store.purge(&ME, Purge { selection: named })).await?;
    assert_eq!((purged.purged, purged.skipped), (1, 2));
    assert_eq!(code(rig.get(id(&leased)).await), ErrorCode::NotFound);
    let totals = rig.stats().await?.totals;
    assert_eq!((totals["queued"], totals["completed"], totals["failed"]), (2, 0, 0));
    // Only tasks that ended long enough ago are purged.
    rig.store.fail(&ME, fail(&rig.claim_now().await?)).await?;
    let old = Purge { selection: Selection { older_than_s: 60.0, ..Selection::ended(TaskStatus::Failed) } };
    assert_eq!(soon(rig.store.purge(&ME, old.clone())).await?.purged, 0);
    rig.pass(61.0).await;
    assert_eq!(soon(rig.store.purge(&ME, old)).await?.purged, 1);
    Ok(())
}

pub(crate) async fn ten_thousand_waiting_claims_cost_a_submit_nothing(rig: Rig) -> TestResult {
    let of = |n: usize| Claim { supported_task_types: vec![format!("type-{}", n % 100)], ..waiting() };
    let mut waiting: Vec<_> = (0..10_000).map(|n| Box::pin(rig.store.claim(&ME, of(n)))).collect();
    for claim in &mut waiting {
        assert!(claim.now_or_never().is_none());
    }
    let task = rig.submit("type-42").await?;
    let claim = waiting.swap_remove(42);
    assert_eq!(soon(claim).await?.task.map(|task| id(&task)), Some(task));
    Ok(())
}

pub(crate) async fn a_child_that_contradicts_the_one_before_it_leaves_the_completion_undone(rig: Rig) -> TestResult {
    let drawn = TaskId::from_bytes([7; 16]);
    let named = |text: &str| Submit { task_id: Some(drawn), ..Submit::new("child", Json::from_text(text)) };
    rig.submit("a").await?;
    let leased = rig.claim_now().await?;
    let with = Complete { submit: vec![named("x"), named("y")], ..complete(&leased, "r") };
    let before = rig.store.vitals(true).memory;
    let error = soon(rig.store.complete(&ME, with)).await.unwrap_err();
    assert_eq!((error.code, error.message.starts_with("submit[1]")), (ErrorCode::Conflict, true), "{error:?}");
    assert_eq!(rig.stats().await?.totals["queued"], 0);
    assert_eq!(code(rig.get(drawn).await), ErrorCode::NotFound);
    assert_eq!(rig.store.vitals(true).memory, before);
    // The same submit twice makes one task, whether it is recognised by its id or by its key.
    let keyed = || Submit { idempotency_key: Some("k".to_owned()), ..Submit::new("child", Json::null()) };
    let with = Complete { submit: vec![named("x"), keyed(), named("x"), keyed()], ..complete(&leased, "r") };
    let submitted = soon(rig.store.complete(&ME, with)).await?.submitted;
    assert_eq!((submitted[0], submitted[2], submitted[1] == submitted[3]), (drawn, drawn, true));
    assert_eq!(rig.stats().await?.totals["queued"], 2);
    Ok(())
}

pub(crate) async fn children_that_open_more_lines_than_there_may_be_are_refused_together(rig: Rig) -> TestResult {
    let of = |number: usize| Submit { session: Some(format!("s{number}")), ..Submit::new("a", Json::null()) };
    let tasks = (0..490).map(of).collect();
    soon(rig.store.submit_many(&ME, SubmitMany { tasks })).await?;
    rig.submit_as(Submit { priority: 9, ..Submit::new("b", Json::null()) }).await?;
    let leased = rig.claim_now().await?;
    let with = |submit| Complete { submit, ..complete(&leased, "r") };
    let error = soon(rig.store.complete(&ME, with((1_000..1_020).map(of).collect()))).await.unwrap_err();
    assert_eq!((error.code, error.message.starts_with("submit[10]")), (ErrorCode::Overloaded, true), "{error:?}");
    assert_eq!(rig.stats().await?.totals["queued"], 490);
    assert_eq!(rig.status_of(id(&leased)).await?, TaskStatus::Running);
    // Children that belong in existing lines need no new ones.
    let children = (0..20).map(of).chain((2_000..2_010).map(of)).chain((2_000..2_010).map(of)).collect();
    assert_eq!(soon(rig.store.complete(&ME, with(children))).await?.submitted.len(), 40);
    Ok(())
}
