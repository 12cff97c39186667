//! Two runtimes in one program: a multi-thread tokio asks, an executor thread of its own answers.

use std::time::Duration;

use runtime_bridge::{Backend, CallError, ExecutorThread, ThreadConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One side: the runtime that something else has chosen, an HTTP server for example.
    let http = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // The other side: a thread with a runtime that nobody else has a say in.
    let p2p = ExecutorThread::start(Backend::Tokio, ThreadConfig::default().with_name("p2p"))?;
    let bridge = p2p.bridge();

    http.block_on(async move {
        let there = bridge.clone();
        let answer = bridge
            .run_in_p2p(async move {
                assert!(there.is_p2p_context());
                // Already there: runs in place, without a hop.
                let half = there.run_in_p2p(async { 21 }).await?;
                Ok::<_, CallError>(half * 2)
            })
            .await??;
        assert_eq!(answer, 42);

        let report = p2p.shutdown(Duration::from_secs(2)).await?;
        assert_eq!(report.cut_off, 0);
        Ok(())
    })
}
