use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::{
    files::{companion, private_file},
    meta::StoreName,
};

/// A small file beside the store that says which batch was the last one on stable storage, and whether the store was
/// closed in order.
///
/// SQLite takes a damaged end of its log for the end of the log, so the commits there would be lost without notice. The
/// note shows such a loss. It is written after each sync and never synced itself, so it may be behind, but never ahead.
/// Its two slots are written in turn, so that one damaged byte does not make the note unreadable.
#[derive(Debug)]
pub(super) struct Note {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    name: StoreName,
    /// The number of writes. The slot with the highest number is the last one.
    number: u64,
    batch: u64,
    /// Whether a failure to write the note was logged; this is done only once.
    told: bool,
}

/// The content of a note.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// The last batch that is known to have been on stable storage.
    pub(super) batch: u64,
    /// Whether the store was closed in order, with that batch as its last one.
    pub(super) clean: bool,
    number: u64,
}

impl Note {
    /// Reads the note of the store with this name. A note that is damaged, or belongs to another store, counts as
    /// empty.
    pub(super) fn open(path: &Path, name: StoreName) -> io::Result<(Self, Noted)> {
        let path = companion(path, NOTE);
        let file = private_file(&path)?;
        let bytes = read(&file)?;
        let slots: Vec<_> = bytes.chunks(SLOT_LEN).map(|slot| read_slot(slot, Some(name))).collect();
        let sound = slots.iter().flatten().copied();
        let last = sound.clone().max_by_key(|noted| noted.number).unwrap_or_default();
        let damaged = slots.iter().any(Option::is_none) && bytes.iter().any(|byte| *byte != 0);
        if damaged {
            tracing::warn!(path = %path.display(), "the note of what is on the disk is damaged, or another store's");
        }
        let batch = sound.map(|noted| noted.batch).max().unwrap_or(0);
        let noted = Noted { batch, clean: last.clean && !damaged, ..last };
        let state = State { file, name, number: last.number, batch, told: false };
        Ok((Self { state: Mutex::new(state) }, noted))
    }

    /// The name of the store.
    pub(super) fn name(&self) -> StoreName {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).name
    }

    /// Notes that everything up to this batch is on stable storage.
    pub(super) fn synced(&self, batch: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Several syncs may run at once, and the later one may end first.
        if batch > state.batch {
            state.write(batch, false);
        }
    }

    /// Notes that the store is in use, and that this batch is on stable storage.
    pub(super) fn opened(&self, batch: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).write(batch, false);
    }

    /// Notes that the store was closed in order, and that this was its last batch.
    pub(super) fn closed(&self, batch: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).write(batch, true);
    }
}

impl State {
    fn write(&mut self, batch: u64, clean: bool) {
        self.number += 1;
        self.batch = batch;
        let slot = slot(self.name, self.number, batch, clean);
        let at = self.number % SLOTS * SLOT_BYTES;
        let written = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(&slot));
        if let Err(error) = written
            && !self.told
        {
            self.told = true;
            tracing::warn!(%error, "failed to note what is on the disk");
        }
    }
}

/// Returns the last batch in the note, whatever store it belongs to; `None` when the note says nothing.
pub(super) fn batch_of_any(path: &Path) -> io::Result<Option<u64>> {
    let file = match File::open(companion(path, NOTE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let bytes = read(&file)?;
    let said = bytes.chunks(SLOT_LEN).filter_map(|slot| read_slot(slot, None)).filter(|noted| noted.number > 0);
    Ok(said.map(|noted| noted.batch).max())
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(SLOT_BYTES * SLOTS).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn slot(name: StoreName, number: u64, batch: u64, clean: bool) -> Vec<u8> {
    let mut slot = [MAGIC.as_slice(), &name, &number.to_le_bytes(), &batch.to_le_bytes(), &[u8::from(clean)]].concat();
    slot.extend(crc32fast::hash(&slot).to_le_bytes());
    slot.resize(SLOT_LEN, 0);
    slot
}

/// Reads a slot. Returns `None` when it is no slot, or not one of this store. A slot that was never written reads as
/// empty.
fn read_slot(bytes: &[u8], name: Option<StoreName>) -> Option<Noted> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(Noted::default());
    }
    let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let (number, batch) = (word(NUMBER_AT)?, word(BATCH_AT)?);
    let clean = *bytes.get(CLEAN_AT)? == 1;
    let name = name.or_else(|| bytes.get(NAME_AT..)?.first_chunk().copied())?;
    (bytes == slot(name, number, batch, clean)).then_some(Noted { batch, clean, number })
}

/// The suffix of the note's file name.
pub(super) const NOTE: &str = "-synced";
const MAGIC: [u8; 8] = *b"tmsynced";
const NAME_AT: usize = 8;
const NUMBER_AT: usize = 24;
const BATCH_AT: usize = 32;
const CLEAN_AT: usize = 40;

/// The slots are written in turn.
const SLOTS: u64 = 2;

/// The unit in which disks write, in bytes. So each slot is written as a whole, apart from the other one.
const SLOT_LEN: usize = 512;
const SLOT_BYTES: u64 = SLOT_LEN as u64;
