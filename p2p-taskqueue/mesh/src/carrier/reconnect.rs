//! The session with a node of this machine, made anew when it has broken.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use runtime_bridge::{Runtime, RuntimeExt, Spawned};
use taskqueue_api::{ErrorCode, QueueError, Request, RequestKind};

use super::{
    Connector,
    repeat::{RESTART_GRACE, Sessions},
};
use crate::wire::{Counts, Session, SessionEnd, Terms, open, within};

/// Sessions with a node of this machine: one, and more when more is asked at once than one takes. At most one attempt to
/// make one is under way.
pub(super) struct Link {
    connector: Arc<dyn Connector>,
    runtime: Arc<dyn Runtime>,
    places: [Place; SESSIONS_MAX],
    /// Held by whoever connects; the others then find the session, or what came of the attempt.
    connecting: tokio::sync::Mutex<Failures>,
}

#[derive(Default)]
struct Place {
    standing: Mutex<Option<Standing>>,
    /// Requests that are under way here.
    load: Mutex<Counts>,
}

struct Standing {
    session: Session,
    /// Drives the session; dropping it closes the connection.
    driver: Spawned<SessionEnd>,
}

/// Attempts that have failed since the last one that did not.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    last: Option<(Instant, QueueError)>,
}

impl Link {
    pub(super) fn new(connector: Arc<dyn Connector>, runtime: Arc<dyn Runtime>) -> Self {
        Self { connector, runtime, places: Default::default(), connecting: tokio::sync::Mutex::default() }
    }

    pub(super) fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }

    pub(super) fn is_connected(&self) -> bool {
        self.places.iter().any(|place| place.session().is_some())
    }

    /// A way for one request: over the first session that has room for its kind.
    pub(super) fn lane(&self, request: &Request) -> Lane<'_> {
        self.lane_for(RequestKind::of(request))
    }

    /// A way for no request, only to the session.
    pub(super) fn first_lane(&self) -> Lane<'_> {
        self.lane_for(RequestKind::Keeps)
    }

    fn lane_for(&self, kind: RequestKind) -> Lane<'_> {
        let [first, ..] = &self.places;
        let roomy = self.places.iter().find(|place| place.has_room(kind));
        let place = roomy.unwrap_or(first);
        place.load().add(kind);
        Lane { link: self, place, kind }
    }

    fn silent(&self, limit: Duration) -> QueueError {
        let message = format!("{} did not answer within {} s", self.connector, limit.as_secs_f64());
        QueueError::new(ErrorCode::Unreachable, message)
    }
}

impl Place {
    /// The session, if it stands.
    fn session(&self) -> Option<Session> {
        let standing = self.lock();
        standing.as_ref().map(|standing| &standing.session).filter(|session| session.is_open()).cloned()
    }

    /// Whether one more request of the kind finds room, with some to spare: one that was given up counts until the node has
    /// answered it.
    fn has_room(&self, kind: RequestKind) -> bool {
        let terms = self.session().map_or_else(Terms::ours, |session| session.terms());
        self.load().room(kind, terms.with_some_to_spare()).is_ok()
    }

    fn load(&self) -> MutexGuard<'_, Counts> {
        // Nothing can panic while it is held.
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Standing>> {
        // Nothing can panic while it is held.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one request asks for sessions.
pub(super) struct Lane<'a> {
    link: &'a Link,
    place: &'a Place,
    kind: RequestKind,
}

impl Lane<'_> {
    /// The session that stands, or a new one. One attempt, and as long as the patience lasts further ones, when nobody was
    /// there. Within the pause after a failed attempt the answer is that failure: a node that is gone is not hammered.
    pub(super) async fn session(&self, patience: Duration, limit: Duration) -> Result<Session, QueueError> {
        if let Some(session) = self.place.session() {
            return Ok(session);
        }
        let limited = within(limit, self.patient_session(patience), self.link.runtime()).await;
        limited.unwrap_or_else(|| Err(self.link.silent(limit)))
    }

    async fn patient_session(&self, patience: Duration) -> Result<Session, QueueError> {
        let until = self.link.runtime.now() + patience;
        loop {
            let (retry_at, error) = match self.one_attempt().await {
                Ok(session) => return Ok(session),
                Err(failed) => failed,
            };
            let now = self.link.runtime.now();
            if error.code != ErrorCode::Unreachable || retry_at >= until {
                let pause = retry_at.saturating_duration_since(now).max(PAUSE_MIN);
                return Err(if error.retryable { error.with_retry_after_s(pause.as_secs_f64()) } else { error });
            }
            // Not while the attempts are locked: others must not wait for this one's patience.
            self.link.runtime.sleep_until(retry_at).await;
        }
    }

    /// When nobody was there: the error, and when to try again.
    async fn one_attempt(&self) -> Result<Session, (Instant, QueueError)> {
        let mut failures = self.link.connecting.lock().await;
        if let Some(session) = self.place.session() {
            return Ok(session);
        }
        if let Some(failed) = failures.last.as_ref().filter(|(retry_at, _)| *retry_at > self.link.runtime.now()) {
            return Err(failed.clone());
        }
        let connected = within(CONNECT_TIMEOUT, self.connect(), self.link.runtime()).await;
        match connected.unwrap_or_else(|| Err(self.link.silent(CONNECT_TIMEOUT))) {
            Ok(session) => {
                *failures = Failures::default();
                Ok(session)
            }
            Err(error) => {
                let pause = PAUSE_MIN.saturating_mul(1 << failures.in_a_row.min(DOUBLINGS_MAX));
                failures.in_a_row = failures.in_a_row.saturating_add(1);
                let failed = (self.link.runtime.now() + pause, error);
                failures.last = Some(failed.clone());
                Err(failed)
            }
        }
    }

    async fn connect(&self) -> Result<Session, QueueError> {
        let io = self.link.connector.connect().await?;
        let opened = open(io, None, Arc::clone(&self.link.runtime)).await;
        let (session, driver) = opened.map_err(|error| error.to_queue_error(&self.link.connector.to_string()))?;
        let new = Standing { session: session.clone(), driver: self.link.runtime.spawn(driver) };
        if let Some(old) = self.place.lock().replace(new) {
            // The node has said that it leaves, and what it is still working on is answered.
            old.driver.detach();
        }
        Ok(session)
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.place.load().take(self.kind);
    }
}

impl Sessions for Lane<'_> {
    async fn session(&self, waits: bool, limit: Duration) -> Result<Session, QueueError> {
        Self::session(self, if waits { RESTART_GRACE } else { Duration::ZERO }, limit).await
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// A node of this machine that lives accepts within microseconds, and introduces itself as soon as it has a turn.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after the first failure; it doubles with each further one, up to [`DOUBLINGS_MAX`] times: 1.6 s, by which a
/// node that comes back is found soon enough for a person.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const DOUBLINGS_MAX: u32 = 5;

/// Together they take as many requests as an MCP server has at once, of whichever kind.
const SESSIONS_MAX: usize = 5;
