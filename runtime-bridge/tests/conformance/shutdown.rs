//! R6, C7: the end of an executor thread, orderly, forced, and by dropping it.

use std::{thread, time::Duration};

use futures::future::poll_immediate;
use runtime_bridge::{CallError, Runtime, RuntimeExt, ShutdownError, SpawnedError, TokioRuntime};
use tokio::sync::oneshot;

use crate::support::{AMPLE, block_executor, endless, every, executor_id, watch};

#[test]
fn c7_calls_in_flight_end_with_an_error_and_later_ones_are_refused() {
    every(|case| async move {
        let executor = executor_id(&case.bridge).await?;
        let (future, watch) = endless();
        let mut call = Box::pin(case.bridge.run_in_p2p(future));
        assert!(poll_immediate(&mut call).await.is_none());
        watch.begun.await?;
        let report = case.thread.shutdown(AMPLE).await?;
        assert_eq!(report.cut_off, 1);
        assert_eq!(call.await, Err(CallError::ShutDown));
        let dropped = watch.dropped.await?;
        assert_eq!((dropped.on, dropped.in_tokio), (executor, true));
        assert_eq!(case.bridge.run_in_p2p(async {}).await, Err(CallError::ShutDown));
        assert_eq!(case.bridge.call(async {}).refuse_when_full().await, Err(CallError::ShutDown));
        assert_eq!(case.bridge.counters().in_flight, 0);
        Ok(())
    });
}

#[test]
fn c7_calls_that_have_not_begun_never_do_and_are_dropped_on_the_thread() {
    every(|case| async move {
        let executor = executor_id(&case.bridge).await?;
        let go_on = block_executor(&case.thread).await?;
        let (future, watch) = endless();
        let mut call = Box::pin(case.bridge.run_in_p2p(future));
        assert!(poll_immediate(&mut call).await.is_none());
        let (shutdown, _) = futures::future::join(case.thread.shutdown(AMPLE), async { go_on.send(()) }).await;
        assert_eq!(call.await, Err(CallError::ShutDown));
        let dropped = watch.dropped.await?;
        assert_eq!((dropped.on, dropped.in_tokio), (executor, true));
        shutdown?;
        Ok(())
    });
}

#[test]
fn r6_spawned_futures_that_the_end_cuts_off_say_so() {
    every(|case| async move {
        let runtime = case.thread.runtime();
        let (future, watch) = endless();
        let running = runtime.spawn(future);
        watch.begun.await?;
        case.thread.shutdown(AMPLE).await?;
        assert_eq!(running.await, Err(SpawnedError::ShutDown));
        watch.dropped.await?;
        assert_eq!(runtime.spawn(async {}).await, Err(SpawnedError::ShutDown));
        Ok(())
    });
}

#[test]
fn r6_the_end_of_a_bare_tokio_runtime_is_told_too() {
    watch("multi-thread tokio", || {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let runtime = TokioRuntime::new(tokio.handle().clone());
        let (future, running) = endless();
        let spawned = runtime.spawn(future);
        futures::executor::block_on(running.begun)?;
        let sleep = runtime.sleep_until(runtime.now() + AMPLE);
        drop(tokio);
        assert_eq!(futures::executor::block_on(spawned), Err(SpawnedError::ShutDown));
        assert!(futures::executor::block_on(running.dropped)?.in_tokio);
        assert_eq!(futures::executor::block_on(runtime.spawn(async {})), Err(SpawnedError::ShutDown));
        // R8: it outlived its runtime, and nobody will ever wake it.
        futures::executor::block_on(sleep);
        Ok(())
    });
}

#[test]
fn c7_a_stuck_thread_is_given_up_and_nobody_hangs() {
    every(|case| async move {
        let go_on = block_executor(&case.thread).await?;
        let mut queued = Box::pin(case.bridge.run_in_p2p(async {}));
        assert!(poll_immediate(&mut queued).await.is_none());
        let spawned = case.thread.runtime().spawn(async {});
        let end = case.thread.shutdown(Duration::from_millis(20)).await;
        assert!(matches!(&end, Err(ShutdownError::Stuck { thread, .. }) if thread == "conformance"), "{end:?}");
        assert_eq!(queued.await, Err(CallError::ShutDown));
        assert_eq!(spawned.await, Err(SpawnedError::ShutDown));
        // The async-std backend's thread is everybody's: it must come free again.
        go_on.send(())?;
        Ok(())
    });
}

#[test]
fn c7_a_call_that_sticks_on_its_first_poll_ends_too() {
    every(|case| async move {
        let (begin, begun) = oneshot::channel();
        let (go_on, may_go_on) = std::sync::mpsc::sync_channel::<()>(1);
        let mut call = Box::pin(case.bridge.run_in_p2p(async move {
            let _asker_gone = begin.send(());
            let _go_on = may_go_on.recv();
        }));
        assert!(poll_immediate(&mut call).await.is_none());
        begun.await?;
        assert!(case.thread.shutdown(Duration::ZERO).await.is_err());
        assert_eq!(call.await, Err(CallError::ShutDown));
        go_on.send(())?;
        Ok(())
    });
}

#[test]
fn c7_dropping_the_thread_ends_everything_without_waiting() {
    every(|case| async move {
        let runtime = case.thread.runtime();
        let (future, watch) = endless();
        let call = case.bridge.run_in_p2p(future);
        let drop_it = async {
            watch.begun.await?;
            drop(case.thread.take());
            Ok::<_, oneshot::error::RecvError>(())
        };
        let (answer, dropped) = futures::future::join(call, drop_it).await;
        dropped?;
        assert_eq!(answer, Err(CallError::ShutDown));
        watch.dropped.await?;
        assert_eq!(runtime.spawn(async {}).await, Err(SpawnedError::ShutDown));
        Ok(())
    });
}

#[test]
fn c7_a_blocking_shutdown_works_and_refuses_the_executor_thread() {
    every(|case| async move {
        let (give, take) = oneshot::channel();
        let refused = case.bridge.run_in_p2p(async move {
            let Ok(thread): Result<runtime_bridge::ExecutorThread, _> = take.await else {
                return Ok(runtime_bridge::ShutdownReport::default());
            };
            thread.shutdown_blocking(AMPLE)
        });
        let mut refused = Box::pin(refused);
        assert!(poll_immediate(&mut refused).await.is_none());
        let _receiver_waits = give.send(case.thread.take());
        // The call ends with the thread, whichever of the two says so first.
        match refused.await {
            Ok(refusal) => assert_eq!(refusal, Err(ShutdownError::OnExecutorThread)),
            Err(error) => assert_eq!(error, CallError::ShutDown),
        }
        let config = runtime_bridge::ThreadConfig::default();
        let other = runtime_bridge::ExecutorThread::start(case.backend, config)?;
        let report = thread::spawn(move || other.shutdown_blocking(AMPLE)).join().unwrap()?;
        assert_eq!((report.cut_off, report.hooks_failed), (0, 0));
        Ok(())
    });
}
