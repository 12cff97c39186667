//! Tests in which many requests of one kind reach a bound, and the other requests on the same session are still
//! answered.

use futures::{StreamExt as _, poll, stream::FuturesUnordered};
use libp2p::PeerId;
use runtime_bridge::Spawned;
use taskqueue_api::{
    Caller, Cancel, Complete, ErrorCode, Fence, Get, Operation, QueueError, Release, Renew, Response, StatusQuery,
    TaskId, TaskQueueExt as _, TaskStatus, Wait,
    testing::{DEADLINE, payload},
};

use super::{
    ending::session_test,
    hostile_tests::id_of,
    tests::{ask, end, end_with, known, long_claim, pair, receive, send, start, submit, write},
};
use crate::{
    testing::{TestQueue, pipe, soon},
    wire::{
        Session,
        limits::{IN_FLIGHT_MAX, INBOUND_BYTES_MAX, QUEUED_BYTES_MAX, WRITE_BUFFER_HIGH},
        terms::Terms,
    },
};

/// More than any bound of a session.
const CROWD: usize = 4 * IN_FLIGHT_MAX;

type Crowd = FuturesUnordered<Spawned<Result<Response, QueueError>>>;

/// A task that a worker has, and its fence.
type Held = (TaskId, Fence);

/// A task that does not exist, with a fence that was never issued.
const UNKNOWN: Held = (TaskId::from_bytes([7; 16]), Fence { epoch: 1, counter: 1 });

/// Starts more of these requests than there is room for. Returns those that have found room.
async fn crowd(session: &Session, queue: &TestQueue, request: impl Operation + Clone) -> Crowd {
    let before = queue.calls.borrow().0;
    queue.crowd(before, (0..CROWD).map(|_| start(session, request.clone())).collect()).await
}

fn renew((task_id, fence): Held, wait_s: f64) -> Renew {
    Renew { wait_s, ..Renew::new(task_id, fence, 600.0) }
}

fn complete((task_id, fence): Held) -> Complete {
    Complete::new(task_id, fence, None)
}

/// Checks that a renewal, a submit and a question are answered.
async fn others_are_served(session: &Session, held: Held) {
    ask(session, renew(held, 0.0)).await.unwrap();
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
        let held = queue.running(10).await;
        let waits = crowd(&asker.session, &queue, Wait::one(held.0, 300.0)).await;
        assert!(waits.len() >= IN_FLIGHT_MAX, "{} wait", waits.len());
        others_are_served(&asker.session, held).await;
    });
}

#[test]
fn waits_for_tasks_leave_room_for_workers() {
    session_test(async {
        let (asker, _answerer, queue) = pair(1024 * 1024);
        let task_id = queue.put(10).await;
        let _waits = crowd(&asker.session, &queue, Wait::one(task_id, 300.0)).await;
        let Response::Claimed(claimed) = ask(&asker.session, long_claim()).await.unwrap() else { panic!() };
        let task = claimed.task.unwrap();
        assert_eq!(task.task_id, task_id);
        let before = queue.calls.borrow().0;
        let renewal = start(&asker.session, renew((task_id, task.fence.unwrap()), 300.0));
        queue.until_calls(before + 1).await;
        assert!(!renewal.is_finished(), "it waits");
        queue.cancel(&Caller::Local, Cancel { task_id, reason: String::new() }).await.unwrap();
        let Response::Renewed(renewed) = soon(renewal).await.unwrap().unwrap() else { panic!() };
        assert!(renewed.cancel_requested);
    });
}

#[test]
fn a_renewal_and_a_completion_without_room_to_wait_are_made_all_the_same() {
    session_test(async {
        let (asker, _answerer, queue) = pair(1024 * 1024);
        let _claims = crowd(&asker.session, &queue, long_claim()).await;
        assert_eq!(ask(&asker.session, long_claim()).await.unwrap_err().code, ErrorCode::Overloaded);
        // The error shows that the request reached the queue.
        let unknown = ask(&asker.session, renew(UNKNOWN, 300.0)).await.unwrap_err();
        assert_eq!(unknown.code, ErrorCode::NotFound);
        let complete = Complete { claim_next: Some(long_claim()), ..complete(UNKNOWN) };
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
        let mut questions: Crowd = (0..CROWD).map(|_| start(&asker.session, StatusQuery::default())).collect();
        assert_eq!(soon(questions.next()).await.unwrap().unwrap().unwrap_err().code, ErrorCode::Overloaded);
        let renewal = start(&asker.session, renew(UNKNOWN, 0.0));
        while !receive(&mut peer).await.contains("renew") {}
        assert!(!renewal.is_finished());
    });
}

#[test]
fn an_end_that_only_knows_the_old_bound_may_fill_it_with_waits() {
    session_test(async {
        // This end keeps to the old bound towards the other end, whatever kinds of requests it makes.
        let (io, mut peer) = pipe(4 * 1024 * 1024);
        let queue = TestQueue::new(PeerId::random());
        let old = end_with(io, Some(&queue), Terms::default());
        let held = queue.running(10).await;
        let task_id = held.0;
        let mut calls = Crowd::new();
        for _ in 0..CROWD {
            calls.push(start(&old.session, Wait::one(task_id, 300.0)));
            calls.push(start(&old.session, StatusQuery::default()));
            calls.push(start(&old.session, renew(held, 0.0)));
        }
        while calls.len() > IN_FLIGHT_MAX {
            soon(calls.next()).await;
        }
        drop(calls);
        // The other end makes as many requests as it may, all of which wait, and then three more.
        let mut from_it = 0;
        let mut waits = Vec::new();
        for id in 0..IN_FLIGHT_MAX {
            waits.push(call(id, Wait::one(task_id, 300.0)));
        }
        let asking = async {
            for wait in &waits {
                send(&mut peer, wait).await;
            }
            send(&mut peer, &call(5_000, renew(held, 0.0))).await;
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
        let queue = TestQueue::new(PeerId::random());
        let _answerer = end(io, Some(&queue));
        let mut completions = Vec::new();
        for id in 0..INBOUND_BYTES_MAX / 1_000_000 {
            let held = queue.running(10).await;
            let done = Complete { result: Some(payload(1_000_000)), ..complete(held) };
            completions.push(call(id, Complete { claim_next: Some(long_claim()), ..done }));
        }
        // Each completion is made and waits for the next task.
        for completion in &completions {
            send(&mut peer, completion).await;
        }
        queue.until_calls(3 * completions.len() as u64).await;
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
        let queue = TestQueue::new(PeerId::random());
        let _answerer = end(io, Some(&queue));
        let [renewed, done, released] = [queue.running(10).await, queue.running(10).await, queue.running(10).await];
        let large = known(&queue, 1_000_000).await;
        for id in 0..100 {
            send(&mut peer, &call(id, Get { task_id: large })).await;
        }
        // As many are begun as fill the room for answers.
        queue.until_calls(8 + 2).await;
        send(&mut peer, &call(1_000, renew(renewed, 0.0))).await;
        let (task_id, fence) = released;
        send(&mut peer, &call(1_001, Release { task_id, fence, delay_s: 0.0, reason: String::new() })).await;
        send(&mut peer, &call(1_002, complete(done))).await;
        // Nothing has been read yet.
        let waited = soon(queue.wait(&Caller::Local, Wait::one(done.0, 300.0))).await.unwrap();
        assert!(waited.done && queue.calls.borrow().0 == 10 + 3 + 1, "{:?}", queue.calls.borrow());
        let mut order = Vec::new();
        for _ in 0..103 {
            order.push(id_of(&receive(&mut peer).await));
        }
        // Only the frames in the stream and the frame that was begun may come before them.
        let last = order.iter().rposition(|id| *id >= 1_000).unwrap();
        assert!(last <= 4, "{:?}", &order[..20]);
    });
}

#[test]
fn a_completion_for_a_slow_reader_claims_nothing_more() {
    session_test(async {
        let (io, mut peer) = pipe(64 * 1024);
        let queue = TestQueue::new(PeerId::random());
        let _answerer = end(io, Some(&queue));
        let held = queue.running(1_000_000).await;
        let large = held.0;
        queue.get(&Caller::Local, Get { task_id: large }).await.unwrap();
        for id in 0..10 {
            send(&mut peer, &call(id, Get { task_id: large })).await;
        }
        queue.until_calls(3 + 2).await;
        let complete = Complete { claim_next: Some(long_claim()), ..complete(held) };
        let other = queue.put(1_000_000).await;
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
        // These are more bytes than may wait to be sent.
        let mut large: Crowd =
            (0..2 * QUEUED_BYTES_MAX / 1_000_000).map(|_| start(&asker.session, submit(1_000_000))).collect();
        assert_eq!(soon(large.next()).await.unwrap().unwrap().unwrap_err().code, ErrorCode::Overloaded);
        let renewal = renew(UNKNOWN, 0.0).into_request();
        let mut renewal = Box::pin(asker.session.call(&renewal, DEADLINE));
        assert!(poll!(&mut renewal).is_pending());
        let mut before = 0;
        while !receive(&mut peer).await.contains("renew") {
            before += 1;
        }
        assert!(before <= 2, "{before} came first");
        assert!(poll!(&mut renewal).is_pending());
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
        // The calls that were sent are cancelled; the others are forgotten.
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
        let queue = TestQueue::new(PeerId::random());
        let _answerer = end(io, Some(&queue));
        let begun = |queue: &TestQueue| usize::try_from(queue.calls.borrow().0).unwrap();
        let mut before = begun(&queue);
        // Both requests are answered at once: the queue checks the span before it looks for the task.
        let refused = Renew::new(UNKNOWN.0, UNKNOWN.1, 0.0);
        for (first_id, text) in [(0, call(0, StatusQuery::default())), (EACH, call(0, refused))] {
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
