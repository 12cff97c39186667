use std::{pin::Pin, sync::Arc, task::Context};

use runtime_bridge::{Runtime, Sleep};

use super::{
    calls::SessionEnd,
    writer::{WriteBuffer, Written},
};
use crate::wire::{
    frame::FrameReader,
    limits::{PING_AFTER, PROGRESS_BYTES_MIN, SILENT_TICKS_MAX},
};

/// Notices when the peer is dead or does not read.
pub(super) struct Pulse {
    runtime: Arc<dyn Runtime>,
    /// Fires every [`PING_AFTER`]: one timer for the session's life, not one for each frame.
    tick: Sleep,
    has_heard: bool,
    /// The bytes that had been read at the last tick.
    read_at_tick: u64,
    /// Ticks in a row in which neither a frame nor [`PROGRESS_BYTES_MIN`] came from the peer.
    silent_ticks: u32,
    /// Ticks in a row in which bytes waited for the peer and it took none of them.
    stalled_ticks: u32,
    written_at_tick: Written,
}

impl Pulse {
    pub(super) fn new(runtime: Arc<dyn Runtime>) -> Self {
        let tick = runtime.sleep_until(runtime.now() + PING_AFTER);
        let written_at_tick = Written::default();
        Self { runtime, tick, has_heard: false, read_at_tick: 0, silent_ticks: 0, stalled_ticks: 0, written_at_tick }
    }

    /// Notes that a frame has come.
    pub(super) const fn heard(&mut self) {
        self.has_heard = true;
    }

    /// Handles the ticks that are due. Returns whether it is time to send a ping.
    ///
    /// # Errors
    ///
    /// The end of the session when the peer has been silent, or has read nothing, for too long.
    pub(super) fn beat(
        &mut self,
        writer: &WriteBuffer,
        reader: &mut FrameReader,
        cx: &mut Context<'_>,
    ) -> Result<bool, SessionEnd> {
        let mut asks = false;
        while Pin::new(&mut self.tick).poll(cx).is_ready() {
            self.tick = self.runtime.sleep_until(self.runtime.now() + PING_AFTER);
            reader.shrink();
            let written = writer.written();
            let is_stalled = !writer.is_empty() && written == self.written_at_tick;
            self.written_at_tick = written;
            self.stalled_ticks = if is_stalled { self.stalled_ticks + 1 } else { 0 };
            if self.stalled_ticks >= SILENT_TICKS_MAX {
                return Err(SessionEnd::Stalled);
            }
            let come = reader.bytes_read() - std::mem::replace(&mut self.read_at_tick, reader.bytes_read());
            if std::mem::take(&mut self.has_heard) || come >= PROGRESS_BYTES_MIN {
                self.silent_ticks = 0;
                continue;
            }
            self.silent_ticks += 1;
            if self.silent_ticks >= SILENT_TICKS_MAX {
                return Err(SessionEnd::Silent);
            }
            asks = true;
        }
        Ok(asks)
    }
}
