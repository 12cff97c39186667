//! A queue in a file, a task, a worker: the program of the README.
//!
//! ```text
//! cargo run -p p2p-taskqueue --example local_queue
//! ```
#![expect(clippy::print_stdout, reason = "an example: it says what it does")]

use p2p_taskqueue::{Context, Failure, Queue, Task, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct CountWords(String);

impl Task for CountWords {
    const TYPE: &str = "count_words";
    type Output = usize;
}

async fn count(CountWords(text): CountWords, _: Context) -> Result<usize, Failure> {
    Ok(text.split_whitespace().count())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = Queue::open("queue.sqlite3").await?;
    let job = queue.submit(CountWords("to be or not to be".to_owned())).await?;
    let until_done = async { println!("words: {:?}", job.wait().await) };
    Worker::new(&queue).handle(count).run_until(until_done).await?;
    Ok(queue.close().await?)
}
