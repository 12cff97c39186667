//! The thread and the store of a queue, and how they end.

use std::{io, sync::Arc, thread, time::Duration};

use futures::channel::oneshot;
use runtime_bridge::{Backend, ExecutorThread, StartError, ThreadConfig};
use taskqueue_store::TaskStore;

use crate::CloseError;

/// The executor thread of a queue, and its store if it has one.
///
/// Dropping it is the emergency path: calls under way are cut off, and what the store has accepted is written.
#[derive(Debug)]
pub(crate) struct Engine {
    // The fields are dropped in this order: the thread, the store, the folder.
    thread: ExecutorThread,
    store: Option<ClosedOnDrop>,
    #[cfg(feature = "mesh")]
    _folder: Option<crate::LockedFolder>,
}

/// A store that is closed when this is dropped. Others may still hold the store, and it must free its file all the
/// same.
#[derive(Debug)]
struct ClosedOnDrop(Arc<dyn TaskStore>);

impl Drop for ClosedOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Engine {
    /// Starts the thread. Blocks until the thread runs.
    pub(crate) fn start() -> Result<Self, StartError> {
        let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default().with_name("taskqueue"))?;
        Ok(Self {
            thread,
            store: None,
            #[cfg(feature = "mesh")]
            _folder: None,
        })
    }

    /// Adds a store, which is closed after the thread has ended.
    pub(crate) fn with_store(self, store: Arc<dyn TaskStore>) -> Self {
        Self { store: Some(ClosedOnDrop(store)), ..self }
    }

    /// Adds a locked folder, which is unlocked after the store was closed.
    #[cfg(feature = "mesh")]
    pub(crate) fn with_folder(self, folder: Option<crate::LockedFolder>) -> Self {
        Self { _folder: folder, ..self }
    }

    pub(crate) const fn thread(&self) -> &ExecutorThread {
        &self.thread
    }

    /// Ends the thread, then closes the store and unlocks the folder.
    pub(crate) async fn close(self) -> Result<(), CloseError> {
        let Self { thread, store, .. } = self;
        let ended = thread.shutdown(CLOSE_DEADLINE).await;
        // The store blocks while it writes, so it is dropped on another thread. If no thread can be started, it blocks
        // this one.
        drop(off_thread(move || drop(store)).await);
        ended?;
        Ok(())
    }
}

/// Runs blocking work on a new thread, since the runtime of the caller is not known.
///
/// # Errors
///
/// The error of the system when it gives no thread, and an error when the work panics.
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        let _asker_gone = sender.send(work());
    };
    thread::Builder::new().name("taskqueue-io".to_owned()).spawn(run)?;
    receiver.await.map_err(|_| io::Error::other("the thread panicked"))
}

/// The time that calls under way have to end when the queue is closed. Calls that do not wait take a fraction of it;
/// calls that wait are cut off.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
