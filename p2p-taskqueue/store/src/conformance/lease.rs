use super::*;

pub(crate) async fn t2_a_task_has_one_holder(rig: Rig) -> TestResult {
    let mut submitted = Vec::new();
    for _ in 0..50 {
        submitted.push(rig.submit("echo").await?);
    }
    let claimants = (0..8).map(|_| async {
        let mut held = Vec::new();
        while let Some(leased) = rig.claim().await? {
            held.push((id(&leased), fence(&leased)));
        }
        Ok::<_, QueueError>(held)
    });
    let held: Vec<(TaskId, Fence)> = futures::future::try_join_all(claimants).await?.concat();
    let mut ids: Vec<_> = held.iter().map(|(id, _)| *id).collect();
    let mut fences: Vec<_> = held.iter().map(|(_, fence)| *fence).collect();
    ids.sort();
    submitted.sort();
    assert_eq!(ids, submitted);
    fences.sort();
    fences.dedup();
    assert_eq!(fences.len(), 50);
    Ok(())
}

pub(crate) async fn t3_a_fence_that_is_not_current_changes_nothing(rig: Rig) -> TestResult {
    let task = rig.submit("echo").await?;
    let first = rig.claim_now().await?;
    rig.pass(301.0).await;
    // The timer ended the lease, although nothing else happened. After the backoff, another worker gets the task.
    rig.pass(2.0).await;
    let second = soon(rig.store.claim(&ME, waiting())).await?.task.ok_or("claimed again")?;
    assert_eq!(id(&second), task);
    let before = rig.get(task).await?;
    assert_eq!(code(rig.store.renew(&ME, renew(&first, 9.0)).await), ErrorCode::StaleFence);
    assert_eq!(code(rig.store.complete(&ME, complete(&first, "x")).await), ErrorCode::StaleFence);
    assert_eq!(code(rig.store.fail(&ME, fail(&first)).await), ErrorCode::StaleFence);
    assert_eq!(code(rig.store.release(&ME, release(&first, 0.0)).await), ErrorCode::StaleFence);
    assert_eq!(rig.get(task).await?, before);
    rig.store.complete(&ME, complete(&second, "y")).await?;
    assert_eq!(code(rig.store.complete(&ME, complete(&first, "y")).await), ErrorCode::AlreadyFinished);
    assert_eq!(rig.get(task).await?.result, Some(Json::from_text("y")));
    assert!(rig.store.complete(&ME, complete(&second, "y")).await?.repeated);
    assert_eq!(code(rig.store.complete(&ME, complete(&second, "z")).await), ErrorCode::AlreadyFinished);
    let unknown = TaskId::from_bytes([1; 16]);
    assert_eq!(code(rig.store.renew(&ME, Renew { task_id: unknown, ..renew(&first, 9.0) }).await), ErrorCode::NotFound);
    let got = soon(rig.store.get_many(&ME, GetMany { task_ids: vec![task, unknown] })).await?;
    assert_eq!((got.tasks.len(), got.missing), (1, vec![unknown]));
    Ok(())
}

pub(crate) async fn t4_a_dead_worker_costs_its_task_its_attempts(rig: Rig) -> TestResult {
    let task = rig.submit_as(Submit { max_attempts: 2, ..Submit::new("echo", Json::null()) }).await?.task_id;
    let watch = rig.store.watch(&[task])?;
    for attempt in 1..=2 {
        let leased = soon(rig.store.claim(&ME, waiting())).await?.task.ok_or("claimable")?;
        assert_eq!(leased.attempt, attempt);
        assert!(watch.done().now_or_never().is_none());
        rig.pass(300.0).await;
        rig.pass(2.0).await;
    }
    soon(watch.done()).await;
    let ended = rig.get(task).await?;
    assert_eq!((ended.status, ended.dead), (TaskStatus::Failed, true));
    assert_eq!(ended.error.as_deref(), Some("the lease expired after 2 attempts"));
    Ok(())
}

pub(crate) async fn t4_a_lease_ends_when_nothing_else_happens(rig: Rig) -> TestResult {
    let task = rig.submit_as(Submit { max_attempts: 1, ..Submit::new("echo", Json::null()) }).await?.task_id;
    let watch = rig.store.watch(&[task])?;
    rig.claim_now().await?;
    rig.clock.advance(Duration::from_secs(300));
    soon(watch.done()).await;
    assert_eq!(rig.status_of(task).await?, TaskStatus::Failed);
    Ok(())
}

pub(crate) async fn t5_setting_the_wall_clock_ends_no_lease(rig: Rig) -> TestResult {
    rig.submit("echo").await?;
    let leased = rig.claim_now().await?;
    for days in [1.0, -2.0, 30.0] {
        let wall = crate::Clock::read(&*rig.clock).wall.after(days * 86_400.0);
        rig.clock.set_wall(wall);
        rig.pass(90.0).await;
        rig.store.renew(&ME, renew(&leased, 100.0)).await?;
    }
    rig.pass(100.0).await;
    assert_eq!(code(rig.store.renew(&ME, renew(&leased, 100.0)).await), ErrorCode::StaleFence);
    Ok(())
}

pub(crate) async fn t8_a_restart_keeps_what_was_acknowledged(rig: Rig) -> TestResult {
    let queued = rig.submit_as(Submit { priority: 1, ..Submit::new("echo", Json::from_text("p")) }).await?.task_id;
    let running = rig.submit_as(Submit { priority: 9, ..Submit::new("echo", Json::null()) }).await?.task_id;
    let held = rig.claim_now().await?;
    let done = rig.submit_as(Submit { priority: 9, ..Submit::new("echo", Json::null()) }).await?.task_id;
    let finished = rig.claim_now().await?;
    rig.store.complete(&ME, complete(&finished, "r")).await?;
    rig.pass(200.0).await;

    let rig = rig.reopened();
    assert_eq!(rig.get(queued).await?.payload, Json::from_text("p"));
    assert_eq!(rig.get(done).await?.result, Some(Json::from_text("r")));
    let totals = rig.stats().await?.totals;
    assert_eq!((totals["queued"], totals["running"], totals["completed"]), (1, 1, 1));
    // From the start of the store, the lease runs for one more length of it, and the old fence is valid.
    rig.pass(299.0).await;
    assert_eq!(rig.status_of(running).await?, TaskStatus::Running);
    let next = rig.claim_now().await?;
    assert_eq!(id(&next), queued);
    assert!(fence(&next).epoch > fence(&held).epoch);
    rig.store.renew(&ME, renew(&held, 300.0)).await?;
    let rig = rig.reopened();
    rig.pass(301.0).await;
    assert_eq!(code(rig.store.complete(&ME, complete(&held, "late")).await), ErrorCode::StaleFence);
    assert_eq!(rig.status_of(running).await?, TaskStatus::Queued);
    assert!(rig.store.complete(&ME, complete(&finished, "r")).await?.repeated);
    Ok(())
}
