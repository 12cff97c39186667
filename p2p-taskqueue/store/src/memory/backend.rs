use std::{
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{reads::MemoryReads, rows::MemoryRows, tables::Tables};
use crate::{Backend, Fault, Log, Reads, Rows, StoreError};

/// Rows in memory. Clones share them, and the rows last as long as one of the clones.
///
/// Nothing here bounds the rows; the bound on the tasks of a store does.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryBackend {
    tables: Shared,
}

#[cfg(test)]
impl MemoryBackend {
    /// Returns all committed rows as a text.
    pub(crate) fn picture(&self) -> String {
        self.tables.read().picture()
    }
}

impl Backend for MemoryBackend {
    fn open_rows(&self) -> Result<Box<dyn Rows>, Fault> {
        Ok(Box::new(MemoryRows::new(self.tables.clone())))
    }

    fn open_log(&self) -> io::Result<Option<Box<dyn Log>>> {
        Ok(None)
    }

    fn open_reads(&self) -> Result<Box<dyn Reads>, StoreError> {
        Ok(Box::new(MemoryReads::new(self.tables.clone())))
    }
}

/// The committed rows. Readers hold the lock for one answer, the writer for the moment of a commit.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<RwLock<Tables>>);

impl Shared {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
