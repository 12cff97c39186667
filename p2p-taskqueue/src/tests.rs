use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use runtime_bridge::{Backend, ExecutorThread, Runtime, RuntimeExt, ThreadConfig, TokioRuntime};
use taskqueue_api::{
    Caller, Claim, ErrorCode, Json, List, Outcome, PeerId, QueueError, Renew, Request, Response, StatusQuery, Submit,
    TaskQueue, TaskQueueExt, Wait, testing::DEADLINE,
};
use taskqueue_store::{LocalQueue, MemoryStore, StoreOptions};
use tokio::{runtime::Handle, sync::watch};

use super::{BridgedQueue, InlineQueue};

const LOCAL: &Caller = &Caller::Local;

fn runtime() -> Arc<dyn Runtime> {
    Arc::new(TokioRuntime::new(Handle::current()))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it comes before the deadline")
}

/// A queue in memory that counts its calls. A task of the type `panic` makes it panic.
#[derive(Debug)]
struct Counted {
    queue: LocalQueue,
    begun: watch::Sender<u64>,
    /// The calls that were answered or given up.
    over: watch::Sender<u64>,
}

impl Counted {
    fn new() -> Arc<Self> {
        let owner = PeerId::random();
        let store = Arc::new(MemoryStore::new(StoreOptions::new(owner)).unwrap());
        let (begun, over) = (watch::Sender::new(0), watch::Sender::new(0));
        Arc::new(Self { queue: LocalQueue::new(store, owner, runtime()), begun, over })
    }
}

#[async_trait]
impl TaskQueue for Counted {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        struct UnderWay<'a>(&'a watch::Sender<u64>);
        impl Drop for UnderWay<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|over| *over += 1);
            }
        }
        self.begun.send_modify(|begun| *begun += 1);
        let _under_way = UnderWay(&self.over);
        assert!(!matches!(&request, Request::Submit(submit) if submit.task_type == "panic"), "as asked");
        self.queue.call(caller, request).await
    }
}

#[tokio::test]
async fn a_bridged_queue_answers_from_the_executor_thread_and_says_so() {
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default()).unwrap();
    let inner = Counted::new();
    let bridged = BridgedQueue::new(thread.bridge(), Arc::<Counted>::clone(&inner));
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
    soon(thread.shutdown(Duration::from_secs(2))).await.unwrap();
    assert_eq!(stopped.list(LOCAL, List::default()).await.unwrap_err().code, ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn waits_on_the_bridge_leave_room_for_what_is_answered_at_once() {
    const CALLS: usize = 8;
    let config = ThreadConfig::default().with_max_in_flight(CALLS);
    let thread = ExecutorThread::start(Backend::Tokio, config).unwrap();
    let inner = Counted::new();
    let task_id = inner.submit(LOCAL, Submit::new("echo", Json::null())).await.unwrap().task_id;
    let fence = inner.claim(LOCAL, Claim::new("w")).await.unwrap().task.unwrap().fence.unwrap();
    let bridged = BridgedQueue::new(thread.bridge(), Arc::<Counted>::clone(&inner));
    let wait = || {
        let bridged = bridged.clone();
        runtime().spawn(async move { bridged.wait(LOCAL, Wait::one(task_id, 60.0)).await })
    };
    let waits: Vec<_> = (0..CALLS).map(|_| wait()).collect();
    soon(inner.begun.subscribe().wait_for(|begun| *begun == 2 + CALLS as u64 / 4 * 3)).await.unwrap();
    let renew = |wait_s| Renew { wait_s, ..Renew::new(task_id, fence, 30.0) };
    for wait_s in [0.0, 60.0] {
        soon(bridged.renew(LOCAL, renew(wait_s))).await.unwrap();
    }
    soon(bridged.submit(LOCAL, Submit::new("echo", Json::null()))).await.unwrap();
    soon(bridged.status(LOCAL, StatusQuery::default())).await.unwrap();
    let refused = soon(wait()).await.unwrap().unwrap_err();
    assert_eq!((refused.code, refused.limit), (ErrorCode::Overloaded, Some(6)));
    drop(waits);
}

#[tokio::test]
async fn an_inline_queue_counts_and_says_where_it_is_asked() {
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default()).unwrap();
    let inner = Counted::new();
    let inline = InlineQueue::new(thread.bridge(), Arc::<Counted>::clone(&inner) as Arc<dyn TaskQueue>);
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
    soon(inner.begun.subscribe().wait_for(|begun| *begun == 5)).await.unwrap();
    let seen = inline.status(LOCAL, query()).await.unwrap().bridge.unwrap();
    assert_eq!((seen.in_flight, seen.cancelled, seen.panicked), (1, 0, 1));
    drop(polling);
    soon(inner.over.subscribe().wait_for(|over| *over == 6)).await.unwrap();
    let gone = inline.status(LOCAL, query()).await.unwrap().bridge.unwrap();
    assert_eq!((gone.in_flight, gone.cancelled), (0, 1));
}
