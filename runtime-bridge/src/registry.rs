//! What an executor thread and its callers share, and the registration of what runs on it.

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
    runtime::{Job, Runtime, Sleep},
    work::Ending,
};

thread_local! {
    /// Set by an executor's thread for its life. Reading it costs less than a nanosecond, and it cannot be
    /// mistaken as an entered tokio context can (a helper's context is entered on foreign threads too).
    static EXECUTOR: Cell<Option<ThreadId>> = const { Cell::new(None) };
}

/// The state shared by an executor thread, its bridges and what runs on it.
pub(crate) struct Core {
    pub(crate) intake: Intake,
    pub(crate) tally: Tally,
    /// Set when everything is cut off, for the inline path, which takes no lock. Late by a moment is harmless there:
    /// what runs inline is dropped with its surroundings.
    refusing: AtomicBool,
    home: OnceLock<Home>,
}

/// Where the executor lives; set before the thread is announced as ready.
#[derive(Debug)]
struct Home {
    thread: ThreadId,
    /// The backend's own runtime.
    runtime: Arc<dyn Runtime>,
    /// The tokio runtime to enter around what is polled on the thread, if the thread is not inside one.
    helper: Option<Handle>,
}

impl Core {
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
            runtime.spawn_job(Job::driver(driver));
        }
    }

    pub(crate) fn request_stop(&self, deadline: Instant) {
        self.intake.request_stop(deadline);
    }

    /// Drops the calls that have not been taken up. On the executor's thread only.
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

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("thread", &self.home.get().map(|home| home.thread)).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call that hopped, and holds a slot.
    Call,
    /// A call that runs inline, without one.
    Inline,
    Job,
}

/// A place in an executor thread's register, given back when dropped.
pub(crate) struct Registration {
    core: Arc<Core>,
    key: usize,
    kind: Kind,
    ending: Ending,
    /// When it began, if it is timed.
    begun: Option<Instant>,
}

impl Registration {
    pub(crate) fn new(core: Arc<Core>, key: usize, kind: Kind, begun: Option<Instant>) -> Self {
        // What is dropped without having ended was cut off.
        Self { core, key, kind, ending: Ending::Cancelled, begun }
    }

    pub(crate) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.core.tally.ended(self.kind, self.ending, self.begun);
        self.core.intake.unregister([self.key], usize::from(self.kind == Kind::Call));
    }
}

/// The runtime of an executor thread as the outside sees it: the backend's, with every job on the register.
#[derive(Debug)]
pub(crate) struct ThreadRuntime {
    core: Arc<Core>,
    backend: Arc<dyn Runtime>,
}

impl ThreadRuntime {
    pub(crate) fn new(core: Arc<Core>, backend: Arc<dyn Runtime>) -> Self {
        Self { core, backend }
    }
}

impl Runtime for ThreadRuntime {
    fn spawn_job(&self, mut job: Job) {
        match job.stop().map(|stop| (self.core.intake.register(Arc::clone(&stop)), stop)) {
            // Dropping the job tells its handle.
            Some((Err(failure), stop)) => stop.stop(failure),
            Some((Ok(key), _)) => {
                job.register(Registration::new(Arc::clone(&self.core), key, Kind::Job, None));
                self.backend.spawn_job(job);
            }
            None => self.backend.spawn_job(job),
        }
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        self.backend.sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        self.backend.now()
    }
}
