use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::Connection;

use super::schema;

/// The connections that read a store's file. All of them can be closed for a while. Clones share them.
///
/// SQLite keeps in the index of the log how far the log was copied into the file, and forgets that only when nobody has
/// the file open. After a failed sync it has to forget: see [`log::copy_anew`](super::log::copy_anew).
#[derive(Debug, Clone)]
pub(super) struct Readings(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    connections: Mutex<Vec<Weak<Slot>>>,
    /// Whether a caller waits until all connections are closed.
    closing: AtomicBool,
}

/// `None` while the connection is closed.
type Slot = Mutex<Option<Connection>>;

impl Readings {
    pub(super) fn new(path: &Path) -> Self {
        let (connections, closing) = (Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Shared { path: path.to_owned(), connections, closing }))
    }

    /// Opens a connection.
    pub(super) fn open(&self) -> rusqlite::Result<Reading> {
        let mut connections = lock(&self.0.connections);
        let slot = Arc::new(Mutex::new(Some(schema::open_reader(&self.0.path)?)));
        connections.retain(|known| known.strong_count() > 0);
        connections.push(Arc::downgrade(&slot));
        drop(connections);
        Ok(Reading { slot, shared: Arc::clone(&self.0) })
    }

    /// Returns whether a caller waits until all connections are closed. Then a long read should end.
    pub(super) fn are_closing(&self) -> bool {
        self.0.closing.load(Ordering::Relaxed)
    }

    /// Waits for the reads that are under way, and keeps all connections closed while `meanwhile` runs. Later reads
    /// open new ones.
    pub(super) fn closed<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        self.0.closing.store(true, Ordering::Relaxed);
        let connections = lock(&self.0.connections);
        let slots: Vec<_> = connections.iter().filter_map(Weak::upgrade).collect();
        let mut held: Vec<_> = slots.iter().map(|slot| lock(slot)).collect();
        self.0.closing.store(false, Ordering::Relaxed);
        held.iter_mut().for_each(|connection| drop(connection.take()));
        meanwhile()
    }
}

/// A connection that reads.
#[derive(Debug)]
pub(super) struct Reading {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

impl Reading {
    /// Reads, on a new connection if the last one was closed.
    pub(super) fn with<T>(&self, read: impl FnOnce(&mut Connection) -> T) -> rusqlite::Result<T> {
        let mut slot = lock(&self.slot);
        let connection = match slot.take() {
            Some(connection) => connection,
            None => schema::open_reader(&self.shared.path)?,
        };
        Ok(read(slot.insert(connection)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A read that panics has changed nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
