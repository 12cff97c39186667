//! The server that the official conformance suite is run against: the suite's tools, prompts and resources behind the
//! product's own HTTP stack, and its tasks in a queue like the product's.
//!
//! `conformance-fixture FILE` keeps its tasks in the file, prints one ready line with its URL, serves on a free
//! loopback port, and runs until it is ended.

mod book;
mod dialogue;
mod handler;
mod jobs;

use std::{
    env,
    io::{Write as _, stdout},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use axum::serve::ListenerExt as _;
use handler::Fixture;
use jobs::Jobs;
use mcp_core::{
    McpConfig,
    stack::{self, DurableTasks},
};
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<()> {
    let file = env::args_os().nth(1).context("usage: conformance-fixture FILE")?;
    let jobs = Jobs::start(Path::new(&file))?;
    let config = McpConfig::default();
    let tasks = DurableTasks::new(Arc::clone(&jobs.queue), &config, jobs::shape);
    let router = stack::router(Fixture::new(tasks)?, config, Arc::clone(&jobs.queue));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ready = json!({ "event": "ready", "http": format!("http://{}/mcp", listener.local_addr()?) });
    writeln!(stdout(), "{ready}")?;
    // As in the product: otherwise a streamed answer would wait for the client's delayed acknowledgement.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, router).await?)
}
