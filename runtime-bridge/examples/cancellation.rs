//! Who stops asking stops the work: dropping a call, a deadline, and the handle of a spawned future.

use std::time::Duration;

use runtime_bridge::{Backend, CallError, ExecutorThread, RuntimeExt, SpawnedError, ThreadConfig};
use tokio::sync::oneshot;

/// Says when it is dropped, wherever that is.
struct Held(Option<oneshot::Sender<()>>);

impl Drop for Held {
    fn drop(&mut self) {
        let _nobody_asks = self.0.take().map(|sender| sender.send(()));
    }
}

/// Work that never ends, and the news of its end.
fn endless() -> (impl Future<Output = ()> + Send + 'static, oneshot::Receiver<()>) {
    let (sender, dropped) = oneshot::channel();
    let held = Held(Some(sender));
    let work = async move {
        let _held = held;
        std::future::pending::<()>().await;
    };
    (work, dropped)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default())?;
    let bridge = thread.bridge();

    futures::executor::block_on(async move {
        // A call that loses a race is dropped by `select`, and its work with it.
        let (work, dropped) = endless();
        let call = std::pin::pin!(bridge.run_in_p2p(work));
        let winner = std::pin::pin!(bridge.run_in_p2p(async { 1 }));
        drop(futures::future::select(winner, call).await);

        // A deadline stops the work itself, not only the wait for it.
        let (late, late_dropped) = endless();
        let answer = bridge.call(late).deadline(Duration::from_millis(10)).await;
        assert_eq!(answer, Err(CallError::DeadlineExceeded));
        late_dropped.await?;

        // The handle of a spawned future cancels it, when asked to and when dropped.
        let (work, spawned_dropped) = endless();
        let spawned = thread.runtime().spawn(work);
        spawned.cancel();
        assert_eq!(spawned.await, Err(SpawnedError::Cancelled));
        spawned_dropped.await?;

        thread.shutdown(Duration::from_secs(2)).await?;
        dropped.await?;
        Ok(())
    })
}
