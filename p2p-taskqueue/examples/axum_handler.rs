//! A queue behind a web server. The server runs on the program's own multi-thread tokio runtime, and the queue on a
//! thread of its own.
//!
//! ```text
//! cargo run -p p2p-taskqueue --example axum_handler
//! ```

use std::{error::Error, io, net::SocketAddr, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use p2p_taskqueue::{Context, Failure, Queue, Task, Worker};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

#[derive(Serialize, Deserialize)]
struct Greet {
    name: String,
}

impl Task for Greet {
    const TYPE: &str = "greet";
    type Output = String;
}

/// Handles `POST /greet`: submits a task and answers with its result.
async fn greet(State(queue): State<Queue>, Json(task): Json<Greet>) -> Result<Json<String>, (StatusCode, String)> {
    let refused = |error: &dyn Error| (StatusCode::BAD_GATEWAY, error.to_string());
    let job = queue.submit(task).await.map_err(|error| refused(&error))?;
    match job.wait_for(Duration::from_secs(30)).await {
        Ok(Some(greeting)) => Ok(Json(greeting)),
        Ok(None) => Err((StatusCode::GATEWAY_TIMEOUT, format!("task {} goes on", job.id()))),
        Err(error) => Err(refused(&error)),
    }
}

async fn work(task: Greet, _: Context) -> Result<String, Failure> {
    Ok(format!("hello, {}", task.name))
}

/// Sends a request as a client does, and returns the reply.
async fn ask(address: SocketAddr) -> io::Result<String> {
    let request = format!(
        "POST /greet HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n\
         {{\"name\":\"world\"}}"
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let queue = Queue::in_memory().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = axum::serve(listener, Router::new().route("/greet", post(greet)).with_state(queue.clone()));
    // The worker runs as long as the server, which here is until the first client has its answer.
    let served = async {
        tokio::select! {
            ended = async { server.await } => println!("the server ended: {ended:?}"),
            reply = ask(address) => println!("{}", reply.unwrap_or_else(|error| error.to_string())),
        }
    };
    Worker::new(&queue).slots(8).handle(work).run_until(served).await?;
    Ok(queue.close().await?)
}
