//! A worker for two types of tasks, which share its two slots. One task needs a second attempt, and one fails
//! permanently.
//!
//! ```text
//! cargo run -p p2p-taskqueue --example worker
//! ```
#![expect(clippy::print_stdout, reason = "an example: it says what it does")]

use std::time::Duration;

use p2p_taskqueue::{Context, Failure, JobError, Queue, Task, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Divide {
    dividend: i64,
    divisor: i64,
}

impl Task for Divide {
    const TYPE: &str = "divide";
    type Output = i64;
}

#[derive(Serialize, Deserialize)]
struct Fetch {
    page: String,
}

#[derive(Serialize, Deserialize)]
struct Page {
    title: String,
}

impl Task for Fetch {
    const TYPE: &str = "fetch";
    type Output = Page;
}

async fn divide(job: Divide, _: Context) -> Result<i64, Failure> {
    // Another attempt would divide by the same number.
    job.dividend.checked_div(job.divisor).ok_or_else(|| Failure::permanent("cannot be divided"))
}

/// Fetches a page from a server that, in this example, does not answer the first time.
async fn fetch(job: Fetch, cx: Context) -> Result<Page, Failure> {
    if cx.attempt() == 1 {
        return Err(Failure::retryable("no answer"));
    }
    Ok(Page { title: job.page.to_uppercase() })
}

async fn submit_and_wait(queue: &Queue) -> Result<(), JobError> {
    let page = queue.submit(Fetch { page: "index".to_owned() }).backoff(Duration::from_millis(50)).await?;
    let quotient = queue.submit(Divide { dividend: 42, divisor: 6 }).priority(9).await?;
    let impossible = queue.submit(Divide { dividend: 1, divisor: 0 }).await?;
    println!("42 / 6 = {}", quotient.wait().await?);
    match impossible.wait().await {
        Err(JobError::Failed { error, attempts, .. }) => println!("1 / 0 failed at attempt {attempts}: {error}"),
        other => println!("1 / 0: {other:?}"),
    }
    let title = page.wait().await?.title;
    println!("the page is {title}, at attempt {}", page.record().await?.attempt);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = Queue::in_memory().await?;
    let mut result = Ok(());
    // A program that only runs a worker can stop on a signal: run_until(async { drop(tokio::signal::ctrl_c().await) }).
    let until_done = async { result = submit_and_wait(&queue).await };
    Worker::new(&queue).id("example").slots(2).handle(divide).handle(fetch).run_until(until_done).await?;
    result?;
    Ok(queue.close().await?)
}
