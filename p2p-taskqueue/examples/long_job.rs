//! Jobs that take long: a task that reports progress and asks a question, and a task that is called off.
//!
//! ```text
//! cargo run -p p2p-taskqueue --example long_job
//! ```
#![expect(clippy::print_stdout, reason = "an example: it says what it does")]

use std::time::Duration;

use p2p_taskqueue::{
    Context, Failure, Job, JobError, Queue, QueueError, Stopped, Task, TaskStatus, Worker, api::TaskRecord,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, interval_at};

#[derive(Serialize, Deserialize)]
struct Publish {
    pages: u32,
}

impl Task for Publish {
    const TYPE: &str = "publish";
    type Output = String;
}

async fn publish(job: Publish, cx: Context) -> Result<String, Failure> {
    for page in 1..=job.pages {
        // Ends the handler when the task is called off.
        cx.progress(f64::from(page) / f64::from(job.pages), &format!("page {page} is set")).await?;
    }
    let title: String = cx.ask("title", "which title?").await?;
    Ok(format!("{title}, {} pages", job.pages))
}

#[derive(Serialize, Deserialize)]
struct Watch;

impl Task for Watch {
    const TYPE: &str = "watch";
    type Output = ();
}

/// Runs until it is called off.
async fn watch(_: Watch, cx: Context) -> Result<(), Failure> {
    cx.cancelled().await;
    println!("the handler was told to stop");
    Err(Stopped.into())
}

/// Looks at a job until its record is as wanted.
async fn look<T: Task>(job: &Job<T>, is_so: impl Fn(&TaskRecord) -> bool) -> Result<TaskRecord, QueueError> {
    let mut looks = interval_at(Instant::now(), Duration::from_millis(20));
    loop {
        looks.tick().await;
        let record = job.record().await?;
        if is_so(&record) {
            return Ok(record);
        }
    }
}

async fn client(queue: &Queue) -> Result<(), JobError> {
    let book = queue.submit(Publish { pages: 100 }).await?;
    let is_set = |record: &TaskRecord| record.progress == Some(1.0) && !record.input_requests.is_empty();
    let record = look(&book, is_set).await?;
    println!("all is set: {}", record.status_message.unwrap_or_default());
    for (key, question) in book.questions().await? {
        println!("asked for the {key}: {question}");
        book.answer(key, "A Room of One's Own").await?;
    }
    println!("done: {}", book.wait().await?);

    let endless = queue.submit(Watch).await?;
    look(&endless, |record| record.status == TaskStatus::Running).await?;
    endless.cancel_because("nobody looks any more").await?;
    match endless.wait().await {
        Err(JobError::Cancelled { reason }) => println!("called off: {}", reason.unwrap_or_default()),
        other => println!("{other:?}"),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = Queue::in_memory().await?;
    let mut result = Ok(());
    let until_done = async { result = client(&queue).await };
    Worker::new(&queue).slots(2).handle(publish).handle(watch).run_until(until_done).await?;
    result?;
    Ok(queue.close().await?)
}
