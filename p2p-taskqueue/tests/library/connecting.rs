//! Tests of a queue over the Unix socket of a node of this machine.

use std::sync::Arc;

use p2p_taskqueue::{ErrorCode, OpenError, Queue, Worker, serve_local};
use runtime_bridge::{Runtime, RuntimeExt as _, TokioRuntime};
use tokio::{net::UnixListener, runtime::Handle};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::{Add, TestResult, add, soon};

#[tokio::test]
async fn a_queue_behind_a_socket_is_one_like_others() -> TestResult {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("node.sock");
    let served = Queue::in_memory().await?;
    let listener = UnixListener::bind(&socket)?;
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::new(Handle::current()));
    let queue = served.raw();
    let _serving = Arc::clone(&runtime).spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            runtime.spawn(serve_local(stream.compat(), Arc::clone(&queue), Arc::clone(&runtime))).detach();
        }
    });

    let client = soon(Queue::connect(&socket)).await??;
    let job = client.submit(Add(1, 2)).await?;
    assert_eq!(served.job::<Add>(job.id()).record().await?.payload.get(), "[1,2]");
    // The worker connects through the socket too.
    let worker = soon(Queue::connect(&socket)).await??;
    let mut sum = None;
    soon(Worker::new(&worker).slots(3).handle(add).run_until(async { sum = Some(job.wait().await) })).await??;
    assert_eq!(sum.ok_or("no end")??, 3);
    soon(client.close()).await??;
    soon(worker.close()).await??;
    Ok(())
}

#[tokio::test]
async fn where_no_node_listens_there_is_no_queue() -> TestResult {
    let folder = tempfile::tempdir()?;
    match soon(Queue::connect(folder.path().join("node.sock"))).await? {
        Err(OpenError::Connect(error)) => {
            assert_eq!(error.code, ErrorCode::Unreachable);
            assert!(error.message.contains("node.sock"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}
