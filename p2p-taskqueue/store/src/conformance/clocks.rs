//! Tests with clocks that are set, machines that sleep, and stores that are opened again and again.

use super::*;

const DAY: f64 = 86_400.0;

impl Rig {
    /// Sets the wall clock forward by this much.
    fn set_wall_by(&self, seconds: f64) {
        self.clock.set_wall(crate::Clock::read(&*self.clock).wall.after(seconds));
    }

    async fn is_cached(&self) -> Result<bool, QueueError> {
        Ok(soon(self.store.cache_has(&ME, CacheHas { key: "k".to_owned() })).await?.hit)
    }
}

fn keyed(window_s: f64) -> Submit {
    let idempotency_key = Some("k".to_owned());
    Submit { idempotency_key, idempotency_window_s: window_s, ..Submit::new("keyed", Json::null()) }
}

pub(crate) async fn t5_spans_hold_when_the_clock_was_set_and_the_store_opened_again(rig: Rig) -> TestResult {
    let done = rig.submit("echo").await?;
    rig.store.complete(&ME, complete(&rig.claim_now().await?, "r")).await?;
    let first = rig.submit_as(keyed(DAY)).await?.task_id;
    let hurried = Submit { deadline_s: Some(4.0 * 3_600.0), delay_s: Some(2.0 * 3_600.0), ..keyed(DAY) };
    let hurried = rig.submit_as(Submit { idempotency_key: None, ..hurried }).await?.task_id;
    let cached = CacheSet { key: "k".to_owned(), value: Json::null(), ttl_s: Some(DAY) };
    soon(rig.store.cache_set(&ME, cached)).await?;

    rig.set_wall_by(30.0 * 3_600.0);
    let rig = rig.reopened();
    rig.pass(1.0).await;
    assert_eq!(rig.get(done).await?.result, Some(Json::from_text("r")));
    assert_eq!(rig.submit_as(keyed(DAY)).await?.task_id, first);
    assert_eq!(rig.status_of(hurried).await?, TaskStatus::Queued);
    assert!(rig.is_cached().await?);

    // They do end when their time has passed.
    rig.pass(4.0 * 3_600.0).await;
    assert_eq!(rig.status_of(hurried).await?, TaskStatus::Failed);
    rig.pass(DAY).await;
    assert_eq!(code(rig.get(done).await), ErrorCode::NotFound);
    assert!(!rig.submit_as(keyed(DAY)).await?.duplicate && !rig.is_cached().await?);
    Ok(())
}

pub(crate) async fn t5_spans_end_though_the_clock_that_they_began_on_was_set_back(rig: Rig) -> TestResult {
    // The machine starts with a wrong clock, which a time server corrects later.
    rig.set_wall_by(400.0 * DAY);
    let rig = rig.reopened();
    rig.submit_as(keyed(5.0)).await?;
    let hurried = rig.submit_as(Submit { deadline_s: Some(5.0), ..Submit::new("echo", Json::null()) }).await?.task_id;
    rig.set_wall_by(-400.0 * DAY);
    let rig = rig.reopened();
    rig.pass(9.0).await;
    assert_eq!(rig.status_of(hurried).await?, TaskStatus::Failed);
    assert!(!rig.submit_as(keyed(5.0)).await?.duplicate);
    Ok(())
}

pub(crate) async fn t5_a_delay_is_a_span_and_a_date_a_moment(rig: Rig) -> TestResult {
    let delayed = rig.submit_as(Submit { delay_s: Some(3.0), ..Submit::new("echo", Json::null()) }).await?.task_id;
    let tomorrow = crate::Clock::read(&*rig.clock).wall.after(DAY).as_secs();
    let scheduled = Submit { not_before: Some(tomorrow), ..Submit::new("later", Json::null()) };
    let scheduled = rig.submit_as(scheduled).await?.task_id;
    rig.set_wall_by(-DAY);
    rig.pass(3.0).await;
    let leased = rig.claim_now().await?;
    assert_eq!(id(&leased), delayed);

    // The backoff before another attempt is a span, too.
    rig.store.release(&ME, release(&leased, 3.0)).await?;
    rig.set_wall_by(-DAY);
    let shown = rig.get(delayed).await?.not_before.ok_or("a time to wait for")?;
    let now = crate::Clock::read(&*rig.clock).wall.as_secs();
    assert!((shown - now - 3.0).abs() < 0.001, "the record says when it is claimable by the clock of now");
    rig.pass(3.0).await;
    let leased = rig.claim_now().await?;
    rig.store.fail(&ME, Fail { delay_s: Some(3.0), ..fail(&leased) }).await?;
    rig.set_wall_by(-DAY);
    rig.pass(3.0).await;
    rig.store.fail(&ME, fail(&rig.claim_now().await?)).await?;
    rig.set_wall_by(-DAY);
    rig.pass(2.4).await;
    assert_eq!(id(&rig.claim_now().await?), delayed);

    rig.pass(DAY).await;
    assert!(rig.claim().await?.is_none(), "four days were taken back from the wall clock, and one has passed");
    rig.set_wall_by(4.0 * DAY);
    rig.pass(0.0).await;
    assert_eq!(id(&rig.claim_now().await?), scheduled);
    Ok(())
}

pub(crate) async fn t5_a_machine_that_sleeps_ends_spans_and_no_lease(rig: Rig) -> TestResult {
    rig.submit("echo").await?;
    let leased = rig.claim_now().await?;
    let hurried = rig.submit_as(Submit { deadline_s: Some(60.0), ..Submit::new("echo", Json::null()) }).await?.task_id;
    rig.clock.sleep(Duration::from_secs(3_600));
    rig.pass(0.0).await;
    assert_eq!(rig.status_of(hurried).await?, TaskStatus::Failed);
    rig.store.renew(&ME, renew(&leased, 60.0)).await?;
    Ok(())
}

pub(crate) async fn t8_a_lease_that_nobody_renews_is_kept_by_one_opening_only(rig: Rig) -> TestResult {
    let task = rig.submit("echo").await?;
    rig.claim_as(Claim { lease_s: 6.0, ..Claim::new("dead") }).await?.ok_or("a task")?;
    let mut rig = rig;
    // The store is opened again and again, each time before the lease ends.
    for _ in 0..3 {
        rig.pass(1.9).await;
        rig = rig.reopened();
        assert_eq!(rig.status_of(task).await?, TaskStatus::Running);
    }
    rig.pass(1.9).await;
    rig = rig.reopened();
    rig.pass(0.4).await;
    assert_eq!(rig.status_of(task).await?, TaskStatus::Queued);

    // A worker that lives keeps its lease over as many openings.
    rig.pass(2.0).await;
    let leased = rig.claim_as(Claim { lease_s: 6.0, ..Claim::new("alive") }).await?.ok_or("a task")?;
    for _ in 0..5 {
        rig.pass(1.9).await;
        rig = rig.reopened();
        rig.store.renew(&ME, renew(&leased, 6.0)).await?;
    }
    Ok(())
}
