use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::files::{companion, free_on_disk, private_file, remove_if_any};
use crate::{FileRoom, Room};

/// Disk space that is given up when the disk is full, so that completions go on while submits are refused.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// When the disk last had less room than it reported. That happens where a user's share of the disk is limited.
    failed: Mutex<Option<Instant>>,
}

impl Reserve {
    pub(super) fn new(store: &Path) -> Self {
        Self { path: companion(store, "-reserve"), failed: Mutex::default() }
    }

    /// Sets aside as much as there is room for, beside the room that the file still needs to grow.
    pub(super) fn set_aside(&self, file: FileRoom) -> Room {
        let (aside, wanted, room) = self.look(file);
        match self.lengthen(aside, wanted) {
            Ok(()) => room,
            Err(error) => {
                tracing::debug!(%error, "the disk has less room than it said");
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                self.room(file)
            }
        }
    }

    /// Returns the room that is left, without setting anything aside.
    pub(super) fn room(&self, file: FileRoom) -> Room {
        let (aside, wanted, room) = self.look(file);
        match room {
            room if wanted <= aside => room,
            // The reserve is not set aside, so there may be only the room for completions.
            Room::Ample => Room::Scarce { adding: 0, in_all: u64::MAX },
            Room::Scarce { in_all, .. } => Room::Scarce { adding: 0, in_all },
        }
    }

    /// Returns how many bytes are set aside, how many should be, and the room that is left then.
    fn look(&self, file: FileRoom) -> (u64, u64, Room) {
        let aside = self.path.metadata().map_or(0, |file| file.len());
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = failed.is_none_or(|failed| failed.elapsed() >= FAILED_RECHECK);
        // Where the system does not report the free room, only writing shows it.
        let free = if is_known { free_on_disk(&self.path).unwrap_or(u64::MAX) } else { 0 };
        match share(file, aside, free) {
            (wanted, Room::Scarce { adding, .. }) if !is_known => {
                (aside, wanted, Room::Scarce { adding, in_all: u64::MAX })
            }
            (wanted, room) => (aside, wanted, room),
        }
    }

    fn lengthen(&self, from: u64, to: u64) -> io::Result<()> {
        if to <= from {
            return Ok(());
        }
        let mut file = private_file(&self.path)?;
        file.seek(SeekFrom::Start(from))?;
        // Zeros are written, because a hole in a file takes no room.
        let written = io::copy(&mut io::repeat(0).take(to - from), &mut file).and_then(|_| file.sync_all());
        if written.is_err() {
            // The reserve goes back to its earlier length.
            file.set_len(from)?;
        }
        written
    }

    /// Gives the reserve up.
    pub(super) fn spend(&self) {
        if let Err(error) = remove_if_any(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "failed to free the reserve");
        }
    }
}

/// Returns how long the reserve should be, and the room that is left then. `aside` bytes are set aside, and `free`
/// bytes are free on the disk.
///
/// Where the file itself has room, that part of the reserve need not be set aside: free pages serve completions just as
/// well, and nobody else can take them.
fn share(file: FileRoom, aside: u64, free: u64) -> (u64, Room) {
    let on_disk = aside.saturating_add(free);
    if on_disk >= RESERVE_BYTES.saturating_add(file.to_grow).saturating_add(SPARE_BYTES) {
        return (RESERVE_BYTES, Room::Ample);
    }
    // Without room for the growth of the file, the log cannot be copied into it, and then has no end.
    let Some(spare) = on_disk.checked_sub(file.to_grow) else {
        return (aside, Room::Scarce { adding: 0, in_all: 0 });
    };
    let in_all = file.free.saturating_add(spare);
    // A store on a small disk keeps less. Otherwise it could not go on when it is empty again.
    let kept = RESERVE_BYTES.min(file.bytes.saturating_add(spare) / 4 * 3);
    let wanted = kept.saturating_sub(file.free).next_multiple_of(STEP_BYTES).min(RESERVE_BYTES);
    // The bytes that are left in the file and on the disk after the reserve was set aside.
    let adding = in_all.saturating_sub(kept.max(wanted.saturating_add(file.free.min(kept))));
    let in_all = in_all.saturating_sub(LAST_BYTES);
    (if adding == 0 { aside } else { wanted.max(aside) }, Room::Scarce { adding, in_all })
}

/// The length of the reserve in bytes: the whole log, which is copied into the database as soon as there is room for
/// it, and half as much again for what completions write. It is small enough not to be noticed.
pub(super) const RESERVE_BYTES: u64 = if cfg!(test) { 768 * 1024 } else { 24 * 1024 * 1024 };

/// The room in bytes that the disk must have beyond the reserve to count as ample, so that it is not short again at
/// once.
const SPARE_BYTES: u64 = if cfg!(test) { 32 * 1024 } else { 1024 * 1024 };

/// Other users of the disk notice when it is written until it is full, so this is not done more often than this.
const FAILED_RECHECK: Duration = Duration::from_secs(1);

/// The reserve is set aside in steps of this many bytes, because each step costs a sync.
const STEP_BYTES: u64 = SPARE_BYTES;

/// The bytes that are left for operations such as purges and cancellations. They free room but write to the log, so
/// they need this beside the room of the log itself.
const LAST_BYTES: u64 = SPARE_BYTES;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn adding(file: FileRoom, aside: u64, free: u64) -> Option<u64> {
        match share(file, aside, free).1 {
            Room::Ample => None,
            Room::Scarce { adding, .. } => Some(adding),
        }
    }

    #[test]
    fn room_in_the_file_stands_for_room_on_the_disk() {
        let file = |free| FileRoom { bytes: 64 * MIB, free, to_grow: 0 };
        assert_eq!(adding(file(0), 0, 0), Some(0));
        assert_eq!(adding(file(RESERVE_BYTES), 0, 0), Some(0));
        assert_eq!(adding(file(RESERVE_BYTES + 1), 0, 0), Some(1));
        assert_eq!(adding(file(40 * MIB), 0, 0), Some(40 * MIB - RESERVE_BYTES));
        assert_eq!(adding(file(0), 0, 2 * RESERVE_BYTES), None);
        assert_eq!(adding(file(0), RESERVE_BYTES, SPARE_BYTES), None);
        // The growth of the file to the length that the log asks for comes first.
        let grows = FileRoom { to_grow: RESERVE_BYTES, ..file(40 * MIB) };
        assert_eq!(adding(grows, 0, RESERVE_BYTES - 1), Some(0));
        assert_eq!(adding(grows, 0, RESERVE_BYTES), Some(40 * MIB - RESERVE_BYTES));
    }

    #[test]
    fn a_small_store_is_let_go_on_when_it_is_empty_again() {
        let file = FileRoom { bytes: RESERVE_BYTES / 2, free: RESERVE_BYTES / 2 - 4096, to_grow: 0 };
        assert_eq!(adding(file, 0, 0), Some(RESERVE_BYTES / 8 - 4096));
    }

    proptest! {
        #[test]
        fn what_may_be_added_leaves_the_reserve_and_room_for_the_log(
            bytes in 0..4 * RESERVE_BYTES, free_part in 0.0..1.0_f64, to_grow in 0..2 * RESERVE_BYTES,
            aside in 0..=RESERVE_BYTES, free in 0..3 * RESERVE_BYTES,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of it")]
            let file = FileRoom { bytes, free: (bytes as f64 * free_part) as u64, to_grow };
            let (wanted, room) = share(file, aside, free);
            prop_assert!(wanted <= RESERVE_BYTES && wanted <= aside + free);
            match room {
                Room::Ample => prop_assert!(aside + free >= RESERVE_BYTES + to_grow),
                Room::Scarce { adding: 0, .. } => prop_assert_eq!(wanted, aside, "nothing is to be gained"),
                Room::Scarce { adding, in_all } => {
                    prop_assert!(file.free + aside + free - to_grow - adding >= RESERVE_BYTES.min((bytes + aside + free - to_grow) / 4 * 3));
                    prop_assert!(aside + free - wanted >= to_grow || wanted == aside);
                    prop_assert!(in_all <= file.free + aside + free - to_grow);
                }
            }
        }
    }
}
