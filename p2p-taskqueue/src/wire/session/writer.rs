use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::AsyncWrite;

use crate::wire::limits::READ_AHEAD_BYTES;

/// The bytes on their way to the peer, and how far they have come.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    bytes: Vec<u8>,
    written: usize,
    /// Written since the session's start, without what is still in `bytes`.
    written_before: u64,
    needs_flush: bool,
}

impl WriteBuffer {
    /// Where to append frames.
    pub(super) const fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How much waits.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of the first byte of [`frames`](Self::frames), on the scale of [`written`](Self::written).
    pub(super) const fn start(&self) -> u64 {
        self.written_before
    }

    /// How many bytes the stream has taken since the session's start.
    pub(super) const fn written(&self) -> u64 {
        self.written_before + self.written as u64
    }

    /// Writes until nothing is left and everything is flushed.
    pub(super) fn poll_write_all<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = self.bytes.len().min(self.written + written);
            self.needs_flush = true;
        }
        self.forget_written();
        if self.needs_flush {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn forget_written(&mut self) {
        self.written_before += self.written as u64;
        self.written = 0;
        self.bytes.clear();
        if self.bytes.capacity() > READ_AHEAD_BYTES {
            self.bytes = Vec::new();
        }
    }
}
