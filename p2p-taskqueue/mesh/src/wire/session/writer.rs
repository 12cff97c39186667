use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::AsyncWrite;

use crate::wire::{frame::LENGTH_BYTES, limits::WRITE_BUFFER_KEPT_BYTES};

/// One of the two lanes of frames to the peer. Urgent frames are written before the next common frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Requests that keep or end leases, their answers, pings, pongs and goaways.
    Urgent,
    Common,
}

/// The bytes of each lane that the stream has taken since the session's start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    urgent: u64,
    common: u64,
}

impl Written {
    pub(super) const fn in_lane(self, lane: Lane) -> u64 {
        match lane {
            Lane::Urgent => self.urgent,
            Lane::Common => self.common,
        }
    }
}

/// The bytes that wait to be written to the peer, and how many were written.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    urgent: Frames,
    common: Frames,
    needs_flush: bool,
}

impl WriteBuffer {
    /// Returns the buffer of the lane, to which whole frames may be appended.
    pub(super) const fn frames(&mut self, lane: Lane) -> &mut Vec<u8> {
        match lane {
            Lane::Urgent => &mut self.urgent.bytes,
            Lane::Common => &mut self.common.bytes,
        }
    }

    /// Returns how many bytes wait to be written.
    pub(super) const fn len(&self) -> usize {
        self.urgent.len() + self.common.len()
    }

    /// Returns how many bytes of one lane wait to be written.
    pub(super) const fn len_of(&self, lane: Lane) -> usize {
        match lane {
            Lane::Urgent => self.urgent.len(),
            Lane::Common => self.common.len(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes of the lane came before the first byte of [`frames`](Self::frames), counted as
    /// [`written`](Self::written) counts.
    pub(super) const fn start(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Urgent => self.urgent.written_before,
            Lane::Common => self.common.written_before,
        }
    }

    pub(super) const fn written(&self) -> Written {
        Written { urgent: self.urgent.written_in_all(), common: self.common.written_in_all() }
    }

    /// Writes until nothing is left and everything is flushed.
    pub(super) fn poll_write_all<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.poll_write(io, cx);
        self.urgent.forget_written();
        self.common.forget_written();
        ready!(polled)?;
        if self.needs_flush {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<S: AsyncWrite + Unpin>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let has_urgent = self.urgent.len() > 0;
            let (frames, rest) = if !has_urgent {
                let rest = self.common.rest();
                (&mut self.common, rest)
            } else if self.common.is_within_frame() {
                let rest = self.common.rest_of_frame();
                (&mut self.common, rest)
            } else {
                let rest = self.urgent.rest();
                (&mut self.urgent, rest)
            };
            let Some(bytes) = frames.bytes.get(rest).filter(|bytes| !bytes.is_empty()) else {
                return Poll::Ready(Ok(()));
            };
            let written = ready!(Pin::new(&mut *io).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            frames.advance(written);
            self.needs_flush = true;
        }
    }
}

/// The frames of one lane.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    written: usize,
    /// The end of the frame that was begun last. It is never before `written`.
    frame_end: usize,
    /// The bytes written since the session's start that are no longer in `bytes`.
    written_before: u64,
}

impl Frames {
    const fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    const fn written_in_all(&self) -> u64 {
        self.written_before + self.written as u64
    }

    const fn is_within_frame(&self) -> bool {
        self.written < self.frame_end
    }

    const fn rest(&self) -> std::ops::Range<usize> {
        self.written..self.bytes.len()
    }

    const fn rest_of_frame(&self) -> std::ops::Range<usize> {
        self.written..self.frame_end
    }

    fn advance(&mut self, written: usize) {
        self.written = self.bytes.len().min(self.written + written);
        while self.frame_end < self.written {
            let header = self.bytes.get(self.frame_end..).and_then(<[u8]>::first_chunk::<LENGTH_BYTES>);
            // The header is there, since only whole frames are appended.
            let content = header.map_or(0, |length| u32::from_be_bytes(*length) as usize);
            self.frame_end = self.bytes.len().min(self.frame_end + LENGTH_BYTES + content);
        }
    }

    fn forget_written(&mut self) {
        if self.len() == 0 {
            self.bytes.clear();
            if self.bytes.capacity() > WRITE_BUFFER_KEPT_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.written > self.len() {
            // Without this, everything would be kept for a peer that never quite catches up. The part that moves is
            // shorter than the part that is removed, so each byte moves less than once on average.
            self.bytes.drain(..self.written);
        } else {
            return;
        }
        self.written_before += self.written as u64;
        self.frame_end -= self.written;
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that takes this many bytes and is then pending. It keeps what it took.
    struct Takes(usize, Vec<u8>);

    impl AsyncWrite for Takes {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            self.1.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn frame(content: &[u8]) -> Vec<u8> {
        [&u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }

    #[test]
    fn what_a_peer_has_read_is_not_kept_while_it_never_catches_up() {
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        let mut writer = WriteBuffer::default();
        let one = frame(&[7; 996]);
        writer.frames(Lane::Common).extend_from_slice(&one);
        for round in 1..=10_000_u64 {
            writer.frames(Lane::Common).extend_from_slice(&one);
            assert!(writer.poll_write_all(&mut Takes(1_000, Vec::new()), &mut cx).is_pending());
            assert_eq!((writer.len(), writer.written().common), (1_000, round * 1_000));
            assert!(writer.common.bytes.len() <= 4_000, "{} bytes are kept", writer.common.bytes.len());
        }
        assert!(writer.common.bytes.capacity() <= 16_000);
        assert!(writer.poll_write_all(&mut Takes(1_000, Vec::new()), &mut cx).is_ready());
        assert_eq!(writer.start(Lane::Common), 10_001_000);
    }

    #[test]
    fn urgent_frames_go_between_frames_wherever_the_stream_stops() {
        let (first, second, urgent) = (frame(&[1; 30]), frame(&[2; 30]), frame(&[3; 5]));
        let in_order = [first.as_slice(), &second].concat();
        for taken in 0..in_order.len() {
            let mut cx = Context::from_waker(futures::task::noop_waker_ref());
            let (mut writer, mut io) = (WriteBuffer::default(), Takes(taken, Vec::new()));
            writer.frames(Lane::Common).extend_from_slice(&in_order);
            assert!(writer.poll_write_all(&mut io, &mut cx).is_pending());
            writer.frames(Lane::Urgent).extend_from_slice(&urgent);
            // The stream takes three bytes in each round, so the urgent frame too is taken in pieces.
            for _ in 0..200 {
                io.0 += 3;
                let _pending = writer.poll_write_all(&mut io, &mut cx);
            }
            let expected = match taken {
                0 => [urgent.as_slice(), &first, &second].concat(),
                1..=34 => [first.as_slice(), &urgent, &second].concat(),
                _ => [first.as_slice(), &second, &urgent].concat(),
            };
            assert_eq!(io.1, expected, "after {taken}");
            assert_eq!(writer.written(), Written { urgent: 9, common: 68 });
            assert!(writer.is_empty());
        }
    }
}
