//! Two runtimes in one program: a multi-thread tokio asks, an executor thread of its own answers. The README's program.

use std::{rc::Rc, thread, time::Duration};

use runtime_bridge::{Backend, CallError, ExecutorThread, ThreadConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One side: the runtime that something else has chosen, an HTTP server for example.
    let http = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // The other side: a thread with a runtime that nobody else has a say in.
    let node = ExecutorThread::start(Backend::Tokio, ThreadConfig::default().with_name("node"))?;
    let bridge = node.bridge();

    http.block_on(async move {
        let there = bridge.clone();
        let answer = bridge
            .run(async move {
                assert_eq!(thread::current().name(), Some("node"));
                // Already there: runs in place, without a hop.
                let half = there.run(async { 21 }).await?;
                Ok::<_, CallError>(half * 2)
            })
            .await??;
        assert_eq!(answer, 42);

        // What is not `Send` is made over there, and stays there.
        let local = bridge.run_local(|| async {
            let shared = Rc::new(7);
            tokio::task::yield_now().await;
            *shared
        });
        assert_eq!(local.await?, 7);

        let report = node.shutdown(Duration::from_secs(2)).await?;
        assert_eq!(report.cut_off, 0);
        Ok(())
    })
}
