//! Tests of what a submitter sees: settings, ends of tasks, and typed errors.

use std::{
    future::Future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2p_taskqueue::{
    Context, ErrorCode, FailedBy, Failure, Job, JobError, PeerId, Queue, Task, TaskId, TaskStatus, Worker,
    api::limits::SPAN_S_MAX,
};
use serde::{Deserialize, Serialize};

use super::{Add, Shout, TestResult, add, soon};

/// Runs a worker while the client goes on.
async fn with_worker<T>(worker: Worker, client: impl Future<Output = TestResult<T>>) -> TestResult<T> {
    let mut result = None;
    let client = Box::pin(client);
    let until_done = async { result = Some(soon(client).await) };
    soon(worker.run_until(until_done)).await??;
    result.ok_or("the client has not ended")??
}

/// A task of the type `add` whose input and output have another form.
#[derive(Debug, Serialize, Deserialize)]
struct AddWords {
    first: String,
}

impl Task for AddWords {
    const TYPE: &str = "add";
    type Output = Vec<String>;
}

#[tokio::test]
async fn a_failure_says_what_by_whom_and_how_often() -> TestResult {
    let queue = Queue::in_memory().await?;
    let worker = Worker::new(&queue).handle(add).handle(|Shout(text): Shout, _: Context| async move {
        Err(std::io::Error::other(text))?;
        Ok(String::new())
    });
    let client = async {
        match queue.submit(Add(u64::MAX, 1)).await?.wait().await {
            Err(JobError::Failed { error, by: FailedBy::Worker, attempts: 1 }) => {
                assert_eq!(error, "the sum is too large");
            }
            other => panic!("{other:?}"),
        }
        let twice = queue.submit(Shout("no".to_owned())).max_attempts(2).backoff(Duration::ZERO).await?;
        match twice.wait().await {
            Err(JobError::Failed { error, attempts: 2, .. }) => assert_eq!(error, "no"),
            other => panic!("{other:?}"),
        }
        let late = queue.submit(Add(1, 1)).delay(Duration::from_secs(600)).deadline(Duration::from_millis(20)).await?;
        match late.wait().await {
            Err(JobError::Failed { by: FailedBy::Queue, attempts: 0, .. }) => {}
            other => panic!("{other:?}"),
        }
        Ok(())
    };
    with_worker(worker, client).await
}

#[tokio::test]
async fn values_of_another_form_are_told_apart_from_failures() -> TestResult {
    let queue = Queue::in_memory().await?;
    let client = async {
        // The worker cannot read this input, and no other attempt could.
        match queue.submit(AddWords { first: "one".to_owned() }).await?.wait().await {
            Err(JobError::Failed { error, attempts: 1, .. }) => {
                assert!(error.starts_with("the payload is no \"add\": "), "{error}");
            }
            other => panic!("{other:?}"),
        }
        // This program cannot read the worker's output.
        let sum = queue.submit(Add(1, 2)).await?;
        let as_words: Job<AddWords> = queue.job(sum.id());
        assert!(matches!(as_words.wait().await, Err(JobError::Output(_))));
        assert_eq!(sum.wait().await?, 3);
        Ok(())
    };
    with_worker(Worker::new(&queue).handle(add), client).await
}

#[tokio::test]
async fn a_queued_job_is_called_off_at_once() -> TestResult {
    let queue = Queue::in_memory().await?;
    let job = queue.submit(Add(1, 2)).await?;
    assert_eq!((job.state().await?, job.wait_for(Duration::ZERO).await?), (TaskStatus::Queued, None));
    assert_eq!(job.cancel_because("changed my mind").await?, TaskStatus::Cancelled);
    match soon(job.wait()).await? {
        Err(JobError::Cancelled { reason }) => assert_eq!(reason.as_deref(), Some("changed my mind")),
        other => panic!("{other:?}"),
    }
    let silent = queue.submit(Add(1, 2)).await?;
    silent.cancel().await?;
    assert!(matches!(soon(silent.wait_for(Duration::from_secs(5))).await?, Err(JobError::Cancelled { .. })));
    Ok(())
}

#[tokio::test]
async fn a_job_that_is_not_there_is_not_found() -> TestResult {
    let queue = Queue::in_memory().await?;
    let job: Job<Add> = queue.job(TaskId::random()?);
    match soon(job.wait()).await? {
        Err(JobError::Queue(error)) => assert_eq!(error.code, ErrorCode::NotFound),
        other => panic!("{other:?}"),
    }
    assert_eq!(job.state().await.unwrap_err().code, ErrorCode::NotFound);
    Ok(())
}

#[tokio::test]
async fn settings_reach_the_record() -> TestResult {
    let queue = Queue::in_memory().await?;
    let first = queue.submit(Add(1, 1)).await?;
    let peer: PeerId = first.record().await?.owner;
    let date = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let job = queue
        .submit(Add(2, 2))
        .priority(9)
        .not_before(date)
        .deadline(Duration::from_secs(1_000))
        .max_attempts(7)
        .label("red")
        .label("round")
        .requires("gpu")
        .pin_to(peer)
        .after(&first)
        .session("s")
        .concurrency_key("k")
        .model("m")
        .keep_result(Duration::from_secs(120))
        .await?;
    let record = job.record().await?;
    assert_eq!((record.priority, record.max_attempts, record.not_before), (9, 7, Some(4e9)));
    assert_eq!((record.labels, record.after), (vec!["red".to_owned(), "round".to_owned()], vec![first.id()]));
    assert_eq!((record.session.as_deref(), record.model_name.as_str(), record.result_ttl_s), (Some("s"), "m", 120.0));
    let deadline = record.deadline.ok_or("no deadline")? - record.created_at;
    assert!((deadline - 1_000.0).abs() < 1.0, "{deadline}");
    // The job has not been run. It fails when the job that it comes after is called off.
    first.cancel().await?;
    match soon(job.wait()).await? {
        Err(JobError::Failed { by: FailedBy::Queue, .. }) => {}
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn a_delay_holds_a_task_back_and_a_date_in_the_past_does_not() -> TestResult {
    let queue = Queue::in_memory().await?;
    let client = async {
        let started = queue.submit(Add(1, 1)).delay(Duration::from_millis(300)).await?;
        let old = queue.submit(Add(2, 2)).not_before(SystemTime::now() - Duration::from_secs(60)).await?;
        assert_eq!(old.wait().await?, 4);
        assert_eq!(started.wait().await?, 2);
        let (early, late) = (old.record().await?, started.record().await?);
        assert!(late.updated_at - late.created_at >= 0.3 && early.updated_at <= late.updated_at);
        Ok(())
    };
    with_worker(Worker::new(&queue).handle(add), client).await
}

#[tokio::test]
async fn a_key_makes_a_second_submit_the_first_ones_job() -> TestResult {
    let queue = Queue::in_memory().await?;
    let submit = || queue.submit(Add(1, 1)).key("once").remember_key(Duration::from_secs(60));
    let (first, second) = (submit().await?, submit().await?);
    assert_eq!((first.is_duplicate(), second.is_duplicate()), (false, true));
    assert_eq!(first.id(), second.id());
    let other = queue.submit(Add(9, 9)).key("once").await.unwrap_err();
    assert_eq!(other.code, ErrorCode::Conflict);
    Ok(())
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_by_its_name() -> TestResult {
    let queue = Queue::in_memory().await?;
    let too_long = Duration::from_secs_f64(SPAN_S_MAX * 2.0);
    let large = Shout("x".repeat(2 << 20));
    for (refused, field) in [
        (queue.submit(Add(1, 1)).priority(11).await, "priority"),
        (queue.submit(Add(1, 1)).delay(too_long).await, "delay_s"),
        (queue.submit(Add(1, 1)).delay(Duration::ZERO).not_before(UNIX_EPOCH).await, "delay_s"),
        (queue.submit(Add(1, 1)).deadline(Duration::MAX).await, "deadline_s"),
        (queue.submit(Add(1, 1)).key("").await, "idempotency_key"),
    ] {
        assert_eq!(refused.unwrap_err().field.as_deref(), Some(field));
    }
    let error = queue.submit(large).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::LimitExceeded, Some("payload")));
    Ok(())
}

#[test]
fn a_failure_tells_what_is_behind_an_error() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the page")]
    struct Outer(#[source] std::io::Error);
    let failure = Failure::from(Outer(std::io::Error::other("no disk")));
    assert_eq!(failure.to_string(), "cannot read the page: no disk");
}
