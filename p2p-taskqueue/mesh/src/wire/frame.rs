//! Frames: a length of four bytes, big-endian, followed by that many bytes of JSON.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::io::AsyncRead;

use super::limits::READ_BUFFER_BYTES;

pub(crate) const LENGTH_BYTES: usize = 4;

/// Why no further frame can be read. The connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame without content")]
    Empty,
    #[error("a frame of {bytes} bytes, the limit is {bytes_max}")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("the connection ended within a frame")]
    Truncated,
    #[error("a frame that is not understood: {0}")]
    Malformed(String),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// Cuts a byte stream into frames.
///
/// The buffer doubles when received bytes fill it. It never grows because a peer announced a long frame.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// All bytes are initialised. The received bytes that are not consumed yet are in `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    bytes_max: usize,
    /// Bytes received since the start of the stream.
    bytes_read: u64,
}

impl FrameReader {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            buffer: vec![0; READ_BUFFER_BYTES.min(LENGTH_BYTES + bytes_max)],
            start: 0,
            end: 0,
            bytes_max,
            bytes_read: 0,
        }
    }

    /// Sets the longest content, in bytes, of the frames that follow.
    pub(crate) const fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Reads the content of the next frame. Returns `None` when the stream ends between two frames.
    pub(crate) fn poll_frame<S: AsyncRead + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<&[u8]>, FrameError>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Poll::Ready(Ok(self.buffer.get(frame)));
            }
            if ready!(self.poll_fill(io, cx))? == 0 {
                let end = if self.start == self.end { Ok(None) } else { Err(FrameError::Truncated) };
                return Poll::Ready(end);
            }
        }
    }

    /// Returns how many bytes were received since the start of the stream.
    pub(crate) const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Returns the size of the buffer in bytes.
    #[cfg(any(test, fuzzing))]
    pub(crate) const fn memory(&self) -> usize {
        self.buffer.len()
    }

    /// Shrinks the buffer after a large frame.
    pub(crate) fn shrink(&mut self) {
        if self.start == self.end && self.buffer.len() > READ_BUFFER_BYTES {
            *self = Self { bytes_read: self.bytes_read, ..Self::new(self.bytes_max) };
        }
    }

    fn take_frame(&mut self) -> Result<Option<Range<usize>>, FrameError> {
        let come = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some((length, content)) = come.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes(*length) as usize;
        if bytes == 0 {
            return Err(FrameError::Empty);
        }
        if bytes > self.bytes_max {
            return Err(FrameError::TooLong { bytes, bytes_max: self.bytes_max });
        }
        if content.len() < bytes {
            return Ok(None);
        }
        let first = self.start + LENGTH_BYTES;
        self.start = first + bytes;
        Ok(Some(first..self.start))
    }

    fn poll_fill<S: AsyncRead + Unpin>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = ready!(Pin::new(io).poll_read(cx, room))?;
        self.end = self.buffer.len().min(self.end + read);
        self.bytes_read += read as u64;
        Poll::Ready(Ok(read))
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let crowded = self.buffer.len() - self.end < self.buffer.len() / 4;
        if crowded && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            let doubled = self.buffer.len() * 2;
            self.buffer.resize(doubled.min(LENGTH_BYTES + self.bytes_max).max(self.end + 1), 0);
        }
    }
}

/// Appends a frame whose content `write` appends. Nothing is appended when `write` fails or the content is longer than
/// `bytes_max`.
pub(crate) fn put_frame(
    out: &mut Vec<u8>,
    bytes_max: usize,
    write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let written = write(out).map_err(|error| FrameError::Malformed(error.to_string()));
    let bytes = out.len() - start - LENGTH_BYTES;
    let length = match (written, u32::try_from(bytes)) {
        (Ok(()), Ok(length)) if bytes <= bytes_max => length,
        (Err(error), _) => {
            out.truncate(start);
            return Err(error);
        }
        (Ok(()), _) => {
            out.truncate(start);
            return Err(FrameError::TooLong { bytes, bytes_max });
        }
    };
    if let Some(header) = out.get_mut(start..start + LENGTH_BYTES) {
        header.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A stream that gives its chunks one by one and then ends.
    struct Chunks(VecDeque<Vec<u8>>);

    impl AsyncRead for Chunks {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
            let Some(mut chunk) = self.0.pop_front() else { return Poll::Ready(Ok(0)) };
            let taken = chunk.len().min(room.len());
            room[..taken].copy_from_slice(&chunk[..taken]);
            if taken < chunk.len() {
                self.0.push_front(chunk.split_off(taken));
            }
            Poll::Ready(Ok(taken))
        }
    }

    fn chunks(bytes: &[u8], sizes: &[usize]) -> Chunks {
        let (mut rest, mut chunks) = (bytes, VecDeque::new());
        let mut sizes = sizes.iter().copied().cycle();
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
            chunks.push_back(chunk.to_vec());
            rest = more;
        }
        Chunks(chunks)
    }

    fn read_all(reader: &mut FrameReader, io: &mut Chunks) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        let mut frames = Vec::new();
        loop {
            match reader.poll_frame(io, &mut cx) {
                Poll::Ready(Ok(Some(frame))) => frames.push(frame.to_vec()),
                Poll::Ready(Ok(None)) => return (frames, Ok(())),
                Poll::Ready(Err(error)) => return (frames, Err(error)),
                Poll::Pending => panic!("the chunks are always ready"),
            }
        }
    }

    fn frame(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_frame(&mut out, usize::MAX, |out| {
            out.extend_from_slice(content);
            Ok(())
        })
        .unwrap();
        out
    }

    proptest! {
        #[test]
        fn frames_survive_any_chunking(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20_000), 0..6),
            sizes in prop::collection::vec(1_usize..30_000, 1..5),
        ) {
            let bytes: Vec<u8> = contents.iter().flat_map(|content| frame(content)).collect();
            let (frames, end) = read_all(&mut FrameReader::new(20_000), &mut chunks(&bytes, &sizes));
            prop_assert!(end.is_ok());
            prop_assert_eq!(frames, contents);
        }

        #[test]
        fn arbitrary_bytes_neither_panic_nor_pile_up(
            bytes in prop::collection::vec(any::<u8>(), 0..50_000),
            sizes in prop::collection::vec(1_usize..9_000, 1..5),
            bytes_max in 1_usize..70_000,
        ) {
            let mut reader = FrameReader::new(bytes_max);
            let (frames, _) = read_all(&mut reader, &mut chunks(&bytes, &sizes));
            prop_assert!(frames.iter().all(|frame| frame.len() <= bytes_max));
            prop_assert!(reader.buffer.len() <= (LENGTH_BYTES + bytes_max).max(READ_BUFFER_BYTES));
            prop_assert!(reader.buffer.len() <= READ_BUFFER_BYTES.max(2 * bytes.len() + 2));
        }
    }

    #[test]
    fn a_claimed_length_costs_nothing() {
        let mut reader = FrameReader::new(1 << 30);
        let (frames, end) = read_all(&mut reader, &mut chunks(&[0x3f, 0xff, 0xff, 0xff, b'{'], &[5]));
        assert!(frames.is_empty() && matches!(end, Err(FrameError::Truncated)));
        assert_eq!(reader.buffer.len(), READ_BUFFER_BYTES);
    }

    #[test]
    fn an_empty_or_too_long_frame_is_refused_by_its_header() {
        let (_, end) = read_all(&mut FrameReader::new(10), &mut chunks(&[0, 0, 0, 0], &[4]));
        assert!(matches!(end, Err(FrameError::Empty)));
        let (_, end) = read_all(&mut FrameReader::new(10), &mut chunks(&[0, 0, 0, 11], &[4]));
        assert!(matches!(end, Err(FrameError::TooLong { bytes: 11, bytes_max: 10 })));
        assert!(
            put_frame(&mut Vec::new(), 3, |out| {
                out.extend_from_slice(b"four");
                Ok(())
            })
            .is_err()
        );
    }

    #[test]
    fn the_memory_of_a_large_frame_is_given_back() {
        let mut reader = FrameReader::new(1 << 20);
        let (frames, _) = read_all(&mut reader, &mut chunks(&frame(&vec![7; 500_000]), &[60_000]));
        assert_eq!(frames.len(), 1);
        reader.shrink();
        assert_eq!(reader.buffer.len(), READ_BUFFER_BYTES);
    }
}
