//! The same test on every runtime: open, submit, work with the runtime's own sockets, wait, stop.

use std::{
    future::{Future, pending},
    io,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
};

use futures::FutureExt as _;
use p2p_taskqueue::{Context, Queue, Task, Worker};
use serde::{Deserialize, Serialize};

use super::{Add, DEADLINE, Shout, TestResult, add, shout};

/// A task whose handler uses sockets of the runtime on which the worker runs.
#[derive(Serialize, Deserialize)]
struct Dial;

impl Task for Dial {
    const TYPE: &str = "dial";
    type Output = bool;
}

async fn story<F>(dial: impl Fn() -> F + Copy + Send + Sync + 'static) -> TestResult
where
    F: Future<Output = io::Result<bool>> + Send + 'static,
{
    let folder = tempfile::tempdir()?;
    let queue = Queue::open(folder.path().join("queue.sqlite3")).await?;
    let sum = queue.submit(Add(40, 2)).await?;
    let text = queue.submit(Shout("loud".to_owned())).priority(9).await?;
    let dialled = queue.submit(Dial).await?;
    let mut ended = None;
    let client = async { ended = Some(futures::join!(sum.wait(), text.wait(), dialled.wait())) };
    Worker::new(&queue)
        .slots(2)
        .handle(add)
        .handle(shout)
        .handle(move |_: Dial, _: Context| async move { Ok(dial().await?) })
        .run_until(client)
        .await?;
    let (sum, text, dialled) = ended.ok_or("the client has not ended")?;
    assert_eq!((sum?, text?.as_str(), dialled?), (42, "LOUD", true));
    queue.close().await?;
    Ok(())
}

/// Runs a test on another thread with a deadline, since some runtimes have no timeouts of their own.
fn within(run: impl FnOnce() -> TestResult + Send + 'static) -> TestResult {
    let (sender, result) = sync_channel(1);
    let thread = thread::spawn(move || sender.send(run()).ok());
    match result.recv_timeout(DEADLINE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err("it has not ended in time".into()),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(_) => Err("it ended without a result".into()),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

/// Makes a function that connects to itself, by sockets that only work on their own runtime.
macro_rules! dial {
    ($net:path) => {
        || async {
            use $net::{TcpListener, TcpStream};
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let (near, far) = futures::join!(TcpStream::connect(address), listener.accept());
            Ok(near?.local_addr()? == far?.1)
        }
    };
}

#[test]
fn on_many_threads_of_tokio() -> TestResult {
    within(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(runtime.spawn(story(dial!(tokio::net))))?
    })
}

#[test]
fn on_one_thread_of_tokio() -> TestResult {
    within(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(story(dial!(tokio::net))))
}

#[test]
fn on_smol() -> TestResult {
    within(|| smol::block_on(smol::spawn(story(dial!(smol::net)))))
}

#[test]
fn on_async_std() -> TestResult {
    within(|| async_std::task::block_on(async_std::task::spawn(story(dial!(async_std::net)))))
}

#[test]
fn on_a_thread_without_a_runtime() -> TestResult {
    within(|| futures::executor::block_on(story(|| async { Ok(true) })))
}

#[test]
fn a_worker_that_is_given_up_before_it_has_begun_leaves_nothing_behind() -> TestResult {
    within(|| {
        futures::executor::block_on(async {
            let queue = Queue::in_memory().await?;
            let working = Worker::new(&queue).handle(add).run_until(pending());
            assert!(Box::pin(working).as_mut().now_or_never().is_none());
            queue.close().await?;
            Ok(())
        })
    })
}
