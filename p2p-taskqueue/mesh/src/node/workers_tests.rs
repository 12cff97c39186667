//! What nodes tell each other of their workers, and why their tasks wait.

use std::collections::BTreeMap;

use taskqueue_api::{
    Claim, Complete, Get, Json, Lacking, ListTools, StatusQuery, Submit, SubmitMany, Target, TaskQueueExt, TellWorkers,
    ToolOffer, Wait, WaitReason, WorkerOffer, Workers,
};

use super::{NodeHandle, tests::*};
use crate::testing::{soon, until};

fn tool(name: &str) -> ToolOffer {
    let input_schema = Json::parse(r#"{"type":"object"}"#.to_owned()).unwrap();
    ToolOffer { name: name.to_owned(), description: format!("Does {name}."), input_schema }
}

/// Waits until the node lists as many workers that are there.
async fn until_there(node: &NodeHandle, count: usize) {
    let there = async || {
        let listed = node.queue().workers(LOCAL, Workers::default()).await.unwrap();
        listed.workers.iter().filter(|worker| worker.connected).count() == count
    };
    until(there).await;
}

#[tokio::test]
async fn what_workers_take_is_heard_by_peers_and_so_is_every_change() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let gpu = WorkerOffer { labels: vec!["gpu".to_owned()], slots: 2, ..offer("w", vec![tool("render")]) };
    let told = TellWorkers { workers: vec![gpu.clone()], ..TellWorkers::default() };
    node_b.queue().tell_workers(LOCAL, told).await.unwrap();
    // It is told when the connection comes.
    at(&node_a, &address_of(&node_b), StatusQuery::default()).await.unwrap();
    until_there(&node_a, 1).await;
    let query = Workers { label: Some("gpu".to_owned()), schemas: true, ..Workers::default() };
    let listed = node_a.queue().workers(LOCAL, query).await.unwrap();
    let worker = &listed.workers[0];
    assert_eq!((worker.peer_id, &*worker.worker_id, worker.last_seen), (node_b.peer_id(), "w", None));
    assert_eq!((&worker.takes, worker.slots, worker.busy), (&gpu.takes, Some(2), Some(0)));
    let none = Workers { label: Some("tpu".to_owned()), ..Workers::default() };
    assert!(node_a.queue().workers(LOCAL, none).await.unwrap().workers.is_empty());

    // Another one comes, the first is busy, and then it stops.
    let more = TellWorkers { workers: vec![offer("more", vec![tool("scan")])], ..TellWorkers::default() };
    node_b.queue().tell_workers(LOCAL, more).await.unwrap();
    until_there(&node_a, 2).await;
    let busy = TellWorkers { busy: BTreeMap::from([(gpu.instance.clone(), 2)]), ..TellWorkers::default() };
    node_b.queue().tell_workers(LOCAL, busy).await.unwrap();
    until(async || {
        let render = Workers { task_type: Some("render".to_owned()), ..Workers::default() };
        node_a.queue().workers(LOCAL, render).await.unwrap().workers[0].busy == Some(2)
    })
    .await;
    let stopped = TellWorkers { stopped: vec![gpu.instance.clone()], ..TellWorkers::default() };
    node_b.queue().tell_workers(LOCAL, stopped).await.unwrap();
    until_there(&node_a, 1).await;

    // The machine goes away. What it took stays known.
    soon(node_b.shutdown()).await;
    until_there(&node_a, 0).await;
    let absent = node_a.queue().workers(LOCAL, Workers::default()).await.unwrap().workers;
    assert_eq!(absent.len(), 2);
    assert!(absent.iter().all(|worker| worker.last_seen.is_some()), "{absent:?}");
    assert!(absent.iter().all(|worker| worker.takes[0].input_schema == Json::null()), "no schemas unless asked for");

    // It comes back without workers.
    let node_b = b.start().await;
    at(&node_a, &address_of(&node_b), StatusQuery::default()).await.unwrap();
    until(async || node_a.queue().workers(LOCAL, Workers::default()).await.unwrap().workers.is_empty()).await;
    soon(node_b.shutdown()).await;
    soon(node_a.shutdown()).await;
}

#[tokio::test]
async fn the_owner_says_why_a_task_waits_to_whoever_asks() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    node_b.queue().tell_workers(LOCAL, worker("w", vec![tool("wordcount")])).await.unwrap();
    let target = address_of(&node_b);
    let misspelt = at(&node_a, &target, Submit::new("wordcuont", Json::null())).await.unwrap();
    let reason = misspelt.waiting_for.unwrap();
    assert_eq!(reason.message, "no machine takes 'wordcuont'; did you mean 'wordcount'?");
    let task_id = misspelt.task_id;
    // A read that is passed on because of the note, and a wait.
    let got = node_a.queue().get(LOCAL, Get { task_id }).await.unwrap();
    assert_eq!(got.task.waiting_for.as_ref(), Some(&reason));
    let waited = node_a.queue().wait(LOCAL, Wait::one(task_id, 0.0)).await.unwrap();
    assert_eq!(waited.task.unwrap().waiting_for.as_ref(), Some(&reason));
    let tasks = vec![Submit::new("wordcount", Json::null()), Submit::new("wordcuont", Json::null())];
    let many = at(&node_a, &target, SubmitMany { tasks }).await.unwrap().results;
    let reasons: Vec<_> = many.into_iter().map(|one| one.submitted.unwrap().waiting_for).collect();
    assert_eq!(reasons, [None, Some(reason)]);

    // A worker of the other machine takes it, and is named then.
    let claim = Claim { supported_task_types: vec!["wordcuont".to_owned()], ..Claim::new("by hand") };
    let task = at(&node_a, &target, claim).await.unwrap().task.unwrap();
    assert_eq!(task.waiting_for, None);
    at(&node_a, &target, Complete::new(task.task_id, task.fence.unwrap(), None)).await.unwrap();
    let ended = node_b.queue().get(LOCAL, Get { task_id: task.task_id }).await.unwrap().task;
    let names = node_b.queue().members(LOCAL, taskqueue_api::Members {}).await.unwrap().members;
    let name = names.into_iter().find(|member| member.peer_id == node_a.peer_id()).unwrap().name;
    assert_eq!(ended.attempts[0].machine_name, Some(name));
    assert_eq!(ended.waiting_for, None);
    // Who claims is a worker.
    let listed = node_b.queue().workers(LOCAL, Workers::default()).await.unwrap().workers;
    let by_hand = listed.iter().find(|worker| worker.worker_id == "by hand").unwrap();
    assert_eq!((by_hand.peer_id, by_hand.slots, by_hand.connected), (node_a.peer_id(), None, true));
}

#[tokio::test]
async fn a_task_that_is_pinned_to_an_absent_machine_names_it() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    node_b.queue().tell_workers(LOCAL, worker("w", vec![tool("render")])).await.unwrap();
    let submit = Submit { pin_to: Some(node_b.peer_id()), ..Submit::new("render", Json::null()) };
    let ask = async || node_a.queue().submit(LOCAL, submit.clone()).await.unwrap().waiting_for;
    assert_eq!(ask().await.unwrap().lacking, Some(Lacking::Type));
    at(&node_a, &address_of(&node_b), StatusQuery::default()).await.unwrap();
    until(async || ask().await.is_none()).await;
    soon(node_b.shutdown()).await;
    until(async || ask().await.is_some()).await;
    let reason = ask().await.unwrap();
    assert_eq!((reason.reason, reason.lacking), (WaitReason::WorkerAbsent, Some(Lacking::Nothing)));
    assert_eq!(reason.machines.len(), 1, "{reason:?}");
}

#[tokio::test]
async fn a_peer_speaks_only_for_itself() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    node_b.queue().tell_workers(LOCAL, worker("w", vec![tool("render")])).await.unwrap();
    // It names the instance of a worker of the other machine.
    let target = address_of(&node_b);
    at(&node_a, &target, TellWorkers { stopped: vec!["w".to_owned()], all: true, ..TellWorkers::default() })
        .await
        .unwrap();
    assert_eq!(at(&node_a, &target, ListTools {}).await.unwrap().tools, [tool("render")]);
    let elsewhere = Target::peer(node_b.peer_id());
    assert_eq!(at(&node_a, &elsewhere, ListTools {}).await.unwrap().tools.len(), 1);
}
