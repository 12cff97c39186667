//! Tests of the transports and the discovery methods by which peers are reached, and of what is reported about them.

use taskqueue_api::{
    CallTool, Discover, ErrorCode, Json, ListTools, Method, PeerId, StatusQuery, Submit, Target, TaskQueueExt,
    TaskStatus, ToolOffer,
};

use super::tests::*;
use crate::testing::soon;

fn quic() -> taskqueue_api::Multiaddr {
    "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()
}

#[tokio::test]
async fn a_peer_is_asked_over_quic() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start_at(quic()).await.unwrap(), b.start_at(quic()).await.unwrap());
    let submitted = at(&node_a, &address_of(&node_b), Submit::new("echo", Json::null())).await.unwrap();
    assert_eq!(submitted.peer_id, node_b.peer_id());
    let back = Target::peer(node_a.peer_id());
    assert_eq!(at(&node_b, &back, StatusQuery::default()).await.unwrap().peer_id, node_a.peer_id());
    let stranger = Machine::new(2).start_at(quic()).await.unwrap();
    let refused = at(&stranger, &address_of(&node_b), StatusQuery::default()).await;
    assert_eq!(code(refused), ErrorCode::Unauthorized);
    soon(node_a.shutdown()).await;
    soon(node_b.shutdown()).await;
}

#[tokio::test]
async fn a_search_tells_what_each_way_came_to() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let peer_id = node_b.peer_id();
    let wanted = |multiaddr| Discover { peer_id: Some(peer_id), multiaddr, timeout_s: 10.0, ..Discover::default() };

    let nowhere = soon(node_a.queue().discover(LOCAL, wanted(None))).await.unwrap();
    assert!(nowhere.peers.is_empty());
    let ways: Vec<_> = nowhere.attempts.iter().map(|attempt| (attempt.method, attempt.code)).collect();
    for off in [Method::AnnounceFile, Method::Rendezvous, Method::Kademlia, Method::Mdns] {
        assert!(ways.contains(&(off, Some(ErrorCode::Unsupported))), "{ways:?}");
    }
    assert!(ways.contains(&(Method::AddressBook, Some(ErrorCode::NotFound))), "{ways:?}");

    let address = node_b.addresses().remove(0);
    let found = soon(node_a.queue().discover(LOCAL, wanted(Some(address.clone())))).await.unwrap();
    assert_eq!(found.peers.iter().map(|peer| peer.peer_id).collect::<Vec<_>>(), [peer_id]);
    let first = &found.attempts[0];
    assert_eq!((first.method, first.ok, first.peer_id), (Method::Explicit, true, Some(peer_id)));
    assert!(first.multiaddr.is_some() && first.elapsed_s >= 0.0);

    let all = soon(node_b.queue().discover(LOCAL, Discover::default())).await.unwrap();
    assert_eq!(all.peers.len(), 1, "by the address book: {all:?}");
    soon(node_b.shutdown()).await;
    until_serving(&node_a, peer_id, false).await;
    let gone = soon(node_a.queue().discover(LOCAL, wanted(Some(address)))).await.unwrap();
    let refused = gone.attempts.iter().find(|attempt| attempt.method == Method::Explicit).unwrap();
    assert_eq!((refused.ok, refused.code), (false, Some(ErrorCode::Unreachable)));
    assert!(gone.peers.is_empty());
}

#[tokio::test]
async fn whoever_was_dialled_in_vain_and_never_proved_itself_is_no_peer() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let (member, foreign) = (node_b.peer_id(), Machine::new(2).start().await);
    at(&node_a, &address_of(&node_b), StatusQuery::default()).await.unwrap();
    let nobody = PeerId::random();
    let closed: taskqueue_api::Multiaddr = format!("/ip4/127.0.0.1/tcp/1/p2p/{nobody}").parse().unwrap();
    let target = Target { remote_multiaddr: Some(closed.clone()), remote_peer_id: None };
    assert_eq!(code(at(&node_a, &target, StatusQuery::default()).await), ErrorCode::Unreachable);
    let search = Discover { peer_id: Some(nobody), multiaddr: Some(closed), ..Discover::default() };
    assert!(soon(node_a.queue().discover(LOCAL, search)).await.unwrap().peers.is_empty());
    let turned_away = at(&node_a, &address_of(&foreign), StatusQuery::default()).await;
    assert_eq!(code(turned_away), ErrorCode::Unauthorized);
    soon(node_b.shutdown()).await;
    until_serving(&node_a, member, false).await;
    // A member that is only away stays listed, whatever becomes of the attempts to reach it.
    assert_eq!(code(at(&node_a, &Target::peer(member), StatusQuery::default()).await), ErrorCode::Unreachable);
    let status = node_a.queue().status(LOCAL, StatusQuery { detail: true, ..StatusQuery::default() }).await.unwrap();
    let listed: Vec<_> = status.peers.unwrap().into_iter().map(|peer| peer.peer_id).collect();
    assert_eq!(listed, [member]);
    assert_eq!(code(at(&node_a, &Target::peer(nobody), StatusQuery::default()).await), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_peer_may_not_make_this_node_dial() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    assert_eq!(code(at(&node_a, &address_of(&node_b), Discover::default()).await), ErrorCode::Forbidden);
}

#[tokio::test]
async fn the_tools_of_a_peer_are_its_workers() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let offer = ToolOffer { name: "echo".to_owned(), description: "Echoes.".to_owned(), input_schema: Json::default() };
    node_b.queue().tell_workers(LOCAL, worker("w", vec![offer.clone()])).await.unwrap();
    let target = address_of(&node_b);
    assert_eq!(at(&node_a, &target, ListTools {}).await.unwrap().tools, [offer]);
    let call = |tool_name: &str| CallTool { timeout_s: 0.0, ..CallTool::new(tool_name, Json::null()) };
    let error = at(&node_a, &target, call("teleport")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    assert!(error.message.contains("echo"), "{error}");
    let called = at(&node_a, &target, call("echo")).await.unwrap();
    assert_ne!(called.task.status, TaskStatus::Failed);
    assert_eq!(at(&node_a, &Target::peer(PeerId::random()), ListTools {}).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn what_was_refused_is_counted() {
    let (a, b) = (Machine::new(1), Machine::new(2));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let refused = at(&node_b, &address_of(&node_a), StatusQuery::default()).await;
    assert_eq!(code(refused), ErrorCode::Unauthorized);
    // This end has seen the other's proof, or is about to.
    until_transport(&node_a, |status| status.refused.get("other_mesh") == Some(&1)).await;
}
