//! C11: what is counted.

use futures::future::poll_immediate;
use tokio::sync::oneshot;

use crate::support::{block_executor, every};

#[test]
fn c11_calls_and_what_became_of_them_are_counted() {
    every(|case| async move {
        let go_on = block_executor(&case.thread).await?;
        let (end, ends) = oneshot::channel::<()>();
        let mut call = Box::pin(case.bridge.run_in_p2p(ends));
        assert!(poll_immediate(&mut call).await.is_none());
        let counters = case.bridge.counters();
        assert_eq!((counters.calls, counters.in_flight), (1, 1));
        go_on.send(())?;
        let _receiver_waits = end.send(());
        call.await??;
        for _ in 0..64 {
            case.bridge.run_in_p2p(async {}).await?;
        }
        let counters = case.bridge.counters();
        assert_eq!((counters.calls, counters.inline, counters.cancelled), (65, 0, 0));
        // One in sixteen is timed; the last ones may not be written down yet.
        assert!((4..=5).contains(&counters.wait.count()), "{}", counters.wait.count());
        assert!(counters.wait.quantile(0.5).is_some());
        Ok(())
    });
}
