use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::Connection;

use super::schema;

/// The connections that read a store's file, so that all of them can be closed for a while. Its clones share them.
///
/// SQLite keeps in the index of the log how far the log was copied into the file, and forgets it only when nobody has the
/// file open. After a failed sync it has to forget: see [`log::copy_anew`](super::log::copy_anew).
#[derive(Debug, Clone)]
pub(super) struct Readings(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    connections: Mutex<Vec<Weak<Slot>>>,
    /// Somebody waits for all of them to be closed.
    closing: AtomicBool,
}

/// `None` while it is closed.
type Slot = Mutex<Option<Connection>>;

impl Readings {
    pub(super) fn new(path: &Path) -> Self {
        let (connections, closing) = (Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Shared { path: path.to_owned(), connections, closing }))
    }

    /// Opens one.
    pub(super) fn open(&self) -> rusqlite::Result<Reading> {
        let mut connections = lock(&self.0.connections);
        let slot = Arc::new(Mutex::new(Some(schema::open_reader(&self.0.path)?)));
        connections.retain(|known| known.strong_count() > 0);
        connections.push(Arc::downgrade(&slot));
        drop(connections);
        Ok(Reading { slot, shared: Arc::clone(&self.0) })
    }

    /// Whether somebody waits for all of them to be closed: a long read should come to its end.
    pub(super) fn are_closing(&self) -> bool {
        self.0.closing.load(Ordering::Relaxed)
    }

    /// Waits for the reads under way, and keeps all connections closed while it does this. Then reads go on.
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

/// One connection that reads.
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
    // A read that panics changes nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
