//! Tests of the library as a program uses it: queues, jobs, workers and nodes by their public names.

mod closing;
#[cfg(unix)]
mod connecting;
mod examples;
mod jobs;
mod nodes;
mod runtimes;
mod workers;

use std::{error::Error, future::Future, time::Duration};

use p2p_taskqueue::{Context, Failure, Task};
use serde::{Deserialize, Serialize};

type TestResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The time that anything may take. Everything takes milliseconds, but the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

async fn soon<T>(future: impl Future<Output = T>) -> TestResult<T> {
    Ok(tokio::time::timeout(DEADLINE, future).await?)
}

#[derive(Debug, Serialize, Deserialize)]
struct Add(u64, u64);

impl Task for Add {
    const TYPE: &str = "add";
    type Output = u64;
}

async fn add(Add(a, b): Add, _: Context) -> Result<u64, Failure> {
    a.checked_add(b).ok_or_else(|| Failure::permanent("the sum is too large"))
}

#[derive(Debug, Serialize, Deserialize)]
struct Shout(String);

impl Task for Shout {
    const TYPE: &str = "shout";
    type Output = String;
}

async fn shout(Shout(text): Shout, _: Context) -> Result<String, Failure> {
    Ok(text.to_uppercase())
}
