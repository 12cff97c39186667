//! The node's side: listeners, and the sessions of those who come.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use futures::future::join_all;
use p2p_taskqueue::{TaskQueue, serve_local_until};
use runtime_bridge::{JobHandle, Runtime, RuntimeExt as _};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{compat::TokioAsyncReadCompatExt as _, sync::CancellationToken};

use super::{RpcAddress, Token, http, unix};
use crate::failure::Failure;

/// The places where the node can be asked. Dropping it closes them and every connection on them.
#[derive(Debug, Default)]
pub(crate) struct RpcServer {
    addresses: Vec<RpcAddress>,
    /// Dropping a handle ends an accept loop, and that its connections.
    accepting: Vec<JobHandle<()>>,
    sockets: Vec<Socket>,
    /// The accept loops and sessions have the other end.
    stopping: CancellationToken,
}

impl RpcServer {
    /// Listens on the executor thread, which calls this. The token is for the addresses over HTTP.
    pub(crate) async fn bind(
        addresses: &[RpcAddress],
        token: Option<&Token>,
        queue: &Arc<dyn TaskQueue>,
        runtime: &Arc<dyn Runtime>,
    ) -> Result<Self, Failure> {
        let mut server = Self::default();
        for address in addresses {
            let listener = Listener::bind(address, token).await?;
            let address = listener.address(address).context("cannot tell the address of the RPC")?;
            if let RpcAddress::Unix(path) = &address {
                server.sockets.push(Socket(path.clone()));
            }
            server.addresses.push(address);
            let door =
                Door { queue: Arc::clone(queue), runtime: Arc::clone(runtime), stopping: server.stopping.clone() };
            server.accepting.push(runtime.spawn(door.accept(listener)));
        }
        Ok(server)
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.iter().map(ToString::to_string).collect()
    }

    /// Takes no more clients and no more requests, lets those under way end, and closes what is left at the deadline.
    pub(crate) async fn shutdown(self, deadline: Duration) {
        self.stopping.cancel();
        if timeout(deadline, join_all(self.accepting)).await.is_err() {
            tracing::info!("requests of other processes were still under way; closing their connections");
        }
    }
}

/// The file of a Unix socket, which goes with its listener.
#[derive(Debug)]
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "the socket was gone already");
        }
    }
}

enum Listener {
    Unix(UnixListener),
    Http(TcpListener, Token),
}

enum Client {
    Unix(UnixStream),
    Http(TcpStream, Token),
}

impl Listener {
    async fn bind(address: &RpcAddress, token: Option<&Token>) -> Result<Self, Failure> {
        match (address, token) {
            (RpcAddress::Unix(path), _) => Ok(Self::Unix(unix::listen(path)?)),
            (RpcAddress::Http(address), Some(token)) => {
                let listener = TcpListener::bind(address).await;
                let listener = listener.map_err(|error| Failure::argument("--rpc", format!("{address}: {error}")))?;
                Ok(Self::Http(listener, token.clone()))
            }
            (RpcAddress::Http(_), None) => Err(anyhow!("there is no token for the RPC over HTTP").into()),
        }
    }

    /// The address with the port that it has really got.
    fn address(&self, asked: &RpcAddress) -> io::Result<RpcAddress> {
        Ok(match self {
            Self::Unix(_) => asked.clone(),
            Self::Http(listener, _) => RpcAddress::Http(listener.local_addr()?),
        })
    }

    async fn accept(&self) -> io::Result<Client> {
        Ok(match self {
            Self::Unix(listener) => Client::Unix(listener.accept().await?.0),
            Self::Http(listener, token) => Client::Http(listener.accept().await?.0, token.clone()),
        })
    }
}

/// What every client of an address comes to.
#[derive(Debug, Clone)]
struct Door {
    queue: Arc<dyn TaskQueue>,
    runtime: Arc<dyn Runtime>,
    stopping: CancellationToken,
}

impl Door {
    async fn accept(self, listener: Listener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut sessions: Vec<JobHandle<()>> = Vec::new();
        let next = async || {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        loop {
            let (place, client) = tokio::select! {
                next = next() => next,
                () = self.stopping.cancelled() => break,
            };
            sessions.retain(|session| !session.is_finished());
            match client {
                Ok(client) => {
                    let serve = self.clone().serve(client);
                    sessions.push(self.runtime.spawn(async move {
                        serve.await;
                        drop(place);
                    }));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client of the RPC");
                    self.runtime.sleep_until(self.runtime.now() + ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        join_all(sessions).await;
    }

    async fn serve(self, client: Client) {
        let Self { queue, runtime, stopping } = self;
        let stop = stopping.cancelled();
        match client {
            Client::Unix(stream) => serve_local_until(stream.compat(), queue, runtime, stop).await,
            Client::Http(stream, token) => {
                // Who has not come in yet has asked nothing.
                let admitted = tokio::select! {
                    admitted = http::admit(stream, &token) => admitted,
                    () = stopping.cancelled() => None,
                };
                if let Some(upgraded) = admitted {
                    serve_local_until(upgraded.compat(), queue, runtime, stop).await;
                }
            }
        }
    }
}

/// This machine's own commands and programs; each holds two file descriptors.
const CONNECTIONS_MAX: usize = 256;

/// Out of file descriptors: some will be free in a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
