use super::*;

pub(crate) async fn t6_order_is_priority_then_time_then_acceptance(rig: Rig) -> TestResult {
    let mut submitted = Vec::new();
    for priority in [5, 5, 9, 1, 9] {
        submitted.push(rig.submit_as(Submit { priority, ..Submit::new("echo", Json::null()) }).await?.task_id);
    }
    let late = rig.submit_as(Submit { priority: 9, delay_s: Some(5.0), ..Submit::new("other", Json::null()) }).await?;
    rig.pass(6.0).await;
    let last = rig.submit_as(Submit { priority: 9, ..Submit::new("other", Json::null()) }).await?;
    let mut claimed = Vec::new();
    while let Some(leased) = rig.claim().await? {
        claimed.push(id(&leased));
    }
    let [a, b, c, d, e] = submitted[..] else { panic!() };
    assert_eq!(claimed, [c, e, late.task_id, last.task_id, a, b, d]);
    Ok(())
}

pub(crate) async fn t6_what_a_worker_may_not_take_hides_nothing(rig: Rig) -> TestResult {
    let plain = |task_type: &str| Submit { priority: 10, ..Submit::new(task_type, Json::null()) };
    for _ in 0..50 {
        rig.submit_as(Submit { requires: vec!["gpu".to_owned()], ..plain("echo") }).await?;
        rig.submit_as(Submit { session: Some("s".to_owned()), ..plain("echo") }).await?;
        rig.submit_as(Submit { pin_to: Some(PeerId::random()), ..plain("echo") }).await?;
        rig.submit_as(plain("other")).await?;
    }
    let wanted = rig.submit("echo").await?;
    let claim = Claim { supported_task_types: vec!["none".to_owned(), "echo".to_owned()], ..Claim::new("w") };
    assert_eq!(rig.claim_as(claim.clone()).await?.map(|leased| id(&leased)), Some(wanted));
    assert!(rig.claim_as(claim.clone()).await?.is_none());
    let session = Some("s".to_owned());
    let leased = rig.claim_as(Claim { session, ..claim.clone() }).await?.ok_or("a task of the session")?;
    assert_eq!(leased.session.as_deref(), Some("s"));
    let labels = vec!["ssd".to_owned(), "gpu".to_owned()];
    rig.claim_as(Claim { labels, ..claim }).await?.ok_or("a task for a gpu")?;
    let pinned = rig.submit_as(Submit { pin_to: Some(peer()), ..Submit::new("pinned", Json::null()) }).await?.task_id;
    let claim = Claim { supported_task_types: vec!["pinned".to_owned()], ..Claim::new("w") };
    assert!(soon(rig.store.claim(&Caller::member(PeerId::random()), claim.clone())).await?.task.is_none());
    assert_eq!(rig.claim_as(claim).await?.map(|leased| id(&leased)), Some(pinned));
    Ok(())
}

pub(crate) async fn scheduled_tasks_come_when_the_wall_clock_says(rig: Rig) -> TestResult {
    let now = crate::Clock::read(&*rig.clock).wall;
    let at = |seconds: f64| Some(now.after(seconds).as_secs());
    let task = rig.submit_as(Submit { not_before: at(86_400.0), ..Submit::new("echo", Json::null()) }).await?.task_id;
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    // Somebody sets the clock a day forward.
    rig.clock.set_wall(now.after(86_401.0));
    assert_eq!(id(&soon(claim).await?.task.ok_or("its time has come")?), task);
    assert!(rig.claim().await?.is_none());
    Ok(())
}

pub(crate) async fn a_repeated_entry_counts_once(rig: Rig) -> TestResult {
    let twice = |text: &str| vec![text.to_owned(), text.to_owned()];
    let keyed = |labels: Vec<String>| Submit {
        requires: labels.clone(),
        labels,
        idempotency_key: Some("k".to_owned()),
        ..Submit::new("a", Json::null())
    };
    let task = rig.submit_as(keyed(twice("gpu"))).await?.task_id;
    assert_eq!(rig.get(task).await?.labels, ["gpu"]);
    assert!(rig.submit_as(keyed(vec!["gpu".to_owned()])).await?.duplicate, "another content");
    let (listed, _) = rig.list(List { task_types: twice("a"), ..List::default() }).await?;
    assert_eq!(listed, [task]);
    let paused = soon(rig.store.pause(&ME, Pause { task_types: twice("a"), drain: false })).await?;
    assert_eq!((paused.queued, paused.running), (1, 0));
    assert_eq!(soon(rig.store.resume(&ME, Resume { task_types: twice("a") })).await?.queued, 1);
    let claim = Claim { supported_task_types: twice("a"), labels: twice("gpu"), ..waiting() };
    let leased = rig.claim_as(claim.clone()).await?.ok_or("a task")?;
    // A waiting claim is listed under each type once, and not any more once it was served.
    let mut claiming = Box::pin(rig.store.claim(&ME, claim));
    assert!((&mut claiming).now_or_never().is_none());
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    let leased = soon(claiming).await?.task.ok_or("a task")?;
    rig.store.fail(&ME, Fail { retryable: false, ..fail(&leased) }).await?;
    let failed = Selection { task_types: twice("a"), ..Selection::ended(TaskStatus::Failed) };
    let retried = soon(rig.store.retry(&ME, Retry { selection: failed })).await?;
    assert_eq!((retried.retried, retried.skipped, retried.more), (1, 0, false));
    Ok(())
}
