//! What runs and keeps a queue, and how it ends.

use std::{io, sync::Arc, thread, time::Duration};

use futures::channel::oneshot;
use runtime_bridge::{Backend, ExecutorThread, StartError, ThreadConfig};
use taskqueue_store::TaskStore;

use crate::CloseError;

/// The executor thread of a queue and its store, if it has one. Dropping it is the emergency path: calls under way are cut
/// off, and what the store has accepted is written.
#[derive(Debug)]
pub(crate) struct Engine {
    // In the order in which they end.
    thread: ExecutorThread,
    store: Option<ClosedOnDrop>,
    #[cfg(feature = "mesh")]
    _folder: Option<crate::LockedFolder>,
}

/// Others may still hold the store when it is to let go of its file.
#[derive(Debug)]
struct ClosedOnDrop(Arc<dyn TaskStore>);

impl Drop for ClosedOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Engine {
    /// Starts the thread. It blocks until the thread runs.
    pub(crate) fn start() -> Result<Self, StartError> {
        let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default().with_name("taskqueue"))?;
        Ok(Self {
            thread,
            store: None,
            #[cfg(feature = "mesh")]
            _folder: None,
        })
    }

    /// Closes the store when it ends.
    pub(crate) fn with_store(self, store: Arc<dyn TaskStore>) -> Self {
        Self { store: Some(ClosedOnDrop(store)), ..self }
    }

    /// Lets go of the folder when it has ended.
    #[cfg(feature = "mesh")]
    pub(crate) fn with_folder(self, folder: Option<crate::LockedFolder>) -> Self {
        Self { _folder: folder, ..self }
    }

    pub(crate) const fn thread(&self) -> &ExecutorThread {
        &self.thread
    }

    /// Ends everything in order.
    pub(crate) async fn close(self) -> Result<(), CloseError> {
        let Self { thread, store, .. } = self;
        let ended = thread.shutdown(CLOSE_DEADLINE).await;
        // The store blocks while it writes. Without a thread for that it blocks this one.
        drop(off_thread(move || drop(store)).await);
        ended?;
        Ok(())
    }
}

/// Runs work that blocks on a thread of its own: the runtime of the caller is not known.
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        let _asker_gone = sender.send(work());
    };
    thread::Builder::new().name("taskqueue-io".to_owned()).spawn(run)?;
    receiver.await.map_err(|_| io::Error::other("the thread panicked"))
}

/// What is answered at once takes a fraction of this; waits are cut off.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
