//! Tests with peers that break the protocol, stall, flood or disappear.

use std::{collections::HashSet, sync::Arc};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, future::join_all, stream::FuturesUnordered};
use libp2p::PeerId;
use runtime_bridge::{RuntimeExt, Spawned};
use taskqueue_api::{
    Caller, ErrorCode, Get, List, Operation as _, Outcome, QueueError, Request, Response, TaskQueueExt as _, Wait,
};

use super::{
    Driver, SessionEnd,
    ending::session_test,
    tests::{agreed, ask, end, end_with, known, long_claim, pair, receive, send, start, submit},
};
use crate::{
    testing::{ManualRuntime, Pipe, TestQueue, pipe, runtime, soon},
    wire::{
        limits::{
            FRAME_BYTES_MAX, FRAME_BYTES_MIN, IN_FLIGHT_MIN, PING_AFTER, PROGRESS_BYTES_MIN, SILENT_TICKS_MAX,
            WAITS_MAX, WRITE_BUFFER_HIGH,
        },
        terms::Terms,
    },
};

const SMALL: Terms = Terms { frame_bytes: FRAME_BYTES_MIN, in_flight: IN_FLIGHT_MIN, waits: None, may_repeat: false };

pub(super) fn id_of(answer: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(answer).unwrap()["id"].as_u64().unwrap()
}

#[test]
fn what_the_peer_does_not_take_is_not_sent() {
    session_test(async {
        let (io, mut peer) = pipe(1024 * 1024);
        let queue = TestQueue::new(PeerId::random());
        let small = end_with(io, Some(&queue), SMALL);
        let error = ask(&small.session, submit(FRAME_BYTES_MIN)).await.unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::LimitExceeded, Outcome::NotApplied));
        assert_eq!(error.limit, Some(FRAME_BYTES_MIN as u64));
        let fits = start(&small.session, submit(FRAME_BYTES_MIN - 1_000));
        assert!(receive(&mut peer).await.len() <= FRAME_BYTES_MIN);
        drop(fits);
        assert!(receive(&mut peer).await.contains("cancel"));

        // An answer that is too long for the peer is replaced by an error.
        let task_id = queue.submit(&Caller::Local, submit(FRAME_BYTES_MIN)).await.unwrap().task_id;
        let get = serde_json::to_string(&Get { task_id }.into_request()).unwrap();
        send(&mut peer, &format!(r#"{{"kind":"call","id":5,"request":{get}}}"#)).await;
        let answer = receive(&mut peer).await;
        assert!(answer.contains("limit_exceeded") && answer.len() < 1_000, "{answer}");
    });
}

#[test]
fn a_task_that_its_claimant_does_not_take_is_given_back() {
    session_test(async {
        let (io, mut peer) = pipe(1024 * 1024);
        let queue = TestQueue::new(PeerId::random());
        let _small = end_with(io, Some(&queue), SMALL);
        let task_id = queue.submit(&Caller::Local, submit(FRAME_BYTES_MIN)).await.unwrap().task_id;
        let claim = serde_json::to_string(&Request::Claim(long_claim())).unwrap();
        send(&mut peer, &format!(r#"{{"kind":"call","id":5,"request":{claim}}}"#)).await;
        assert!(receive(&mut peer).await.contains("limit_exceeded"));
        let claimed = soon(queue.claim(&Caller::Local, long_claim())).await.unwrap();
        assert_eq!(claimed.task.unwrap().task_id, task_id);
        send(&mut peer, r#"{"kind":"call","id":6,"request":{"status":{}}}"#).await;
        assert!(receive(&mut peer).await.contains(r#""id":6"#), "nothing is said of the release");
    });
}

#[test]
fn no_more_is_asked_at_once_than_the_peer_takes() {
    session_test(async {
        // An eighth of the places is kept for requests that keep leases.
        const QUESTIONS: usize = IN_FLIGHT_MIN / 8 * 7;
        let (io, mut peer) = pipe(64 * 1024);
        let small = end_with(io, None, SMALL);
        let waiting: Vec<_> = (0..QUESTIONS).map(|_| start(&small.session, List::default())).collect();
        let mut ids = Vec::new();
        for _ in 0..QUESTIONS {
            ids.push(id_of(&receive(&mut peer).await));
        }
        let error = ask(&small.session, List::default()).await.unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::Overloaded, Outcome::NotApplied));
        assert!(error.retry_after_s.is_some());
        // Each answer makes room for one more request.
        let empty = r#"{"listed":{"tasks":[],"next_cursor":null}}"#;
        send(&mut peer, &format!(r#"{{"kind":"answer","id":{},"ok":{empty}}}"#, ids[0])).await;
        let (answered, _, waiting) = soon(futures::future::select_all(waiting)).await;
        assert!(answered.unwrap().is_ok());
        let another = start(&small.session, List::default());
        assert!(receive(&mut peer).await.contains("list"));
        assert!(ask(&small.session, List::default()).await.is_err());
        drop((waiting, another));
    });
}

#[test]
fn a_session_works_over_a_connection_that_carries_one_byte_at_a_time() {
    session_test(async {
        let (asker, _answerer, _queue) = pair(1);
        let Response::Submitted(submitted) = ask(&asker.session, submit(3_000)).await.unwrap() else { panic!() };
        let get = Get { task_id: submitted.task_id };
        let Response::Got(got) = ask(&asker.session, get).await.unwrap() else { panic!() };
        assert_eq!(got.task.payload.len_bytes(), 3_002);
    });
}

/// Starts a session whose clock stands still, with a call in flight.
async fn with_clock() -> (Arc<ManualRuntime>, Pipe, Spawned<SessionEnd>, Spawned<Result<Response, QueueError>>) {
    let clock = ManualRuntime::new();
    // The pipe is small, so a write of the test returns only when the session has read most of it.
    let (io, mut peer) = pipe(1024);
    let (session, driver) = Driver::new(io, agreed(), None, clock.clone());
    let driver = runtime().spawn(driver);
    let call = start(&session, Wait::one(taskqueue_api::TaskId::from_bytes([1; 16]), 3_600.0));
    assert!(receive(&mut peer).await.contains("wait"));
    (clock, peer, driver, call)
}

async fn tick(clock: &ManualRuntime) {
    clock.advance(PING_AFTER);
    clock.until_sleeper(PING_AFTER).await;
}

#[test]
fn a_peer_that_stops_within_a_frame_is_given_up() {
    session_test(async {
        let (clock, mut peer, driver, call) = with_clock().await;
        peer.write_all(&[0, 0, 1, 0, b'{', b'"']).await.unwrap();
        for _ in 0..SILENT_TICKS_MAX {
            assert!(!driver.is_finished());
            // Single bytes are no sign of life either.
            peer.write_all(b"x").await.unwrap();
            tick(&clock).await;
        }
        assert_eq!(soon(driver).await.unwrap(), SessionEnd::Silent);
        let error = soon(call).await.unwrap().unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::Interrupted, Outcome::Unknown));
    });
}

#[test]
fn a_large_frame_may_take_its_time_as_long_as_it_comes() {
    session_test(async {
        let (clock, mut peer, driver, call) = with_clock().await;
        let part = vec![b' '; usize::try_from(PROGRESS_BYTES_MIN).unwrap()];
        let parts = 2 * SILENT_TICKS_MAX as usize;
        let answer = br#"{"kind":"answer","id":1,"error":{"code":"not_found","message":"","retryable":false,"outcome":"not_applied"}}"#;
        let length = u32::try_from(parts * part.len() + answer.len()).unwrap();
        peer.write_all(&length.to_be_bytes()).await.unwrap();
        for _ in 0..parts {
            peer.write_all(&part).await.unwrap();
            tick(&clock).await;
        }
        assert!(!driver.is_finished());
        peer.write_all(answer).await.unwrap();
        assert_eq!(soon(call).await.unwrap().unwrap_err().code, ErrorCode::NotFound);
    });
}

#[test]
fn a_peer_that_does_not_read_costs_little_and_holds_nobody_up() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let queue = TestQueue::new(PeerId::random());
        let _stalled = end(io, Some(&queue));
        let task_id = known(&queue, 1_000_000).await;
        let get = serde_json::to_string(&Get { task_id }.into_request()).unwrap();
        for id in 0..100 {
            send(&mut peer, &format!(r#"{{"kind":"call","id":{id},"request":{get}}}"#)).await;
        }
        let (other, other_end) = pipe(64 * 1024);
        let (asker, _answerer) = (end(other, None), end(other_end, Some(&queue)));
        for _ in 0..20 {
            assert!(ask(&asker.session, Get { task_id }).await.is_ok());
        }
        // The calls are: two of the test itself, the twenty, and as many as fill the write buffer of the stalled peer.
        let begun = usize::try_from(queue.calls.borrow().0).unwrap();
        assert!(begun <= 2 + 20 + WRITE_BUFFER_HIGH / 1_000_000 + 1, "{begun} requests were begun");
        // When the peer reads, every request is answered.
        let mut ids = HashSet::new();
        for _ in 0..100 {
            ids.insert(id_of(&receive(&mut peer).await));
        }
        assert_eq!(ids.len(), 100);
    });
}

#[test]
fn of_ten_times_more_requests_than_fit_each_is_answered() {
    session_test(async {
        let (io, peer) = pipe(64 * 1024);
        let queue = TestQueue::new(PeerId::random());
        let answerer = end(io, Some(&queue));
        let claim = serde_json::to_string(&Request::Claim(long_claim())).unwrap();
        let (mut reading, mut writing) = peer.split();
        let flood = async {
            for id in 0..10 * WAITS_MAX {
                let call = format!(r#"{{"kind":"call","id":{id},"request":{claim}}}"#);
                writing.write_all(&u32::try_from(call.len()).unwrap().to_be_bytes()).await.unwrap();
                writing.write_all(call.as_bytes()).await.unwrap();
            }
        };
        let mut answered = HashSet::new();
        let refusals = async {
            for _ in 0..9 * WAITS_MAX {
                let answer = frame(&mut reading).await;
                assert!(answer.contains("overloaded") && answer.contains("retry_after_s"), "{answer}");
                assert!(answered.insert(id_of(&answer)));
            }
        };
        soon(async { tokio::join!(flood, refusals) }).await;
        answerer.session.drain();
        for _ in 0..WAITS_MAX {
            let mut answer = soon(frame(&mut reading)).await;
            if answer.contains("goaway") {
                answer = soon(frame(&mut reading)).await;
            }
            assert!(answer.contains("shutting_down"), "{answer}");
            assert!(answered.insert(id_of(&answer)));
        }
        assert_eq!(answered.len(), 10 * WAITS_MAX);
    });
}

#[test]
fn callers_beyond_the_bound_are_told_at_once() {
    session_test(async {
        let (asker, answerer, queue) = pair(64 * 1024);
        let mut calls: FuturesUnordered<_> = (0..10 * WAITS_MAX).map(|_| start(&asker.session, long_claim())).collect();
        for _ in 0..9 * WAITS_MAX {
            let refused = soon(calls.next()).await.unwrap().unwrap().unwrap_err();
            assert_eq!(refused.code, ErrorCode::Overloaded);
        }
        queue.until_calls(WAITS_MAX as u64).await;
        answerer.session.drain();
        for _ in 0..WAITS_MAX {
            let ended = soon(calls.next()).await.unwrap().unwrap().unwrap_err();
            assert_eq!(ended.code, ErrorCode::ShuttingDown);
        }
    });
}

#[test]
fn a_length_beyond_the_bound_ends_the_session_before_its_content_comes() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let answerer = end(io, Some(&TestQueue::new(PeerId::random())));
        let length = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
        peer.write_all(&length.to_be_bytes()).await.unwrap();
        let SessionEnd::Broken(reason) = soon(answerer.driver).await.unwrap() else { panic!() };
        assert!(reason.contains(&FRAME_BYTES_MAX.to_string()), "{reason}");
    });
}

#[test]
fn nothing_is_parsed_behind_what_is_no_message() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let queue = TestQueue::new(PeerId::random());
        let answerer = end(io, Some(&queue));
        let list = r#"{"kind":"call","id":1,"request":{"list":{}}}"#;
        let mut bytes = Vec::new();
        for text in ["nonsense", list] {
            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        peer.write_all(&bytes).await.unwrap();
        assert!(matches!(soon(answerer.driver).await.unwrap(), SessionEnd::Broken(_)));
        assert_eq!(queue.calls.borrow().0, 0);
    });
}

#[test]
fn a_session_survives_requests_that_are_nested_without_end() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let _answerer = end(io, Some(&TestQueue::new(PeerId::random())));
        let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
        for (id, request) in [format!(r#"{{"submit":{{"task_type":"a","payload":{deep}}}}}"#), deep].iter().enumerate()
        {
            send(&mut peer, &format!(r#"{{"kind":"call","id":{id},"request":{request}}}"#)).await;
            let answer = receive(&mut peer).await;
            assert!(answer.contains("invalid_argument") || answer.contains("limit_exceeded"), "{answer}");
        }
        send(&mut peer, r#"{"kind":"call","id":9,"request":{"list":{}}}"#).await;
        assert!(receive(&mut peer).await.contains("listed"));
    });
}

/// Which end of a session dies.
#[derive(Debug, Clone, Copy)]
enum Dies {
    Asker,
    Answerer,
    Connection,
}

#[test]
fn a_thousand_requests_in_flight_all_end_when_either_side_dies() {
    session_test(async {
        for dies in [Dies::Asker, Dies::Answerer, Dies::Connection] {
            let (asker, answerer, queue) = pair(16 * 1024);
            let (task_id, _) = queue.running(100).await;
            let one = |at: usize| match at % 4 {
                0 => start(&asker.session, long_claim()),
                1 => start(&asker.session, submit(2_000)),
                _ => start(&asker.session, Get { task_id }),
            };
            // Some claims get a submitted task and are answered; the others wait.
            let calls: Vec<_> = (0..1_000).map(one).collect();
            queue.until_calls(300).await;
            match dies {
                Dies::Asker => asker.driver.cancel(),
                Dies::Answerer => answerer.driver.cancel(),
                Dies::Connection => answerer.session.close(),
            }
            let (mut done, mut codes) = (0, HashSet::new());
            for answer in soon(join_all(calls)).await {
                match answer.unwrap() {
                    Ok(_) => done += 1,
                    Err(error) => drop(codes.insert((error.code, error.outcome == Outcome::Unknown))),
                }
            }
            assert!(done < 1_000, "{dies:?}");
            let expected = [(ErrorCode::Interrupted, true), (ErrorCode::Unreachable, false)];
            assert!(codes.iter().all(|code| expected.contains(code)), "{dies:?}: {codes:?}");
            let later = ask(&asker.session, List::default()).await.unwrap_err();
            assert_eq!(later.code, ErrorCode::Unreachable, "{dies:?}");
        }
    });
}

/// Reads the text of the next frame.
async fn frame(io: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut length = [0; 4];
    io.read_exact(&mut length).await.unwrap();
    let mut content = vec![0; u32::from_be_bytes(length) as usize];
    io.read_exact(&mut content).await.unwrap();
    String::from_utf8(content).unwrap()
}
