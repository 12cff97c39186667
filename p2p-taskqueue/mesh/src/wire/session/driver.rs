use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use runtime_bridge::Runtime;
use serde_json::value::RawValue;
use taskqueue_api::{ErrorCode, QueueError, Response};

use super::{
    calls::{Order, SessionEnd, Shared},
    handed_out::{give_back, handed_out},
    handle::Session,
    jobs::{Jobs, RepeatedId, Service, lane_of},
    pulse::Pulse,
    writer::{Lane, WriteBuffer},
};
use crate::wire::{
    frame::{FrameError, FrameReader},
    limits::{FRAMES_PER_TURN, WRITE_BUFFER_HIGH, WRITE_BUFFER_MAX},
    message::{Incoming, Outgoing, put_answer},
    request::read_request,
    terms::Terms,
};

/// What the handshake hands over to the session.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// Holds the bytes that the peer sent right after the handshake.
    pub(crate) reader: FrameReader,
    pub(crate) terms: Terms,
}

/// The future that owns the stream and drives the session. It completes when the session ends, and dropping it ends the
/// session.
#[must_use = "a session does nothing unless its driver is polled"]
pub(crate) struct Driver<S> {
    io: S,
    reader: FrameReader,
    desk: Desk,
    pulse: Pulse,
}

/// All state except the stream and its reader. It is separate so that a message can change it while the message is
/// still borrowed from the reader.
struct Desk {
    shared: Arc<Shared>,
    writer: WriteBuffer,
    jobs: Jobs,
    /// `None` when this end answers no requests.
    service: Option<Service>,
    is_draining: bool,
    #[cfg(test)]
    budgets: Arc<super::ending::Budgets>,
}

/// Why a turn ended: nothing was left to do, or other sessions should have their turn.
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
        let desk = Desk {
            #[cfg(test)]
            budgets: super::ending::Budgets::new(&shared),
            shared,
            writer: WriteBuffer::default(),
            jobs: Jobs::default(),
            service,
            is_draining: false,
        };
        (session, Self { io, reader, desk, pulse: Pulse::new(runtime) })
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, SessionEnd> {
        if self.pulse.beat(&self.desk.writer, &mut self.reader, cx)? {
            self.desk.put(&Outgoing::Ping)?;
        }
        let read = self.read(cx)?;
        self.desk.run_jobs(cx)?;
        let is_written = self.write(cx)?;
        if self.desk.writer.len() > WRITE_BUFFER_MAX {
            return Err(SessionEnd::Stalled);
        }
        // Everything is written, so there is room for the messages that were held back.
        let held_back = is_written && self.desk.held_back();
        Ok(if read == Turn::Again || held_back { Turn::Again } else { Turn::Done })
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<Turn, SessionEnd> {
        for _ in 0..FRAMES_PER_TURN {
            match self.reader.poll_frame(&mut self.io, cx).map_err(broken)? {
                Poll::Ready(Some(frame)) => {
                    self.pulse.heard();
                    self.desk.take_message(frame, cx)?;
                }
                Poll::Ready(None) => return Err(SessionEnd::ClosedByPeer),
                Poll::Pending => return Ok(Turn::Done),
            }
        }
        Ok(Turn::Again)
    }

    /// Writes the bytes that wait. Returns whether all of them were written.
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
        #[cfg(test)]
        self.desk.note_budgets();
        polled
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        // Has no effect when the session has ended already: the first reason is kept.
        self.desk.end(&SessionEnd::ClosedHere);
        // The jobs and the unread bytes are dropped with the driver.
        #[cfg(test)]
        self.desk.budgets.note(super::ending::Desk::default());
    }
}

impl<S> fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("desk", &self.desk).finish_non_exhaustive()
    }
}

impl Desk {
    fn take_message(&mut self, frame: &[u8], cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        match Incoming::read(frame).map_err(broken)? {
            Incoming::Call { id, request } => self.take_call(id, request, cx),
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

    fn take_call(&mut self, id: u64, raw: &RawValue, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        let mut lane = Lane::Common;
        let refusal = match (&self.service, read_request(raw)) {
            (None, _) => QueueError::new(ErrorCode::Forbidden, "this end of the connection only asks"),
            (Some(_), _) if self.is_draining => QueueError::new(ErrorCode::ShuttingDown, "the node is stopping"),
            (Some(_), Err(misunderstood)) => misunderstood,
            (Some(service), Ok(request)) => {
                let reads_slowly = self.writer.len_of(Lane::Common) >= WRITE_BUFFER_HIGH;
                let request = if reads_slowly { request.without_claim() } else { request };
                lane = lane_of(&request);
                match self.jobs.start(id, request, raw.get().len(), service, cx) {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(refusal)) => refusal,
                    Err(RepeatedId) => return Err(SessionEnd::Broken(format!("two requests with the id {id}"))),
                }
            }
        };
        self.answer(id, &Err(refusal), lane)
    }

    /// Runs the jobs of each lane while the lane has room. Urgent jobs do not wait for common jobs, nor until the peer
    /// reads the answers of common jobs.
    fn run_jobs(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        for lane in [Lane::Urgent, Lane::Common] {
            while self.writer.len_of(lane) < WRITE_BUFFER_HIGH
                && let Poll::Ready((id, outcome)) = self.jobs.poll_answer(lane, cx)
            {
                self.answer(id, &outcome, lane)?;
            }
            if self.writer.len_of(lane) >= WRITE_BUFFER_HIGH {
                self.jobs.hold_back(lane);
            }
        }
        Ok(())
    }

    fn take_queued(&mut self) -> Result<(), SessionEnd> {
        for lane in [Lane::Urgent, Lane::Common] {
            let start = self.writer.start(lane);
            self.shared.take_queued(lane, self.writer.frames(lane), start, WRITE_BUFFER_HIGH).map_err(broken)?;
        }
        Ok(())
    }

    /// Whether there is work to do as soon as the writer has room.
    fn held_back(&self) -> bool {
        !self.jobs.is_polled() || self.shared.has_queued()
    }

    fn answer(&mut self, id: u64, outcome: &Result<Response, QueueError>, lane: Lane) -> Result<(), SessionEnd> {
        let fits =
            put_answer(self.writer.frames(lane), id, outcome, self.shared.terms().frame_bytes).map_err(broken)?;
        if let (false, Ok(response), Some(service)) = (fits, outcome, &self.service) {
            // The peer does not receive the tasks that it claimed, so they are given back for other workers.
            let reason = "its claimant does not take frames that long";
            self.jobs.ask(handed_out(response).iter().filter_map(|task| give_back(task, reason)).collect(), service);
        }
        Ok(())
    }

    /// Queues a ping, a pong or a goaway.
    fn put(&mut self, message: &Outgoing<'_>) -> Result<(), SessionEnd> {
        message.put(self.writer.frames(Lane::Urgent), self.shared.terms().frame_bytes).map_err(broken)
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

    #[cfg(test)]
    fn note_budgets(&self) {
        let (jobs, unread_bytes) = (self.jobs.taken(), self.writer.len());
        self.budgets.note(super::ending::Desk { jobs, unread_bytes });
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

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn broken(error: FrameError) -> SessionEnd {
    SessionEnd::Broken(error.to_string())
}
