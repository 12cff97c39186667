//! C6: at most so many calls in flight; the next waits or is turned away.

use std::time::Duration;

use futures::future::poll_immediate;
use runtime_bridge::{CallError, ThreadConfig};
use tokio::sync::oneshot;

use crate::support::{AMPLE, every_with};

fn one_at_a_time() -> ThreadConfig {
    ThreadConfig::default().with_max_in_flight(1)
}

#[test]
fn c6_a_call_is_refused_when_full_if_it_asks_for_that() {
    every_with(one_at_a_time, |case| async move {
        let (end, ends) = oneshot::channel::<u8>();
        let mut first = Box::pin(case.bridge.run_in_p2p(ends));
        assert!(poll_immediate(&mut first).await.is_none());
        let refused = case.bridge.call(async {}).refuse_when_full().await;
        assert_eq!(refused, Err(CallError::Overloaded { in_flight_max: 1 }));
        assert_eq!(case.bridge.counters().overloaded, 1);
        let _receiver_waits = end.send(3);
        assert_eq!(first.await?, Ok(3));
        // The slot comes free a moment after the answer: one call waits for it.
        case.bridge.run_in_p2p(async {}).await?;
        Ok(())
    });
}

#[test]
fn c6_calls_wait_for_their_turn_in_order() {
    every_with(one_at_a_time, |case| async move {
        let (end, ends) = oneshot::channel::<()>();
        let mut first = Box::pin(case.bridge.run_in_p2p(ends));
        assert!(poll_immediate(&mut first).await.is_none());
        let (order, mut came) = tokio::sync::mpsc::channel(8);
        let mut waiting = Vec::new();
        for number in 0..5 {
            let order = order.clone();
            let mut call = Box::pin(case.bridge.run_in_p2p(async move { order.try_send(number) }));
            assert!(poll_immediate(&mut call).await.is_none());
            waiting.push(call);
        }
        // One gives up before its turn; nobody else loses a turn by that.
        drop(waiting.remove(2));
        let _receiver_waits = end.send(());
        first.await??;
        for call in waiting {
            call.await??;
        }
        drop(order);
        let mut seen = Vec::new();
        while let Some(number) = came.recv().await {
            seen.push(number);
        }
        assert_eq!(seen, [0, 1, 3, 4]);
        Ok(())
    });
}

#[test]
fn c6_a_slot_given_to_a_caller_who_leaves_is_not_lost() {
    every_with(one_at_a_time, |case| async move {
        for _ in 0..50 {
            let (end, ends) = oneshot::channel::<()>();
            let mut first = Box::pin(case.bridge.run_in_p2p(ends));
            assert!(poll_immediate(&mut first).await.is_none());
            let mut leaver = Box::pin(case.bridge.run_in_p2p(async {}));
            assert!(poll_immediate(&mut leaver).await.is_none());
            let _receiver_waits = end.send(());
            first.await??;
            // Races with the hand-over of the slot.
            drop(leaver);
        }
        case.bridge.call(async {}).deadline(AMPLE).await?;
        Ok(())
    });
}

#[test]
fn c6_waiting_ends_with_the_deadline_and_with_the_thread() {
    every_with(one_at_a_time, |case| async move {
        let mut first = Box::pin(case.bridge.run_in_p2p(std::future::pending::<()>()));
        assert!(poll_immediate(&mut first).await.is_none());
        let late = case.bridge.call(async {}).deadline(Duration::from_millis(5)).await;
        assert_eq!(late, Err(CallError::DeadlineExceeded));
        let mut waits = Box::pin(case.bridge.run_in_p2p(async {}));
        assert!(poll_immediate(&mut waits).await.is_none());
        case.thread.shutdown(AMPLE).await?;
        assert_eq!(waits.await, Err(CallError::ShutDown));
        assert_eq!(first.await, Err(CallError::ShutDown));
        Ok(())
    });
}
