//! One error enum for each operation.

use std::time::Duration;

use crate::answer::Failure;

/// Why [`Bridge::run`](crate::Bridge::run) has no value to give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The call panicked over there. The executor goes on; so may the caller.
    #[error("call panicked: {message}")]
    Panicked {
        /// The message of the panic.
        message: String,
    },
    /// The deadline passed; the work was stopped, or never started.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// As many calls as may be are in flight, and the call asked not to wait. Try again later.
    #[error("overloaded: {in_flight_max} calls in flight")]
    Overloaded {
        /// The bound that was hit.
        in_flight_max: usize,
    },
    /// The executor thread is shutting down or has ended. The work did not finish.
    #[error("executor thread has shut down")]
    ShutDown,
    /// The executor thread itself panicked, which is a defect; everything on it is lost.
    #[error("executor thread panicked: {message}")]
    Crashed {
        /// The message of that panic.
        message: String,
    },
    /// A blocking call from the executor thread itself, which would wait for itself for ever. Await
    /// [`Bridge::run`](crate::Bridge::run) there instead.
    #[error("a blocking call would block the executor thread itself")]
    OnExecutorThread,
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Panicked(message) => Self::Panicked { message },
            Failure::DeadlineExceeded => Self::DeadlineExceeded,
            // A call has no handle to be cancelled through: its future is dropped, and then nobody asks.
            Failure::ShutDown | Failure::Cancelled => Self::ShutDown,
            Failure::Crashed(message) => Self::Crashed { message },
        }
    }
}

/// Why a spawned future has no value to give through its handle, [`Spawned`](crate::Spawned).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnedError {
    /// It panicked.
    #[error("spawned future panicked: {message}")]
    Panicked {
        /// The message of the panic.
        message: String,
    },
    /// It was cancelled through its handle.
    #[error("spawned future was cancelled")]
    Cancelled,
    /// The runtime ended before it did.
    #[error("runtime has shut down")]
    ShutDown,
}

impl From<Failure> for SpawnedError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Panicked(message) => Self::Panicked { message },
            Failure::Cancelled | Failure::DeadlineExceeded => Self::Cancelled,
            Failure::ShutDown | Failure::Crashed(_) => Self::ShutDown,
        }
    }
}

/// A boxed cause, from a hook.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an executor thread did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gave no thread.
    #[error("failed to spawn the executor thread")]
    Spawn(#[source] std::io::Error),
    /// The runtime could not be built on it.
    #[error("failed to build the runtime")]
    Runtime(#[source] BoxError),
    /// The runtime does not keep the contract of [`RuntimeFactory`](crate::RuntimeFactory); see clauses F2 to F4
    /// there, and R7 of [`Runtime`](crate::Runtime).
    #[error("runtime is not suitable for an executor thread: {reason}")]
    Unsuitable {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A process has one async-std executor. Something has started it before, so it cannot be confined to one thread
    /// any more. Start this thread before anything uses async-std.
    #[error("async-std is running already and cannot be confined to one thread")]
    AsyncStdNotConfined,
    /// The thread was not ready in time; it is left to end by itself.
    #[error("executor thread was not ready within {waited:?}")]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
    /// A start-up hook failed; everything has been taken down again.
    #[error("start-up hook failed")]
    Hook(#[source] BoxError),
    /// Something panicked on the thread before it was ready.
    #[error("executor thread panicked while starting: {message}")]
    Panicked {
        /// The message of the panic.
        message: String,
    },
}

/// Why an executor thread did not end as it should have. It has ended for its callers in any case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Something blocked the thread past the deadline. Every wait has been ended with an error; the thread is
    /// left behind (detached) and ends when what blocks it returns, if ever.
    #[error("executor thread {thread:?} is stuck after {waited:?}, left behind")]
    Stuck {
        /// The thread's name.
        thread: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The thread itself panicked, now or earlier.
    #[error("executor thread panicked: {message}")]
    Crashed {
        /// The message of the panic.
        message: String,
    },
    /// The thread has been told to end, but no thread could be had to wait for it.
    #[error("executor thread was told to end but could not be waited for: {kind}")]
    NotWatched {
        /// Why.
        kind: std::io::ErrorKind,
    },
    /// A blocking shutdown from the executor thread itself. The thread has been told to end and does so after
    /// the caller has returned.
    #[error("a blocking shutdown would block the executor thread itself")]
    OnExecutorThread,
}

/// The current thread is not the executor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not on the executor thread")]
pub struct NotOnExecutorThread;

/// A name that is no backend of this build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown runtime {name:?}: this build has {available}")]
pub struct UnknownBackend {
    /// The name that was given.
    pub name: String,
    /// The names that would have been right.
    pub available: String,
}
