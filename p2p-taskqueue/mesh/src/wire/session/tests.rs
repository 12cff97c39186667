use std::{sync::Arc, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use runtime_bridge::{RuntimeExt, Spawned};
use taskqueue_api::{
    Caller, Claim, ClaimMany, Complete, ErrorCode, Fence, Get, GetMany, List, Operation as _, Outcome, QueueError,
    Renew, Request, Response, StatusQuery, Submit, TaskId, TaskQueueExt as _, Wait,
    testing::{DEADLINE, payload},
};

use super::{
    Agreed, Driver, Service, Session, SessionEnd,
    ending::{Drive, session_test},
};
use crate::{
    testing::{ManualRuntime, Pipe, TestQueue, pipe, runtime, soon},
    wire::{
        frame::FrameReader,
        limits::{FRAME_BYTES_MAX, PING_AFTER, WAITS_MAX},
        terms::Terms,
    },
};

/// One end of a session and the job that drives it.
pub(super) struct End {
    pub(super) session: Session,
    pub(super) driver: Drive,
}

pub(super) fn agreed() -> Agreed {
    Agreed { reader: FrameReader::new(FRAME_BYTES_MAX), terms: Terms::ours() }
}

pub(super) fn end(io: Pipe, service: Option<&Arc<TestQueue>>) -> End {
    end_with(io, service, Terms::ours())
}

pub(super) fn end_with(io: Pipe, service: Option<&Arc<TestQueue>>, terms: Terms) -> End {
    let service = service.map(|queue| Service { queue: Arc::<TestQueue>::clone(queue), caller: Caller::Local });
    let (session, driver) = Driver::new(io, Agreed { terms, ..agreed() }, service, runtime());
    End { session, driver: Drive::new(runtime().spawn(driver)) }
}

/// Starts a session in which the second end answers requests from the queue.
pub(super) fn pair(pipe_bytes: usize) -> (End, End, Arc<TestQueue>) {
    let (a, b) = pipe(pipe_bytes);
    let queue = TestQueue::new(PeerId::random());
    (end(a, None), end(b, Some(&queue)), queue)
}

pub(super) async fn ask(session: &Session, request: impl taskqueue_api::Operation) -> Result<Response, QueueError> {
    soon(session.call(&request.into_request(), DEADLINE)).await
}

/// Starts a call that may take an hour.
pub(super) fn start(
    session: &Session,
    request: impl taskqueue_api::Operation,
) -> Spawned<Result<Response, QueueError>> {
    let (session, request) = (session.clone(), request.into_request());
    runtime().spawn(async move { session.call(&request, Duration::from_secs(3_600)).await })
}

/// Submits a task and reads it once, so that the queue answers further reads at once. Makes two calls.
pub(super) async fn known(queue: &TestQueue, bytes: usize) -> TaskId {
    let task_id = queue.put(bytes).await;
    queue.get(&Caller::Local, Get { task_id }).await.unwrap();
    task_id
}

pub(super) fn long_claim() -> Claim {
    Claim { wait_s: 300.0, ..Claim::new("w") }
}

pub(super) fn submit(bytes: usize) -> Submit {
    Submit::new("echo", payload(bytes))
}

#[test]
fn answers_find_their_questions_while_a_long_poll_waits() {
    session_test(async {
        let (asker, _answerer, queue) = pair(64 * 1024);
        let polling = start(&asker.session, long_claim());
        queue.until_calls(1).await;
        let wait = start(&asker.session, Wait::one(TaskId::from_bytes([9; 16]), 5.0));
        assert_eq!(soon(wait).await.unwrap().unwrap_err().code, ErrorCode::NotFound);
        let Response::Submitted(submitted) = ask(&asker.session, submit(100_000)).await.unwrap() else { panic!() };
        let Response::Claimed(claimed) = soon(polling).await.unwrap().unwrap() else { panic!() };
        let task = claimed.task.unwrap();
        assert_eq!((task.task_id, task.payload.len_bytes()), (submitted.task_id, 100_002));
    });
}

#[test]
fn both_ends_ask_large_things_at_once_without_waiting_for_each_other() {
    session_test(async {
        let (a, b) = pipe(4 * 1024);
        let (queue_a, queue_b) = (TestQueue::new(PeerId::random()), TestQueue::new(PeerId::random()));
        let (a, b) = (end(a, Some(&queue_a)), end(b, Some(&queue_b)));
        let calls = (0..12).flat_map(|_| [start(&a.session, submit(1_000_000)), start(&b.session, submit(1_000_000))]);
        for submitted in futures::future::join_all(calls).await {
            let Response::Submitted(submitted) = submitted.unwrap().unwrap() else { panic!() };
            let (session, task_id) = if submitted.peer_id == queue_b_owner(&queue_b).await {
                (&a.session, submitted.task_id)
            } else {
                (&b.session, submitted.task_id)
            };
            assert!(ask(session, Get { task_id }).await.is_ok());
        }
    });
}

async fn queue_b_owner(queue: &TestQueue) -> PeerId {
    use taskqueue_api::TaskQueueExt;
    queue.status(&Caller::Local, StatusQuery::default()).await.unwrap().peer_id
}

#[test]
fn a_call_that_is_dropped_is_called_off_and_frees_its_place() {
    session_test(async {
        let (asker, _answerer, queue) = pair(64 * 1024);
        for round in 1..=3 {
            let polling = start(&asker.session, long_claim());
            queue.until_calls(round).await;
            polling.cancel();
        }
        // If the claims were still there, one of them would take the task.
        let Response::Submitted(submitted) = ask(&asker.session, submit(10)).await.unwrap() else { panic!() };
        let claimed = soon(queue.claim(&Caller::Local, long_claim())).await.unwrap();
        assert_eq!(claimed.task.unwrap().task_id, submitted.task_id);
    });
}

#[test]
fn a_task_claimed_for_a_caller_that_has_gone_is_given_back() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let asker = end(io, None);
        let claim = start(&asker.session, long_claim());
        assert!(receive(&mut peer).await.contains("claim"));
        claim.cancel();
        assert!(receive(&mut peer).await.contains("cancel"));
        // The answer was sent before the cancel came.
        let queue = TestQueue::new(PeerId::random());
        taskqueue_api::TaskQueueExt::submit(&*queue, &Caller::Local, submit(10)).await.unwrap();
        let claimed = taskqueue_api::TaskQueueExt::claim(&*queue, &Caller::Local, Claim::new("w")).await.unwrap();
        let answer = serde_json::to_string(&Response::Claimed(claimed)).unwrap();
        send(&mut peer, &format!(r#"{{"kind":"answer","id":1,"ok":{answer}}}"#)).await;
        assert!(receive(&mut peer).await.contains("release"));
    });
}

#[test]
fn whatever_hands_tasks_out_gives_them_back() {
    session_test(async {
        let queue = TestQueue::new(PeerId::random());
        for _ in 0..3 {
            queue.submit(&Caller::Local, submit(10)).await.unwrap();
        }
        let many = ClaimMany { claim: long_claim(), max_tasks: 2 };
        let claimed = queue.claim_many(&Caller::Local, many.clone()).await.unwrap();
        let first = claimed.tasks[0].clone();
        let claim_next = Some(long_claim());
        let complete = Complete { claim_next, ..Complete::new(first.task_id, first.fence.unwrap(), None) };
        let completed = queue.complete(&Caller::Local, complete.clone()).await.unwrap();
        let next = completed.next.clone().unwrap().task_id;
        let two = claimed.tasks.iter().map(|task| task.task_id).collect::<Vec<_>>();
        for (request, response, given_back) in [
            (many.into_request(), Response::ClaimedMany(claimed), two),
            (complete.into_request(), Response::Completed(completed), vec![next]),
        ] {
            let (io, mut peer) = pipe(64 * 1024);
            let asker = end(io, None);
            let session = asker.session.clone();
            let asking = runtime().spawn(async move { session.call(&request, DEADLINE).await });
            receive(&mut peer).await;
            asking.cancel();
            assert!(receive(&mut peer).await.contains("cancel"));
            let answer = serde_json::to_string(&response).unwrap();
            send(&mut peer, &format!(r#"{{"kind":"answer","id":1,"ok":{answer}}}"#)).await;
            for id in given_back {
                let release = receive(&mut peer).await;
                assert!(release.contains("release") && release.contains(&id.to_string()), "{release}");
            }
        }
    });
}

#[test]
fn beyond_the_bound_both_ends_say_overloaded() {
    session_test(async {
        let (asker, _answerer, queue) = pair(1024 * 1024);
        let polls: Vec<_> = (0..WAITS_MAX).map(|_| start(&asker.session, long_claim())).collect();
        queue.until_calls(WAITS_MAX as u64).await;
        let refused = ask(&asker.session, long_claim()).await.unwrap_err();
        assert_eq!((refused.code, refused.outcome), (ErrorCode::Overloaded, Outcome::NotApplied));
        assert!(refused.retry_after_s.is_some());
        drop(polls);

        // A peer that does not count its own requests is refused by this end.
        let (io, mut peer) = pipe(1024 * 1024);
        let queue = TestQueue::new(PeerId::random());
        let _answerer = end(io, Some(&queue));
        let claim = serde_json::to_string(&Request::Claim(long_claim())).unwrap();
        for id in 0..=WAITS_MAX {
            send(&mut peer, &format!(r#"{{"kind":"call","id":{id},"request":{claim}}}"#)).await;
        }
        let answer = receive(&mut peer).await;
        assert!(answer.contains("overloaded") && answer.contains(&format!(r#""id":{WAITS_MAX}"#)), "{answer}");
        // A renewal that wants to wait is made without its wait. The error shows that it reached the queue.
        let renew =
            Renew { wait_s: 300.0, ..Renew::new(TaskId::from_bytes([7; 16]), Fence { epoch: 1, counter: 1 }, 600.0) };
        let renew = serde_json::to_string(&Request::Renew(renew)).unwrap();
        send(&mut peer, &format!(r#"{{"kind":"call","id":9999,"request":{renew}}}"#)).await;
        let answer = receive(&mut peer).await;
        assert!(answer.contains("not_found") && answer.contains(r#""id":9999"#), "{answer}");
    });
}

#[test]
fn a_job_that_panics_is_answered_and_the_session_lives_on() {
    session_test(async {
        let (asker, _answerer, _) = pair(64 * 1024);
        let error = ask(&asker.session, Submit::new("panic", payload(1))).await.unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::Internal, Outcome::Unknown));
        assert!(ask(&asker.session, List::default()).await.is_ok());
    });
}

#[test]
fn a_broken_connection_tells_what_was_sent_from_what_was_not() {
    session_test(async {
        // The pipe holds the first request and only a part of the second.
        let (io, peer) = pipe(4 * 1024);
        let asker = end(io, None);
        let (sent, unsent) = (start(&asker.session, List::default()), start(&asker.session, submit(100_000)));
        let mut peer = peer;
        assert!(receive(&mut peer).await.contains("list"));
        drop(peer);
        let sent = soon(sent).await.unwrap().unwrap_err();
        assert_eq!((sent.code, sent.outcome), (ErrorCode::Interrupted, Outcome::Unknown));
        let unsent = soon(unsent).await.unwrap().unwrap_err();
        assert_eq!((unsent.code, unsent.outcome), (ErrorCode::Unreachable, Outcome::NotApplied));
        let later = ask(&asker.session, List::default()).await.unwrap_err();
        assert_eq!(later.code, ErrorCode::Unreachable);
    });
}

#[test]
fn a_driver_that_is_dropped_ends_its_calls() {
    session_test(async {
        let (asker, _answerer, queue) = pair(64 * 1024);
        let polling = start(&asker.session, long_claim());
        queue.until_calls(1).await;
        asker.driver.cancel();
        assert_eq!(soon(polling).await.unwrap().unwrap_err().code, ErrorCode::Interrupted);
    });
}

#[test]
fn what_is_not_understood_is_answered_and_what_is_no_message_ends_the_session() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let answerer = end(io, Some(&TestQueue::new(PeerId::random())));
        send(&mut peer, r#"{"kind":"call","id":1,"request":{"teleport":{}}}"#).await;
        assert!(receive(&mut peer).await.contains("unsupported"));
        send(&mut peer, r#"{"kind":"gossip","what":"a newer kind"}"#).await;
        send(&mut peer, r#"{"kind":"answer","id":77,"ok":{"nobody":"asked"}}"#).await;
        send(&mut peer, r#"{"kind":"call","id":2,"request":{"get":{"task_id":1}}}"#).await;
        assert!(receive(&mut peer).await.contains("invalid_argument"));
        send(&mut peer, "nonsense").await;
        assert!(matches!(soon(answerer.driver).await.unwrap(), SessionEnd::Broken(_)));
    });
}

#[test]
fn a_request_that_is_too_long_is_refused_before_it_is_sent() {
    session_test(async {
        let (asker, _answerer, _) = pair(64 * 1024);
        let error = ask(&asker.session, submit(FRAME_BYTES_MAX)).await.unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::LimitExceeded, Outcome::NotApplied));
    });
}

#[test]
fn an_answer_that_is_too_long_becomes_an_error() {
    session_test(async {
        let (asker, _answerer, _) = pair(1024 * 1024);
        let mut task_ids = Vec::new();
        for _ in 0..9 {
            let Response::Submitted(submitted) = ask(&asker.session, submit(1_000_000)).await.unwrap() else {
                panic!()
            };
            task_ids.push(submitted.task_id);
        }
        let error = ask(&asker.session, GetMany { task_ids }).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::LimitExceeded);
    });
}

#[test]
fn a_timeout_is_told_from_an_answer() {
    session_test(async {
        let (asker, _answerer, queue) = pair(64 * 1024);
        let request = Request::Claim(long_claim());
        let error = soon(asker.session.call(&request, Duration::from_millis(1))).await.unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::Timeout, Outcome::Unknown));
        queue.until_calls(1).await;
    });
}

#[test]
fn a_session_that_drains_ends_long_polls_and_lets_the_rest_finish() {
    session_test(async {
        let (asker, answerer, queue) = pair(64 * 1024);
        let (task_id, fence) = queue.running(10).await;
        let polling = start(&asker.session, long_claim());
        let complete = Complete { claim_next: Some(long_claim()), ..Complete::new(task_id, fence, None) };
        let completing = start(&asker.session, complete);
        queue.until_calls(4).await;
        answerer.session.drain();
        assert_eq!(soon(polling).await.unwrap().unwrap_err().code, ErrorCode::ShuttingDown);
        let error = soon(completing).await.unwrap().unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::ShuttingDown, Outcome::Unknown));
        assert_eq!(soon(answerer.driver).await.unwrap(), SessionEnd::ClosedHere);
        assert_eq!(soon(asker.driver).await.unwrap(), SessionEnd::ClosedByPeer);
        assert_eq!(ask(&asker.session, List::default()).await.unwrap_err().code, ErrorCode::Unreachable);
    });
}

#[test]
fn a_silent_peer_is_asked_for_a_sign_of_life_and_given_up() {
    session_test(async {
        let clock = ManualRuntime::new();
        let (io, mut peer) = pipe(64 * 1024);
        let (_session, driver) = Driver::new(io, agreed(), None, clock.clone());
        let driver = runtime().spawn(driver);
        for _ in 0..2 {
            clock.advance(PING_AFTER);
            assert!(receive(&mut peer).await.contains("ping"));
            send(&mut peer, r#"{"kind":"pong"}"#).await;
            send(&mut peer, r#"{"kind":"ping"}"#).await;
            assert!(receive(&mut peer).await.contains("pong"));
            // The peer was heard, so no ping is sent at the next tick.
            clock.advance(PING_AFTER);
            clock.until_sleeper(PING_AFTER).await;
        }
        for _ in 0..3 {
            clock.advance(PING_AFTER);
            clock.until_sleeper(PING_AFTER).await;
        }
        assert_eq!(soon(driver).await.unwrap(), SessionEnd::Silent);
    });
}

#[test]
fn a_peer_that_reads_nothing_is_disconnected() {
    session_test(async {
        let clock = ManualRuntime::new();
        let (io, mut peer) = pipe(1024);
        let (session, driver) = Driver::new(io, agreed(), None, clock.clone());
        let mut driver = runtime().spawn(driver);
        let call = start(&session, submit(100_000));
        let end = soon(async {
            loop {
                // The peer is alive but does not read.
                send(&mut peer, r#"{"kind":"pong"}"#).await;
                clock.advance(PING_AFTER);
                tokio::select! {
                    biased;
                    end = &mut driver => break end,
                    () = clock.until_sleeper(PING_AFTER) => {}
                }
            }
        });
        assert_eq!(end.await.unwrap(), SessionEnd::Stalled);
        assert_eq!(soon(call).await.unwrap().unwrap_err().code, ErrorCode::Unreachable);
    });
}

#[test]
fn requests_of_a_peer_that_does_not_read_are_bounded_in_bytes() {
    session_test(async {
        let (io, mut peer) = pipe(1024 * 1024);
        let queue = TestQueue::new(PeerId::random());
        let answerer = end(io, Some(&queue));
        let task_id = known(&queue, 1_000_000).await;
        // Each request asks for a megabyte, and the peer reads none of it.
        let mut id = 1;
        let get = serde_json::to_string(&Request::Get(Get { task_id })).unwrap();
        let flood = async {
            loop {
                let call = format!(r#"{{"kind":"call","id":{id},"request":{get}}}"#);
                if write(&mut peer, &call).await.is_err() {
                    return;
                }
                id += 1;
            }
        };
        soon(flood).await;
        assert_eq!(soon(answerer.driver).await.unwrap(), SessionEnd::Stalled);
    });
}

pub(super) async fn write(io: &mut Pipe, text: &str) -> std::io::Result<()> {
    io.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).await?;
    io.write_all(text.as_bytes()).await
}

pub(super) async fn send(io: &mut Pipe, text: &str) {
    soon(write(io, text)).await.unwrap();
}

pub(super) async fn receive(io: &mut Pipe) -> String {
    soon(async {
        let mut length = [0; 4];
        io.read_exact(&mut length).await.unwrap();
        let mut content = vec![0; u32::from_be_bytes(length) as usize];
        io.read_exact(&mut content).await.unwrap();
        String::from_utf8(content).unwrap()
    })
    .await
}
