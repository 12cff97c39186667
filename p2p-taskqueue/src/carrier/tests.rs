use std::sync::Arc;

use libp2p::PeerId;
use runtime_bridge::{Backend, ExecutorThread, JobHandle, RuntimeExt, ThreadConfig};

use super::{BridgedQueue, DaemonQueue, InlineQueue};
use crate::{
    Caller, ErrorCode, Json, QueueError, TaskQueue, TaskQueueExt, TaskStatus,
    api::{Claim, Claimed, Get, List, Outcome, StatusQuery, Submit, Wait},
    serve_local,
    testing::{FakeQueue, pipe, runtime, soon},
};

const LOCAL: &Caller = &Caller::Local;

/// A queue that is served over a pipe, and a client of it.
struct Served {
    queue: Arc<FakeQueue>,
    serving: JobHandle<()>,
    daemon: DaemonQueue,
}

async fn served() -> Served {
    let (client, server) = pipe(64 * 1024);
    let queue = FakeQueue::new(PeerId::random());
    let serving = runtime().spawn(serve_local(server, Arc::<FakeQueue>::clone(&queue), runtime()));
    let daemon = soon(DaemonQueue::connect(client, runtime())).await.unwrap();
    Served { queue, serving, daemon }
}

/// A claim that the queue has received and cannot answer.
async fn long_poll(queue: &FakeQueue, daemon: &DaemonQueue) -> JobHandle<Result<Claimed, QueueError>> {
    let daemon = daemon.clone();
    let claim = Claim { wait_s: 60.0, ..Claim::new("w") };
    let polling = runtime().spawn(async move { daemon.claim(LOCAL, claim).await });
    soon(queue.calls.subscribe().wait_for(|(count, _)| *count == 1)).await.unwrap();
    polling
}

#[tokio::test]
async fn a_daemon_is_asked_over_any_connection() {
    let Served { queue, serving, daemon } = served().await;
    let submitted = soon(daemon.submit(LOCAL, Submit::new("echo", Json::null()))).await.unwrap();
    let got = soon(daemon.get(LOCAL, Get { task_id: submitted.task_id })).await.unwrap();
    assert_eq!(got.task.status, TaskStatus::Queued);
    assert_eq!(queue.calls.borrow().1, Some(Caller::Local));
    let foreign = soon(daemon.list(&Caller::Peer(PeerId::random()), List::default())).await.unwrap_err();
    assert_eq!(foreign.code, ErrorCode::Forbidden);

    drop(daemon);
    soon(serving).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_takes_its_claims_along() {
    let Served { queue, serving, daemon } = served().await;
    let polling = long_poll(&queue, &daemon).await;
    drop((polling, daemon));
    soon(serving).await.unwrap();
    let submitted = queue.submit(LOCAL, Submit::new("echo", Json::null())).await.unwrap();
    let waited = queue.wait(LOCAL, Wait::one(submitted.task_id, 0.0)).await.unwrap();
    assert_eq!(waited.task.unwrap().status, TaskStatus::Queued);
}

#[tokio::test]
async fn a_daemon_that_goes_leaves_the_outcome_unknown() {
    let Served { queue, serving, daemon } = served().await;
    let polling = long_poll(&queue, &daemon).await;
    drop(serving);
    let error = soon(polling).await.unwrap().unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::Interrupted, Outcome::Unknown));
    assert!(!daemon.is_connected());
    assert_eq!(soon(daemon.list(LOCAL, List::default())).await.unwrap_err().code, ErrorCode::Unreachable);
}

#[tokio::test]
async fn a_bridged_queue_answers_from_the_executor_thread_and_says_so() {
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default()).unwrap();
    let inner = FakeQueue::new(PeerId::random());
    let bridged = BridgedQueue::new(thread.bridge(), Arc::<FakeQueue>::clone(&inner));
    bridged.submit(LOCAL, Submit::new("echo", Json::null())).await.unwrap();
    let status = bridged.status(LOCAL, StatusQuery { detail: true, ..StatusQuery::default() }).await.unwrap();
    let bridge = status.bridge.unwrap();
    assert_eq!((bridge.inline, bridge.calls), (false, 2));
    assert!(bridged.status(LOCAL, StatusQuery::default()).await.unwrap().bridge.is_none());

    let error = bridged.submit(LOCAL, Submit::new("panic", Json::null())).await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::Internal, Outcome::Unknown));
    let runtime = thread.runtime();
    soon(runtime.spawn(async move { assert!(bridged.list(LOCAL, List::default()).await.is_ok()) })).await.unwrap();

    let stopped = BridgedQueue::new(thread.bridge(), inner as Arc<dyn TaskQueue>);
    soon(thread.shutdown(std::time::Duration::from_secs(2))).await.unwrap();
    assert_eq!(stopped.list(LOCAL, List::default()).await.unwrap_err().code, ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn an_inline_queue_counts_and_says_where_it_is_asked() {
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default()).unwrap();
    let inner = FakeQueue::new(PeerId::random());
    let inline = InlineQueue::new(thread.bridge(), Arc::<FakeQueue>::clone(&inner) as Arc<dyn TaskQueue>);
    let query = || StatusQuery { detail: true, ..StatusQuery::default() };
    let here = inline.status(LOCAL, query()).await.unwrap().bridge.unwrap();
    assert_eq!((here.inline, here.calls, here.in_flight), (false, 1, 0));
    let there = inline.clone();
    let there = thread.bridge().run_in_p2p(async move { there.status(LOCAL, query()).await }).await.unwrap();
    assert!(there.unwrap().bridge.unwrap().inline);
    assert!(inline.status(LOCAL, StatusQuery::default()).await.unwrap().bridge.is_none());

    let error = inline.submit(LOCAL, Submit::new("panic", Json::null())).await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::Internal, Outcome::Unknown));
    let polling = inline.clone();
    let claim = Claim { wait_s: 60.0, ..Claim::new("w") };
    let polling = runtime().spawn(async move { polling.claim(LOCAL, claim).await });
    soon(inner.calls.subscribe().wait_for(|(count, _)| *count == 5)).await.unwrap();
    let seen = inline.status(LOCAL, query()).await.unwrap().bridge.unwrap();
    assert_eq!((seen.in_flight, seen.cancelled, seen.panicked), (1, 0, 1));
    drop(polling);
    // Dropped on its runtime, which is this thread's.
    tokio::task::yield_now().await;
    let gone = inline.status(LOCAL, query()).await.unwrap().bridge.unwrap();
    assert_eq!((gone.in_flight, gone.cancelled), (0, 1));
}
