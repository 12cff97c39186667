//! Tasks of several owners, as one node sees them.

use std::sync::Arc;

use async_trait::async_trait;
use taskqueue_api::{
    At, Caller, Claim, ClaimMany, Complete, ErrorCode, GetMany, Heartbeat, Json, List, Operation, Outcome, PeerId,
    QueueError, RouteBook, Submit, SubmitMany, Target, TaskId, TaskQueueExt, testing::payload,
};

use crate::{
    Identity, Node, NodeConfig, NodeHandle,
    node::NoFiles,
    testing::{TestQueue, mesh, runtime, soon},
};

const LOCAL: &Caller = &Caller::Local;

/// A node with its parts at hand.
struct Running {
    node: NodeHandle,
    queue: Arc<TestQueue>,
}

impl Running {
    async fn start() -> Self {
        let (identity, queue) = Self::machine();
        let book = Arc::clone(&queue.store);
        Self::start_with(identity, queue, book).await
    }

    fn machine() -> (Identity, Arc<TestQueue>) {
        let identity = Identity::generate().unwrap();
        let queue = TestQueue::new(identity.peer_id());
        (identity, queue)
    }

    async fn start_with(identity: Identity, queue: Arc<TestQueue>, book: Arc<dyn RouteBook>) -> Self {
        let config = NodeConfig::new(identity.clone(), mesh(7, &identity))
            .with_listen(["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
        let local = Arc::<TestQueue>::clone(&queue);
        let node = soon(Node::start(config, local, book, Arc::new(NoFiles), runtime())).await.unwrap();
        Self { node, queue }
    }

    fn target(&self) -> Target {
        Target { remote_multiaddr: self.node.addresses().first().cloned(), remote_peer_id: None }
    }

    async fn ask<O: Operation>(&self, target: &Target, operation: O) -> Result<O::Answer, QueueError> {
        let request = At::request(target.clone(), operation.into_request());
        O::answer(soon(self.node.queue().call(LOCAL, request)).await?)
    }
}

fn echo() -> Submit {
    Submit::new("echo", Json::null())
}

fn many(tasks: Vec<Submit>) -> SubmitMany {
    SubmitMany { tasks }
}

fn here() -> Target {
    Target::default()
}

#[tokio::test]
async fn tasks_submitted_together_to_a_peer_are_found_without_a_target() {
    let (a, b) = (Running::start().await, Running::start().await);
    let keyed = |bytes| Submit { idempotency_key: Some("k".to_owned()), ..Submit::new("echo", payload(bytes)) };
    // The second one has the first one's key, and is another task.
    let tasks = vec![keyed(1), keyed(2), echo()];
    let results = a.ask(&b.target(), many(tasks)).await.unwrap().results;
    assert_eq!(results.iter().map(|result| result.ok).collect::<Vec<_>>(), [true, false, true]);
    let there: Vec<TaskId> = results.iter().filter_map(|result| Some(result.submitted.as_ref()?.task_id)).collect();
    let mine = a.ask(&here(), echo()).await.unwrap().task_id;
    let nowhere = TaskId::from_bytes([1; 16]);

    let asked = vec![there[1], nowhere, mine, there[0], nowhere];
    let got = a.ask(&here(), GetMany { task_ids: asked }).await.unwrap();
    assert_eq!(got.tasks.iter().map(|task| task.task_id).collect::<Vec<_>>(), [there[1], mine, there[0]]);
    assert_eq!(got.missing, [nowhere]);
    // A peer is answered from what is here, and no further.
    let got = b.ask(&a.target(), GetMany { task_ids: vec![there[0], mine] }).await.unwrap();
    assert_eq!((got.tasks.len(), got.missing), (1, vec![there[0]]));
}

#[tokio::test]
async fn an_owner_that_cannot_be_asked_is_no_missing_task() {
    let (a, b) = (Running::start().await, Running::start().await);
    let there = a.ask(&b.target(), echo()).await.unwrap().task_id;
    b.node.shutdown().await;
    let error = a.ask(&here(), GetMany { task_ids: vec![there] }).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unreachable);
}

/// The routes of a node whose disk is full.
#[derive(Debug)]
struct FullBook;

#[async_trait]
impl RouteBook for FullBook {
    async fn remember(&self, _: TaskId, _: PeerId) -> Result<(), QueueError> {
        Err(QueueError::new(ErrorCode::StorageFull, "no space left"))
    }

    async fn owner_of(&self, _: TaskId) -> Result<Option<PeerId>, QueueError> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_submit_whose_owner_cannot_be_noted_is_not_acknowledged() {
    let b = Running::start().await;
    let (identity, queue) = Running::machine();
    let a = Running::start_with(identity, queue, Arc::new(FullBook)).await;
    let submit = a.ask(&b.target(), echo()).await.map(|submitted| submitted.task_id);
    let both = a.ask(&b.target(), many(vec![echo(), echo()])).await.map(|submitted| submitted.results.len());
    for error in [submit.unwrap_err(), both.unwrap_err()] {
        // The tasks may be queued: whoever submitted them has to look at the peer, which the message names.
        assert_eq!((error.code, error.outcome), (ErrorCode::StorageFull, Outcome::Unknown));
        assert!(error.message.contains(&b.node.peer_id().to_string()), "{error}");
    }
    assert_eq!(b.queue.list(LOCAL, List::default()).await.unwrap().tasks.len(), 3);
}

#[tokio::test]
async fn the_children_of_a_task_completed_at_a_peer_are_found() {
    let (a, b) = (Running::start().await, Running::start().await);
    for _ in 0..2 {
        b.queue.submit(LOCAL, echo()).await.unwrap();
    }
    let claim = ClaimMany { claim: Claim::new("w"), max_tasks: 9 };
    let claimed = a.ask(&b.target(), claim).await.unwrap().tasks;
    assert_eq!(claimed.len(), 2);
    let fence = claimed[0].fence.unwrap();
    let claim_next = Some(Claim { wait_s: 10.0, ..Claim::new("w") });
    let complete = Complete { submit: vec![echo()], claim_next, ..Complete::new(claimed[0].task_id, fence, None) };
    let completed = a.ask(&b.target(), complete).await.unwrap();
    let child = completed.submitted[0];
    assert_eq!(completed.next.unwrap().task_id, child);
    assert_eq!(a.queue.store.owner_of(child).await.unwrap(), Some(b.node.peer_id()));
    // It was not submitted through this node.
    assert_eq!(a.queue.store.owner_of(claimed[1].task_id).await.unwrap(), None);
}

#[tokio::test]
async fn records_that_do_not_fit_into_an_answer_are_refused_everywhere() {
    let (a, b) = (Running::start().await, Running::start().await);
    let large = || Submit::new("echo", payload(1_000_000));
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(b.queue.submit(LOCAL, large()).await.unwrap().task_id);
    }
    for (asker, target) in [(&b, here()), (&a, b.target())] {
        let error = asker.ask(&target, GetMany { task_ids: ids.clone() }).await.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::LimitExceeded, Some("task_ids")));
    }
    let got = a.ask(&b.target(), GetMany { task_ids: ids[..5].to_vec() }).await.unwrap();
    assert_eq!(got.tasks.len(), 5);
    // A claim gives out what fits, and the rest to the next one.
    for fits in [5, 2] {
        let claimed = b.ask(&here(), ClaimMany { claim: Claim::new("w"), max_tasks: 7 }).await.unwrap();
        assert_eq!(claimed.tasks.len(), fits);
    }
}

#[tokio::test]
async fn each_node_keeps_the_signs_of_life_that_it_is_given() {
    let (a, b) = (Running::start().await, Running::start().await);
    let beat = |name: &str| Heartbeat { peer_id: name.to_owned(), clock: None };
    let names = |scheduler: taskqueue_api::Scheduler| -> Vec<String> {
        scheduler.known_peers.into_iter().map(|peer| peer.peer_id).collect()
    };
    assert_eq!(names(a.ask(&here(), beat("one")).await.unwrap().scheduler), ["one"]);
    let there = a.ask(&b.target(), beat("two")).await.unwrap().scheduler;
    assert_eq!((there.clock.node_id.clone(), names(there)), (b.node.peer_id().to_string(), vec!["two".to_owned()]));
    let error = a.ask(&here(), Heartbeat { clock: Some(Json::from_text("noon")), ..beat("one") }).await.unwrap_err();
    assert_eq!(error.field.as_deref(), Some("clock"));
    let again = a.ask(&here(), beat("three")).await.unwrap().scheduler;
    assert_eq!(again.clock.vector[&a.node.peer_id().to_string()], 2);
    assert_eq!(names(again), ["three", "one"]);
    assert_eq!(a.queue.calls.borrow().0, 0);
}
