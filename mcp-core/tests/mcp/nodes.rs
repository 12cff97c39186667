//! Two real nodes of one mesh, on loopback.

use std::sync::Arc;

use async_trait::async_trait;
use p2p_taskqueue::{
    Identity, Json, Mesh, Multiaddr, RootKey,
    api::{Target, TaskRecord, ToolOffer},
    mesh::{NoFiles, Node, NodeConfig, NodeHandle},
    store::{LocalQueue, MemoryStore, StoreOptions},
    worker::{AttemptEnd, Contact, Handler, Worker, WorkerConfig},
};
use runtime_bridge::{Runtime, TokioRuntime};
use tokio::runtime::Handle;

use crate::{client::Client, queue::TestQueue};

/// A client of one node, and another node of the same mesh.
pub(crate) struct Nodes {
    pub(crate) client: Client,
    pub(crate) here: NodeHandle,
    pub(crate) there: TestQueue,
    pub(crate) address: Multiaddr,
    /// The workers end with the test.
    _workers: Vec<Worker>,
}

/// Answers its payload.
#[derive(Debug)]
struct Echo;

#[async_trait]
impl Handler for Echo {
    async fn run(&self, task: &TaskRecord, _: Contact) -> AttemptEnd {
        AttemptEnd::Done(task.payload.clone())
    }
}

impl Nodes {
    /// Starts two nodes with workers of these types.
    pub(crate) async fn start(offers: Vec<ToolOffer>) -> Self {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::new(Handle::current()));
        let root = RootKey::generate().unwrap();
        let (here, there) = (node(&root, &runtime).await, node(&root, &runtime).await);
        let address = there.addresses()[0].clone();
        here.connect(&Target { remote_multiaddr: Some(address.clone()), remote_peer_id: None }).await.unwrap();
        let worker = |node: &NodeHandle, offer: &ToolOffer| {
            let config = WorkerConfig { takes: vec![offer.clone()], ..WorkerConfig::new("echo", [""], Arc::new(Echo)) };
            Worker::start(config, node.queue(), node.serving_peers(), &runtime)
        };
        let workers: Vec<_> = offers.iter().flat_map(|offer| [worker(&here, offer), worker(&there, offer)]).collect();
        for worker in &workers {
            worker.is_told().await;
        }
        let queue = |node: &NodeHandle| TestQueue::before(node.queue(), node.peer_id());
        Self { client: Client::new(queue(&here)), there: queue(&there), here, address, _workers: workers }
    }
}

async fn node(root: &RootKey, runtime: &Arc<dyn Runtime>) -> NodeHandle {
    let identity = Identity::generate().unwrap();
    let owner = identity.peer_id();
    let store = Arc::new(MemoryStore::new(StoreOptions::new(owner)).unwrap());
    let local = Arc::new(LocalQueue::new(Arc::<MemoryStore>::clone(&store), owner, Arc::clone(runtime)));
    let listen = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    let mesh = Mesh::with_root_key(root.clone(), &identity, "machine").unwrap();
    let config = NodeConfig::new(identity, mesh).with_listen([listen]);
    Node::start(config, local, store, Arc::new(NoFiles), Arc::clone(runtime)).await.unwrap()
}

/// Makes the offer of a tool of this name with this schema; null stands for any input.
pub(crate) fn offer(name: &str, input_schema: Json) -> ToolOffer {
    ToolOffer { name: name.to_owned(), description: format!("Does {name}."), input_schema }
}
