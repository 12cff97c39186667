use std::{
    sync::{Arc, Mutex},
    thread::ThreadId,
    time::Duration,
};

use async_trait::async_trait;
use p2p_taskqueue::{Caller, ErrorCode, QueueError, Request, Response};
use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

/// A queue that notes on which thread it is asked, and refuses everything.
#[derive(Debug, Default)]
struct Where(Mutex<Vec<ThreadId>>);

#[async_trait]
impl TaskQueue for Where {
    async fn call(&self, _: &Caller, request: Request) -> Result<Response, QueueError> {
        self.0.lock().unwrap().push(std::thread::current().id());
        Err(QueueError::new(ErrorCode::Unsupported, request.name()))
    }
}

/// Calls a tool over HTTP and returns the raw answer.
async fn call_a_tool(url: &str) -> String {
    let body =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"p2p_taskqueue_stats","arguments":{}}}"#;
    let place = url.trim_start_matches("http://").trim_end_matches("/mcp");
    let mut stream = TcpStream::connect(place).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn handlers_run_on_the_executor_thread_where_it_drives_tokio() {
    for backend in Backend::ALL.iter().copied() {
        let thread = ExecutorThread::start(backend, ThreadConfig::default()).unwrap();
        let bridge = thread.bridge();
        let asked = Arc::<Where>::default();
        let listener = HttpListener::bind(&crate::config::HttpConfig::at("127.0.0.1:0")).await.unwrap();
        let queue: Arc<dyn TaskQueue> = Arc::<Where>::clone(&asked);
        let front = serve_there(&bridge, listener, async move { queue }).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(60), call_a_tool(front.url())).await.unwrap();
        assert!(answer.contains("unsupported"), "{backend}: {answer}");

        let executor = bridge.run_in_p2p(async { std::thread::current().id() }).await.unwrap();
        let handlers = asked.0.lock().unwrap().clone();
        let drives_tokio = backend.name() != "async-std";
        assert_eq!(handlers.iter().map(|thread| *thread == executor).collect::<Vec<_>>(), [drives_tokio], "{backend}");

        let queue: Arc<dyn TaskQueue> = Arc::<Where>::clone(&asked);
        let joined = bridge.run_in_p2p(joined(bridge.clone(), queue)).await.unwrap();
        let kind = if drives_tokio { "InlineQueue" } else { "BridgedQueue" };
        assert!(format!("{joined:?}").starts_with(kind), "{backend}: {joined:?}");
        front.shutdown().await;
        thread.shutdown(Duration::from_secs(2)).await.unwrap();
    }
}
