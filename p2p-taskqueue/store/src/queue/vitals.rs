//! How a store stands between two transactions: what tests look at that no answer tells.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    time::Duration,
};

use super::{
    Core,
    store::COMMAND_BYTES_MAX,
    work::{Command, Message},
    writer::Writer,
};

/// How a store stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(unnameable_types, reason = "of a trait that is public; not there outside the tests of this crate")]
pub struct Vitals {
    /// The monotonic clock.
    pub now: Duration,
    /// When the writer does something unasked.
    pub next_due: Option<Duration>,
    /// What the writer remembers, if that was asked for: lines in alphabetical order, since maps have none.
    pub memory: String,
    /// What is in use.
    pub in_use: InUse,
}

/// What is bounded and is given back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(unnameable_types, reason = "of a trait that is public; not there outside the tests of this crate")]
pub struct InUse {
    /// Bytes of commands.
    pub command_bytes: usize,
    /// Claims that wait.
    pub parked: usize,
    /// Tasks that were given out to nobody and not taken back.
    pub given_out: usize,
    /// Reads that wait.
    pub reads: usize,
    /// Watches, and the tasks of all.
    pub watches: (usize, usize),
}

/// What a claim that waits holds of the bytes for commands, whatever it came with.
pub(crate) const CLAIM_BYTES: usize = size_of::<Command>();

impl Core {
    /// How the store stands, once the writer has had its turn; with what it remembers or without.
    pub(crate) fn vitals(&self, with_memory: bool) -> Vitals {
        let (reply, answered) = sync_channel(1);
        self.writer.send(Message::Look(Look { reply, with_memory })).expect("the writer is there");
        let vitals = answered.recv().expect("the writer answers");
        let in_use = InUse {
            command_bytes: COMMAND_BYTES_MAX - self.room.available_permits(),
            reads: self.readers.waiting(),
            watches: self.watches.counts(),
            ..vitals.in_use
        };
        Vitals { in_use, ..vitals }
    }
}

impl Writer {
    /// Answers those who asked how the writer stands, once it has had its turn and all answers are on their way.
    pub(super) fn answer_looks(&mut self) {
        for look in std::mem::take(&mut self.pace.looks) {
            self.syncer.when_idle();
            let memory = if look.with_memory { self.picture() } else { String::new() };
            let in_use = InUse { parked: self.parked.len(), given_out: self.given_out.len(), ..InUse::default() };
            let (now, next_due) = (self.opened.now().monotonic, self.next_due());
            drop(look.reply.send(Vitals { now, next_due, memory, in_use }));
        }
    }

    fn picture(&self) -> String {
        let text = format!("{:#?}", self.memory);
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

/// Somebody asks how the writer stands.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) reply: SyncSender<Vitals>,
    pub(super) with_memory: bool,
}
