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
        let polled = self.poll_write(io, cx);
        self.forget_written();
        ready!(polled)?;
        if self.needs_flush {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<S: AsyncWrite + Unpin>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = self.bytes.len().min(self.written + written);
            self.needs_flush = true;
        }
        Poll::Ready(Ok(()))
    }

    fn forget_written(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            if self.bytes.capacity() > READ_AHEAD_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.written > self.len() {
            // A peer that never quite catches up would else have everything kept that it has read. What moves is shorter
            // than what goes, so each byte moves less than once on average.
            self.bytes.drain(..self.written);
        } else {
            return;
        }
        self.written_before += self.written as u64;
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes in all, then waits.
    struct Takes(usize);

    impl AsyncWrite for Takes {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_a_peer_has_read_is_not_kept_while_it_never_catches_up() {
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        let mut writer = WriteBuffer::default();
        writer.frames().extend_from_slice(&[7; 1_000]);
        for round in 1..=10_000_u64 {
            writer.frames().extend_from_slice(&[7; 1_000]);
            assert!(writer.poll_write_all(&mut Takes(1_000), &mut cx).is_pending());
            assert_eq!((writer.len(), writer.written()), (1_000, round * 1_000));
            assert!(writer.bytes.len() <= 4_000, "{} bytes are kept", writer.bytes.len());
        }
        assert!(writer.bytes.capacity() <= 16_000);
        assert!(writer.poll_write_all(&mut Takes(1_000), &mut cx).is_ready());
        assert_eq!(writer.start(), 10_001_000);
    }
}
