//! The state of a store between two transactions, as far as no answer shows it. Tests look at it.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    time::Duration,
};

use super::{
    Core,
    explain::KINDS_ASKED_MAX,
    store::COMMAND_BYTES_MAX,
    work::{Command, Message},
    writer::Writer,
};

/// The state of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(unnameable_types, reason = "of a trait that is public; not there outside the tests of this crate")]
pub struct Vitals {
    /// The time on the monotonic clock.
    pub now: Duration,
    /// When the writer next does something that nobody asked for.
    pub next_due: Option<Duration>,
    /// The writer's memory, if it was asked for: the lines are in alphabetical order, because maps have no order.
    pub memory: String,
    /// The bounded resources in use.
    pub in_use: InUse,
}

/// Bounded resources that are in use and will be given back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(unnameable_types, reason = "of a trait that is public; not there outside the tests of this crate")]
pub struct InUse {
    /// Bytes of commands.
    pub command_bytes: usize,
    /// Kinds of tasks in questions.
    pub kinds_asked: usize,
    /// Claims that wait for a task.
    pub parked: usize,
    /// Tasks that were given out to callers that had gone away, and were not taken back yet.
    pub given_out: usize,
    /// Queries that wait.
    pub reads: usize,
    /// The number of watches, and the number of tasks of all of them.
    pub watches: (usize, usize),
}

/// The bytes that a waiting claim holds of the bytes for commands, whatever it came with.
pub(crate) const CLAIM_BYTES: usize = size_of::<Command>();

impl Core {
    /// Returns the state of the store after the writer's next turn; the writer's memory is included on request.
    pub(crate) fn vitals(&self, with_memory: bool) -> Vitals {
        let (reply, answered) = sync_channel(1);
        self.writer.send(Message::Look(Look { reply, with_memory })).expect("the writer is there");
        let vitals = answered.recv().expect("the writer answers");
        let in_use = InUse {
            command_bytes: COMMAND_BYTES_MAX - self.room.available_permits(),
            kinds_asked: KINDS_ASKED_MAX - self.questions.available_permits(),
            reads: self.readers.waiting(),
            watches: self.watches.counts(),
            ..vitals.in_use
        };
        Vitals { in_use, ..vitals }
    }
}

impl Writer {
    /// Answers the tests that asked for the state of the writer. The turn is done then, and all answers have been
    /// given.
    pub(super) fn answer_looks(&mut self) {
        for look in std::mem::take(&mut self.pace.looks) {
            self.syncer.when_idle();
            let memory = if look.with_memory { self.picture() } else { String::new() };
            let in_use = InUse { parked: self.parked.len(), given_out: self.given_out.len(), ..InUse::default() };
            let (now, next_due) = (self.setup.now().monotonic, self.next_due());
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

/// A test's request for the state of the writer.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) reply: SyncSender<Vitals>,
    pub(super) with_memory: bool,
}
