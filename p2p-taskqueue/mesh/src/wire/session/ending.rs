//! The check at the end of every test of sessions: when nothing is in flight, no part of a budget may be in use.

use std::{
    cell::RefCell,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::FutureExt as _;
use runtime_bridge::{Spawned, SpawnedError};

use super::{SessionEnd, calls::Shared, counts::Counts};
use crate::testing::until;

thread_local! {
    /// The sessions of the test that runs on this thread.
    static SESSIONS: RefCell<Vec<Arc<Budgets>>> = const { RefCell::new(Vec::new()) };
}

/// How much of its budgets one end of a session uses.
pub(super) struct Budgets {
    shared: Arc<Shared>,
    desk: Mutex<Desk>,
}

/// The driver's budgets, as they were after its last turn.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Desk {
    /// Jobs, entries, entries of each kind, and the bytes of their requests.
    pub(super) jobs: (usize, usize, Counts, usize),
    pub(super) unread_bytes: usize,
}

impl Budgets {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        let budgets = Arc::new(Self { shared: Arc::clone(shared), desk: Mutex::default() });
        SESSIONS.with_borrow_mut(|sessions| sessions.push(Arc::clone(&budgets)));
        budgets
    }

    pub(super) fn note(&self, desk: Desk) {
        *self.desk.lock().unwrap() = desk;
    }

    fn is_at_its_start(&self) -> bool {
        *self.desk.lock().unwrap() == Desk::default() && self.shared.lock().taken() == (0, Counts::default(), 0, 0)
    }
}

/// Runs a test of sessions on a runtime of its own.
pub(crate) fn session_test(body: impl Future<Output = ()>) {
    SESSIONS.with_borrow_mut(Vec::clear);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        body.await;
        let sessions = SESSIONS.take();
        assert!(!sessions.is_empty(), "there was a session");
        // Calls that the test has dropped free their places, but there is no signal for it.
        let settled = until(async || sessions.iter().all(|session| session.is_at_its_start()));
        if std::panic::AssertUnwindSafe(settled).catch_unwind().await.is_err() {
            let taken = |session: &Arc<Budgets>| (*session.desk.lock().unwrap(), session.shared.lock().taken());
            panic!("still taken: {:?}", sessions.iter().map(taken).collect::<Vec<_>>());
        }
    });
}

/// The job that drives a session. It goes on when this is dropped, so that the session is still alive at the end of the
/// test.
pub(crate) struct Drive(Option<Spawned<SessionEnd>>);

impl Drive {
    pub(crate) const fn new(job: Spawned<SessionEnd>) -> Self {
        Self(Some(job))
    }

    /// Drops the driver.
    pub(crate) fn cancel(mut self) {
        drop(self.0.take());
    }
}

impl Future for Drive {
    type Output = Result<SessionEnd, SpawnedError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(self.0.as_mut().unwrap()).poll(cx)
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Spawned::detach);
    }
}
