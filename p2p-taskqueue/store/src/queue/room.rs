//! Decides what is refused while the disk is full, and when it is accepted again.

use std::time::Duration;

use super::{
    work::{Command, storage_full},
    writer::Writer,
};
use crate::{
    backend::{Fault, Room},
    engine::Now,
};

/// The state while the disk is full, or after it was nearly full when the store was opened. Commands that add rows are
/// accepted only as far as there is room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scarcity {
    /// Until this time every command that adds rows is refused.
    refuse_until: Duration,
    /// The length of the next refusal, in case the room that seems to be there is not.
    pause: Duration,
}

impl Scarcity {
    pub(super) const fn at_start() -> Self {
        Self { refuse_until: Duration::ZERO, pause: RECHECK }
    }
}

impl Writer {
    /// Notes that a transaction found the disk full. `added` says whether it had commands that add rows.
    pub(super) fn note_full(&mut self, fault: &Fault, added: bool, now: Now) {
        if !matches!(fault, Fault::Full(_)) {
            return;
        }
        tracing::error!("the store's disk is full: new tasks are refused until there is room");
        self.backend.spend_reserve();
        let Scarcity { refuse_until, pause } = self.pace.scarcity.unwrap_or(Scarcity::at_start());
        let held = if added { pause } else { RECHECK };
        // Each failure costs everybody a reopening of the rows, so room that is missing again and again is tried less
        // often.
        let pause = if added { (2 * pause).min(RECHECK_MAX) } else { pause };
        self.pace.scarcity = Some(Scarcity { refuse_until: refuse_until.max(now.monotonic + held), pause });
    }

    /// Whether commands that add rows are refused at present, whatever room there is.
    pub(super) fn refuses_what_adds(&self, now: Now) -> bool {
        self.pace.scarcity.is_some_and(|scarcity| scarcity.refuse_until > now.monotonic)
    }

    /// Refuses commands for which there is no room, while room is scarce. A command that adds rows has to fit beside
    /// the reserve. Any other command has to fit at all. Commands that free room are always accepted.
    pub(super) fn refuse_when_full(&mut self, commands: &mut Vec<Command>, now: Now) {
        if self.pace.scarcity.is_none() || commands.iter().all(|command| command.demand.room_bytes == 0) {
            return;
        }
        let Room::Scarce { adding, in_all } = self.room(adds(commands), now) else { return };
        let mut taken = 0;
        let refused = commands.extract_if(.., |command| {
            let after = command.demand.room_bytes + taken;
            let is_refused = after > taken && after > if command.demand.adds { adding } else { in_all };
            if !is_refused {
                taken = after;
            }
            is_refused
        });
        refused.for_each(|command| command.reply_to.answer(Err(storage_full())));
    }

    /// Sets the reserve aside again, as far as there is room.
    pub(super) fn refill_reserve(&mut self, now: Now) {
        if self.pace.scarcity.is_some() {
            self.room(true, now);
        }
    }

    /// Returns the room that is left, on the disk and in the file. With `refill`, the reserve is set aside again unless
    /// commands that add rows are refused at present.
    fn room(&mut self, refill: bool, now: Now) -> Room {
        let refuses_what_adds = self.refuses_what_adds(now);
        let file = match self.rows.as_mut().map(|rows| rows.file_room()) {
            Some(Ok(file)) => file,
            None => return Room::Ample,
            Some(Err(fault)) => {
                tracing::warn!(%fault, "how much room the store has cannot be read");
                return Room::Scarce { adding: 0, in_all: u64::MAX };
            }
        };
        if refuses_what_adds || !refill {
            return match self.backend.room(file) {
                Room::Scarce { in_all, .. } => Room::Scarce { adding: 0, in_all },
                Room::Ample => Room::Scarce { adding: 0, in_all: u64::MAX },
            };
        }
        let room = self.backend.set_aside(file);
        if room == Room::Ample {
            tracing::info!("the store's disk has room again");
            self.pace.scarcity = None;
        }
        room
    }

    /// Notes that commands which add rows were committed: the room was there, so the next refusal is short again.
    pub(super) fn note_added(&mut self, commands: &[Command]) {
        if adds(commands)
            && let Some(scarcity) = &mut self.pace.scarcity
        {
            scarcity.pause = RECHECK;
        }
    }
}

/// Whether any of the commands adds rows.
pub(super) fn adds(commands: &[Command]) -> bool {
    commands.iter().any(|command| command.demand.adds)
}

/// How long commands that add rows are refused after the disk was found full.
const RECHECK: Duration = Duration::from_secs(1);

/// The longest refusal, when the disk is found full again and again although there seemed to be room.
const RECHECK_MAX: Duration = Duration::from_secs(4);
