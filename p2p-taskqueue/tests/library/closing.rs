//! Tests of the end of a queue, and of its file afterwards.

use p2p_taskqueue::{ErrorCode, Job, JobError, OpenError, Queue, QueueError, TaskStatus, Worker, store::StoreError};

use super::{Add, TestResult, add, soon};

/// Opens the file again, as another process would.
async fn reopened(path: &std::path::Path) -> TestResult<Queue> {
    Ok(soon(Queue::open(path)).await??)
}

#[tokio::test]
async fn a_job_is_taken_up_again_when_its_file_is_opened_again() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("queue.sqlite3");
    let queue = Queue::open(&path).await?;
    let id = queue.submit(Add(20, 22)).await?.id();
    soon(queue.close()).await??;

    let queue = reopened(&path).await?;
    let job: Job<Add> = queue.job(id);
    assert_eq!(job.state().await?, TaskStatus::Queued);
    let mut sum = None;
    soon(Worker::new(&queue).handle(add).run_until(async { sum = Some(job.wait().await) })).await??;
    assert_eq!(sum.ok_or("no end")??, 42);
    soon(queue.close()).await??;

    // The result is on disk too.
    let queue = reopened(&path).await?;
    assert_eq!(soon(queue.job::<Add>(id).wait()).await??, 42);
    Ok(())
}

#[tokio::test]
async fn a_file_is_one_queues_alone_until_the_last_clone_is_dropped() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("queue.sqlite3");
    let queue = Queue::open(&path).await?;
    let job = queue.submit(Add(1, 2)).await?;
    let id = job.id();
    drop(queue);
    // The job still holds a clone of the queue.
    match soon(Queue::open(&path)).await? {
        Err(OpenError::Store(StoreError::InUse { .. })) => {}
        other => panic!("{other:?}"),
    }
    drop(job);
    // The file is free, and what was acknowledged is in it.
    let queue = reopened(&path).await?;
    assert_eq!(queue.job::<Add>(id).state().await?, TaskStatus::Queued);
    Ok(())
}

#[tokio::test]
async fn a_closed_queue_refuses_everything_and_ends_the_waits() -> TestResult {
    let queue = Queue::in_memory().await?;
    let (job, other) = (queue.submit(Add(1, 2)).await?, queue.clone());
    // The futures are polled in this order, so the wait has begun when the queue is closed.
    let (waited, closed) = soon(async { futures::join!(job.wait(), queue.close()) }).await?;
    closed?;
    let is_closed = |error: &QueueError| error.code == ErrorCode::ShuttingDown;
    assert!(matches!(&waited, Err(JobError::Queue(error)) if is_closed(error)), "{waited:?}");
    assert!(is_closed(&other.submit(Add(1, 2)).await.unwrap_err()));
    assert!(is_closed(&job.state().await.unwrap_err()));
    soon(other.close()).await??;
    Ok(())
}

#[tokio::test]
async fn what_is_not_a_queue_is_not_opened() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("letter.txt");
    std::fs::write(&path, "Dear reader, this is not a database, however long it may be.")?;
    match soon(Queue::open(&path)).await? {
        Err(OpenError::Store(StoreError::NotAStore { .. })) => Ok(()),
        other => panic!("{other:?}"),
    }
}
