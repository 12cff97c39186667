//! One party drives a bound to its end; what others ask over the same session is answered as ever.

use libp2p::PeerId;
use runtime_bridge::Spawned;
use taskqueue_api::{
    Caller, Claim, Complete, ErrorCode, Fence, Get, Operation, QueueError, Release, Renew, Response, StatusQuery,
    TaskId, TaskQueueExt as _, TaskStatus, Wait, testing::payload,
};

use super::{
    ending::session_test,
    hostile_tests::id_of,
    tests::{ask, end, end_with, long_claim, pair, receive, send, start, submit, until_calls, write},
};
use crate::{
    testing::{FakeQueue, pipe, soon},
    wire::{
        Session,
        limits::{IN_FLIGHT_MAX, INBOUND_BYTES_MAX, QUEUED_BYTES_MAX, WRITE_BUFFER_HIGH},
        terms::Terms,
    },
};

/// More than any bound of a session.
const CROWD: usize = 4 * IN_FLIGHT_MAX;

const FENCE: Fence = Fence { epoch: 1, counter: 1 };

type Crowd = Vec<Spawned<Result<Response, QueueError>>>;

/// A task that nobody works on yet.
async fn task(queue: &FakeQueue, bytes: usize) -> TaskId {
    queue.submit(&Caller::Local, submit(bytes)).await.unwrap().task_id
}

/// Starts as many of these as there is room for, and more; those that have found room.
async fn crowd(session: &Session, queue: &FakeQueue, request: impl Operation + Clone) -> Crowd {
    let before = queue.calls.borrow().0;
    let mut all: Crowd = (0..CROWD).map(|_| start(session, request.clone())).collect();
    soon(async {
        loop {
            let refused = all.iter().filter(|call| call.is_finished()).count() as u64;
            if refused + queue.calls.borrow().0 - before >= CROWD as u64 {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    all.retain(|call| !call.is_finished());
    all
}

fn renew(task_id: TaskId, wait_s: f64) -> Renew {
    Renew { wait_s, ..Renew::new(task_id, FENCE, 30.0) }
}

/// What everybody has to be able to ask.
async fn others_are_served(session: &Session, task_id: TaskId) {
    ask(session, renew(task_id, 0.0)).await.unwrap();
    ask(session, submit(10)).await.unwrap();
    ask(session, StatusQuery::default()).await.unwrap();
}

fn call(id: usize, request: impl Operation) -> String {
    let request = serde_json::to_string(&request.into_request()).unwrap();
    format!(r#"{{"kind":"call","id":{id},"request":{request}}}"#)
}

#[test]
fn waits_leave_room_for_what_is_answered_at_once() {
    session_test(async {
        let (asker, _answerer, queue) = pair(1024 * 1024);
        let task_id = task(&queue, 10).await;
        let waits = crowd(&asker.session, &queue, Wait::one(task_id, 300.0)).await;
        assert!(waits.len() >= IN_FLIGHT_MAX, "{} wait", waits.len());
        others_are_served(&asker.session, task_id).await;
    });
}

#[test]
fn waits_for_tasks_leave_room_for_workers() {
    session_test(async {
        let (asker, _answerer, queue) = pair(1024 * 1024);
        let task_id = task(&queue, 10).await;
        let _waits = crowd(&asker.session, &queue, Wait::one(task_id, 300.0)).await;
        let Response::Claimed(claimed) = ask(&asker.session, long_claim()).await.unwrap() else { panic!() };
        assert_eq!(claimed.task.unwrap().task_id, task_id);
        let before = queue.calls.borrow().0;
        let renewal = start(&asker.session, renew(task_id, 300.0));
        until_calls(&queue, before + 1).await;
        assert!(!renewal.is_finished(), "it waits");
    });
}

#[test]
fn a_renewal_and_a_completion_without_room_to_wait_are_made_all_the_same() {
    session_test(async {
        let (asker, _answerer, queue) = pair(1024 * 1024);
        let _claims = crowd(&asker.session, &queue, long_claim()).await;
        assert_eq!(ask(&asker.session, long_claim()).await.unwrap_err().code, ErrorCode::Overloaded);
        let task_id = TaskId::from_bytes([7; 16]);
        // The queue has been asked.
        let unknown = ask(&asker.session, renew(task_id, 300.0)).await.unwrap_err();
        assert_eq!(unknown.code, ErrorCode::NotFound);
        let complete = Complete { claim_next: Some(long_claim()), ..Complete::new(task_id, FENCE, None) };
        assert_eq!(ask(&asker.session, complete).await.unwrap_err().code, ErrorCode::NotFound);
        ask(&asker.session, StatusQuery::default()).await.unwrap();
        ask(&asker.session, submit(10)).await.unwrap();
    });
}

#[test]
fn questions_leave_room_for_leases() {
    session_test(async {
        let (io, mut peer) = pipe(1024 * 1024);
        let asker = end(io, None);
        let questions: Crowd = (0..CROWD).map(|_| start(&asker.session, StatusQuery::default())).collect();
        soon(async {
            while !questions.iter().any(Spawned::is_finished) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let renewal = start(&asker.session, renew(TaskId::from_bytes([7; 16]), 0.0));
        while !receive(&mut peer).await.contains("renew") {}
        assert!(!renewal.is_finished());
    });
}

#[test]
fn an_end_that_only_knows_the_old_bound_may_fill_it_with_waits() {
    session_test(async {
        // Towards it this end keeps to the old bound, whatever it asks.
        let (io, mut peer) = pipe(4 * 1024 * 1024);
        let queue = FakeQueue::new(PeerId::random());
        let old = end_with(io, Some(&queue), Terms::default());
        let task_id = task(&queue, 10).await;
        let mut calls: Crowd = Vec::new();
        for _ in 0..CROWD {
            calls.push(start(&old.session, Wait::one(task_id, 300.0)));
            calls.push(start(&old.session, StatusQuery::default()));
            calls.push(start(&old.session, renew(task_id, 0.0)));
        }
        let settled = async {
            while calls.iter().filter(|call| !call.is_finished()).count() > IN_FLIGHT_MAX {
                tokio::task::yield_now().await;
            }
        };
        soon(settled).await;
        drop(calls);
        // It asks as much as it may, all of it waits, and more.
        let mut from_it = 0;
        let mut waits = Vec::new();
        for id in 0..IN_FLIGHT_MAX {
            waits.push(call(id, Wait::one(task_id, 300.0)));
        }
        let asking = async {
            for wait in &waits {
                send(&mut peer, wait).await;
            }
            send(&mut peer, &call(5_000, renew(task_id, 0.0))).await;
            send(&mut peer, &call(5_001, submit(10))).await;
            send(&mut peer, &call(5_002, StatusQuery::default())).await;
        };
        soon(asking).await;
        let mut answered = Vec::new();
        while answered.len() < 3 {
            let message = receive(&mut peer).await;
            if message.contains(r#""kind":"call""#) {
                from_it += 1;
            } else if message.contains(r#""kind":"answer""#) {
                assert!(message.contains(r#""ok""#), "{message}");
                answered.push(id_of(&message));
            }
        }
        answered.sort_unstable();
        assert_eq!(answered, [5_000, 5_001, 5_002]);
        assert!(from_it <= IN_FLIGHT_MAX, "{from_it}");
    });
}

#[test]
fn the_bytes_of_waits_leave_room_for_other_requests() {
    session_test(async {
        let (io, mut peer) = pipe(1024 * 1024);
        let queue = FakeQueue::new(PeerId::random());
        let _answerer = end(io, Some(&queue));
        let mut completions = Vec::new();
        for id in 0..INBOUND_BYTES_MAX / 1_000_000 {
            task(&queue, 10).await;
            let claimed = queue.claim(&Caller::Local, Claim::new("w")).await.unwrap().task.unwrap();
            let done = Complete::new(claimed.task_id, FENCE, Some(payload(1_000_000)));
            completions.push(call(id, Complete { claim_next: Some(long_claim()), ..done }));
        }
        // Each is done, and waits for the next task.
        for completion in &completions {
            send(&mut peer, completion).await;
        }
        until_calls(&queue, 3 * completions.len() as u64).await;
        send(&mut peer, &call(1_000, submit(1_000_000))).await;
        let answer = loop {
            let answer = receive(&mut peer).await;
            if id_of(&answer) == 1_000 {
                break answer;
            }
        };
        assert!(answer.contains("submitted"), "{answer}");
    });
}

#[test]
fn what_keeps_a_lease_is_done_and_answered_ahead_of_large_answers() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let queue = FakeQueue::new(PeerId::random());
        let _answerer = end(io, Some(&queue));
        let large = task(&queue, 1_000_000).await;
        let [done, released] = [task(&queue, 10).await, task(&queue, 10).await];
        for id in 0..100 {
            send(&mut peer, &call(id, Get { task_id: large })).await;
        }
        // As many as fill the room for answers.
        until_calls(&queue, 3 + 2).await;
        let before = queue.calls.borrow().0;
        send(&mut peer, &call(1_000, renew(large, 0.0))).await;
        send(&mut peer, &call(1_001, Complete::new(done, FENCE, None))).await;
        let reason = String::new();
        send(&mut peer, &call(1_002, Release { task_id: released, fence: FENCE, delay_s: 0.0, reason })).await;
        // Nothing has been read yet.
        soon(queue.calls.subscribe().wait_for(|(calls, _)| *calls >= before + 3)).await.unwrap();
        let record = queue.get(&Caller::Local, Get { task_id: done }).await.unwrap().task;
        assert_eq!(record.status, TaskStatus::Completed);
        let mut order = Vec::new();
        for _ in 0..103 {
            order.push(id_of(&receive(&mut peer).await));
        }
        // Ahead of them there may only be what is in the stream, and the frame that was begun.
        let last = order.iter().rposition(|id| *id >= 1_000).unwrap();
        assert!(last <= 4, "{:?}", &order[..20]);
    });
}

#[test]
fn a_completion_for_a_slow_reader_claims_nothing_more() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let queue = FakeQueue::new(PeerId::random());
        let _answerer = end(io, Some(&queue));
        let large = task(&queue, 1_000_000).await;
        for id in 0..10 {
            send(&mut peer, &call(id, Get { task_id: large })).await;
        }
        until_calls(&queue, 1 + 2).await;
        let complete = Complete { claim_next: Some(long_claim()), ..Complete::new(large, FENCE, None) };
        let other = task(&queue, 1_000_000).await;
        send(&mut peer, &call(1_000, complete)).await;
        let mut answer = receive(&mut peer).await;
        while id_of(&answer) != 1_000 {
            answer = receive(&mut peer).await;
        }
        assert!(answer.contains("completed") && answer.contains(r#""next":null"#), "{}", &answer[..200]);
        let record = queue.get(&Caller::Local, Get { task_id: other }).await.unwrap().task;
        assert_eq!(record.status, TaskStatus::Queued);
    });
}

#[test]
fn a_renewal_is_sent_ahead_of_large_requests() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let asker = end(io, None);
        // More than may wait to be sent.
        let large: Crowd =
            (0..2 * QUEUED_BYTES_MAX / 1_000_000).map(|_| start(&asker.session, submit(1_000_000))).collect();
        soon(async {
            while !large.iter().any(Spawned::is_finished) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let renewal = start(&asker.session, renew(TaskId::from_bytes([7; 16]), 0.0));
        tokio::task::yield_now().await;
        let mut before = 0;
        while !receive(&mut peer).await.contains("renew") {
            before += 1;
        }
        assert!(before <= 2, "{before} came first");
        assert!(!renewal.is_finished());
    });
}

#[test]
fn a_cancel_never_overtakes_its_call() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let asker = end(io, None);
        let large: Crowd = (0..8).map(|_| start(&asker.session, submit(1_000_000))).collect();
        let mut called = vec![id_of(&receive(&mut peer).await)];
        drop(large);
        let mut called_off = 0;
        // Some were on their way; the others are forgotten.
        while called_off < called.len() {
            let text = receive(&mut peer).await;
            if text.contains(r#""kind":"cancel""#) {
                assert!(called.contains(&id_of(&text)), "{text}");
                called_off += 1;
            } else {
                called.push(id_of(&text));
            }
        }
        assert!((2..8).contains(&called.len()), "{called:?}");
    });
}

#[test]
fn what_is_owed_to_a_peer_that_reads_nothing_is_bounded_in_each_lane() {
    // An answer has more than sixty bytes, and more than a hundred on average.
    const EACH: usize = WRITE_BUFFER_HIGH / 100;
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let queue = FakeQueue::new(PeerId::random());
        let _answerer = end(io, Some(&queue));
        let task_id = task(&queue, 10).await;
        let begun = |queue: &FakeQueue| usize::try_from(queue.calls.borrow().0).unwrap();
        let mut before = begun(&queue);
        for (first_id, text) in [(0, call(0, StatusQuery::default())), (EACH, call(0, renew(task_id, 0.0)))] {
            let flood = async {
                for id in first_id..first_id + EACH {
                    write(&mut peer, &text.replacen(r#""id":0"#, &format!(r#""id":{id}"#), 1)).await.unwrap();
                }
            };
            soon(flood).await;
            let now = begun(&queue);
            assert!((1..EACH).contains(&(now - before)), "{} of {EACH} were begun", now - before);
            assert!((now - before) * 60 <= 2 * WRITE_BUFFER_HIGH, "{} were begun", now - before);
            before = now;
        }
    });
}
