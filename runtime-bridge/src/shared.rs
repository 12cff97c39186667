//! What an executor thread and its callers share, and the places in its register.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::ThreadId,
    time::Instant,
};

use tokio::runtime::Handle;

use crate::{
    answer::Failure,
    counters::{Counters, Tally},
    driver::Driver,
    intake::{Buffers, Intake},
    runtime::{Runtime, Sleep, SpawnedFuture},
    work::Ending,
};

thread_local! {
    /// Marks an executor thread for its life. Reading it costs less than a nanosecond. An entered tokio context would
    /// be no such mark: a helper's context is entered on other threads too.
    static EXECUTOR: Cell<Option<ThreadId>> = const { Cell::new(None) };
}

/// The state that an executor thread shares with its bridges and with what runs on it.
pub(crate) struct Shared {
    pub(crate) intake: Intake,
    pub(crate) tally: Tally,
    /// Set when everything is cut off, for the inline path, which takes no lock. It may see this a moment late: what
    /// runs inline is dropped with its surroundings.
    refusing: AtomicBool,
    home: OnceLock<Home>,
}

/// Where the executor lives; set before the thread is announced as ready.
#[derive(Debug)]
struct Home {
    thread: ThreadId,
    /// The runtime that the factory has made.
    runtime: Arc<dyn Runtime>,
    /// The tokio runtime to enter around inline calls, if the thread runs futures of others too.
    helper: Option<Handle>,
}

impl Shared {
    pub(crate) fn new(in_flight_max: usize) -> Self {
        Self {
            intake: Intake::new(in_flight_max),
            tally: Tally::default(),
            refusing: AtomicBool::new(false),
            home: OnceLock::new(),
        }
    }

    /// Makes the current thread the executor's, with the runtime that it drives.
    pub(crate) fn adopt_current_thread(&self, runtime: Arc<dyn Runtime>, helper: Option<Handle>) {
        let thread = std::thread::current().id();
        EXECUTOR.set(Some(thread));
        // Called once, by the thread's main future.
        let _set_once = self.home.set(Home { thread, runtime, helper });
    }

    pub(crate) fn is_current(&self) -> bool {
        EXECUTOR.get().is_some_and(|current| self.home.get().is_some_and(|home| home.thread == current))
    }

    pub(crate) fn runtime(&self) -> Option<&Arc<dyn Runtime>> {
        self.home.get().map(|home| &home.runtime)
    }

    pub(crate) fn helper(&self) -> Option<&Handle> {
        self.home.get().and_then(|home| home.helper.as_ref())
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// Starts the driver with what it left when it went to sleep.
    pub(crate) fn wake_driver(self: &Arc<Self>, buffers: Box<Buffers>) {
        let driver = Driver::new(Arc::clone(self), buffers);
        if let Some(runtime) = self.runtime() {
            runtime.spawn_future(SpawnedFuture::driver(driver));
        }
    }

    pub(crate) fn request_stop(&self, deadline: Instant) {
        self.intake.request_stop(deadline);
    }

    /// Drops the calls that have not been taken up. On the executor thread only.
    pub(crate) fn drop_queued(&self) -> usize {
        let calls = self.intake.drop_queued();
        self.tally.cut_off(calls);
        calls
    }

    /// Ends every wait and refuses everything from now on.
    pub(crate) fn end(&self, failure: &Failure) -> usize {
        self.refusing.store(true, Ordering::Relaxed);
        self.intake.end(failure)
    }

    pub(crate) fn crash(&self, message: String) {
        tracing::error!(message, "executor thread panicked");
        self.end(&Failure::Crashed(message));
    }

    pub(crate) fn counters(&self) -> Counters {
        let (hops, in_flight, queue_depth) = self.intake.gauges();
        self.tally.snapshot(hops, in_flight, queue_depth)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("thread", &self.home.get().map(|home| home.thread)).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call that hopped, and holds a slot.
    Call,
    /// A call that runs inline, without one.
    Inline,
    /// A spawned future.
    Spawned,
}

/// A place in an executor thread's register, given back when dropped.
pub(crate) struct Registration {
    shared: Arc<Shared>,
    key: usize,
    kind: Kind,
    ending: Ending,
    /// When it began, if it is timed.
    begun: Option<Instant>,
}

impl Registration {
    pub(crate) fn new(shared: Arc<Shared>, key: usize, kind: Kind, begun: Option<Instant>) -> Self {
        // What is dropped without having ended was cut off.
        Self { shared, key, kind, ending: Ending::Cancelled, begun }
    }

    pub(crate) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.tally.ended(self.kind, self.ending, self.begun);
        self.shared.intake.unregister([self.key], usize::from(self.kind == Kind::Call));
    }
}

/// The runtime of an executor thread as users see it: the factory's, with all that is spawned on the register.
#[derive(Debug)]
pub(crate) struct ThreadRuntime {
    shared: Arc<Shared>,
    backend: Arc<dyn Runtime>,
}

impl ThreadRuntime {
    pub(crate) fn new(shared: Arc<Shared>, backend: Arc<dyn Runtime>) -> Self {
        Self { shared, backend }
    }
}

impl Runtime for ThreadRuntime {
    fn spawn_future(&self, mut future: SpawnedFuture) {
        match future.stop().map(|stop| (self.shared.intake.register(Arc::clone(&stop)), stop)) {
            // Dropping the future tells its handle.
            Some((Err(failure), stop)) => stop.stop(failure),
            Some((Ok(key), _)) => {
                future.register(Registration::new(Arc::clone(&self.shared), key, Kind::Spawned, None));
                self.backend.spawn_future(future);
            }
            None => self.backend.spawn_future(future),
        }
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        self.backend.sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        self.backend.now()
    }
}
