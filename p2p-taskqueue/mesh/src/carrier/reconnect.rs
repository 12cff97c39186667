//! Sessions with a node of this machine, which are made again after they break.

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

/// Sessions with a node of this machine: one, and more when one has no room for another request. At most one attempt to
/// connect is under way at a time.
pub(super) struct Link {
    connector: Arc<dyn Connector>,
    runtime: Arc<dyn Runtime>,
    places: [Place; SESSIONS_MAX],
    /// Held by the caller that connects. The others wait for it, and then find the session or the error of the attempt.
    connecting: tokio::sync::Mutex<Failures>,
}

#[derive(Default)]
struct Place {
    standing: Mutex<Option<Standing>>,
    /// Requests that are under way on this session.
    load: Mutex<Counts>,
}

struct Standing {
    session: Session,
    /// Drives the session; dropping it closes the connection.
    driver: Spawned<SessionEnd>,
}

/// Attempts that have failed since the last success.
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

    /// A lane for one request: over the first session that has room for a request of its kind.
    pub(super) fn lane(&self, request: &Request) -> Lane<'_> {
        self.lane_for(RequestKind::of(request))
    }

    /// A lane without a request, to connect ahead of time.
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
    /// The session, if it is still open.
    fn session(&self) -> Option<Session> {
        let standing = self.lock();
        standing.as_ref().map(|standing| &standing.session).filter(|session| session.is_open()).cloned()
    }

    /// Whether one more request of this kind finds room, with some to spare: a request that was cancelled counts until the node
    /// has answered it.
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
    /// The open session, or a new one. When no node answers, it tries again for as long as the patience lasts. In the pause
    /// after a failed attempt it answers that failure at once, so that a node that is gone is not asked all the time.
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
            // The lock on attempts is released first: other callers must not wait for the patience of this one.
            self.link.runtime.sleep_until(retry_at).await;
        }
    }

    /// After no node answered: the error, and when to try again.
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
            // The node takes no new requests, and all earlier ones are answered.
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

/// A running node of this machine accepts within microseconds and sends its hello as soon as its thread is free.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after the first failure; it doubles with each further one, up to [`DOUBLINGS_MAX`] times: 1.6 s, by which a
/// node that comes back is found soon enough for a person.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const DOUBLINGS_MAX: u32 = 5;

/// Together they take as many requests of any kind as an MCP server has at once.
const SESSIONS_MAX: usize = 5;
