//! R3, R4, C3: cancelling by dropping, by asking, and not at all.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{FutureExt, future::poll_immediate};
use runtime_bridge::{RuntimeExt, SpawnedError};
use tokio::sync::oneshot;

use crate::support::{block_executor, endless, every, every_runtime, executor_id};

#[test]
fn r3_drop_cancels_at_the_next_await_on_the_runtime() {
    every_runtime(|runtime| async move {
        let (future, watch) = endless();
        let spawned = runtime.spawn(future);
        watch.begun.await?;
        drop(spawned);
        let dropped = watch.dropped.await?;
        assert_ne!(dropped.on, std::thread::current().id());
        assert!(dropped.in_tokio);
        Ok(())
    });
}

#[test]
fn r3_a_future_dropped_before_it_began_never_runs() {
    every(|case| async move {
        let go_on = block_executor(&case.thread).await?;
        let ran = Arc::new(AtomicBool::new(false));
        let run = Arc::clone(&ran);
        drop(case.thread.runtime().spawn(async move { run.store(true, Ordering::Relaxed) }));
        go_on.send(())?;
        case.bridge.run_in_p2p(tokio::task::yield_now()).await?;
        assert!(!ran.load(Ordering::Relaxed));
        Ok(())
    });
}

#[test]
fn r3_a_detached_future_runs_on() {
    every_runtime(|runtime| async move {
        let (go_on, may_go_on) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let spawned = runtime.spawn(async move {
            let _sent = may_go_on.await;
            let _asker_gone = done.send(());
        });
        spawned.detach();
        let _receiver_waits = go_on.send(());
        is_done.await?;
        Ok(())
    });
}

#[test]
fn r4_cancel_answers_at_once_and_drops_the_work() {
    every_runtime(|runtime| async move {
        let (future, watch) = endless();
        let spawned = runtime.spawn(future);
        watch.begun.await?;
        spawned.cancel();
        assert!(spawned.is_finished());
        assert_eq!(spawned.now_or_never(), Some(Err(SpawnedError::Cancelled)));
        watch.dropped.await?;
        Ok(())
    });
}

#[test]
fn c3_dropping_the_call_drops_the_work_on_the_executor_thread() {
    every(|case| async move {
        let executor = executor_id(&case.bridge).await?;
        let (future, watch) = endless();
        let mut call = Box::pin(case.bridge.run_in_p2p(future));
        assert!(poll_immediate(&mut call).await.is_none());
        watch.begun.await?;
        drop(call);
        let dropped = watch.dropped.await?;
        assert_eq!(dropped.on, executor);
        assert!(dropped.in_tokio);
        Ok(())
    });
}

#[test]
fn c3_a_call_dropped_before_it_began_never_runs() {
    every(|case| async move {
        let go_on = block_executor(&case.thread).await?;
        let ran = Arc::new(AtomicBool::new(false));
        let run = Arc::clone(&ran);
        let mut call = Box::pin(case.bridge.run_in_p2p(async move { run.store(true, Ordering::Relaxed) }));
        assert!(poll_immediate(&mut call).await.is_none());
        drop(call);
        go_on.send(())?;
        case.bridge.run_in_p2p(async {}).await?;
        assert!(!ran.load(Ordering::Relaxed));
        assert_eq!(case.bridge.counters().cancelled, 1);
        Ok(())
    });
}

#[test]
fn c3_a_call_never_awaited_does_nothing() {
    every(|case| async move {
        drop(case.bridge.run_in_p2p(async {}));
        assert_eq!(case.bridge.counters().calls, 0);
        Ok(())
    });
}
