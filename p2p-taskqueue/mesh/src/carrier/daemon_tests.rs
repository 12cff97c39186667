//! A node of this machine that is asked over connections which come and go.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::{AsyncWriteExt, future::join_all};
use libp2p::PeerId;
use runtime_bridge::{Runtime, RuntimeExt, Spawned};
use taskqueue_api::{
    Caller, Claim, Claimed, ErrorCode, Get, Json, List, Outcome, QueueError, Renew, Request, Response, StatusQuery,
    Submit, TaskQueue, TaskQueueExt as _, TaskStatus, Wait, testing::DEADLINE,
};
use tokio::sync::watch;

use super::{Connection, Connector, DaemonQueue};
use crate::{
    serve_local_until,
    testing::{ManualRuntime, TestQueue, pipe, runtime, soon},
};

const LOCAL: &Caller = &Caller::Local;
const PATIENCE: Duration = DEADLINE;

/// What a connection leads to.
#[derive(Debug, Clone)]
enum Behind {
    Nobody,
    /// A node that serves this queue.
    Queue(Arc<dyn TaskQueue>),
    /// Somebody who says this and nothing else.
    Text(&'static str),
    /// Nothing ever comes of it.
    Silence,
    /// Somebody who turns every client away.
    Refusal,
}

/// A node that comes and goes.
#[derive(Debug)]
struct Machine {
    behind: Mutex<Behind>,
    runtime: Arc<dyn Runtime>,
    /// The connections that are served.
    serving: Mutex<Vec<Spawned<()>>>,
    attempts: watch::Sender<u32>,
    /// Tells the clients to ask nothing more.
    leaves: watch::Sender<bool>,
}

impl Machine {
    fn new(behind: Behind, runtime: Arc<dyn Runtime>) -> Arc<Self> {
        let (attempts, leaves) = (watch::Sender::new(0), watch::Sender::new(false));
        Arc::new(Self { behind: Mutex::new(behind), runtime, serving: Mutex::default(), attempts, leaves })
    }

    fn client(self: &Arc<Self>) -> DaemonQueue {
        DaemonQueue::new(Arc::<Self>::clone(self) as Arc<dyn Connector>, Arc::clone(&self.runtime))
    }

    fn becomes(&self, behind: Behind) {
        *self.behind.lock().unwrap() = behind;
    }

    /// Its process ends, with every connection.
    fn dies(&self) {
        self.becomes(Behind::Nobody);
        self.serving.lock().unwrap().clear();
    }

    fn attempts(&self) -> u32 {
        *self.attempts.borrow()
    }
}

#[async_trait]
impl Connector for Machine {
    async fn connect(&self) -> Result<Connection, QueueError> {
        self.attempts.send_modify(|attempts| *attempts += 1);
        // Others get their turn: a second attempt would now be made.
        tokio::task::yield_now().await;
        let behind = self.behind.lock().unwrap().clone();
        let (near, mut far) = pipe(64 * 1024);
        let serving = match behind {
            Behind::Nobody => return Err(QueueError::new(ErrorCode::Unreachable, "nobody is there")),
            Behind::Refusal => return Err(QueueError::new(ErrorCode::Unauthorized, "not you")),
            Behind::Silence => std::future::pending().await,
            Behind::Queue(queue) => {
                let mut leaves = self.leaves.subscribe();
                let stop = async move { drop(leaves.wait_for(|leaves| *leaves).await) };
                self.runtime.spawn(serve_local_until(far, queue, Arc::clone(&self.runtime), stop))
            }
            Behind::Text(text) => self.runtime.spawn(async move {
                let frame = [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
                far.write_all(&frame).await.unwrap();
                std::future::pending::<()>().await;
            }),
        };
        self.serving.lock().unwrap().push(serving);
        Ok(Box::new(near))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the machine")
    }
}

/// A queue that carries everything out and keeps the answers to itself.
#[derive(Debug)]
struct Mute {
    queue: Arc<dyn TaskQueue>,
    done: watch::Sender<u32>,
}

#[async_trait]
impl TaskQueue for Mute {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        drop(self.queue.call(caller, request).await);
        self.done.send_modify(|done| *done += 1);
        std::future::pending().await
    }
}

fn fake() -> (Arc<TestQueue>, Behind) {
    let queue = TestQueue::new(PeerId::random());
    (Arc::clone(&queue), Behind::Queue(queue))
}

/// A claim that the queue has received and cannot answer.
async fn long_poll(queue: &TestQueue, daemon: &DaemonQueue) -> Spawned<Result<Claimed, QueueError>> {
    let daemon = daemon.clone();
    let claim = Claim { wait_s: 60.0, ..Claim::new("w") };
    let polling = runtime().spawn(async move { daemon.claim(LOCAL, claim).await });
    queue.until_calls(1).await;
    polling
}

/// Asks until there is an answer, as a client does that is told to come back.
async fn until_answered(daemon: &DaemonQueue) {
    while let Err(error) = daemon.list(LOCAL, List::default()).await {
        assert_eq!((error.code, error.retryable), (ErrorCode::Unreachable, true));
        let pause = Duration::from_secs_f64(error.retry_after_s.unwrap());
        runtime().sleep_until(runtime().now() + pause).await;
    }
}

#[tokio::test]
async fn a_daemon_is_asked_over_any_connection() {
    let (queue, behind) = fake();
    let machine = Machine::new(behind, runtime());
    let daemon = machine.client();
    assert!(!daemon.is_connected());
    let submitted = soon(daemon.submit(LOCAL, Submit::new("echo", Json::null()))).await.unwrap();
    let got = soon(daemon.get(LOCAL, Get { task_id: submitted.task_id })).await.unwrap();
    assert_eq!(got.task.status, TaskStatus::Queued);
    assert_eq!(queue.calls.borrow().1, Some(Caller::Local));
    let foreign = soon(daemon.list(&Caller::member(PeerId::random()), List::default())).await.unwrap_err();
    assert_eq!(foreign.code, ErrorCode::Forbidden);
    assert_eq!(machine.attempts(), 1);

    drop(daemon);
    let serving = machine.serving.lock().unwrap().pop().unwrap();
    soon(serving).await.unwrap();
}

#[tokio::test]
async fn a_queue_of_the_same_process_is_asked_over_a_pipe() {
    let queue = TestQueue::new(PeerId::random());
    let daemon = DaemonQueue::in_memory(Arc::<TestQueue>::clone(&queue), runtime());
    let submitted = soon(daemon.submit(LOCAL, Submit::new("echo", Json::null()))).await.unwrap();
    let waited = soon(daemon.wait(LOCAL, Wait::one(submitted.task_id, 0.0))).await.unwrap();
    assert!(!waited.done);
    assert_eq!(queue.calls.borrow().1, Some(Caller::Local));
}

#[tokio::test]
async fn a_client_that_goes_takes_its_claims_along() {
    let (queue, behind) = fake();
    let machine = Machine::new(behind, runtime());
    let daemon = machine.client();
    let polling = long_poll(&queue, &daemon).await;
    drop((polling, daemon));
    let serving = machine.serving.lock().unwrap().pop().unwrap();
    soon(serving).await.unwrap();
    // Another one gets what comes.
    let task_id = queue.put(1).await;
    let claimed = soon(queue.claim(LOCAL, Claim { wait_s: 60.0, ..Claim::new("w") })).await.unwrap();
    assert_eq!(claimed.task.unwrap().task_id, task_id);
}

#[tokio::test]
async fn a_daemon_that_goes_leaves_the_outcome_of_a_claim_unknown_and_is_asked_again_later() {
    let (queue, behind) = fake();
    let machine = Machine::new(behind.clone(), runtime());
    let daemon = machine.client();
    let polling = long_poll(&queue, &daemon).await;
    machine.dies();
    let error = soon(polling).await.unwrap().unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::Interrupted, Outcome::Unknown));
    assert!(!daemon.is_connected());
    let error = soon(daemon.list(LOCAL, List::default())).await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::Unreachable, Outcome::NotApplied));
    machine.becomes(behind);
    soon(until_answered(&daemon)).await;
    assert!(daemon.is_connected());
}

#[tokio::test]
async fn a_daemon_that_leaves_in_order_answers_what_it_was_asked() {
    let (queue, behind) = fake();
    let machine = Machine::new(behind.clone(), runtime());
    let daemon = machine.client();
    let polling = long_poll(&queue, &daemon).await;
    machine.becomes(Behind::Nobody);
    machine.leaves.send_replace(true);
    // A long poll is not waited for: nothing was handed out, and it may be asked again.
    let error = soon(polling).await.unwrap().unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::ShuttingDown, Outcome::NotApplied));
    let first = machine.serving.lock().unwrap().remove(0);
    soon(first).await.unwrap();
    machine.leaves.send_replace(false);
    machine.becomes(behind);
    soon(until_answered(&daemon)).await;
}

#[tokio::test]
async fn a_submit_whose_answer_is_lost_waits_for_the_daemon_and_is_made_once() {
    let queue: Arc<dyn TaskQueue> = TestQueue::new(PeerId::random());
    let mute = Arc::new(Mute { queue: Arc::clone(&queue), done: watch::Sender::new(0) });
    let machine = Machine::new(Behind::Queue(Arc::<Mute>::clone(&mute)), runtime());
    let daemon = machine.client();
    let asked = daemon.clone();
    let asking = runtime().spawn(async move { asked.submit(LOCAL, Submit::new("echo", Json::null())).await });
    soon(mute.done.subscribe().wait_for(|done| *done == 1)).await.unwrap();
    machine.dies();
    // It is looked for in vain, and then it is back.
    soon(machine.attempts.subscribe().wait_for(|attempts| *attempts > 1)).await.unwrap();
    machine.becomes(Behind::Queue(Arc::clone(&queue)));
    let submitted = soon(asking).await.unwrap().unwrap();
    assert!(!submitted.duplicate);
    let tasks = queue.list(LOCAL, List::default()).await.unwrap().tasks;
    assert_eq!(tasks.iter().map(|task| task.task_id).collect::<Vec<_>>(), [submitted.task_id]);
}

#[tokio::test]
async fn a_wait_goes_on_when_the_daemon_is_back() {
    let (queue, behind) = fake();
    let submitted = queue.submit(LOCAL, Submit::new("echo", Json::null())).await.unwrap();
    let machine = Machine::new(behind.clone(), runtime());
    let daemon = machine.client();
    let asked = daemon.clone();
    let waiting = runtime().spawn(async move { asked.wait(LOCAL, Wait::one(submitted.task_id, 60.0)).await });
    queue.until_calls(2).await;
    machine.dies();
    soon(machine.attempts.subscribe().wait_for(|attempts| *attempts > 1)).await.unwrap();
    machine.becomes(behind);
    queue.until_calls(3).await;
    let claimed = queue.claim(LOCAL, Claim::new("w")).await.unwrap().task.unwrap();
    let complete = taskqueue_api::Complete::new(claimed.task_id, claimed.fence.unwrap(), None);
    queue.complete(LOCAL, complete).await.unwrap();
    assert!(soon(waiting).await.unwrap().unwrap().done);
}

#[tokio::test]
async fn many_callers_share_one_attempt_and_one_connection() {
    let (_, behind) = fake();
    let machine = Machine::new(behind, runtime());
    let daemon = machine.client();
    let ask = || daemon.list(LOCAL, List::default());
    let answers = soon(join_all((0..100).map(|_| ask()))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(machine.attempts(), 1);
}

#[tokio::test]
async fn a_daemon_that_is_away_is_not_hammered() {
    let clock = ManualRuntime::new();
    let machine = Machine::new(Behind::Nobody, Arc::<ManualRuntime>::clone(&clock));
    let daemon = machine.client();
    let ask = || async { soon(join_all((0..100).map(|_| daemon.list(LOCAL, List::default())))).await };
    for (round, pause) in [50, 100, 200, 400, 800, 1_600, 1_600].into_iter().enumerate() {
        for error in ask().await.into_iter().map(Result::unwrap_err) {
            assert_eq!((error.code, error.retryable), (ErrorCode::Unreachable, true));
            assert!((error.retry_after_s.unwrap() - f64::from(pause) / 1_000.0).abs() < 1e-6, "{error:?}");
        }
        assert_eq!(machine.attempts() as usize, round + 1);
        clock.advance(Duration::from_millis(u64::try_from(pause).unwrap()));
    }
    let (_, behind) = fake();
    machine.becomes(behind);
    assert!(soon(daemon.list(LOCAL, List::default())).await.is_ok());
}

#[tokio::test]
async fn a_connection_that_nothing_comes_of_is_given_up() {
    let clock = ManualRuntime::new();
    let machine = Machine::new(Behind::Silence, Arc::<ManualRuntime>::clone(&clock));
    let daemon = machine.client();
    let asking = runtime().spawn(async move { daemon.list(LOCAL, List::default()).await });
    soon(machine.attempts.subscribe().wait_for(|attempts| *attempts == 1)).await.unwrap();
    clock.until_sleeper(super::reconnect::CONNECT_TIMEOUT).await;
    clock.advance(super::reconnect::CONNECT_TIMEOUT);
    let error = soon(asking).await.unwrap().unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::Unreachable, Outcome::NotApplied));
    assert!(error.message.contains("the machine did not answer within 5 s"), "{error:?}");
}

#[tokio::test]
async fn a_start_is_patient_with_a_daemon_that_is_not_there_yet_and_with_nothing_else() {
    let (_, behind) = fake();
    let machine = Machine::new(Behind::Nobody, runtime());
    let daemon = machine.client();
    let connecting = async { soon(daemon.connect(PATIENCE)).await };
    let starting = async {
        soon(machine.attempts.subscribe().wait_for(|attempts| *attempts > 2)).await.unwrap();
        machine.becomes(behind);
    };
    let (connected, ()) = futures::join!(connecting, starting);
    connected.unwrap();

    let machine = Machine::new(Behind::Refusal, runtime());
    let error = soon(machine.client().connect(PATIENCE)).await.unwrap_err();
    assert_eq!((error.code, machine.attempts()), (ErrorCode::Unauthorized, 1));
}

#[tokio::test]
async fn a_daemon_of_another_version_is_told_apart_and_says_what_to_update() {
    for (hello, to_update) in [
        (r#"{"versions":[3,4],"software":"9.9.9"}"#, "update this one"),
        (r#"{"versions":[0,0],"software":"9.9.9"}"#, "update the other one"),
    ] {
        let machine = Machine::new(Behind::Text(hello), runtime());
        let error = soon(machine.client().connect(PATIENCE)).await.unwrap_err();
        assert_eq!((error.code, machine.attempts()), (ErrorCode::Unsupported, 1));
        for part in ["the machine", "taskmesh 9.9.9", "2 to 2", env!("CARGO_PKG_VERSION"), to_update] {
            assert!(error.message.contains(part), "no {part:?} in {:?}", error.message);
        }
    }
}

#[tokio::test]
async fn more_than_a_session_takes_is_asked_over_another_one() {
    const WAITS: u32 = 4_000;
    let (queue, behind) = fake();
    let submitted = queue.submit(LOCAL, Submit::new("echo", Json::null())).await.unwrap();
    let machine = Machine::new(behind, runtime());
    let daemon = machine.client();
    let wait = || {
        let daemon = daemon.clone();
        runtime().spawn(async move { daemon.wait(LOCAL, Wait::one(submitted.task_id, 600.0)).await })
    };
    let waits: Vec<_> = (0..WAITS).map(|_| wait()).collect();
    queue.until_calls(u64::from(WAITS) + 1).await;
    assert_eq!(machine.attempts(), 3);
    assert!(soon(daemon.list(LOCAL, List::default())).await.is_ok());
    drop(waits);
    soon(queue.open.subscribe().wait_for(|open| *open == 0)).await.unwrap();
    // With room again, one session is enough.
    assert!(soon(daemon.list(LOCAL, List::default())).await.is_ok());
    assert_eq!(machine.attempts(), 3);
}

#[tokio::test]
async fn waits_through_a_daemon_leave_room_for_what_is_answered_at_once() {
    const WAITS: u64 = 10_000;
    let (queue, behind) = fake();
    let (task_id, fence) = queue.running(1).await;
    let before = queue.calls.borrow().0;
    let daemon = Machine::new(behind, runtime()).client();
    let wait = || {
        let daemon = daemon.clone();
        runtime().spawn(async move { daemon.wait(LOCAL, Wait::one(task_id, 600.0)).await })
    };
    let _waits = queue.crowd(before, (0..WAITS).map(|_| wait()).collect()).await;
    soon(daemon.renew(LOCAL, Renew::new(task_id, fence, 30.0))).await.unwrap();
    soon(daemon.submit(LOCAL, Submit::new("echo", Json::null()))).await.unwrap();
    soon(daemon.status(LOCAL, StatusQuery::default())).await.unwrap();
}
