use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::AsyncReadExt;
use libp2p::PeerId;
use runtime_bridge::RuntimeExt;
use taskqueue_api::{
    At, Caller, Cancel, Claim, ClaimMany, Complete, Get, Json, List, Operation as _, Outcome, SubmitMany, Target,
    TaskId, TaskQueue, TaskQueueExt as _, TaskStatus,
};
use taskqueue_store::{LocalQueue, MemoryStore, StoreOptions};

use super::*;
use crate::{
    testing::{pipe, runtime, soon},
    wire::{Agreed, Driver, FrameReader, Incoming, Service, Terms, exchanges, limits::FRAME_BYTES_MAX, read_request},
};

const THERE: Caller = Caller::Local;

/// What becomes of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// There is none.
    Refused,
    /// It is gone before a request is sent.
    Unsent,
    /// It is gone once the request has been read.
    Read,
    /// It is gone once the request has been carried out, before the answer.
    Applied,
    /// It answers.
    Answers,
}

/// A peer whose sessions end one after the other as they are told to.
struct FakePeer {
    queue: Arc<dyn TaskQueue>,
    fates: Mutex<VecDeque<Fate>>,
    terms: Terms,
    /// Whether each session was waited for.
    waited: Mutex<Vec<bool>>,
}

impl FakePeer {
    /// With a real queue behind it.
    fn new(fates: &[Fate]) -> Self {
        let owner = PeerId::random();
        let store = Arc::new(MemoryStore::new(StoreOptions::new(owner)).unwrap());
        Self {
            queue: Arc::new(LocalQueue::new(store, owner, runtime())),
            fates: Mutex::new(fates.iter().copied().collect()),
            terms: Terms { may_repeat: true, ..Terms::default() },
            waited: Mutex::default(),
        }
    }

    async fn ask(&self, request: impl taskqueue_api::Operation) -> Result<Response, QueueError> {
        soon(ask(self, request.into_request(), &*runtime())).await
    }

    async fn tasks(&self) -> usize {
        self.queue.list(&THERE, List::default()).await.unwrap().tasks.len()
    }

    /// A task of this peer that is claimed.
    async fn claimed(&self) -> Complete {
        self.queue.submit(&THERE, echo()).await.unwrap();
        let task = self.queue.claim(&THERE, Claim::new("w")).await.unwrap().task.unwrap();
        Complete::new(task.task_id, task.fence.unwrap(), Some(Json::from_text("done")))
    }
}

impl Sessions for FakePeer {
    async fn session(&self, waits: bool, _: Duration) -> Result<Session, QueueError> {
        self.waited.lock().unwrap().push(waits);
        let fate = self.fates.lock().unwrap().pop_front().expect("no more sessions than are foreseen");
        // One byte of a request fits where none is to be sent.
        let (near, mut far) = pipe(if fate == Fate::Unsent { 1 } else { 64 * 1024 });
        let agreed = |terms| Agreed { reader: FrameReader::new(FRAME_BYTES_MAX), terms };
        let queue = Arc::clone(&self.queue);
        match fate {
            Fate::Refused => return Err(QueueError::new(ErrorCode::Unreachable, "nobody is there")),
            Fate::Unsent => drop(far),
            Fate::Read => {
                runtime().spawn(async move { drop(read(&mut far).await) }).detach();
            }
            Fate::Applied => {
                runtime().spawn(async move { drop(queue.call(&THERE, read(&mut far).await).await) }).detach();
            }
            Fate::Answers => {
                let service = Service { queue, caller: THERE };
                let (_asks_nothing, driver) = Driver::new(far, agreed(self.terms), Some(service), runtime());
                runtime().spawn(driver).detach();
            }
        }
        let (session, driver) = Driver::new(near, agreed(self.terms), None, runtime());
        runtime().spawn(driver).detach();
        Ok(session)
    }
}

async fn read(io: &mut crate::testing::Pipe) -> Request {
    let mut length = [0; 4];
    io.read_exact(&mut length).await.unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    io.read_exact(&mut frame).await.unwrap();
    match Incoming::read(&frame).unwrap() {
        Incoming::Call { request, .. } => read_request(request).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn echo() -> Submit {
    Submit::new("echo", Json::null())
}

/// A claim that does not wait.
fn at_once(request: Request) -> Request {
    match request {
        Request::Claim(claim) => Claim { wait_s: 0.0, ..claim }.into_request(),
        Request::ClaimMany(many) => ClaimMany { claim: Claim { wait_s: 0.0, ..many.claim }, ..many }.into_request(),
        request => request,
    }
}

fn lost<T: std::fmt::Debug>(answer: Result<T, QueueError>) {
    let error = answer.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::Interrupted, Outcome::Unknown));
}

#[tokio::test]
async fn every_operation_ends_in_an_answer_or_an_error_whatever_becomes_of_its_sessions() {
    let fates = [Fate::Refused, Fate::Unsent, Fate::Read, Fate::Applied, Fate::Answers];
    for (request, _) in exchanges() {
        let request = at_once(request);
        for first in fates {
            for second in fates {
                let peer = FakePeer::new(&[first, second]);
                let name = request.name();
                let answer = soon(ask(&peer, request.clone(), &*runtime())).await;
                assert!(peer.tasks().await <= 1, "{name} is done twice after {first:?}, {second:?}");
                // Where nothing can have been applied, no error says that it may have been.
                let may_be_applied = [first, second].iter().any(|fate| matches!(fate, Fate::Read | Fate::Applied));
                let is_unknown = matches!(&answer, Err(error) if error.outcome == Outcome::Unknown);
                assert!(may_be_applied || !is_unknown, "{name} after {first:?}, {second:?}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_submit_whose_answer_is_lost_makes_one_task() {
    for fate in [Fate::Unsent, Fate::Read, Fate::Applied] {
        let peer = FakePeer::new(&[fate, Fate::Answers]);
        let Response::Submitted(submitted) = peer.ask(echo()).await.unwrap() else { panic!() };
        assert!(!submitted.duplicate, "{fate:?}");
        assert_eq!(peer.tasks().await, 1, "{fate:?}");
        assert!(peer.queue.get(&THERE, Get { task_id: submitted.task_id }).await.is_ok());
        assert_eq!(*peer.waited.lock().unwrap(), [false, fate != Fate::Unsent]);
    }
}

#[tokio::test]
async fn each_of_many_submits_is_known_again() {
    let peer = FakePeer::new(&[Fate::Applied, Fate::Answers]);
    let keyed = Submit { idempotency_key: Some("mine".to_owned()), ..echo() };
    peer.queue.submit(&THERE, keyed.clone()).await.unwrap();
    let many = SubmitMany { tasks: vec![echo(), keyed, echo()] };
    let Response::SubmittedMany(answer) = peer.ask(many).await.unwrap() else { panic!() };
    let duplicates: Vec<bool> = answer.results.iter().map(|one| one.submitted.as_ref().unwrap().duplicate).collect();
    // Only the one that the caller has submitted twice.
    assert_eq!(duplicates, [false, true, false]);
    assert_eq!(peer.tasks().await, 3);
}

#[tokio::test]
async fn a_task_whose_result_nobody_keeps_is_known_again_all_the_same() {
    let short = Submit { result_ttl_s: 0.0, ..echo() };
    let keyed = Submit { idempotency_key: Some("mine".to_owned()), ..short.clone() };
    for submit in [short, keyed] {
        let peer = FakePeer::new(&[Fate::Applied, Fate::Answers]);
        let Response::Submitted(submitted) = peer.ask(submit).await.unwrap() else { panic!() };
        assert!(!submitted.duplicate, "the id tells that it was this very submit");
        assert_eq!(peer.tasks().await, 1);
    }
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_acknowledged_as_the_first() {
    let peer = FakePeer::new(&[Fate::Applied, Fate::Answers]);
    let complete = peer.claimed().await;
    let Response::Completed(completed) = peer.ask(complete).await.unwrap() else { panic!() };
    assert_eq!((completed.status, completed.repeated), (TaskStatus::Completed, false));
}

#[tokio::test]
async fn the_children_of_a_completion_whose_answer_is_lost_are_there_once() {
    for fate in [Fate::Applied, Fate::Read] {
        let peer = FakePeer::new(&[fate, Fate::Answers]);
        let complete = Complete { submit: vec![echo(), echo()], ..peer.claimed().await };
        let Response::Completed(completed) = peer.ask(complete).await.unwrap() else { panic!() };
        assert_eq!((completed.repeated, completed.submitted.len()), (false, 2));
        assert_eq!(peer.tasks().await, 3);
        for task_id in completed.submitted {
            assert!(peer.queue.get(&THERE, Get { task_id }).await.is_ok());
        }
    }
}

#[tokio::test]
async fn what_differs_the_second_time_is_not_repeated() {
    let peer = FakePeer::new(&[Fate::Applied, Fate::Answers]);
    let complete = peer.claimed().await;
    peer.queue.submit(&THERE, echo()).await.unwrap();
    lost(peer.ask(Complete { claim_next: Some(Claim::new("w")), ..complete }).await);
    let peer = FakePeer::new(&[Fate::Read, Fate::Answers]);
    peer.queue.submit(&THERE, echo()).await.unwrap();
    lost(peer.ask(Claim::new("w")).await);
    assert_eq!(peer.fates.lock().unwrap().len(), 1, "the second session is not asked for");
}

#[tokio::test]
async fn what_is_passed_on_to_a_third_node_is_repeated_only_when_it_reads() {
    let passed_on = |request| At::request(Target::peer(PeerId::random()), request);
    let peer = FakePeer::new(&[Fate::Read, Fate::Answers]);
    let error = soon(ask(&peer, passed_on(List::default().into_request()), &*runtime())).await.unwrap_err();
    // The second session has answered.
    assert_ne!(error.code, ErrorCode::Interrupted);
    let peer = FakePeer::new(&[Fate::Read, Fate::Answers]);
    lost(soon(ask(&peer, passed_on(echo().into_request()), &*runtime())).await);
    assert_eq!(peer.fates.lock().unwrap().len(), 1, "the second session is not asked for");
}

#[tokio::test]
async fn changes_are_repeated_only_where_both_ends_know_how() {
    let mut peer = FakePeer::new(&[Fate::Applied, Fate::Answers]);
    peer.terms.may_repeat = false;
    lost(peer.ask(echo()).await);
    let tasks = peer.queue.list(&THERE, List::default()).await.unwrap().tasks;
    lost(
        FakePeer { fates: Mutex::new([Fate::Read].into()), ..peer }
            .ask(Cancel { task_id: tasks[0].task_id, reason: String::new() })
            .await,
    );

    let mut peer = FakePeer::new(&[Fate::Read, Fate::Answers]);
    peer.terms.may_repeat = false;
    assert!(matches!(peer.ask(List::default()).await, Ok(Response::Listed(_))));
    assert_eq!(*peer.waited.lock().unwrap(), [false, false]);
}

#[tokio::test]
async fn a_refused_repetition_of_a_change_leaves_open_whether_it_was_made() {
    let peer = FakePeer::new(&[Fate::Read, Fate::Answers]);
    let absent = Cancel { task_id: TaskId::from_bytes([9; 16]), reason: String::new() };
    let error = peer.ask(absent).await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::NotFound, Outcome::Unknown));
    let peer = FakePeer::new(&[Fate::Read, Fate::Refused]);
    lost(peer.ask(echo()).await);
    let peer = FakePeer::new(&[Fate::Read, Fate::Refused]);
    lost(peer.ask(List::default()).await);
    // Reading leaves nothing open.
    let peer = FakePeer::new(&[Fate::Read, Fate::Answers]);
    let error = peer.ask(Get { task_id: TaskId::from_bytes([9; 16]) }).await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::NotFound, Outcome::NotApplied));
}

#[test]
fn drawn_ids_differ_and_stay() {
    let given = Submit { task_id: Some(TaskId::from_bytes([7; 16])), ..echo() };
    let mut request = SubmitMany { tasks: vec![echo(), given, echo()] }.into_request();
    let drawn = submitted::draw_ids(&mut request);
    assert_eq!(drawn.len(), 3);
    assert_eq!(drawn[1], TaskId::from_bytes([7; 16]));
    assert!(drawn[0] != drawn[2]);
    assert_eq!(submitted::draw_ids(&mut request), drawn);
    assert_eq!(submitted::draw_ids(&mut List::default().into_request()), []);
}
