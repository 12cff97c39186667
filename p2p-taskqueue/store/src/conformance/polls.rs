use super::*;

pub(crate) async fn a_long_poll_is_woken_by_whatever_makes_a_task_claimable(rig: Rig) -> TestResult {
    let wait = || {
        let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
        assert!((&mut claim).now_or_never().is_none());
        claim
    };
    // A submit wakes the claim.
    let claim = wait();
    let task = rig.submit("echo").await?;
    let leased = soon(claim).await?.task.ok_or("woken by a submit")?;
    assert_eq!(id(&leased), task);
    // A release does.
    let claim = wait();
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    let leased = soon(claim).await?.task.ok_or("woken by a release")?;
    // The end of a delay does.
    let claim = wait();
    rig.store.release(&ME, release(&leased, 50.0)).await?;
    rig.pass(51.0).await;
    let leased = soon(claim).await?.task.ok_or("woken by the end of a delay")?;
    assert_eq!(leased.attempt, 1);
    // The end of a lease does, here without a backoff.
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    let task = rig.submit_as(Submit { backoff_s: 0.0, ..Submit::new("echo", Json::null()) }).await?.task_id;
    rig.claim_as(Claim { lease_s: 20.0, ..Claim::new("w") }).await?.ok_or("a task")?;
    let claim = wait();
    rig.pass(20.0).await;
    assert_eq!(id(&soon(claim).await?.task.ok_or("woken by the end of a lease")?), task);
    // The end of the wait does.
    let claim = wait();
    rig.pass(101.0).await;
    assert!(soon(claim).await?.task.is_none());
    Ok(())
}

pub(crate) async fn a_dropped_long_poll_loses_no_task(rig: Rig) -> TestResult {
    // A claim is dropped while it waits.
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    drop(claim);
    let task = rig.submit("echo").await?;
    let leased = rig.claim_now().await?;
    assert_eq!(id(&leased), task);
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    // A claim is dropped with its answer on the way or received: when the release below is answered, so is the claim.
    let leased = rig.claim_now().await?;
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    drop(claim);
    let leased = soon(rig.store.claim(&ME, waiting())).await?.task.ok_or("given back")?;
    // Neither claim counts as an attempt: one task was released, the other given back.
    assert_eq!(leased.attempt, 1);
    rig.store.release(&ME, release(&leased, 0.0)).await?;
    // A claim is dropped after any number of polls.
    for polls in 0..4 {
        let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
        for _ in 0..polls {
            if let Some(claimed) = (&mut claim).now_or_never() {
                rig.store.release(&ME, release(&claimed?.task.ok_or("a task")?, 0.0)).await?;
                break;
            }
            rig.get(task).await?;
        }
        drop(claim);
        let leased = soon(rig.store.claim(&ME, waiting())).await?.task.ok_or("still there")?;
        rig.store.release(&ME, release(&leased, 0.0)).await?;
    }
    Ok(())
}

pub(crate) async fn waiting_claims_are_served_in_turn_and_by_what_they_take(rig: Rig) -> TestResult {
    let of = |task_type: &str| Claim { supported_task_types: vec![task_type.to_owned()], ..waiting() };
    let mut other = Box::pin(rig.store.claim(&ME, of("other")));
    let mut first = Box::pin(rig.store.claim(&ME, of("echo")));
    let mut second = Box::pin(rig.store.claim(&ME, waiting()));
    for claim in [&mut other, &mut first, &mut second] {
        assert!(claim.now_or_never().is_none());
    }
    let one = rig.submit("echo").await?;
    assert_eq!(id(&soon(first).await?.task.ok_or("first")?), one);
    let two = rig.submit("echo").await?;
    assert_eq!(id(&soon(second).await?.task.ok_or("second")?), two);
    let three = rig.submit("other").await?;
    assert_eq!(id(&soon(other).await?.task.ok_or("other")?), three);
    Ok(())
}

pub(crate) async fn a_waiting_claim_is_not_passed_over_by_one_that_came_later(rig: Rig) -> TestResult {
    let of = |types: &[&str]| Claim {
        supported_task_types: types.iter().map(|one| (*one).to_owned()).collect(),
        ..waiting()
    };
    for round in 0..8 {
        rig.store.pause(&ME, Pause::default()).await?;
        let first = rig.submit_as(Submit { priority: 9, ..Submit::new("a", Json::null()) }).await?.task_id;
        let second = rig.submit("b").await?;
        let mut one = Box::pin(rig.store.claim(&ME, of(&["a"])));
        let mut other = Box::pin(rig.store.claim(&ME, of(&["a", "b"])));
        assert!((&mut one).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        // Both lines open at the same time.
        rig.store.resume(&ME, Resume::default()).await?;
        assert_eq!(soon(one).await?.task.map(|task| id(&task)), Some(first), "round {round}");
        assert_eq!(soon(other).await?.task.map(|task| id(&task)), Some(second), "round {round}");
    }
    Ok(())
}

pub(crate) async fn a_completion_that_waits_stands_when_the_store_is_closed(rig: Rig) -> TestResult {
    let task = rig.submit("a").await?;
    let leased = rig.claim_now().await?;
    let with_next = Complete { claim_next: Some(waiting()), ..complete(&leased, "r") };
    let watch = rig.store.watch(&[task])?;
    let mut completing = Box::pin(rig.store.complete(&ME, with_next));
    assert!((&mut completing).now_or_never().is_none());
    soon(watch.done()).await;
    rig.store.close();
    let completed = soon(completing).await?;
    assert_eq!((completed.task_id, completed.status, completed.repeated), (task, TaskStatus::Completed, false));
    assert!(completed.next.is_none());
    let rig = rig.reopened();
    assert_eq!(rig.status_of(task).await?, TaskStatus::Completed);
    Ok(())
}
