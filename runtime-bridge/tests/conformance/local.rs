//! C12: futures that are not `Send`. All other clauses hold for them, too.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    thread::{self, ThreadId},
    time::Duration,
};

use futures::future::{Either, poll_immediate, select};
use runtime_bridge::{CallError, RuntimeExt, local_future};
use tokio::sync::oneshot;

use crate::support::{AMPLE, DropProbe, Endless, block_executor, drop_probe, every, every_with, executor_id, watch};

/// Says that it was polled, never ends, and says when it is dropped; it must not leave its thread.
struct EndlessLocal {
    begin: Option<oneshot::Sender<()>>,
    _held: Rc<DropProbe>,
}

impl Future for EndlessLocal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let _asker_gone = self.begin.take().map(|begin| begin.send(()));
        Poll::Pending
    }
}

fn endless_local() -> (impl FnOnce() -> EndlessLocal + Send + 'static, Endless) {
    let (begin, begun) = oneshot::channel();
    let (probe, dropped) = drop_probe();
    let make = move || EndlessLocal { begin: Some(begin), _held: Rc::new(probe) };
    (make, Endless { begun, dropped })
}

#[test]
fn c12_a_local_future_is_made_polled_and_dropped_on_the_executor_thread() {
    every(|case| async move {
        let executor = executor_id(&case.bridge).await?;
        let (probe, dropped) = drop_probe();
        let threads = case.bridge.run_local(move || {
            let (made_on, held) = (thread::current().id(), Rc::new((Cell::new(0), probe)));
            async move {
                held.0.set(1);
                tokio::task::yield_now().await;
                let polled_on: (ThreadId, u8) = (thread::current().id(), held.0.get());
                (made_on, polled_on)
            }
        });
        assert_eq!(threads.await?, (executor, (executor, 1)));
        let dropped = dropped.await?;
        assert_eq!((dropped.on, dropped.in_tokio), (executor, true));
        Ok(())
    });
}

#[test]
fn c12_dropping_the_call_drops_the_local_future_over_there() {
    every(|case| async move {
        let executor = executor_id(&case.bridge).await?;
        let (make, watch) = endless_local();
        let mut call = Box::pin(case.bridge.run_local(make));
        assert!(poll_immediate(&mut call).await.is_none());
        watch.begun.await?;
        drop(call);
        let dropped = watch.dropped.await?;
        assert_eq!((dropped.on, dropped.in_tokio), (executor, true));
        Ok(())
    });
}

#[test]
fn c12_a_local_call_that_never_begins_makes_nothing() {
    every(|case| async move {
        let go_on = block_executor(&case.thread).await?;
        let (make, watch) = endless_local();
        let mut call = Box::pin(case.bridge.run_local(make));
        assert!(poll_immediate(&mut call).await.is_none());
        drop(call);
        go_on.send(())?;
        watch.dropped.await?;
        assert!(watch.begun.await.is_err(), "it never began");
        Ok(())
    });
}

#[test]
fn c12_shutdown_cuts_a_local_future_off_and_drops_it_on_the_thread() {
    every(|case| async move {
        let executor = executor_id(&case.bridge).await?;
        let (make, watch) = endless_local();
        let mut call = Box::pin(case.bridge.run_local(make));
        assert!(poll_immediate(&mut call).await.is_none());
        watch.begun.await?;
        let report = case.thread.shutdown(AMPLE).await?;
        assert_eq!((report.cut_off, call.await), (1, Err(CallError::ShutDown)));
        let dropped = watch.dropped.await?;
        assert_eq!((dropped.on, dropped.in_tokio), (executor, true));
        Ok(())
    });
}

#[test]
fn c12_panics_deadlines_and_bounds_are_those_of_any_call() {
    let one_at_a_time = || runtime_bridge::ThreadConfig::default().with_max_in_flight(1);
    every_with(one_at_a_time, |case| async move {
        let message = |text: &str| CallError::Panicked { message: text.to_owned() };
        let making = case.bridge.run_local(|| -> std::future::Ready<()> { panic!("making") });
        assert_eq!(making.await, Err(message("making")));
        let running = case.bridge.run_local(|| async {
            let _held = Rc::new(());
            tokio::task::yield_now().await;
            panic!("running")
        });
        assert_eq!(running.await, Err::<(), _>(message("running")));

        let (make, watch) = endless_local();
        let late = case.bridge.call(local_future(make)).deadline(Duration::from_millis(10));
        assert_eq!(late.await, Err(CallError::DeadlineExceeded));
        watch.dropped.await?;

        let (make, watch) = endless_local();
        // The slot of the call before comes free a moment after its answer, so this one may have to wait for it.
        let first = Box::pin(case.bridge.run_local(make));
        let Either::Right((begun, _first)) = select(first, watch.begun).await else {
            panic!("it never ends");
        };
        begun?;
        let refused = case.bridge.call(local_future(|| async {})).refuse_when_full();
        assert_eq!(refused.await, Err(CallError::Overloaded { in_flight_max: 1 }));
        Ok(())
    });
}

#[test]
fn c12_a_local_call_runs_inline_on_the_thread_itself_and_may_nest() {
    every(|case| async move {
        let bridge = case.bridge.clone();
        let nested = case.bridge.run_local(move || async move {
            let held = Rc::new(20);
            let inner = bridge.run_local(|| {
                let held = Rc::new(1);
                async move {
                    tokio::task::yield_now().await;
                    *held
                }
            });
            inner.await.map(|inner| inner + *held)
        });
        assert_eq!(nested.await?, Ok(21));
        assert_eq!(case.bridge.counters().inline, 1);
        Ok(())
    });
}

#[test]
fn c12_a_spawned_local_future_is_cancelled_by_its_handle() {
    every(|case| async move {
        let executor = executor_id(&case.bridge).await?;
        let (make, watch) = endless_local();
        let handle = case.thread.runtime().spawn(local_future(make));
        watch.begun.await?;
        drop(handle);
        assert_eq!(watch.dropped.await?.on, executor);
        Ok(())
    });
}

#[test]
fn a_local_future_that_changes_threads_panics_and_is_dropped_where_it_was_made() {
    watch("moved", || {
        let (make, mut watched) = endless_local();
        let (moved, ended) = (std::sync::mpsc::sync_channel(1), std::sync::mpsc::sync_channel::<()>(1));
        let (first, end) = (moved.0, ended.1);
        let maker = thread::spawn(move || {
            let mut future = Box::pin(local_future(make));
            assert!(futures::FutureExt::now_or_never(&mut future).is_none());
            let _receiver_waits = first.send(future);
            let _other_thread_gone = end.recv();
            thread::current().id()
        });
        let mut future = moved.1.recv()?;
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            futures::FutureExt::now_or_never(&mut future).is_some()
        }));
        assert!(polled.is_err(), "it does not run here");
        drop(future);
        assert!(watched.dropped.try_recv().is_err(), "it is not dropped here");
        ended.0.send(())?;
        assert_eq!(futures::executor::block_on(watched.dropped)?.on, maker.join().unwrap());
        Ok(())
    });
}
