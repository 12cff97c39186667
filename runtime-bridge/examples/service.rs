//! A service that lives on the executor thread: started by a hook, asked through calls, ended by another hook.

use std::{sync::Arc, time::Duration};

use runtime_bridge::{Backend, Bridge, CallError, ExecutorThread, Runtime, RuntimeExt, ThreadConfig};
use tokio::sync::{mpsc, oneshot};

/// A question, and where its answer goes.
type Question = (u64, oneshot::Sender<u64>);

/// The service's handle. Cloned to wherever questions come from, on any runtime.
#[derive(Clone)]
struct Squares {
    bridge: Bridge,
    /// The service's loop holds the other end.
    questions: mpsc::Sender<Question>,
}

impl Squares {
    async fn of(&self, number: u64) -> Result<Option<u64>, CallError> {
        let questions = self.questions.clone();
        let ask = async move {
            let (answer, answered) = oneshot::channel();
            questions.send((number, answer)).await.ok()?;
            answered.await.ok()
        };
        self.bridge.call(ask).deadline(Duration::from_secs(1)).await
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (questions, mut asked) = mpsc::channel::<Question>(64);
    let config = ThreadConfig::default()
        .with_name("squares")
        .with_start_hook(|runtime: Arc<dyn Runtime>| async move {
            let service = async move {
                while let Some((number, answer)) = asked.recv().await {
                    let _asker_gone = answer.send(number * number);
                }
            };
            runtime.spawn(service).detach();
            Ok(())
        })
        .with_shutdown_hook(|_runtime| async { /* say goodbye to the peers here */ });
    let thread = ExecutorThread::start(Backend::Tokio, config)?;
    let squares = Squares { bridge: thread.bridge(), questions };

    // Asked from a program that has no runtime at all.
    assert_eq!(futures::executor::block_on(squares.of(12))?, Some(144));
    thread.shutdown_blocking(Duration::from_secs(2))?;
    assert_eq!(futures::executor::block_on(squares.of(12)), Err(CallError::ShutDown));
    Ok(())
}
