//! Tasks that come after others, and deadlines.

use super::*;

fn after(parents: &[TaskId]) -> Submit {
    Submit { after: parents.to_vec(), priority: 9, ..Submit::new("child", Json::null()) }
}

pub(in crate::store) async fn t10_a_task_comes_after_all_that_it_names(rig: Rig) -> TestResult {
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
    // One that comes after tasks which have ended waits for nothing.
    let late = rig.submit_as(after(&[one, two])).await?.task_id;
    assert_eq!(id(&rig.claim_now().await?), late);
    Ok(())
}

pub(in crate::store) async fn t10_a_failed_parent_fails_what_comes_after_it(rig: Rig) -> TestResult {
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
    // What comes after a task that has failed fails at once.
    let late = rig.submit_as(after(&[parent])).await?.task_id;
    assert_eq!(rig.status_of(late).await?, TaskStatus::Failed);
    rig.store.cancel(&ME, Cancel { task_id: other, reason: "enough".to_owned() }).await?;
    assert_eq!(rig.stats().await?.totals["failed"], 4);
    Ok(())
}

pub(in crate::store) async fn t10_nothing_comes_after_what_is_not_there(rig: Rig) -> TestResult {
    let error = rig.submit_as(after(&[TaskId::from_bytes([9; 16])])).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NotFound, Some("after")));
    assert_eq!(rig.stats().await?.totals["queued"], 0);
    Ok(())
}

pub(in crate::store) async fn a_deadline_ends_a_task_wherever_it_stands(rig: Rig) -> TestResult {
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

pub(in crate::store) async fn t5_setting_the_wall_clock_moves_no_deadline(rig: Rig) -> TestResult {
    let task = Submit { deadline_s: Some(100.0), ..Submit::new("echo", Json::null()) };
    let task = rig.submit_as(task).await?.task_id;
    for days in [1.0, -2.0] {
        rig.clock.set_wall(crate::store::Clock::read(&*rig.clock).wall.after(days * 86_400.0));
        rig.pass(45.0).await;
        assert_eq!(rig.status_of(task).await?, TaskStatus::Queued);
    }
    rig.pass(11.0).await;
    assert_eq!(rig.status_of(task).await?, TaskStatus::Failed);
    Ok(())
}
