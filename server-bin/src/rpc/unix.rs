//! The Unix socket in the data folder, over which this machine's clients ask the node.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use p2p_taskqueue::{TaskQueue, serve_local};
use runtime_bridge::{JobHandle, Runtime, RuntimeExt as _};
use rustix::{fs::Mode, process::umask};
use tokio::{net::UnixListener, sync::Semaphore};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::failure::Failure;

/// The node's side of the socket. Dropping it closes the socket and every connection on it.
#[derive(Debug)]
pub(crate) struct RpcServer {
    path: PathBuf,
    /// Dropping the handle ends the accept loop, and that the connections.
    _accepting: JobHandle<()>,
}

impl RpcServer {
    /// Listens on the socket. Called on the executor thread, with the data folder locked: a socket that is there is of a
    /// node that was killed.
    pub(crate) fn bind(path: &Path, queue: Arc<dyn TaskQueue>, runtime: &Arc<dyn Runtime>) -> Result<Self, Failure> {
        let listener = listen(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        let accepting = runtime.spawn(accept(listener, queue, Arc::clone(runtime)));
        Ok(Self { path: path.to_owned(), _accepting: accepting })
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket was gone already");
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The folder may be open to others: the socket must not be, from its first moment.
    let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

async fn accept(listener: UnixListener, queue: Arc<dyn TaskQueue>, runtime: Arc<dyn Runtime>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut sessions: Vec<JobHandle<()>> = Vec::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let serve = serve_local(stream.compat(), Arc::clone(&queue), Arc::clone(&runtime));
                sessions.retain(|session| !session.is_finished());
                sessions.push(runtime.spawn(async move {
                    serve.await;
                    drop(place);
                }));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client on the socket");
                runtime.sleep_until(runtime.now() + ACCEPT_PAUSE).await;
            }
        }
    }
}

/// This machine's own commands and programs; each holds two file descriptors.
const CONNECTIONS_MAX: usize = 256;

/// Out of file descriptors: some will be free in a moment.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
