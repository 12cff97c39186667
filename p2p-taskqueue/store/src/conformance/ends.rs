use super::*;

pub(crate) async fn t5_setting_the_wall_clock_removes_no_result_and_no_key(rig: Rig) -> TestResult {
    let keyed = || Submit { idempotency_key: Some("k".to_owned()), ..Submit::new("echo", Json::null()) };
    let task = rig.submit_as(keyed()).await?.task_id;
    rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
    rig.clock.set_wall(crate::Clock::read(&*rig.clock).wall.after(10.0 * 86_400.0));
    rig.pass(3_600.0).await;
    assert_eq!(rig.get(task).await?.result, Some(Json::from_text("r")));
    assert!(rig.submit_as(keyed()).await?.duplicate);
    Ok(())
}

pub(crate) async fn t11_results_are_removed_after_their_time(rig: Rig) -> TestResult {
    let keep = |result_ttl_s| Submit { result_ttl_s, ..Submit::new("echo", Json::null()) };
    let mut short = Vec::new();
    for _ in 0..100 {
        short.push(rig.submit_as(keep(100.0)).await?.task_id);
    }
    let long = rig.submit_as(keep(1_000.0)).await?.task_id;
    while let Some(leased) = rig.claim().await? {
        rig.store.complete(&ME, complete(&leased, "r")).await?;
    }
    rig.pass(99.0).await;
    assert_eq!(rig.get(short[99]).await?.result, Some(Json::from_text("r")));
    rig.pass(2.0).await;
    // The sweep goes on by itself, and is one step further with every command.
    while rig.stats().await?.totals["completed"] > 1 {
        rig.submit("tick").await?;
    }
    assert_eq!(code(rig.get(short[99]).await), ErrorCode::NotFound);
    assert_eq!(rig.get(long).await?.result, Some(Json::from_text("r")));
    Ok(())
}

pub(crate) async fn t11_a_result_is_kept_for_a_minute_at_least(rig: Rig) -> TestResult {
    for result_ttl_s in [0.0, 1e-6, 59.0] {
        let task = rig.submit_as(Submit { result_ttl_s, ..Submit::new("echo", Json::null()) }).await?.task_id;
        rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
        rig.pass(59.9).await;
        let kept = rig.get(task).await?;
        assert_eq!((kept.result, kept.result_ttl_s), (Some(Json::from_text("r")), result_ttl_s));
        rig.pass(0.2).await;
        assert_eq!(code(rig.get(task).await), ErrorCode::NotFound, "{result_ttl_s}");
    }
    Ok(())
}

pub(crate) async fn cancelling_is_at_once_or_by_the_worker(rig: Rig) -> TestResult {
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

pub(crate) async fn a_failed_attempt_waits_for_its_backoff(rig: Rig) -> TestResult {
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

pub(crate) async fn a_failed_task_says_whether_its_worker_or_the_queue_ended_it(rig: Rig) -> TestResult {
    let once = |task_type: &str| Submit { max_attempts: 1, ..Submit::new(task_type, Json::null()) };
    let mut tasks = Vec::new();
    for by in 0..4 {
        let task = rig.submit_as(once("echo")).await?.task_id;
        let leased = rig.claim_now().await?;
        match by {
            0 => _ = rig.store.fail(&ME, fail(&leased)).await?,
            1 => {
                let complete = Complete { status: CompletedStatus::Failed, ..complete(&leased, "r") };
                rig.store.complete(&ME, complete).await?;
            }
            2 => rig.pass(301.0).await,
            _ => _ = rig.store.complete(&ME, complete(&leased, "r")).await?,
        }
        tasks.push(task);
    }
    tasks.push(rig.submit_as(Submit { after: vec![tasks[0]], ..once("echo") }).await?.task_id);
    tasks.push(rig.submit_as(Submit { deadline_s: Some(10.0), ..once("echo") }).await?.task_id);
    rig.pass(11.0).await;
    let rig = rig.reopened();
    let (worker, queue) = (Some(FailedBy::Worker), Some(FailedBy::Queue));
    for (at, failed_by) in [worker, worker, queue, None, queue, queue].into_iter().enumerate() {
        let task = rig.get(tasks[at]).await?;
        assert_eq!((task.failed_by, task.dead), (failed_by, failed_by.is_some()), "task {at}: {task:?}");
    }
    Ok(())
}
