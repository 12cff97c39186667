//! C1, C2, C5, C9: the call itself, inline or across, with a deadline, or blocking.

use std::{
    thread,
    time::{Duration, Instant},
};

use futures::future::poll_immediate;
use runtime_bridge::{CallError, RuntimeExt};

use crate::support::{block_executor, endless, every, executor_id};

const SOON: Duration = Duration::from_millis(10);

#[test]
fn c1_the_future_runs_on_the_executor_thread_and_its_value_comes_back() {
    every(|case| async move {
        let here = thread::current().id();
        assert!(!case.bridge.is_p2p_context());
        assert!(case.bridge.require_p2p().is_err());
        let bridge = case.bridge.clone();
        let (there, is_there) =
            case.bridge.run_in_p2p(async move { (thread::current().id(), bridge.is_p2p_context()) }).await?;
        assert!(is_there);
        assert_ne!(here, there);
        Ok(())
    });
}

#[test]
fn c1_work_that_waits_goes_on_there() {
    every(|case| async move {
        let executor = executor_id(&case.bridge).await?;
        let ran_on = case.bridge.run_in_p2p(async {
            tokio::task::yield_now().await;
            tokio::time::sleep_until((Instant::now() + SOON).into()).await;
            thread::current().id()
        });
        assert_eq!(ran_on.await?, executor);
        Ok(())
    });
}

#[test]
fn c2_a_call_that_calls_back_runs_inline() {
    every(|case| async move {
        let bridge = case.bridge.clone();
        let depth = case.bridge.run_in_p2p(async move {
            let inner = bridge.clone();
            let nested = async move {
                let innermost = inner.run_in_p2p(async { 1 }).await?;
                Ok::<_, CallError>(innermost + 1)
            };
            Ok::<_, CallError>(bridge.run_in_p2p(nested).await?? + 1)
        });
        assert_eq!(depth.await??, 3);
        let counters = case.bridge.counters();
        assert_eq!((counters.calls, counters.inline), (3, 2));
        Ok(())
    });
}

#[test]
fn c2_a_future_spawned_on_the_thread_calls_inline() {
    every(|case| async move {
        let bridge = case.bridge.clone();
        let spawned = case.thread.runtime().spawn(async move { bridge.run_in_p2p(async { 5 }).await });
        assert_eq!(spawned.await?, Ok(5));
        assert_eq!(case.bridge.counters().inline, 1);
        Ok(())
    });
}

#[test]
fn c5_a_deadline_stops_the_work() {
    every(|case| async move {
        let (future, watch) = endless();
        let call = case.bridge.call(future).deadline(SOON);
        assert_eq!(call.await, Err(CallError::DeadlineExceeded));
        watch.dropped.await?;
        // It is counted right after it was answered.
        case.bridge.run_in_p2p(async {}).await?;
        assert_eq!(case.bridge.counters().deadline_exceeded, 1);
        Ok(())
    });
}

#[test]
fn c5_a_deadline_stops_an_inline_call() {
    every(|case| async move {
        let (future, watch) = endless();
        let bridge = case.bridge.clone();
        let call = case.bridge.run_in_p2p(async move { bridge.call(future).deadline(SOON).await });
        assert_eq!(call.await?, Err(CallError::DeadlineExceeded));
        watch.dropped.await?;
        Ok(())
    });
}

#[test]
fn c5_a_deadline_that_passes_in_the_queue_starts_nothing() {
    every(|case| async move {
        let go_on = block_executor(&case.thread).await?;
        let (future, watch) = endless();
        let mut call = case.bridge.call(future).deadline_at(Instant::now()).into_future();
        assert!(poll_immediate(&mut call).await.is_none());
        go_on.send(())?;
        assert_eq!(call.await, Err(CallError::DeadlineExceeded));
        watch.dropped.await?;
        assert!(watch.begun.await.is_err(), "it never began");
        Ok(())
    });
}

#[test]
fn c9_the_blocking_twin_gives_the_value_and_refuses_the_executor_thread() {
    every(|case| async move {
        let (bridge, there) = (case.bridge.clone(), case.bridge.clone());
        let blocking = thread::spawn(move || {
            let value = bridge.run_in_p2p_blocking(async { 6 })?;
            let late = bridge.call(std::future::pending::<()>()).deadline(SOON).blocking();
            Ok::<_, CallError>((value, late))
        });
        let (value, late) = blocking.join().unwrap()?;
        assert_eq!((value, late), (6, Err(CallError::DeadlineExceeded)));
        let refused = case.bridge.run_in_p2p(async move { there.run_in_p2p_blocking(async {}) }).await?;
        assert_eq!(refused, Err(CallError::OnExecutorThread));
        Ok(())
    });
}

#[test]
fn c9_the_blocking_twin_keeps_its_deadline_when_the_executor_is_stuck() {
    every(|case| async move {
        let go_on = block_executor(&case.thread).await?;
        let call = case.bridge.call(async {}).deadline(SOON);
        let answer = thread::spawn(move || call.blocking()).join().unwrap();
        assert_eq!(answer, Err(CallError::DeadlineExceeded));
        go_on.send(())?;
        Ok(())
    });
}
