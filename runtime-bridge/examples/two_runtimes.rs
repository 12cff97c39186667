//! Two runtimes in one program: `main` has none, the executor thread drives its own.

use std::time::Duration;

use runtime_bridge::{Backend, ExecutorThread, RuntimeExt, ThreadConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default())?;
    let bridge = thread.bridge();
    let there = bridge.clone();
    // A call, and from inside it a call back, which runs inline.
    let sum = futures::executor::block_on(bridge.run_in_p2p(async move {
        there.require_p2p()?;
        let one = there.run_in_p2p(async { 1 }).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(one + 41)
    }))?;
    assert!(matches!(sum, Ok(42)));
    assert_eq!(
        bridge.run_in_p2p_blocking(async {
            tokio::task::yield_now().await;
            7
        })?,
        7
    );
    let panicked = bridge.run_in_p2p_blocking(async {
        assert_eq!(1, 2, "no");
    });
    assert!(panicked.is_err());
    let late = bridge
        .call(std::future::pending::<()>())
        .deadline(Duration::from_millis(5))
        .blocking();
    assert!(late.is_err());
    let job = thread.runtime().spawn(async { 5 });
    assert_eq!(futures::executor::block_on(job)?, 5);
    let hanging = thread.runtime().spawn(std::future::pending::<()>());
    thread.shutdown_blocking(Duration::from_secs(2))?;
    assert!(futures::executor::block_on(hanging).is_err());
    assert!(bridge.run_in_p2p_blocking(async {}).is_err());
    Ok(())
}
