//! What becomes of a request when its peer goes away in the middle of it, between real nodes.

use std::sync::Arc;

use async_trait::async_trait;
use runtime_bridge::RuntimeExt;
use taskqueue_api::{
    Caller, Claim, Complete, Json, List, Multiaddr, QueueError, Request, Response, Submit, Target, TaskQueue,
    TaskQueueExt as _,
};
use taskqueue_store::LocalQueue;
use tokio::sync::watch;

use crate::{
    Identity, Node, NodeConfig, NodeHandle,
    node::NoFiles,
    testing::{memory, mesh, runtime, soon},
};

const LOCAL: &Caller = &Caller::Local;

/// A queue that carries everything out, and for as long as it is told to answers nothing to peers.
#[derive(Debug)]
struct Mute {
    queue: LocalQueue,
    is_mute: watch::Sender<bool>,
    done: watch::Sender<u32>,
}

#[async_trait]
impl TaskQueue for Mute {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        let answer = self.queue.call(caller, request).await;
        self.done.send_modify(|done| *done += 1);
        if !caller.is_local() {
            soon(self.is_mute.subscribe().wait_for(|is_mute| !is_mute)).await.unwrap();
        }
        answer
    }
}

struct Owner {
    identity: Identity,
    queue: Arc<Mute>,
}

impl Owner {
    fn new() -> Self {
        let identity = Identity::generate().unwrap();
        let queue = LocalQueue::new(memory(identity.peer_id()), identity.peer_id(), runtime());
        let queue = Mute { queue, is_mute: watch::Sender::new(false), done: watch::Sender::new(0) };
        Self { identity, queue: Arc::new(queue) }
    }

    async fn start(&self, address: Multiaddr) -> NodeHandle {
        let config = NodeConfig::new(self.identity.clone(), mesh(7, &self.identity)).with_listen([address]);
        let queue = Arc::<Mute>::clone(&self.queue);
        let routes = memory(self.identity.peer_id());
        soon(Node::start(config, queue, routes, Arc::new(NoFiles), runtime())).await.unwrap()
    }

    /// The request is carried out, the answer is lost with the node, and the node starts again.
    async fn restart_during(&self, asker: &NodeHandle, node: NodeHandle, request: Request) -> Response {
        let target = Target { remote_multiaddr: node.addresses().first().cloned(), remote_peer_id: None };
        let mut address = target.remote_multiaddr.clone().unwrap();
        address.pop();
        let remote = soon(asker.connect(&target)).await.unwrap();
        self.queue.is_mute.send_replace(true);
        let done = *self.queue.done.borrow();
        let asking = runtime().spawn(async move { remote.call(LOCAL, request).await });
        soon(self.queue.done.subscribe().wait_for(|now| *now > done)).await.unwrap();
        soon(node.shutdown()).await;
        self.queue.is_mute.send_replace(false);
        let _again = self.start(address).await;
        soon(asking).await.unwrap().unwrap()
    }
}

fn anywhere() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap()
}

#[tokio::test]
async fn a_submit_outlives_its_owners_restart_and_is_made_once() {
    let (asker, owner) = (Owner::new(), Owner::new());
    let (asking, node) = (asker.start(anywhere()).await, owner.start(anywhere()).await);
    let submit = Request::Submit(Submit::new("echo", Json::null()));
    let Response::Submitted(submitted) = owner.restart_during(&asking, node, submit).await else { panic!() };
    assert!(!submitted.duplicate);
    let tasks = owner.queue.list(LOCAL, List::default()).await.unwrap().tasks;
    assert_eq!(tasks.iter().map(|task| task.task_id).collect::<Vec<_>>(), [submitted.task_id]);
}

#[tokio::test]
async fn a_completion_outlives_its_owners_restart() {
    let (asker, owner) = (Owner::new(), Owner::new());
    let (asking, node) = (asker.start(anywhere()).await, owner.start(anywhere()).await);
    owner.queue.submit(LOCAL, Submit::new("echo", Json::null())).await.unwrap();
    let task = owner.queue.claim(LOCAL, Claim::new("w")).await.unwrap().task.unwrap();
    let complete = Request::Complete(Complete::new(task.task_id, task.fence.unwrap(), None));
    let Response::Completed(completed) = owner.restart_during(&asking, node, complete).await else { panic!() };
    assert!(!completed.repeated);
}
