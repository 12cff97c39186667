//! Tests of what holds tasks back from every worker: limits and pauses.

use super::*;

pub(crate) async fn a_key_runs_one_task_at_a_time(rig: Rig) -> TestResult {
    let keyed = |task_type: &str, key: &str| Submit {
        concurrency_key: Some(key.to_owned()),
        ..Submit::new(task_type, Json::null())
    };
    let first = rig.submit_as(keyed("a", "k")).await?.task_id;
    let second = rig.submit_as(Submit { priority: 9, ..keyed("b", "k") }).await?.task_id;
    let other = rig.submit_as(keyed("a", "l")).await?.task_id;
    let leased = rig.claim_now().await?;
    assert_eq!(id(&leased), second);
    assert_eq!(id(&rig.claim_now().await?), other);
    assert!(rig.claim().await?.is_none());
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    let leased = soon(claim).await?.task.ok_or("the key is free")?;
    assert_eq!(id(&leased), first);
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    let key = |running_max| Limit { task_type: None, concurrency_key: Some("k".to_owned()), running_max };
    rig.store.limit(&ME, key(Some(2))).await?;
    rig.submit_as(keyed("a", "k")).await?;
    rig.submit_as(keyed("a", "k")).await?;
    let rig = rig.reopened();
    let leased = rig.claim_now().await?;
    rig.claim_now().await?;
    assert!(rig.claim().await?.is_none());
    // Without the set limit, only one task has room, so the third one has to wait.
    assert_eq!(rig.store.limit(&ME, key(None)).await?.running, 2);
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    assert!(rig.claim().await?.is_none());
    let rig = rig.reopened();
    assert!(rig.claim().await?.is_none());
    Ok(())
}

pub(crate) async fn a_type_runs_as_many_as_its_limit_says(rig: Rig) -> TestResult {
    let limit = |running_max| Limit { task_type: Some("a".to_owned()), concurrency_key: None, running_max };
    rig.store.limit(&ME, limit(Some(1))).await?;
    for session in [None, Some("s".to_owned())] {
        rig.submit_as(Submit { session, ..Submit::new("a", Json::null()) }).await?;
    }
    let other = rig.submit("b").await?;
    let of_session = Claim { session: Some("s".to_owned()), ..Claim::new("w") };
    let leased = rig.claim_as(of_session.clone()).await?.ok_or("the first")?;
    assert_eq!(id(&rig.claim_as(of_session.clone()).await?.ok_or("another type")?), other);
    assert!(rig.claim_as(of_session.clone()).await?.is_none());
    let rig = rig.reopened();
    assert!(rig.claim_as(of_session.clone()).await?.is_none());
    assert_eq!(rig.stats().await?.by_type["a"].running_max, Some(1));
    let mut claim = Box::pin(rig.store.claim(&ME, Claim { wait_s: 100.0, ..of_session.clone() }));
    assert!((&mut claim).now_or_never().is_none());
    assert_eq!(rig.store.fail(&ME, fail(&leased)).await?.status, TaskStatus::Queued);
    soon(claim).await?.task.ok_or("woken by a failure")?;
    rig.pass(10.0).await;
    assert!(rig.claim_as(of_session.clone()).await?.is_none());
    rig.store.limit(&ME, limit(None)).await?;
    rig.claim_as(of_session).await?.ok_or("without a limit")?;
    Ok(())
}

pub(crate) async fn a_paused_type_is_held_and_a_drained_one_takes_nothing_new(rig: Rig) -> TestResult {
    let names = |name: &str| vec![name.to_owned()];
    rig.submit("a").await?;
    let paused = rig.store.pause(&ME, Pause { task_types: names("a"), drain: false }).await?;
    assert_eq!((paused.queued, paused.running), (1, 0));
    let rig = rig.reopened();
    assert!(rig.claim().await?.is_none());
    rig.submit("a").await?;
    let other = rig.submit("b").await?;
    assert_eq!(id(&rig.claim_now().await?), other);
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    assert!(rig.stats().await?.by_type["a"].paused);
    assert_eq!(rig.store.resume(&ME, Resume { task_types: names("a") }).await?.queued, 2);
    soon(claim).await?.task.ok_or("woken by the resume")?;
    rig.store.pause(&ME, Pause { task_types: Vec::new(), drain: true }).await?;
    assert_eq!(code(rig.submit("a").await), ErrorCode::Paused);
    rig.claim_now().await?;
    rig.store.pause(&ME, Pause::default()).await?;
    rig.store.pause(&ME, Pause { task_types: names("b"), drain: true }).await?;
    let stats = rig.stats().await?;
    assert!(stats.paused && stats.draining && stats.by_type["b"].draining);
    rig.store.resume(&ME, Resume::default()).await?;
    rig.submit("a").await?;
    rig.submit("b").await?;
    rig.claim_now().await?;
    rig.claim_now().await?;
    Ok(())
}

pub(crate) async fn what_is_limited_already_can_be_limited_otherwise_at_the_cap(rig: Rig) -> TestResult {
    let key = |number: usize, running_max| Limit {
        task_type: None,
        concurrency_key: Some(format!("k{number}")),
        running_max,
    };
    let mut count = 0;
    while rig.store.limit(&ME, key(count, Some(5))).await.is_ok() {
        count += 1;
        assert!(count < 20_000, "no cap");
    }
    assert_eq!(code(rig.store.limit(&ME, key(count, Some(5))).await), ErrorCode::Overloaded);
    rig.store.limit(&ME, key(0, Some(2))).await?;
    // To remove a limit that was never set needs no room. To remove one that was set makes room.
    rig.store.limit(&ME, key(count, None)).await?;
    rig.store.limit(&ME, key(1, None)).await?;
    rig.store.limit(&ME, key(count, Some(5))).await?;
    // The number of types is bounded, too.
    let names = |from: usize| (from..from + 250).map(|number| format!("t{number}")).collect::<Vec<_>>();
    let mut from = 0;
    while rig.store.pause(&ME, Pause { task_types: names(from), drain: false }).await.is_ok() {
        from += 250;
        assert!(from < 200_000, "no cap");
    }
    let limit =
        |name: &str, running_max| Limit { task_type: Some(name.to_owned()), concurrency_key: None, running_max };
    rig.store.limit(&ME, limit("t0", Some(3))).await?;
    rig.store.limit(&ME, limit("unknown", None)).await?;
    rig.store.pause(&ME, Pause { task_types: names(0), drain: true }).await?;
    Ok(())
}

pub(crate) async fn names_that_nobody_set_anything_for_take_no_room(rig: Rig) -> TestResult {
    for round in 0..20 {
        let task_types = (0..250).map(|number| format!("never-{round}-{number}")).collect();
        soon(rig.store.resume(&ME, Resume { task_types })).await?;
    }
    rig.submit("new").await?;
    assert!(rig.store.vitals(true).memory.lines().all(|line| !line.contains("never-")), "they are remembered");
    Ok(())
}
