//! Many calls at once.

use std::sync::Arc;

use futures::{
    future::join_all,
    stream::{FuturesUnordered, StreamExt},
};
use runtime_bridge::CallError;
use tokio::sync::Semaphore;

use crate::support::{AMPLE, every};

#[test]
fn ten_thousand_concurrent_calls_each_get_their_own_answer() {
    every(|case| async move {
        // None can finish before all are in flight.
        let gate = Arc::new(Semaphore::new(0));
        let calls = (0..10_000_u32).map(|number| {
            let gate = Arc::clone(&gate);
            case.bridge.run_in_p2p(async move {
                let opened = gate.acquire().await.is_ok();
                (opened, number)
            })
        });
        let open = async {
            case.bridge.run_in_p2p(async {}).await?;
            assert_eq!(case.bridge.counters().in_flight / 10_000, 1);
            gate.add_permits(10_000);
            Ok::<_, CallError>(())
        };
        let (answers, opened) = futures::future::join(join_all(calls), open).await;
        opened?;
        for (number, answer) in (0..10_000).zip(answers) {
            assert_eq!(answer, Ok((true, number)));
        }
        Ok(())
    });
}

#[test]
fn c7_shutdown_under_load_ends_every_call() {
    every(|case| async move {
        let bridge = case.bridge.clone();
        let mut calls: FuturesUnordered<_> = (0..500)
            .map(|number| {
                let bridge = bridge.clone();
                async move {
                    // Calls as fast as it can until it is refused.
                    loop {
                        let call = async move {
                            for _ in 0..number % 3 {
                                tokio::task::yield_now().await;
                            }
                        };
                        if let Err(error) = bridge.run_in_p2p(call).await {
                            return error;
                        }
                    }
                }
            })
            .collect();
        let shutdown = async {
            while case.bridge.counters().calls < 2_000 {
                case.bridge.run_in_p2p(async {}).await?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(case.thread.shutdown(AMPLE).await?)
        };
        let everybody = async {
            let mut ends = Vec::new();
            while let Some(end) = calls.next().await {
                ends.push(end);
            }
            ends
        };
        let (ends, report) = futures::future::join(everybody, shutdown).await;
        report?;
        assert_eq!(ends, vec![CallError::ShutDown; 500]);
        Ok(())
    });
}
