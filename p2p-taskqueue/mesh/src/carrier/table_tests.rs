//! The table of operations, held against a node.

use std::sync::Arc;

use libp2p::PeerId;
use taskqueue_api::{
    Caller, ErrorCode, OpenTo, Request,
    testing::exchanges::{Cast, requests_at_once},
};
use taskqueue_store::{LocalQueue, MemoryStore, StoreOptions};

use crate::{
    Identity, Node, NodeConfig, RootKey,
    members::TicketSecret,
    node::NoFiles,
    testing::{mesh, runtime, soon},
};

#[tokio::test]
async fn a_node_answers_every_operation_of_the_table_to_whom_it_is_open() {
    let identity = Identity::generate().unwrap();
    let owner = identity.peer_id();
    let store = Arc::new(MemoryStore::new(StoreOptions::new(owner)).unwrap());
    let local = Arc::new(LocalQueue::new(Arc::<MemoryStore>::clone(&store), owner, runtime()));
    let config =
        NodeConfig::new(identity.clone(), mesh(7, &identity)).with_listen(["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
    let node = soon(Node::start(config, local, store, Arc::new(NoFiles), runtime())).await.unwrap();
    let peer = PeerId::random();
    // A ticket of this node's own is refused without a dial.
    let secret = TicketSecret::from_bytes([9; 16]);
    let ticket = crate::Ticket::new(RootKey::from_secret_bytes([7; 32]).mesh(), owner, secret, Vec::new()).to_text();
    for request in requests_at_once(&Cast { dialler: peer, listener: owner, ticket }) {
        let (name, open_to) = (request.name(), request.facts().open_to);
        let code = async |caller: Caller, request: Request| {
            soon(node.queue().call(&caller, request)).await.err().map(|error| error.code)
        };
        let (of_client, of_peer) =
            (code(Caller::Local, request.clone()).await, code(Caller::member(peer), request).await);
        assert!(!matches!(of_client, Some(ErrorCode::Unsupported | ErrorCode::Internal)), "{name}: {of_client:?}");
        assert_eq!(of_peer == Some(ErrorCode::Forbidden), open_to == OpenTo::ThisMachine, "{name}: {of_peer:?}");
    }
    soon(node.shutdown()).await;
}
