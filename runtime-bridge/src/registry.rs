//! What an executor thread and its callers share, and the registration of what runs on it.

use std::{
    cell::Cell,
    fmt,
    sync::{Arc, OnceLock},
    thread::ThreadId,
    time::Instant,
};

use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    answer::{Failure, Stop},
    counters::{Counters, Tally},
    intake::Intake,
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
    /// One permit for each call in flight. Closed when calls are refused.
    pub(crate) admission: Arc<Semaphore>,
    pub(crate) in_flight_max: usize,
    pub(crate) tally: Tally,
    thread: OnceLock<ThreadId>,
    /// The backend's own runtime; set before the thread is announced as ready.
    runtime: OnceLock<Arc<dyn Runtime>>,
    /// The tokio runtime to enter around what is polled on the thread, if the thread is not inside one.
    helper: OnceLock<Handle>,
}

impl Core {
    pub(crate) fn new(in_flight_max: usize) -> Self {
        Self {
            intake: Intake::new(),
            admission: Arc::new(Semaphore::new(in_flight_max)),
            in_flight_max,
            tally: Tally::default(),
            thread: OnceLock::new(),
            runtime: OnceLock::new(),
            helper: OnceLock::new(),
        }
    }

    /// Makes the current thread the executor's, with the runtime that it drives.
    pub(crate) fn adopt_current_thread(&self, runtime: Arc<dyn Runtime>, helper: Option<Handle>) {
        let id = std::thread::current().id();
        EXECUTOR.set(Some(id));
        let _set_once = self.thread.set(id);
        let _set_once = self.runtime.set(runtime);
        if let Some(helper) = helper {
            let _set_once = self.helper.set(helper);
        }
    }

    pub(crate) fn is_current(&self) -> bool {
        let current = EXECUTOR.get();
        current.is_some() && current == self.thread.get().copied()
    }

    pub(crate) fn runtime(&self) -> Option<&Arc<dyn Runtime>> {
        self.runtime.get()
    }

    pub(crate) fn helper(&self) -> Option<&Handle> {
        self.helper.get()
    }

    pub(crate) fn request_stop(&self, deadline: Instant) {
        self.intake.request_stop(deadline);
        self.admission.close();
    }

    /// Ends every wait and refuses everything from now on.
    pub(crate) fn end(&self, failure: &Failure) -> usize {
        self.admission.close();
        self.intake.end(failure)
    }

    pub(crate) fn counters(&self) -> Counters {
        let in_flight = self
            .in_flight_max
            .saturating_sub(self.admission.available_permits());
        self.tally
            .snapshot(self.intake.pushed_total(), in_flight, self.intake.queued())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Job,
}

/// A place in an executor thread's register, given back when dropped.
pub(crate) struct Registration {
    core: Arc<Core>,
    key: usize,
    kind: Kind,
    ending: Ending,
}

impl Registration {
    pub(crate) fn new(core: Arc<Core>, key: usize, kind: Kind) -> Self {
        // What is dropped without having ended was cut off.
        Self {
            core,
            key,
            kind,
            ending: Ending::Cancelled,
        }
    }

    pub(crate) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.core.tally.ended(self.kind, self.ending);
        self.core.intake.unregister([self.key]);
        if self.kind == Kind::Call {
            self.core.admission.add_permits(1);
        }
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
        let Some(stop) = &job.stop else {
            return self.backend.spawn_job(job);
        };
        match self.core.intake.register(Arc::<dyn Stop>::clone(stop)) {
            Ok(key) => {
                job.registration = Some(Registration::new(Arc::clone(&self.core), key, Kind::Job));
                self.backend.spawn_job(job);
            }
            // Dropping the job tells its handle.
            Err(failure) => stop.stop(failure),
        }
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        self.backend.sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        self.backend.now()
    }
}
