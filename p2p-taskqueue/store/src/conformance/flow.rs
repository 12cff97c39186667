//! Tests of dependencies and deadlines.

use super::*;

fn after(parents: &[TaskId]) -> Submit {
    Submit { after: parents.to_vec(), priority: 9, ..Submit::new("child", Json::null()) }
}

pub(crate) async fn t10_a_task_comes_after_all_that_it_names(rig: Rig) -> TestResult {
    let (one, two) = (rig.submit("parent").await?, rig.submit("parent").await?);
    let child = rig.submit_as(after(&[one, two, one])).await?.task_id;
    let mut waiting =
        Box::pin(rig.store.claim(&ME, Claim { supported_task_types: vec!["child".to_owned()], ..waiting() }));
    let first = rig.claim_now().await?;
    assert_eq!((id(&first), rig.get(child).await?.after), (one, vec![one, two, one]));
    rig.store.complete(&ME, complete(&first, "r")).await?;
    assert!((&mut waiting).now_or_never().is_none());
    let second = rig.claim_now().await?;
    rig.store.complete(&ME, complete(&second, "r")).await?;
    let leased = soon(waiting).await?.task.ok_or("the child")?;
    assert_eq!(id(&leased), child);
    // A child of tasks that have ended waits for nothing.
    let late = rig.submit_as(after(&[one, two])).await?.task_id;
    assert_eq!(id(&rig.claim_now().await?), late);
    Ok(())
}

pub(crate) async fn t10_a_failed_parent_fails_what_comes_after_it(rig: Rig) -> TestResult {
    let parent = rig.submit_as(Submit { max_attempts: 1, ..Submit::new("parent", Json::null()) }).await?.task_id;
    let other = rig.submit_as(Submit { delay_s: Some(1e6), ..Submit::new("parent", Json::null()) }).await?.task_id;
    let child = rig.submit_as(after(&[parent, other])).await?.task_id;
    let grandchild = rig.submit_as(after(&[child])).await?.task_id;
    let anyway = Submit { on_parent_failure: OnParentFailure::Run, ..after(&[parent, child]) };
    let anyway = rig.submit_as(anyway).await?.task_id;
    let rig = rig.reopened();
    let watch = rig.store.watch(&[child, grandchild])?;
    rig.store.fail(&ME, fail(&rig.claim_now().await?)).await?;
    soon(watch.done()).await;
    for (task, cause) in [(child, parent), (grandchild, child)] {
        let task = rig.get(task).await?;
        assert_eq!((task.status, task.dead), (TaskStatus::Failed, true));
        assert!(task.error.ok_or("why")?.contains(&cause.to_string()));
    }
    assert_eq!(id(&rig.claim_now().await?), anyway);
    // A child of a task that has failed fails at once.
    let late = rig.submit_as(after(&[parent])).await?.task_id;
    assert_eq!(rig.status_of(late).await?, TaskStatus::Failed);
    rig.store.cancel(&ME, Cancel { task_id: other, reason: "enough".to_owned() }).await?;
    assert_eq!(rig.stats().await?.totals["failed"], 4);
    Ok(())
}

pub(crate) async fn t10_nothing_comes_after_what_is_not_there(rig: Rig) -> TestResult {
    let error = rig.submit_as(after(&[TaskId::from_bytes([9; 16])])).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NotFound, Some("after")));
    assert_eq!(rig.stats().await?.totals["queued"], 0);
    Ok(())
}

/// Ends a ready task of this type and removes it, so that only its children know of it.
async fn ends_and_goes(rig: &Rig, task_type: &str, completes: bool, by_time: bool) -> TestResult {
    let claim = Claim { supported_task_types: vec![task_type.to_owned()], ..Claim::new("w") };
    let leased = rig.claim_as(claim).await?.ok_or("nothing to claim")?;
    if completes {
        rig.store.complete(&ME, complete(&leased, "r")).await?;
    } else {
        rig.store.fail(&ME, Fail { retryable: false, ..fail(&leased) }).await?;
    }
    goes(rig, leased.task_id, by_time).await
}

async fn goes(rig: &Rig, task: TaskId, by_time: bool) -> TestResult {
    if by_time {
        rig.pass(61.0).await;
    } else {
        assert_eq!(rig.store.purge(&ME, Purge { selection: Selection::ids(vec![task]) }).await?.purged, 1);
    }
    assert_eq!(code(rig.get(task).await), ErrorCode::NotFound);
    Ok(())
}

async fn retried(rig: &Rig, tasks: &[TaskId]) -> Result<(u64, u64), QueueError> {
    let retried = rig.store.retry(&ME, Retry { selection: Selection::ids(tasks.to_vec()) }).await?;
    Ok((retried.retried, retried.skipped))
}

pub(crate) async fn t10_no_retry_runs_what_comes_after_a_task_that_did_not_complete(mut rig: Rig) -> TestResult {
    let short = |task_type: &str| Submit { result_ttl_s: 0.0, ..Submit::new(task_type, Json::null()) };
    for by_time in [false, true] {
        let (done, broken) =
            (rig.submit_as(short("done")).await?.task_id, rig.submit_as(short("broken")).await?.task_id);
        let child = rig.submit_as(after(&[done, broken])).await?.task_id;
        let anyway = Submit { on_parent_failure: OnParentFailure::Run, max_attempts: 1, ..after(&[broken]) };
        let anyway = rig.submit_as(anyway).await?.task_id;
        let called_off = rig.submit_as(after(&[broken])).await?.task_id;
        rig.store.cancel(&ME, Cancel { task_id: called_off, reason: String::new() }).await?;
        ends_and_goes(&rig, "done", true, by_time).await?;
        ends_and_goes(&rig, "broken", false, by_time).await?;
        rig.store.fail(&ME, fail(&rig.claim_now().await?)).await?;
        for _ in 0..2 {
            assert_eq!(retried(&rig, &[child, called_off]).await?, (0, 2), "{by_time}");
            let selection = Selection::ended(TaskStatus::Failed);
            let selection = Selection { task_types: vec!["child".to_owned()], ..selection };
            // A task that runs after a failure as well can be retried, and fails once more.
            assert_eq!(rig.store.retry(&ME, Retry { selection }).await?.retried, 1);
            let leased = rig.claim_now().await?;
            assert_eq!(leased.task_id, anyway);
            rig.store.fail(&ME, fail(&leased)).await?;
            rig = rig.reopened();
        }
        let selection = Selection::ids(vec![child, called_off, anyway]);
        assert_eq!(rig.store.purge(&ME, Purge { selection }).await?.purged, 3);
    }
    Ok(())
}

pub(crate) async fn t10_a_retry_counts_what_has_completed_and_gone(mut rig: Rig) -> TestResult {
    let short = |task_type: &str| Submit { result_ttl_s: 0.0, ..Submit::new(task_type, Json::null()) };
    for by_time in [false, true] {
        // The parent `mended` fails, and completes when it is retried.
        let (done, mended) =
            (rig.submit_as(short("done")).await?.task_id, rig.submit_as(short("mended")).await?.task_id);
        let child = rig.submit_as(after(&[done, mended])).await?.task_id;
        ends_and_goes(&rig, "done", true, by_time).await?;
        rig.store.fail(&ME, Fail { retryable: false, ..fail(&rig.claim_now().await?) }).await?;
        // `late` fails from the start because of one parent, `unlucky` because of one and later another.
        let other = rig.submit_as(short("other")).await?.task_id;
        let late = rig.submit_as(after(&[other, mended])).await?.task_id;
        let sad = rig.submit_as(Submit { delay_s: Some(3_000.0), ..short("sad") }).await?.task_id;
        let unlucky = rig.submit_as(after(&[mended, sad])).await?.task_id;
        assert_eq!(rig.status_of(late).await?, TaskStatus::Failed);
        assert_eq!(retried(&rig, &[child, late, unlucky]).await?, (0, 3), "as long as it has failed");
        rig = rig.reopened();
        assert_eq!(retried(&rig, &[mended]).await?, (1, 0));
        ends_and_goes(&rig, "mended", true, by_time).await?;
        rig.store.cancel(&ME, Cancel { task_id: sad, reason: String::new() }).await?;
        goes(&rig, sad, by_time).await?;
        ends_and_goes(&rig, "other", true, by_time).await?;
        assert_eq!(retried(&rig, &[child, late, unlucky]).await?, (2, 1), "{by_time}");
        // Tasks that failed while they ran have had their turn, and get another one.
        let mut leased = vec![rig.claim_now().await?, rig.claim_now().await?];
        assert_eq!(leased.iter().map(id).collect::<Vec<_>>(), [child, late]);
        for leased in leased.drain(..) {
            rig.store.fail(&ME, Fail { retryable: false, ..fail(&leased) }).await?;
        }
        assert_eq!(retried(&rig, &[child, late]).await?, (2, 0));
        for _ in 0..2 {
            rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
        }
        assert!(rig.claim().await?.is_none());
    }
    Ok(())
}

pub(crate) async fn a_deadline_ends_a_task_wherever_it_stands(rig: Rig) -> TestResult {
    let until = |deadline_s| Submit { deadline_s: Some(deadline_s), ..Submit::new("echo", Json::null()) };
    let running = rig.submit_as(until(60.0)).await?.task_id;
    let leased = rig.claim_now().await?;
    let queued = rig.submit_as(until(50.0)).await?.task_id;
    let delayed = rig.submit_as(Submit { delay_s: Some(1e6), ..until(50.0) }).await?.task_id;
    let blocked = rig.submit_as(Submit { after: vec![delayed], ..until(40.0) }).await?.task_id;
    let in_time = rig.submit_as(until(70.0)).await?.task_id;
    let renewed = rig.store.renew(&ME, renew(&leased, 300.0)).await?;
    assert!((renewed.deadline.ok_or("a deadline")? - leased.deadline.ok_or("a deadline")?).abs() < 1e-3);
    let watch = rig.store.watch(&[running, queued, delayed, blocked])?;
    rig.clock.advance(Duration::from_secs(61));
    soon(watch.done()).await;
    for task in [running, queued, delayed, blocked] {
        let task = rig.get(task).await?;
        assert_eq!((task.status, task.dead), (TaskStatus::Failed, true));
        assert_eq!(task.error.as_deref(), Some("the deadline has passed"));
    }
    assert_eq!(code(rig.store.complete(&ME, complete(&leased, "late")).await), ErrorCode::AlreadyFinished);
    let leased = rig.claim_now().await?;
    assert_eq!(id(&leased), in_time);
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    rig.pass(100.0).await;
    assert_eq!(rig.status_of(in_time).await?, TaskStatus::Completed);
    Ok(())
}

pub(crate) async fn t5_setting_the_wall_clock_moves_no_deadline(rig: Rig) -> TestResult {
    let task = Submit { deadline_s: Some(100.0), ..Submit::new("echo", Json::null()) };
    let task = rig.submit_as(task).await?.task_id;
    for days in [1.0, -2.0] {
        rig.clock.set_wall(crate::Clock::read(&*rig.clock).wall.after(days * 86_400.0));
        rig.pass(45.0).await;
        assert_eq!(rig.status_of(task).await?, TaskStatus::Queued);
    }
    rig.pass(11.0).await;
    assert_eq!(rig.status_of(task).await?, TaskStatus::Failed);
    Ok(())
}
