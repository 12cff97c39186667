use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use runtime_bridge::{Runtime, Sleep};
use serde_json::value::RawValue;

use super::{
    calls::{Order, Session, SessionEnd, Shared},
    jobs::{Jobs, RepeatedId, Service},
    writer::WriteBuffer,
};
use crate::{
    ErrorCode, QueueError, Response,
    wire::{
        frame::{FrameError, FrameReader},
        limits::{
            FRAMES_PER_TURN, PING_AFTER, PROGRESS_BYTES_MIN, SILENT_TICKS_MAX, WRITE_BUFFER_HIGH, WRITE_BUFFER_MAX,
        },
        message::{Incoming, Outgoing, put_answer, read_request},
        terms::Terms,
    },
};

/// What a handshake leaves to the session.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// Holds what the peer sent after the handshake.
    pub(crate) reader: FrameReader,
    pub(crate) terms: Terms,
}

/// Owns the stream; a future that ends with the session. Dropping it ends the session.
#[must_use = "a session does nothing unless its driver is polled"]
pub(crate) struct Driver<S> {
    io: S,
    reader: FrameReader,
    desk: Desk,
    pulse: Pulse,
}

/// Everything but the stream: what a message may change while the reader lends it.
struct Desk {
    shared: Arc<Shared>,
    writer: WriteBuffer,
    jobs: Jobs,
    /// None when this end answers nothing.
    service: Option<Service>,
    is_draining: bool,
}

/// Notices that the peer is dead or does not read.
struct Pulse {
    runtime: Arc<dyn Runtime>,
    /// Fires every [`PING_AFTER`]: one timer for the session's life, not one for each frame.
    tick: Sleep,
    has_heard: bool,
    /// What the stream had given at the last tick.
    read_at_tick: u64,
    /// Ticks in a row without a frame from the peer, or a good part of a large one.
    silent_ticks: u32,
    /// Ticks in a row in which the peer took nothing of what waits for it.
    stalled_ticks: u32,
    written_at_tick: u64,
}

/// Whether a turn ended because there was nothing left to do, or to let others have theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Done,
    Again,
}

impl<S> Driver<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Starts a session over a stream whose handshake is done.
    pub(crate) fn new(io: S, agreed: Agreed, service: Option<Service>, runtime: Arc<dyn Runtime>) -> (Session, Self) {
        let Agreed { reader, terms } = agreed;
        let (session, shared) = Session::new(Arc::clone(&runtime), terms);
        let desk = Desk { shared, writer: WriteBuffer::default(), jobs: Jobs::default(), service, is_draining: false };
        (session, Self { io, reader, desk, pulse: Pulse::new(runtime) })
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, SessionEnd> {
        self.pulse.beat(&mut self.desk, &mut self.reader, cx)?;
        let read = self.read(cx)?;
        self.desk.run_jobs(cx)?;
        let is_written = self.write(cx)?;
        if self.desk.writer.len() > WRITE_BUFFER_MAX {
            return Err(SessionEnd::Stalled);
        }
        // What was held back for want of room is taken up now that there is some.
        let held_back = is_written && self.desk.held_back();
        Ok(if read == Turn::Again || held_back { Turn::Again } else { Turn::Done })
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<Turn, SessionEnd> {
        for _ in 0..FRAMES_PER_TURN {
            match self.reader.poll_frame(&mut self.io, cx).map_err(broken)? {
                Poll::Ready(Some(frame)) => {
                    self.pulse.has_heard = true;
                    self.desk.take_message(frame)?;
                }
                Poll::Ready(None) => return Err(SessionEnd::ClosedByPeer),
                Poll::Pending => return Ok(Turn::Done),
            }
        }
        Ok(Turn::Again)
    }

    /// Writes what waits; says whether all of it went.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionEnd> {
        self.desk.take_queued()?;
        match self.desk.writer.poll_write_all(&mut self.io, cx) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => Err(broken(error.into())),
            Poll::Pending => Ok(false),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        self.desk.shared.register(cx);
        match self.desk.shared.order() {
            Order::GoOn => {}
            Order::Drain => self.desk.start_draining(),
            Order::Close => return Poll::Ready(SessionEnd::ClosedHere),
        }
        match self.turn(cx) {
            Err(end) => return Poll::Ready(end),
            Ok(Turn::Again) => cx.waker().wake_by_ref(),
            Ok(Turn::Done) => {}
        }
        if self.desk.is_drained() {
            return Pin::new(&mut self.io).poll_close(cx).map(|_| SessionEnd::ClosedHere);
        }
        Poll::Pending
    }
}

impl<S> Future for Driver<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Output = SessionEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        let polled = self.poll_end(cx);
        if let Poll::Ready(end) = &polled {
            self.desk.end(end);
        }
        polled
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        // A second end changes nothing.
        self.desk.end(&SessionEnd::ClosedHere);
    }
}

impl<S> fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("desk", &self.desk).finish_non_exhaustive()
    }
}

impl Desk {
    fn take_message(&mut self, frame: &[u8]) -> Result<(), SessionEnd> {
        match Incoming::read(frame).map_err(broken)? {
            Incoming::Call { id, request } => self.take_call(id, request),
            Incoming::Answer { id, ok, error } => {
                self.shared.deliver(id, ok, error);
                Ok(())
            }
            Incoming::Cancel { id } => {
                self.jobs.cancel(id);
                Ok(())
            }
            Incoming::Goaway => {
                self.shared.peer_leaves();
                Ok(())
            }
            Incoming::Ping => self.put(&Outgoing::Pong),
            Incoming::Other => Ok(()),
        }
    }

    fn take_call(&mut self, id: u64, raw: &RawValue) -> Result<(), SessionEnd> {
        let refusal = match (&self.service, read_request(raw)) {
            (None, _) => QueueError::new(ErrorCode::Forbidden, "this end of the connection only asks"),
            (Some(_), _) if self.is_draining => QueueError::new(ErrorCode::ShuttingDown, "the node is stopping"),
            (Some(_), Err(misunderstood)) => misunderstood,
            (Some(service), Ok(request)) => match self.jobs.start(id, request, raw.get().len(), service) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refusal)) => refusal,
                Err(RepeatedId) => return Err(SessionEnd::Broken(format!("two requests with the id {id}"))),
            },
        };
        self.answer(id, &Err(refusal))
    }

    fn run_jobs(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        while self.writer.len() < WRITE_BUFFER_HIGH
            && let Poll::Ready((id, outcome)) = self.jobs.poll_answer(cx)
        {
            self.answer(id, &outcome)?;
        }
        if self.writer.len() >= WRITE_BUFFER_HIGH {
            self.jobs.hold_back();
        }
        Ok(())
    }

    fn take_queued(&mut self) -> Result<(), SessionEnd> {
        let start = self.writer.start();
        self.shared.take_queued(self.writer.frames(), start, WRITE_BUFFER_HIGH).map_err(broken)
    }

    /// Whether there is something to do as soon as the writer has room.
    fn held_back(&self) -> bool {
        !self.jobs.is_polled() || self.shared.has_queued()
    }

    fn answer(&mut self, id: u64, outcome: &Result<Response, QueueError>) -> Result<(), SessionEnd> {
        put_answer(self.writer.frames(), id, outcome, self.shared.terms().frame_bytes).map_err(broken)
    }

    fn put(&mut self, message: &Outgoing<'_>) -> Result<(), SessionEnd> {
        message.put(self.writer.frames(), self.shared.terms().frame_bytes).map_err(broken)
    }

    fn start_draining(&mut self) {
        if !std::mem::replace(&mut self.is_draining, true) {
            self.jobs.end_long_polls();
            // A message of a few bytes fits into a frame.
            let _fits = self.put(&Outgoing::Goaway);
        }
    }

    fn is_drained(&self) -> bool {
        self.is_draining && self.jobs.is_empty() && self.writer.is_empty() && !self.shared.has_calls()
    }

    fn end(&self, end: &SessionEnd) {
        self.shared.end(end, self.writer.written());
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

impl Pulse {
    fn new(runtime: Arc<dyn Runtime>) -> Self {
        let tick = runtime.sleep_until(runtime.now() + PING_AFTER);
        Self { runtime, tick, has_heard: false, read_at_tick: 0, silent_ticks: 0, stalled_ticks: 0, written_at_tick: 0 }
    }

    fn beat(&mut self, desk: &mut Desk, reader: &mut FrameReader, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        while Pin::new(&mut self.tick).poll(cx).is_ready() {
            self.tick = self.runtime.sleep_until(self.runtime.now() + PING_AFTER);
            reader.shrink();
            let written = desk.writer.written();
            let is_stalled = !desk.writer.is_empty() && written == self.written_at_tick;
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
            desk.put(&Outgoing::Ping)?;
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn broken(error: FrameError) -> SessionEnd {
    SessionEnd::Broken(error.to_string())
}
