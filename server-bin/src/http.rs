//! The HTTP listener: binds, serves the MCP server's router, drains.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::anyhow;
use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    sync::watch,
    task::JoinSet,
};

use crate::failure::Failure;

/// A listener that has its port.
#[derive(Debug)]
pub(crate) struct HttpListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpListener {
    /// Takes `HOST:PORT`; port 0 takes a free one.
    pub(crate) async fn bind(host_port: &str) -> Result<Self, Failure> {
        let invalid = |problem: String| Failure::argument("--http", problem);
        let mut addresses = lookup_host(host_port)
            .await
            .map_err(|error| invalid(format!("{host_port:?} is not HOST:PORT, such as 127.0.0.1:8765 ({error})")))?;
        let Some(address) = addresses.next() else {
            return Err(invalid(format!("{host_port:?} names no address")));
        };
        if !address.ip().is_loopback() {
            return Err(invalid(format!(
                "{address} is not a loopback address, and whoever reaches the MCP endpoint may hand work to this mesh: \
                 keep it on 127.0.0.1 and reach it through an SSH tunnel"
            )));
        }
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => invalid(format!(
                "{address} is in use by another program: stop that one, or take another port (--http 127.0.0.1:0 takes a free one)"
            )),
            _ => Failure::Configuration(anyhow!(error).context(format!("--http: cannot listen on {address}"))),
        })?;
        let address = listener.local_addr().map_err(|error| Failure::Configuration(anyhow!(error)))?;
        Ok(Self { listener, address })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The same listener on the tokio runtime that the caller is in, which may be another than that of the bind.
    pub(crate) fn moved_here(self) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::from_std(self.listener.into_std()?)?, ..self })
    }

    /// Serves until it is told to stop.
    pub(crate) fn serve(self, router: Router) -> HttpServer {
        let (stop, stopping) = watch::channel(false);
        let mut driver = JoinSet::new();
        driver.spawn(accept(self.listener, router, stopping));
        HttpServer { stop, driver }
    }
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct HttpServer {
    /// The accept loop holds the receiver; true ends it.
    stop: watch::Sender<bool>,
    /// The accept loop alone; dropping the set closes every connection.
    driver: JoinSet<()>,
}

impl HttpServer {
    /// Takes no more connections, lets the requests under way end, and closes what is left at the deadline.
    pub(crate) async fn shutdown(mut self, deadline: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(deadline, self.driver.join_next()).await.is_err() {
            tracing::info!("requests were still under way; closing their connections");
        }
    }
}

async fn accept(listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopping.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), graceful.watcher()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of file descriptors: give the connections that stand a moment to end.
                    drop(tokio::time::timeout(ACCEPT_PAUSE, connections.join_next()).await);
                }
            },
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn connection(stream: TcpStream, router: Router, watcher: hyper_util::server::graceful::Watcher) {
    // Without it a streamed answer waits 40 ms for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// A client that sends no header in this time is gone or hostile.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Above the requests that may run at once, so that a refusal can still be answered; each costs a few kilobytes when idle.
const CONNECTIONS_MAX: usize = 5_120;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
