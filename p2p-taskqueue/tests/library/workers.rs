//! Tests of what a worker does with its tasks, and with handlers that stop, go on, block or panic.

use std::{
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    time::Duration,
};

use futures::future::BoxFuture;
use p2p_taskqueue::{
    AskError, Caller, Context, Failure, Job, JobError, Queue, Stopped, Task, TaskQueueExt as _, TaskStatus, Worker,
    WorkerError, api::Claim,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Barrier, Notify, mpsc, oneshot};

use super::{Add, DEADLINE, Shout, TestResult, add, shout, soon};

/// A task whose end is decided by its test.
#[derive(Debug, Serialize, Deserialize)]
struct Wait;

impl Task for Wait {
    const TYPE: &str = "wait";
    type Output = u32;
}

/// Sets its flag to true when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn several_types_share_the_slots() -> TestResult {
    const SLOTS: usize = 2;
    let queue = Queue::in_memory().await?;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // A handler passes the barrier only when two of them run at once.
    let pair = Arc::new(Barrier::new(SLOTS));
    let busy = move || {
        let (running, most, pair) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&pair));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            pair.wait().await;
            running.fetch_sub(1, Ordering::SeqCst);
            most.load(Ordering::SeqCst)
        }
    };
    let (adding, shouting, waiting) = (busy.clone(), busy.clone(), busy);
    let worker = Worker::new(&queue)
        .slots(SLOTS)
        .handle(move |_: Add, _| {
            let busy = adding();
            async move { Ok(busy.await as u64) }
        })
        .handle(move |_: Shout, _| {
            let busy = shouting();
            async move { Ok(busy.await.to_string()) }
        })
        .handle(move |_: Wait, _| {
            let busy = waiting();
            async move { Ok(u32::try_from(busy.await)?) }
        });
    let client = async {
        let (mut sums, mut texts, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..4 {
            sums.push(queue.submit(Add(number, 1)).await?);
            texts.push(queue.submit(Shout(number.to_string())).await?);
            waits.push(queue.submit(Wait).await?);
        }
        let mut most = Vec::new();
        for ((sum, text), wait) in sums.iter().zip(&texts).zip(&waits) {
            most.extend([sum.wait().await?, text.wait().await?.parse()?, wait.wait().await?.into()]);
        }
        TestResult::Ok(most)
    };
    let mut most = None;
    soon(worker.run_until(async { most = Some(client.await) })).await??;
    assert_eq!(most.ok_or("no end")??, vec![SLOTS as u64; 12]);
    Ok(())
}

#[tokio::test]
async fn a_running_task_that_is_called_off_is_told_to_its_handler() -> TestResult {
    let queue = Queue::in_memory().await?;
    let (begun, mut has_begun) = mpsc::channel(1);
    let worker = Worker::new(&queue).handle(move |_: Wait, cx: Context| {
        let begun = begun.clone();
        async move {
            assert!(!cx.is_cancelled());
            begun.send(()).await?;
            cx.cancelled().await;
            assert!(cx.is_cancelled());
            // The call ends the handler here.
            cx.progress(0.5, "half").await?;
            Ok(1)
        }
    });
    let client = async {
        let job = queue.submit(Wait).await?;
        has_begun.recv().await.ok_or("not begun")?;
        assert_eq!(job.cancel_because("enough").await?, TaskStatus::Running);
        match job.wait().await {
            Err(JobError::Cancelled { .. }) => TestResult::Ok(()),
            other => panic!("{other:?}"),
        }
    };
    let mut result = None;
    soon(worker.run_until(async { result = Some(client.await) })).await??;
    result.ok_or("no end")?
}

#[tokio::test]
async fn a_question_is_answered_by_whoever_waits() -> TestResult {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Choice {
        colour: String,
    }
    let queue = Queue::in_memory().await?;
    let worker = Worker::new(&queue).handle(|_: Shout, cx: Context| async move {
        let choice: Choice = cx.ask("colour", "which colour?").await?;
        // An answer of another form is an error that the handler sees.
        match cx.ask::<u32>("number", &["one", "two"]).await {
            Err(AskError::Answer(_)) => Ok(choice.colour),
            other => Err(Failure::permanent(format!("{other:?}"))),
        }
    });
    let client = async {
        let job = queue.submit(Shout(String::new())).await?;
        for (key, question, answer) in [
            ("colour", r#""which colour?""#, Choice { colour: "red".to_owned() }),
            ("number", r#"["one","two"]"#, Choice { colour: "blue".to_owned() }),
        ] {
            let asked = asked(&job, key).await?;
            assert_eq!(asked, question);
            assert!(job.answer(key, &answer).await?);
            if key == "colour" {
                // The task cannot have ended, because its worker has another question.
                assert!(!job.answer(key, &answer).await?, "a question is answered once");
            }
        }
        TestResult::Ok(job.wait().await?)
    };
    let mut result = None;
    soon(worker.run_until(async { result = Some(client.await) })).await??;
    assert_eq!(result.ok_or("no end")??, "red");
    Ok(())
}

/// Waits until the worker asks the question with this key, and returns it.
async fn asked(job: &Job<Shout>, key: &str) -> TestResult<String> {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    loop {
        looks.tick().await;
        if let Some(question) = job.questions().await?.get(key) {
            return Ok(question.to_string());
        }
    }
}

#[tokio::test]
async fn progress_is_seen_in_the_record() -> TestResult {
    let queue = Queue::in_memory().await?;
    let go_on = Arc::new(Notify::new());
    let handler_goes_on = Arc::clone(&go_on);
    let worker = Worker::new(&queue).handle(move |_: Wait, cx: Context| {
        let go_on = Arc::clone(&handler_goes_on);
        async move {
            cx.progress(0.25, "a quarter").await?;
            go_on.notified().await;
            Ok(cx.attempt())
        }
    });
    let client = async {
        let job = queue.submit(Wait).await?;
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        while job.record().await?.progress.is_none() {
            looks.tick().await;
        }
        let record = job.record().await?;
        assert_eq!((record.progress, record.status_message.as_deref()), (Some(0.25), Some("a quarter")));
        go_on.notify_one();
        TestResult::Ok(job.wait().await?)
    };
    let mut result = None;
    soon(Box::pin(worker.run_until(async { result = Some(client.await) }))).await??;
    assert_eq!(result.ok_or("no end")??, 1);
    Ok(())
}

/// Runs the worker until it has begun a task, and then stops it. Returns the job.
async fn stopped_in_the_middle(queue: &Queue, worker: Worker, begun: oneshot::Receiver<()>) -> TestResult<Job<Wait>> {
    let job = queue.submit(Wait).await?;
    soon(worker.run_until(async { drop(begun.await) })).await??;
    Ok(job)
}

type Ending = BoxFuture<'static, Result<u32, Failure>>;

/// Returns a handler, and a receiver that gets a value when the handler first begins.
fn beginning(
    then: impl Fn(Context) -> Ending + Send + Sync + 'static,
) -> (impl Fn(Wait, Context) -> Ending + Send + Sync, oneshot::Receiver<()>) {
    let (begun, has_begun) = oneshot::channel();
    let begun = Mutex::new(Some(begun));
    let handler = move |_: Wait, cx: Context| {
        let begun = begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        begun.map(|begun| begun.send(()));
        then(cx)
    };
    (handler, has_begun)
}

#[tokio::test]
async fn a_worker_that_stops_gives_its_task_back() -> TestResult {
    let queue = Queue::in_memory().await?;
    let (handler, begun) = beginning(|cx| {
        Box::pin(async move {
            cx.cancelled().await;
            Err(Stopped.into())
        })
    });
    let job = stopped_in_the_middle(&queue, Worker::new(&queue).handle(handler), begun).await?;
    let record = job.record().await?;
    assert_eq!((record.status, record.attempt), (TaskStatus::Queued, 0), "the attempt does not count");
    Ok(())
}

#[tokio::test]
async fn a_handler_that_is_nearly_done_may_finish_after_the_stop() -> TestResult {
    let queue = Queue::in_memory().await?;
    let (handler, begun) = beginning(|cx| {
        Box::pin(async move {
            cx.cancelled().await;
            Ok(7)
        })
    });
    let job = stopped_in_the_middle(&queue, Worker::new(&queue).handle(handler), begun).await?;
    assert_eq!(soon(job.wait()).await??, 7);
    Ok(())
}

#[tokio::test]
async fn a_handler_that_does_not_listen_is_dropped_and_its_task_given_back() -> TestResult {
    let queue = Queue::in_memory().await?;
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dropped);
    let (handler, begun) = beginning(move |_| {
        let flag = Flag(Arc::clone(&flag));
        Box::pin(async move {
            pending::<()>().await;
            drop(flag);
            Ok(0)
        })
    });
    let job = stopped_in_the_middle(&queue, Worker::new(&queue).handle(handler), begun).await?;
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(job.state().await?, TaskStatus::Queued);
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_dropped_gives_its_task_back_all_the_same() -> TestResult {
    let queue = Queue::in_memory().await?;
    let (handler, begun) = beginning(|_| Box::pin(pending()));
    let job = queue.submit(Wait).await?;
    {
        let worker = Worker::new(&queue).lease(Duration::from_secs(3_600)).handle(handler).run_until(pending());
        tokio::select! {
            ended = worker => ended?,
            begun = soon(begun) => begun??,
        }
    }
    // The task can be claimed long before its lease is over.
    let claim = Claim { wait_s: DEADLINE.as_secs_f64(), ..Claim::new("another") };
    let task = queue.raw().claim(&Caller::Local, claim).await?.task.ok_or("it was not given back")?;
    assert_eq!((task.task_id, task.attempt), (job.id(), 1));
    Ok(())
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_attempt_and_nothing_else() -> TestResult {
    let queue = Queue::in_memory().await?;
    let worker = Worker::new(&queue).handle(add).handle(|Shout(text): Shout, cx: Context| {
        // At the second attempt it panics before it returns a future.
        assert!(cx.attempt() != 2, "twice {text}");
        async move {
            assert!(cx.attempt() != 1, "as asked");
            Ok(text)
        }
    });
    let client = async {
        let bad = queue.submit(Shout("bad".to_owned())).max_attempts(2).backoff(Duration::ZERO).await?;
        match bad.wait().await {
            Err(JobError::Failed { error, attempts: 2, .. }) => {
                assert_eq!(error, "the handler panicked: twice bad");
            }
            other => panic!("{other:?}"),
        }
        let third = queue.submit(Shout("fine".to_owned())).backoff(Duration::ZERO).await?;
        assert_eq!(third.wait().await?, "fine");
        assert_eq!(queue.submit(Add(1, 1)).await?.wait().await?, 2);
        TestResult::Ok(())
    };
    let mut result = None;
    soon(worker.run_until(async { result = Some(client.await) })).await??;
    result.ok_or("no end")?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_keeps_its_lease() -> TestResult {
    const LEASE: Duration = Duration::from_secs(1);
    let queue = Queue::in_memory().await?;
    let (begun, has_begun) = sync_channel(1);
    let (release, released) = sync_channel::<()>(1);
    let released = Mutex::new(released);
    let worker = Worker::new(&queue).lease(LEASE).handle(move |_: Wait, cx: Context| {
        begun.send(()).unwrap();
        // This blocks the thread on which the worker is polled.
        let _released_or_late = released.lock().unwrap().recv_timeout(DEADLINE);
        async move { Ok(cx.attempt()) }
    });
    let job = queue.submit(Wait).await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let working = tokio::runtime::Handle::current().spawn(worker.run_until(async { drop(stopped.await) }));
    has_begun.recv_timeout(DEADLINE)?;
    // No other worker gets the task for the length of three leases.
    let claim = Claim { wait_s: 3.0 * LEASE.as_secs_f64(), ..Claim::new("another") };
    assert_eq!(soon(queue.raw().claim(&Caller::Local, claim)).await??.task, None);
    release.send(())?;
    assert_eq!(soon(job.wait()).await??, 1);
    drop(stop);
    soon(working).await???;
    Ok(())
}

#[tokio::test]
async fn a_worker_of_a_queue_that_is_closed_ends() -> TestResult {
    let queue = Queue::in_memory().await?;
    let (handler, begun) = beginning(|_| Box::pin(pending()));
    queue.submit(Wait).await?;
    let working = Worker::new(&queue).handle(handler).run_until(pending());
    let close = async {
        begun.await?;
        TestResult::Ok(queue.clone().close().await?)
    };
    let (ended, closed) = soon(async { futures::join!(working, close) }).await?;
    closed?;
    assert!(matches!(ended, Err(WorkerError::Closed)), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_could_never_work_says_so() -> TestResult {
    let queue = Queue::in_memory().await?;
    let none = soon(Worker::new(&queue).run_until(pending())).await?;
    assert!(matches!(none, Err(WorkerError::NoHandler)), "{none:?}");
    let twice = soon(Worker::new(&queue).handle(shout).handle(shout).run_until(pending())).await?;
    assert!(matches!(twice, Err(WorkerError::HandledTwice { task_type: "shout" })), "{twice:?}");
    // A number of slots above the maximum is taken as the maximum.
    soon(Worker::new(&queue).slots(usize::MAX).handle(add).run_until(std::future::ready(()))).await??;
    let lease = Worker::new(&queue).handle(add).lease(Duration::from_millis(1));
    match soon(lease.run_until(pending())).await? {
        Err(WorkerError::Settings(error)) => assert_eq!(error.field.as_deref(), Some("lease_s")),
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn only_a_worker_with_the_labels_and_the_session_gets_a_task() -> TestResult {
    let queue = Queue::in_memory().await?;
    let job = queue.submit(Add(1, 2)).requires("gpu").session("s").await?;
    let without = Worker::new(&queue).id("without").handle(add);
    let within = Worker::new(&queue).id("within").labels(["gpu", "large"]).session("s").handle(add);
    let (stop, stopped) = oneshot::channel::<()>();
    let until_done = async {
        let sum = job.wait().await;
        drop(stop);
        assert_eq!(sum.ok(), Some(3));
    };
    let (one, other) =
        soon(async { futures::join!(without.run_until(async { drop(stopped.await) }), within.run_until(until_done)) })
            .await?;
    one?;
    other?;
    assert_eq!(job.record().await?.assigned_worker.as_deref(), Some("within"));
    Ok(())
}
