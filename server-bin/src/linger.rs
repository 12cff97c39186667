//! Closing a connection whose client still sends.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Interval, interval_at},
};

/// A flag: the last request of a connection has a body that was not read to its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Wraps a body so that the flag is cleared when the end of the body is read.
    pub(crate) fn watch(&self, body: Incoming) -> Watched {
        self.0.store(!body.is_end_stream(), Ordering::Relaxed);
        Watched { body, unread: self.clone() }
    }
}

/// The body of a request, which clears the flag at its end.
#[derive(Debug)]
pub(crate) struct Watched {
    body: Incoming,
    unread: Unread,
}

impl Body for Watched {
    type Data = <Incoming as Body>::Data;
    type Error = <Incoming as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.unread.0.store(false, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that delays its close while the client still sends the body of a request that was answered without it.
///
/// When a connection is closed with unread bytes, the system resets it. A client that sends its whole request before it
/// reads then never sees the answer. So the answer and the end of the writing side are sent at once, and after that
/// everything that arrives is read and dropped, until the client is done or a bound is reached.
#[derive(Debug)]
pub(crate) struct Lingering<S> {
    stream: S,
    unread: Unread,
    end: Option<End>,
}

/// The rest of the bounds while a connection is closed.
#[derive(Debug)]
struct End {
    bytes_left: usize,
    /// The first tick is the end of the time.
    until: Interval,
}

impl<S> Lingering<S> {
    pub(crate) const fn new(stream: S, unread: Unread) -> Self {
        Self { stream, unread, end: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lingering<S> {
    /// Reads and drops the bytes that the client sends.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.end.get_or_insert_with(|| End {
            bytes_left: BYTES_MAX,
            until: interval_at(Instant::now() + TIME_MAX, TIME_MAX),
        });
        let mut bytes = [0; PIECE_BYTES];
        while end.bytes_left > 0 && end.until.poll_tick(cx).is_pending() {
            let mut piece = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece)) {
                Ok(()) if !piece.filled().is_empty() => {
                    end.bytes_left = end.bytes_left.saturating_sub(piece.filled().len());
                }
                // The client is done, or the connection is gone.
                _ => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            if !self.unread.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_drain(cx).map(Ok)
    }
}

/// The most bytes that are read and dropped: as much as a file that somebody mistook for a payload. A client that sends
/// more is cut off.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The longest time for reading and dropping: about as long as [`BYTES_MAX`] take over a line of 100 Mbit/s. Meanwhile
/// the connection counts as open.
const TIME_MAX: Duration = Duration::from_secs(5);

/// The bytes that are read at once, into a buffer on the stack.
const PIECE_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    fn lingering(is_unread: bool) -> (Lingering<DuplexStream>, DuplexStream) {
        let (served, client) = duplex(64 * 1024);
        let unread = Unread::default();
        unread.0.store(is_unread, Ordering::Relaxed);
        (Lingering::new(served, unread), client)
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_comes_at_once_when_everything_was_read() {
        let (mut served, _client) = lingering(false);
        let began = Instant::now();
        served.shutdown().await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_everything_first_is_heard_out_and_reads_its_answer() {
        let (mut served, mut client) = lingering(true);
        // The client leaves when it has its answer.
        let sends = async move {
            client.write_all(&vec![0; 1024 * 1024]).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answers = async {
            served.write_all(b"no").await.unwrap();
            served.shutdown().await.unwrap();
        };
        let (answer, ()) = tokio::join!(sends, answers);
        assert_eq!(answer, "no");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_for_ever_is_cut_after_so_many_bytes() {
        let (mut served, mut client) = lingering(true);
        let mut sent = 0;
        let sends = async {
            let piece = vec![0; 64 * 1024];
            while client.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
        };
        let ends = async {
            served.shutdown().await.unwrap();
            drop(served);
        };
        tokio::join!(sends, ends);
        assert!((BYTES_MAX..BYTES_MAX + 1024 * 1024).contains(&sent), "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_neither_sends_nor_leaves_is_cut_in_time() {
        let (mut served, _client) = lingering(true);
        let began = Instant::now();
        timeout(TIME_MAX * 2, served.shutdown()).await.unwrap().unwrap();
        assert_eq!(began.elapsed().as_secs(), TIME_MAX.as_secs());
    }
}
