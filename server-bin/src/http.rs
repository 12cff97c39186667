//! The HTTP listener: it binds the port, serves the MCP server's router, and drains its connections at the end.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::anyhow;
use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use mcp_core::{CallingUser, McpConfig, McpServer};
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    sync::watch,
    task::JoinSet,
};

use crate::{
    config::HttpConfig,
    failure::Failure,
    linger::{Lingering, Unread},
    patient::Patient,
};

/// A listener that is bound to its port.
#[derive(Debug)]
pub(crate) struct HttpListener {
    listener: TcpListener,
    address: SocketAddr,
    mcp: McpConfig,
    /// Whether the MCP server has to know which user each connection comes from.
    asks_for_user: bool,
    bounds: Bounds,
}

/// The bounds of a connection, and of the number of connections.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    header_timeout: Duration,
    write_timeout: Duration,
    connections_max: usize,
    /// Whether a connection may carry more than one request.
    keeps_alive: bool,
}

impl HttpListener {
    /// Binds the `HOST:PORT` of the configuration; with port 0 the system chooses a free one.
    pub(crate) async fn bind(config: &HttpConfig) -> Result<Self, Failure> {
        let invalid = |problem: String| Failure::argument("--http", problem);
        let listen = &config.listen;
        let mut addresses = lookup_host(listen)
            .await
            .map_err(|error| invalid(format!("{listen:?} is not HOST:PORT, such as 127.0.0.1:8765 ({error})")))?;
        let Some(address) = addresses.next() else {
            return Err(invalid(format!("{listen:?} names no address")));
        };
        if address.ip().is_loopback() {
            config.check_users()?;
        } else {
            config.check_open_to(address)?;
        }
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => invalid(format!(
                "{address} is in use by another program: stop that one, or take another port (--http 127.0.0.1:0 takes a free one)"
            )),
            _ => Failure::Configuration(anyhow!(error).context(format!("--http: cannot listen on {address}"))),
        })?;
        let address = listener.local_addr().map_err(|error| Failure::Configuration(anyhow!(error)))?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "MCP is plain HTTP, tokens included, and open to other machines: put a proxy with TLS in front of it"
            );
        }
        let bounds = Bounds {
            header_timeout: config.header_timeout,
            write_timeout: config.write_timeout,
            connections_max: config.requests_max.saturating_add(CONNECTIONS_SPARE),
            keeps_alive: true,
        };
        Ok(Self { listener, address, mcp: config.mcp.clone(), asks_for_user: config.asks_for_user(), bounds })
    }

    /// Returns the configuration for the MCP server that is served here.
    pub(crate) fn mcp(&self) -> McpConfig {
        self.mcp.clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Moves the listener to the tokio runtime that the caller is in, which may be another one than the runtime of
    /// `bind`.
    pub(crate) fn moved_here(self) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::from_std(self.listener.into_std()?)?, ..self })
    }

    /// Serves until [`HttpServer::shutdown`].
    pub(crate) fn serve(self, mcp: &McpServer) -> HttpServer {
        let (stop, stopping) = watch::channel(false);
        let mut driver = JoinSet::new();
        let routers = Routers { all: mcp.router(), full: mcp.full_router() };
        driver.spawn(accept(self.listener, routers, self.asks_for_user, self.bounds, stopping));
        HttpServer { stop, driver }
    }
}

/// A running HTTP server.
#[derive(Debug)]
pub(crate) struct HttpServer {
    /// The accept loop holds the receiver; `true` ends the loop.
    stop: watch::Sender<bool>,
    /// The accept loop alone, which owns the connections: dropping the set closes every connection.
    driver: JoinSet<()>,
}

impl HttpServer {
    /// Accepts no more connections, lets requests under way end, and closes the remaining connections at the deadline.
    pub(crate) async fn shutdown(mut self, deadline: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(deadline, self.driver.join_next()).await.is_err() {
            tracing::info!("requests were still under way; closing their connections");
        }
    }
}

/// The routers that connections are served by.
#[derive(Debug)]
struct Routers {
    all: Router,
    /// For connections beyond the bound: it tells a probe that the server is full, and not dead.
    full: Router,
}

async fn accept(
    listener: TcpListener,
    routers: Routers,
    asks_for_user: bool,
    bounds: Bounds,
    mut stopping: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let (mut connections, mut beyond) = (JoinSet::new(), JoinSet::new());
    loop {
        let has_room = connections.len() < bounds.connections_max;
        tokio::select! {
            _ = stopping.changed() => break,
            Some(_) = connections.join_next() => {}
            Some(_) = beyond.join_next() => {}
            accepted = listener.accept(), if has_room || beyond.len() < BEYOND_MAX => match accepted {
                Ok((stream, _)) if has_room => {
                    let user = asks_for_user.then(|| CallingUser::of(&stream));
                    connections.spawn(connection(stream, user, routers.all.clone(), bounds, graceful.watcher()));
                }
                Ok((stream, _)) => {
                    let once = Bounds { keeps_alive: false, ..bounds };
                    let served = connection(stream, None, routers.full.clone(), once, graceful.watcher());
                    beyond.spawn(async move { drop(tokio::time::timeout(BEYOND_TIMEOUT, served).await) });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // The process may be out of file descriptors: give an open connection a moment to end.
                    drop(tokio::time::timeout(ACCEPT_PAUSE, connections.join_next()).await);
                }
            },
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Serves one connection. Each of its requests carries the user that it comes from, where the MCP server asks for that.
async fn connection(
    stream: TcpStream,
    user: Option<CallingUser>,
    router: Router,
    bounds: Bounds,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Otherwise a streamed answer waits 40 ms for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let unread = Unread::default();
    let stream = Lingering::new(Patient::new(stream, bounds.write_timeout), unread.clone());
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| unread.watch(body));
        if let Some(user) = &user {
            request.extensions_mut().insert(user.clone());
        }
        router.call(request)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(bounds.keeps_alive)
        .header_read_timeout(bounds.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// The number of connections above `requests_max`. They let a server with all requests taken still answer with a
/// refusal. Each costs a few kilobytes while it is idle.
const CONNECTIONS_SPARE: usize = 1_024;

/// The most connections beyond `connections_max`. They are served for the sake of probes: a supervisor and a load
/// balancer or two, among clients that are told that there is no room.
const BEYOND_MAX: usize = 64;

/// The longest time of a connection beyond the bound: longer than a probe may take to ask the queue.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(6);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use p2p_taskqueue::{Caller, ErrorCode, QueueError, Request, Response, TaskQueue};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A queue that answers the status, and refuses everything else.
    #[derive(Debug)]
    struct Up;

    #[async_trait]
    impl TaskQueue for Up {
        async fn call(&self, _: &Caller, request: Request) -> Result<Response, QueueError> {
            match request {
                Request::StatusQuery(_) => Ok(serde_json::from_str(STATUS).unwrap()),
                _ => Err(QueueError::new(ErrorCode::Unsupported, "only the status")),
            }
        }
    }

    const STATUS: &str = r#"{"status":{"peer_id":"12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu","version":"1",
        "mode":"bridge","p2p_runtime":"tokio","uptime_s":1.0,"addresses":[],"capabilities":{"operations":[],"task_types":[]}}}"#;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut text, soon) = (String::new(), Duration::from_secs(30));
        tokio::time::timeout(soon, stream.read_to_string(&mut text)).await.expect("an answer in time").unwrap();
        text
    }

    #[tokio::test]
    async fn the_user_that_runs_the_server_is_served_without_a_token() {
        let listener = HttpListener::bind(&HttpConfig::at("127.0.0.1:0")).await.unwrap();
        assert_eq!(listener.asks_for_user, CallingUser::IS_TOLD);
        let (address, mcp) = (listener.address, McpServer::new(Arc::new(Up), listener.mcp()));
        let server = listener.serve(&mcp);
        // A refused user would get 403 of either.
        assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/mcp").await.starts_with("HTTP/1.1 405"));
        server.shutdown(Duration::from_secs(30)).await;
    }

    #[tokio::test]
    async fn a_server_with_all_connections_taken_tells_probes_that_it_is_there() {
        let mut listener = HttpListener::bind(&HttpConfig::at("127.0.0.1:0")).await.unwrap();
        listener.bounds.connections_max = 2;
        let (address, mcp) = (listener.address, McpServer::new(Arc::new(Up), listener.mcp()));
        let server = listener.serve(&mcp);
        let taken = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        for _ in 0..2 * BEYOND_MAX {
            assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        }
        let refused = get(address, "/mcp").await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("overloaded"), "{refused}");
        assert!(refused.to_lowercase().contains("retry-after: 1"), "{refused}");
        drop(taken);
        server.shutdown(Duration::from_secs(30)).await;
    }
}
