use super::*;

pub(crate) async fn t7_a_key_answers_the_first_task_or_a_conflict(rig: Rig) -> TestResult {
    let keyed = |text: &str| Submit {
        idempotency_key: Some("k".to_owned()),
        idempotency_window_s: 60.0,
        ..Submit::new("echo", Json::from_text(text))
    };
    let first = rig.submit_as(keyed("a")).await?;
    assert!(!first.duplicate);
    let again = rig.submit_as(keyed("a")).await?;
    assert_eq!((again.task_id, again.duplicate), (first.task_id, true));
    assert_eq!(code(rig.submit_as(keyed("b")).await), ErrorCode::Conflict);
    let elsewhere = soon(rig.store.submit(&Caller::member(PeerId::random()), keyed("b"))).await?;
    assert!(!elsewhere.duplicate);
    let rig = rig.reopened();
    assert!(rig.submit_as(keyed("a")).await?.duplicate);
    rig.pass(61.0).await;
    let later = rig.submit_as(keyed("b")).await?;
    assert!(!later.duplicate && later.task_id != first.task_id);
    Ok(())
}

pub(crate) async fn t7_repeats_in_one_batch_make_one_task(rig: Rig) -> TestResult {
    let keyed = || Submit { idempotency_key: Some("k".to_owned()), ..Submit::new("echo", Json::null()) };
    let all = (0..20).map(|_| rig.submit_as(keyed()));
    let all: Vec<Submitted> = futures::future::join_all(all).await.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(all.iter().filter(|submission| !submission.duplicate).count(), 1);
    assert!(all.iter().all(|submission| submission.task_id == all[0].task_id));
    Ok(())
}

pub(crate) async fn t7_an_id_answers_the_first_task_or_a_conflict(rig: Rig) -> TestResult {
    let id = TaskId::from_bytes([0x5a; 16]);
    let named = |text: &str| Submit { task_id: Some(id), ..Submit::new("echo", Json::from_text(text)) };
    let first = rig.submit_as(named("a")).await?;
    assert_eq!((first.task_id, first.duplicate), (id, false));
    assert!(rig.submit_as(named("a")).await?.duplicate);
    for other in [named("b"), Submit { priority: 9, ..named("a") }] {
        assert_eq!(code(rig.submit_as(other).await), ErrorCode::Conflict);
    }
    let all = (0..20).map(|_| rig.submit_as(Submit { task_id: Some(TaskId::from_bytes([0x5b; 16])), ..named("a") }));
    let all: Vec<Submitted> = futures::future::join_all(all).await.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(all.iter().filter(|submission| !submission.duplicate).count(), 1);
    let rig = rig.reopened();
    assert!(rig.submit_as(named("a")).await?.duplicate);
    rig.store.cancel(&ME, Cancel { task_id: id, reason: String::new() }).await?;
    let again = rig.submit_as(named("a")).await?;
    assert_eq!((again.task_id, again.duplicate), (id, true), "also when it has ended");
    Ok(())
}

pub(crate) async fn t7_keys_and_ids_of_two_submitters_do_not_meet(rig: Rig) -> TestResult {
    let by = |submitter: Option<&str>, text: &str| Submit {
        idempotency_key: Some("k".to_owned()),
        submitter: submitter.map(str::to_owned),
        ..Submit::new("echo", Json::from_text(text))
    };
    let submitters = [None, Some("laptop"), Some("phone")];
    let mut firsts = Vec::new();
    for submitter in submitters {
        let first = rig.submit_as(by(submitter, submitter.unwrap_or_default())).await?;
        assert!(!first.duplicate, "{submitter:?}");
        firsts.push(first.task_id);
    }
    let rig = rig.reopened();
    for (submitter, first) in submitters.into_iter().zip(&firsts) {
        let again = rig.submit_as(by(submitter, submitter.unwrap_or_default())).await?;
        assert_eq!((again.task_id, again.duplicate), (*first, true), "{submitter:?}");
        assert_eq!(rig.get(*first).await?.submitter.as_deref(), submitter);
    }
    // The same holds for the tasks of one request.
    rig.claim_now().await?;
    let leased = rig.claim_now().await?;
    let submit = vec![by(Some("a"), "a"), by(Some("b"), "b")];
    let completed = rig.store.complete(&ME, Complete { submit, ..complete(&leased, "r") }).await?;
    assert_eq!(completed.submitted.len(), 2);
    let named =
        |submitter: &str| Submit { task_id: Some(firsts[1]), idempotency_key: None, ..by(Some(submitter), "laptop") };
    assert!(rig.submit_as(named("laptop")).await?.duplicate);
    assert_eq!(code(rig.submit_as(named("phone")).await), ErrorCode::Conflict);
    Ok(())
}

pub(crate) async fn t7_a_key_goes_with_its_record(rig: Rig) -> TestResult {
    let keyed = |text: &str| Submit {
        idempotency_key: Some("k".to_owned()),
        idempotency_window_s: 1_000_000.0,
        result_ttl_s: 100.0,
        ..Submit::new("echo", Json::from_text(text))
    };
    let mut known = Vec::new();
    for (round, goes_by) in ["purge", "time", "purge", "time"].into_iter().enumerate() {
        // Other content is no conflict when the first task is gone.
        let content = if round < 2 { "a" } else { goes_by };
        let first = rig.submit_as(keyed(content)).await?;
        assert!(!first.duplicate && !known.contains(&first.task_id), "round {round}");
        assert!(rig.submit_as(keyed(content)).await?.duplicate);
        rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
        rig.pass(99.0).await;
        assert_eq!(rig.submit_as(keyed(content)).await?.task_id, first.task_id, "as long as the record is there");
        assert_eq!(code(rig.submit_as(keyed("other")).await), ErrorCode::Conflict);
        if goes_by == "purge" {
            let selection = Selection::ids(vec![first.task_id]);
            assert_eq!(rig.store.purge(&ME, Purge { selection }).await?.purged, 1);
        } else {
            rig.pass(2.0).await;
        }
        known.push(first.task_id);
    }
    let rig = rig.reopened();
    assert!(!rig.submit_as(keyed("a")).await?.duplicate);
    Ok(())
}

pub(crate) async fn a_zero_has_no_sign(rig: Rig) -> TestResult {
    let zeros = |zero: f64| Submit {
        idempotency_key: Some("zero".to_owned()),
        delay_s: Some(zero),
        backoff_s: zero,
        result_ttl_s: zero,
        ..Submit::new("echo", Json::null())
    };
    let first = rig.submit_as(zeros(-0.0)).await?;
    let again = rig.submit_as(zeros(0.0)).await?;
    assert_eq!((again.task_id, again.duplicate), (first.task_id, true), "it is the same number");
    let dated = rig.submit_as(Submit { not_before: Some(-0.0), ..Submit::new("echo", Json::null()) }).await?.task_id;
    let leased = rig.claim_now().await?;
    assert_eq!(leased.task_id, first.task_id);
    soon(rig.store.renew(&ME, Renew { progress: Some(-0.0), ..renew(&leased, 300.0) })).await?;
    let kid = Submit { idempotency_key: None, task_type: "kid".to_owned(), ..zeros(-0.0) };
    // The result of this task is compared later.
    let other = rig.claim_now().await?;
    soon(rig.store.renew(&ME, Renew { progress: Some(-0.0), ..renew(&other, 300.0) })).await?;
    let done = soon(rig.store.complete(&ME, Complete { submit: vec![kid], ..complete(&other, "r") })).await?;
    let rig = rig.reopened();
    let all = soon(rig.store.list(&ME, List::default())).await?.tasks;
    let mut found: Vec<_> = all.iter().map(id).collect();
    let mut wanted = vec![first.task_id, dated, done.submitted[0]];
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    let records = serde_json::to_string(&all)?;
    assert!(!records.contains("-0.0"), "{records}");
    let again = rig.claim_now().await?;
    assert_eq!(again.task_type, "kid");
    let shown = serde_json::to_string(&again)?;
    assert!(!shown.contains("-0.0"), "{shown}");
    Ok(())
}
