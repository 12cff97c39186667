use super::*;

pub(crate) async fn pages_are_stable_while_tasks_come(rig: Rig) -> TestResult {
    let mut all = Vec::new();
    for _ in 0..7 {
        all.push(rig.submit("echo").await?);
    }
    let query = List { limit: 3, order: Order::Oldest, ..List::default() };
    let (mut seen, mut cursor) = rig.list(query.clone()).await?;
    while cursor.is_some() {
        if all.len() < 9 {
            all.push(rig.submit("echo").await?);
        }
        let (more, next) = rig.list(List { cursor, ..query.clone() }).await?;
        seen.extend(more);
        cursor = next;
    }
    assert_eq!(seen, all);
    // Without an order, the newest tasks come first.
    let newest = List { limit: 3, ..List::default() };
    let (first, cursor) = rig.list(newest.clone()).await?;
    rig.submit("echo").await?;
    let (second, _) = rig.list(List { cursor: cursor.clone(), ..newest }).await?;
    all.reverse();
    assert_eq!([first, second].concat(), all[..6]);
    // A cursor belongs to its order.
    assert_eq!(code(rig.list(List { cursor, ..query }).await), ErrorCode::InvalidArgument);
    Ok(())
}

pub(crate) async fn lists_are_filtered_and_bounded_in_bytes(rig: Rig) -> TestResult {
    let marked =
        Submit { labels: vec!["x".to_owned()], session: Some("s".to_owned()), ..Submit::new("a", Json::null()) };
    let marked = rig.submit_as(marked).await?.task_id;
    let plain = rig.submit("b").await?;
    let done = rig.submit_as(Submit { priority: 9, ..Submit::new("b", Json::null()) }).await?.task_id;
    let dead = rig.submit_as(Submit { priority: 8, max_attempts: 1, ..Submit::new("b", Json::null()) }).await?.task_id;
    rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
    rig.store.fail(&ME, fail(&rig.claim_now().await?)).await?;
    let running = rig.submit_as(Submit { priority: 9, ..Submit::new("b", Json::null()) }).await?.task_id;
    rig.claim_now().await?;
    let only = |status| List { status: Some(status), ..List::default() };
    for (query, expected) in [
        (only(TaskStatus::Queued), vec![plain, marked]),
        (only(TaskStatus::Running), vec![running]),
        (only(TaskStatus::Completed), vec![done]),
        (only(TaskStatus::Failed), vec![dead]),
        (only(TaskStatus::Cancelled), vec![]),
        (List { task_types: vec!["a".to_owned(), "c".to_owned()], ..List::default() }, vec![marked]),
        (List { label: Some("x".to_owned()), ..List::default() }, vec![marked]),
        (List { session: Some("s".to_owned()), ..List::default() }, vec![marked]),
        (List { session: Some("t".to_owned()), ..List::default() }, vec![]),
    ] {
        assert_eq!(rig.list(query.clone()).await?, (expected, None), "{query:?}");
    }
    let large = "x".repeat(LIST_PAGE_BYTES / 2);
    for _ in 0..3 {
        rig.submit_as(Submit::new("large", Json::from_text(&large))).await?;
    }
    let large = List { task_types: vec!["large".to_owned()], ..List::default() };
    let (page, cursor) = rig.list(large).await?;
    assert_eq!(page.len(), 1);
    assert!(cursor.is_some());
    Ok(())
}

pub(crate) async fn the_status_counts_and_knows_the_longest_wait(rig: Rig) -> TestResult {
    assert_eq!(rig.stats().await?.oldest_queued_s, None);
    rig.submit_as(Submit { priority: 1, ..Submit::new("a", Json::null()) }).await?;
    rig.pass(10.0).await;
    rig.submit_as(Submit { priority: 9, ..Submit::new("a", Json::null()) }).await?;
    rig.submit_as(Submit { priority: 9, ..Submit::new("b", Json::null()) }).await?;
    rig.pass(5.0).await;
    let status = rig.stats().await?;
    assert!((status.oldest_queued_s.unwrap() - 15.0).abs() < 0.01, "{status:?}");
    rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
    rig.claim_now().await?;
    let totals = rig.stats().await?.totals;
    let count = |name: &str| totals[name];
    assert_eq!(["queued", "running", "completed", "failed", "cancelled"].map(count), [1, 1, 1, 0, 0]);
    Ok(())
}

pub(crate) async fn a_closed_store_turns_everybody_away(rig: Rig) -> TestResult {
    let mut claim = Box::pin(rig.store.claim(&ME, waiting()));
    assert!((&mut claim).now_or_never().is_none());
    rig.store.close();
    assert_eq!(code(soon(claim).await), ErrorCode::ShuttingDown);
    assert_eq!(code(rig.submit("echo").await), ErrorCode::ShuttingDown);
    assert_eq!(code(rig.stats().await), ErrorCode::ShuttingDown);
    rig.store.close();
    Ok(())
}

pub(crate) async fn who_asks_without_a_pause_lets_others_run(rig: Rig) -> TestResult {
    let id = rig.submit("echo").await?;
    rig.get(id).await?;
    let has_run = std::cell::Cell::new(false);
    let asking = async {
        for _ in 0..1_000 {
            if has_run.get() {
                return Ok(());
            }
            rig.get(id).await?;
        }
        Err("nobody else has run")?
    };
    let (asked, ()): (TestResult, ()) = futures::join!(asking, async { has_run.set(true) });
    asked
}
