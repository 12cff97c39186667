//! Tests of what a queued task's record, and the answer to its submit, say it waits for.

use super::*;

type Told = Option<(WaitReason, String)>;

fn told(why: Option<WaitingFor>) -> Told {
    why.map(|why| (why.reason, why.message))
}

fn is(reason: WaitReason, message: &str) -> Told {
    Some((reason, message.to_owned()))
}

fn null(task_type: &str) -> Submit {
    Submit::new(task_type, Json::null())
}

fn types(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(crate) async fn a_queued_record_says_when_it_may_start(rig: Rig) -> TestResult {
    let parents = [rig.submit("a").await?, rig.submit("a").await?];
    let [first, second] = parents;
    let delayed = rig.submit_as(Submit { delay_s: Some(12.0), ..null("b") }).await?.task_id;
    let not_before = Some(START.as_secs() + 7_200.0);
    let scheduled = rig.submit_as(Submit { not_before, ..null("b") }).await?.task_id;
    let child = rig.submit_as(Submit { after: vec![first, second, first], ..null("b") }).await?.task_id;
    assert_eq!(told(rig.why(first).await?), None);
    assert_eq!(told(rig.why(delayed).await?), is(WaitReason::Delayed, "it may start in 12 s"));
    assert_eq!(told(rig.why(scheduled).await?), is(WaitReason::Delayed, "it may start in 2 h"));
    assert_eq!(told(rig.why(child).await?), is(WaitReason::After, "it comes after 2 tasks that have not ended"));
    rig.pass(5.0).await;
    let rig = rig.reopened();
    assert_eq!(told(rig.why(delayed).await?), is(WaitReason::Delayed, "it may start in 7.0 s"));
    // A clock that was set moves dates and no delays.
    rig.clock.set_wall(START.after(7_165.0));
    assert_eq!(told(rig.why(delayed).await?), is(WaitReason::Delayed, "it may start in 7.0 s"));
    assert_eq!(told(rig.why(scheduled).await?), is(WaitReason::Delayed, "it may start in 35 s"));
    rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
    assert_eq!(told(rig.why(child).await?), is(WaitReason::After, "it comes after 1 task that has not ended"));
    let leased = rig.claim_now().await?;
    assert_eq!(told(leased.waiting_for.clone()), None);
    assert_eq!(told(rig.why(id(&leased)).await?), None, "it runs");
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    assert_eq!(told(rig.why(child).await?), None, "a worker may claim it");
    assert_eq!(told(rig.why(first).await?), None, "it has ended");
    rig.pass(7.0).await;
    assert_eq!(told(rig.why(delayed).await?), None);
    let page = soon(rig.store.list(&ME, List::default())).await?.tasks;
    let reasons: Vec<_> = page.into_iter().filter_map(|task| Some((task.task_id, task.waiting_for?.reason))).collect();
    assert_eq!(reasons, [(scheduled, WaitReason::Delayed)]);
    Ok(())
}

pub(crate) async fn a_lost_attempt_is_a_backoff_and_one_given_back_a_delay(rig: Rig) -> TestResult {
    let task = rig.submit_as(Submit { max_attempts: 3, ..null("a") }).await?.task_id;
    let failed = Fail { delay_s: Some(4.2), ..fail(&rig.claim_now().await?) };
    rig.store.fail(&ME, failed).await?;
    let message = "its next attempt is due in 4.2 s, after attempt 1 of 3";
    assert_eq!(told(rig.why(task).await?), is(WaitReason::Backoff, message));
    rig.pass(4.2).await;
    // An attempt that is given back is not counted, and its delay is what its worker asked for.
    rig.store.release(&ME, release(&rig.claim_now().await?, 50.0)).await?;
    assert_eq!(told(rig.why(task).await?), is(WaitReason::Delayed, "it may start in 50 s"));
    rig.pass(50.0).await;
    rig.store.release(&ME, release(&rig.claim_now().await?, 0.0)).await?;
    assert_eq!(told(rig.why(task).await?), None);
    rig.claim_as(Claim { lease_s: 5.0, ..Claim::new("w") }).await?.ok_or("again")?;
    rig.pass(5.0).await;
    let rig = rig.reopened();
    let (reason, message) = told(rig.why(task).await?).ok_or("the lease has expired")?;
    assert_eq!(reason, WaitReason::Backoff);
    assert!(message.ends_with("after attempt 2 of 3"), "{message}");
    rig.pass(10.0).await;
    let freed = taskqueue_api::Free { machine: peer() };
    rig.claim_now().await?;
    rig.store.free(&ME, freed).await?;
    assert_eq!(rig.status_of(task).await?, TaskStatus::Failed);
    // Queued again by hand, it is as new.
    rig.store.retry(&ME, Retry { selection: Selection::ids(vec![task]) }).await?;
    assert_eq!(told(rig.why(task).await?), None);
    rig.store.release(&ME, release(&rig.claim_now().await?, 20.0)).await?;
    assert_eq!(told(rig.why(task).await?), is(WaitReason::Delayed, "it may start in 20 s"));
    let unlimited = rig.submit_as(Submit { max_attempts: 0, ..null("b") }).await?.task_id;
    rig.claim_now().await?;
    rig.store.free(&ME, freed).await?;
    let (reason, message) = told(rig.why(unlimited).await?).ok_or("the lease was ended")?;
    assert_eq!(reason, WaitReason::Backoff);
    assert!(message.ends_with("after attempt 1"), "{message}");
    Ok(())
}

pub(crate) async fn a_queued_record_names_the_pause_or_the_limit(rig: Rig) -> TestResult {
    let keyed = Submit { concurrency_key: Some("k".to_owned()), ..null("a") };
    rig.submit_as(keyed.clone()).await?;
    rig.claim_now().await?;
    let key = rig.submit_as(keyed).await?.task_id;
    let plain = rig.submit("a").await?;
    let of_key = is(WaitReason::Limit, "1 of 1 tasks with the concurrency key 'k' run");
    assert_eq!((told(rig.why(key).await?), told(rig.why(plain).await?)), (of_key.clone(), None));
    let limit = |running_max| Limit { task_type: Some("a".to_owned()), concurrency_key: None, running_max };
    rig.store.limit(&ME, limit(Some(1))).await?;
    let rig = rig.reopened();
    let of_type = is(WaitReason::Limit, "1 of 1 tasks of type 'a' run");
    assert_eq!((told(rig.why(key).await?), told(rig.why(plain).await?)), (of_type.clone(), of_type.clone()));
    rig.store.pause(&ME, Pause { task_types: types(&["a"]), drain: false }).await?;
    let paused = is(WaitReason::Paused, "type 'a' is paused: `taskmesh resume a` lets it go on");
    assert_eq!((told(rig.why(key).await?), told(rig.why(plain).await?)), (paused.clone(), paused.clone()));
    let other = rig.submit("b").await?;
    assert_eq!(told(rig.why(other).await?), None);
    rig.store.pause(&ME, Pause::default()).await?;
    let rig = rig.reopened();
    let all = is(WaitReason::Paused, "the queue is paused: `taskmesh resume` lets it go on");
    // All of them are asked about at once.
    let mut tasks = soon(rig.store.list(&ME, List::default())).await?.tasks;
    soon(rig.store.explain(&mut tasks)).await;
    for task in tasks {
        let expected = if task.status == TaskStatus::Queued { all.clone() } else { None };
        assert_eq!(told(task.waiting_for), expected, "{}", task.task_id);
    }
    rig.store.resume(&ME, Resume { task_types: types(&["b"]) }).await?;
    assert_eq!(told(rig.why(other).await?), all, "the whole queue is paused");
    // A drain holds nothing back that is queued already.
    rig.store.resume(&ME, Resume::default()).await?;
    rig.store.limit(&ME, limit(None)).await?;
    rig.store.pause(&ME, Pause { task_types: Vec::new(), drain: true }).await?;
    assert_eq!((told(rig.why(key).await?), told(rig.why(plain).await?)), (of_key, None));
    let given = [rig.claim_now().await?, rig.claim_now().await?];
    assert!(given.iter().any(|task| id(task) == plain) && given.iter().any(|task| id(task) == other));
    rig.store.limit(&ME, limit(Some(1))).await?;
    let over = is(WaitReason::Limit, "2 tasks of type 'a' run, and 1 may");
    assert_eq!(told(rig.why(key).await?), over);
    Ok(())
}

pub(crate) async fn a_submit_says_why_its_task_waits(rig: Rig) -> TestResult {
    let named = Submit { idempotency_key: Some("i".to_owned()), delay_s: Some(30.0), ..null("a") };
    let delayed = rig.submit_as(named.clone()).await?;
    assert_eq!(told(delayed.waiting_for), is(WaitReason::Delayed, "it may start in 30 s"));
    let again = rig.submit_as(named).await?;
    assert_eq!((again.duplicate, told(again.waiting_for)), (true, None));
    let scheduled = rig.submit_as(Submit { not_before: Some(START.as_secs() + 60.0), ..null("a") }).await?;
    assert_eq!(told(scheduled.waiting_for), is(WaitReason::Delayed, "it may start in 60 s"));
    let keyed = Submit { concurrency_key: Some("k".to_owned()), ..null("a") };
    let first = rig.submit_as(keyed.clone()).await?;
    assert_eq!(told(first.waiting_for), None, "a worker may claim it");
    let child = rig.submit_as(Submit { after: vec![first.task_id], ..null("a") }).await?;
    assert_eq!(told(child.waiting_for), is(WaitReason::After, "it comes after 1 task that has not ended"));
    rig.claim_now().await?;
    let of_key = is(WaitReason::Limit, "1 of 1 tasks with the concurrency key 'k' run");
    assert_eq!(told(rig.submit_as(keyed.clone()).await?.waiting_for), of_key);
    rig.store.pause(&ME, Pause { task_types: types(&["b"]), drain: false }).await?;
    let dead = rig.submit_as(Submit { max_attempts: 1, ..null("c") }).await?.task_id;
    rig.store.fail(&ME, fail(&rig.claim_now().await?)).await?;
    let fails = Submit { after: vec![dead], ..null("b") };
    let tasks = vec![null("b"), keyed, null("c"), fails];
    let results = soon(rig.store.submit_many(&ME, SubmitMany { tasks })).await?.results;
    let reasons = results.into_iter().map(|result| Ok(told(result.submitted.ok_or("refused")?.waiting_for)));
    let reasons = reasons.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let paused = is(WaitReason::Paused, "type 'b' is paused: `taskmesh resume b` lets it go on");
    assert_eq!(reasons, [paused, of_key, None, None], "the last one has failed at once");
    Ok(())
}

pub(crate) async fn a_closed_store_gives_no_reasons_and_fails_no_read(rig: Rig) -> TestResult {
    rig.store.pause(&ME, Pause::default()).await?;
    let task = rig.submit("a").await?;
    let mut task = rig.get(task).await?;
    rig.store.close();
    soon(rig.store.explain(std::slice::from_mut(&mut task))).await;
    assert_eq!(told(task.waiting_for), None);
    Ok(())
}
