//! The node's side of the RPC: the listeners, and the sessions of their clients.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use futures::future::join_all;
use p2p_taskqueue::{TaskQueue, api::AtOnceQueue, serve_local_until};
use runtime_bridge::{Runtime, RuntimeExt as _, Spawned};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{compat::TokioAsyncReadCompatExt as _, sync::CancellationToken};

use super::{RpcAddress, Token, http, unix};
use crate::failure::Failure;

/// The listeners at which the node can be asked. Dropping it closes them and all their connections.
#[derive(Debug, Default)]
pub(crate) struct RpcServer {
    addresses: Vec<RpcAddress>,
    /// One accept loop for each address. Dropping a handle ends its loop, and with it the loop's connections.
    accepting: Vec<Spawned<()>>,
    sockets: Vec<Socket>,
    /// The accept loops and the sessions hold the other end; when this is cancelled, they end.
    stopping: CancellationToken,
}

impl RpcServer {
    /// Listens on all addresses. It is called on the executor thread. The token is for the addresses over HTTP.
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

    /// Accepts no more clients and no more requests, lets requests under way end, and closes the remaining connections
    /// at the deadline.
    pub(crate) async fn shutdown(self, deadline: Duration) {
        self.stopping.cancel();
        if timeout(deadline, join_all(self.accepting)).await.is_err() {
            tracing::info!("requests of other processes were still under way; closing their connections");
        }
    }
}

/// The file of a Unix socket, which is removed together with its listener.
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

    /// Returns the address with the port that it really has.
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

/// The service at one address: what every session of a client there needs.
#[derive(Debug, Clone)]
struct Door {
    queue: Arc<dyn TaskQueue>,
    runtime: Arc<dyn Runtime>,
    stopping: CancellationToken,
}

impl Door {
    async fn accept(self, listener: Listener) {
        let places = Places::default();
        let mut sessions: Vec<Spawned<()>> = Vec::new();
        let next = async || {
            let place = places.take().await;
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
                    let door = if place.may_wait { self.clone() } else { self.clone().without_waits() };
                    let serve = door.serve(client);
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

    /// Returns a door for clients without room for waits: it refuses requests that would wait.
    fn without_waits(self) -> Self {
        let queue = AtOnceQueue::new(self.queue, CONNECTIONS_MAX, "connections of this machine's programs");
        Self { queue: Arc::new(queue), ..self }
    }

    async fn serve(self, client: Client) {
        let Self { queue, runtime, stopping } = self;
        let stop = stopping.cancelled();
        match client {
            Client::Unix(stream) => serve_local_until(stream.compat(), queue, runtime, stop).await,
            Client::Http(stream, token) => {
                // A client that was not admitted yet has no request under way, so nothing is lost.
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

/// The places for connections. Clients that wait for hours must not keep out one that asks something and leaves. So
/// some places are only for requests that are answered at once.
#[derive(Debug)]
struct Places {
    any: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { any: places(CONNECTIONS_MAX), at_once: places(CONNECTIONS_AT_ONCE) }
    }
}

/// The place of one connection.
#[derive(Debug)]
struct Place {
    may_wait: bool,
    /// `None` would mean that the semaphore is closed, which it never is.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// Waits for a free place. A place where a client may wait is preferred.
    async fn take(&self) -> Place {
        tokio::select! {
            biased;
            permit = Arc::clone(&self.any).acquire_owned() => Place { may_wait: true, _permit: permit.ok() },
            permit = Arc::clone(&self.at_once).acquire_owned() => Place { may_wait: false, _permit: permit.ok() },
        }
    }
}

/// The most connections that may wait: commands and programs of this machine. Each connection holds two file
/// descriptors.
const CONNECTIONS_MAX: usize = 256;

/// The further connections whose requests must not wait. Each takes milliseconds, so a few places serve many.
const CONNECTIONS_AT_ONCE: usize = 32;

/// The pause after a failed accept. The process may be out of file descriptors, and some will soon be free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures::future::pending;
    use p2p_taskqueue::{
        Caller, ErrorCode, QueueError, Request, Response, TaskId, TaskQueueExt as _,
        api::{Resume, Resumed, Wait},
        mesh::DaemonQueue,
    };
    use tokio::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::rpc::UnixConnector;

    /// A queue that reports each wait, never ends one, and answers everything else.
    #[derive(Debug)]
    struct Endless(Sender<()>);

    #[async_trait]
    impl TaskQueue for Endless {
        async fn call(&self, _caller: &Caller, request: Request) -> Result<Response, QueueError> {
            match request {
                Request::Wait(_) => {
                    let _gone = self.0.try_send(());
                    pending().await
                }
                _ => Ok(Response::Resumed(Resumed { queued: 0, running: 0 })),
            }
        }
    }

    #[tokio::test]
    async fn clients_that_wait_keep_nobody_out_who_asks_at_once() {
        let runtime: Arc<dyn Runtime> = Arc::new(runtime_bridge::TokioRuntime::new(tokio::runtime::Handle::current()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rpc.sock");
        let (tell, mut waits) = channel(CONNECTIONS_MAX);
        let queue: Arc<dyn TaskQueue> = Arc::new(Endless(tell));
        let server = RpcServer::bind(&[RpcAddress::Unix(path.clone())], None, &queue, &runtime).await.unwrap();
        let client = || {
            let connector = UnixConnector { path: path.clone(), hint: String::new() };
            DaemonQueue::new(Arc::new(connector), Arc::clone(&runtime))
        };
        let wait = || Wait::one(TaskId::from_bytes([1; 16]), 600.0);
        let soon = Duration::from_secs(30);
        let mut waiting = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let client = client();
            waiting.push(runtime.spawn(async move { client.wait(&Caller::Local, wait()).await }));
            timeout(soon, waits.recv()).await.expect("the wait has begun");
        }
        for _ in 0..2 * CONNECTIONS_AT_ONCE {
            let resumed = timeout(soon, client().resume(&Caller::Local, Resume { task_types: Vec::new() })).await;
            assert!(resumed.expect("an answer in time").is_ok());
        }
        let refused = timeout(soon, client().wait(&Caller::Local, wait())).await.expect("an answer in time");
        assert_eq!(refused.unwrap_err().code, ErrorCode::Overloaded);
        // When a client leaves, another one can wait in its place.
        drop(waiting.pop());
        let mut again = None;
        while again.is_none() {
            let client = client();
            let next = runtime.spawn(async move { client.wait(&Caller::Local, wait()).await });
            again = timeout(soon, async {
                tokio::select! {
                    begun = waits.recv() => begun,
                    _ = next => None,
                }
            })
            .await
            .expect("in time");
        }
        drop(server);
    }
}
