//! `local_future`: a future that is not `Send`, made, polled and dropped on one thread, behind one that is `Send`.
//!
//! What moves between threads is a key. The future itself lies in the store of the thread that made it, a
//! thread-local, so that no unsafe code and no queue of its own is needed: for the rest of this crate a local
//! future is a future like any other.

use std::{
    any::Any,
    cell::RefCell,
    fmt,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll},
    thread::ThreadId,
};

use slab::Slab;

thread_local! {
    /// The local futures that this thread has made.
    static STORE: RefCell<Store> = const { RefCell::new(Store(Slab::new())) };
}

/// A future's place is empty while the future is polled: its own code may make, poll and drop others.
struct Store(Slab<Option<Box<dyn Any>>>);

impl Drop for Store {
    fn drop(&mut self) {
        // The thread ends. A panic here would abort the process.
        for future in self.0.drain() {
            let _nobody_hears_of_it = catch_unwind(AssertUnwindSafe(|| drop(future)));
        }
    }
}

/// A `Send` future whose work need not be: see [`local_future`].
#[must_use = "futures do nothing unless polled"]
pub struct LocalFuture<M, F> {
    state: State<M>,
    /// A function pointer, because it is `Send` whatever the future is.
    makes: PhantomData<fn() -> F>,
}

enum State<M> {
    Unmade(M),
    Made(Place),
    Over,
}

/// Where a future lies.
struct Place {
    thread: ThreadId,
    key: usize,
}

/// A future that calls `make` at its first poll and then is the future that `make` returns, which never leaves the
/// thread of that first poll. So `make` has to be `Send` and its future does not.
///
/// [`Bridge::run_local`](crate::Bridge::run_local) is the short way for a call. With this function, a call can
/// have a deadline too ([`Bridge::call`](crate::Bridge::call)), and a local future can be spawned
/// ([`RuntimeExt::spawn`](crate::RuntimeExt::spawn)) on the runtime of an executor thread.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "runtime-tokio")] {
/// use std::rc::Rc;
/// use runtime_bridge::{Backend, ExecutorThread, RuntimeExt, ThreadConfig, local_future};
///
/// let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default())?;
/// let spawned = thread.runtime().spawn(local_future(|| async {
///     let shared = Rc::new(20);
///     tokio::task::yield_now().await;
///     *shared + 1
/// }));
/// assert_eq!(futures::executor::block_on(spawned)?, 21);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
///
/// The returned future panics when it is polled on two threads, as a runtime of several threads would do.
/// Dropped on another thread than the one of its polls, it leaves the future behind; that is dropped when the
/// thread ends.
///
/// # Cancel safety
///
/// As cancel safe as the future that `make` returns.
pub fn local_future<M, F>(make: M) -> LocalFuture<M, F>
where
    M: FnOnce() -> F,
    F: Future + 'static,
{
    LocalFuture { state: State::Unmade(make), makes: PhantomData }
}

// It holds a closure, which is never pinned, or a key.
impl<M, F> Unpin for LocalFuture<M, F> {}

impl<M, F> Future for LocalFuture<M, F>
where
    M: FnOnce() -> F,
    F: Future + 'static,
{
    type Output = F::Output;

    #[expect(clippy::panic, reason = "documented: the future cannot be reached from here")]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut future = match std::mem::replace(&mut self.state, State::Over) {
            State::Unmade(make) => {
                let future: Box<dyn Any> = Box::new(Box::pin(make()));
                self.state = State::Made(Place::new());
                future
            }
            State::Made(place) => {
                let taken = place.take();
                self.state = State::Made(place);
                match taken {
                    Some(future) => future,
                    None => panic!("a local future was polled on another thread than the one that made it"),
                }
            }
            // Polled after its end.
            State::Over => return Poll::Pending,
        };
        // A future that panics stays in its place, to be dropped when this one is, and not while it unwinds.
        let polled = catch_unwind(AssertUnwindSafe(|| match future.downcast_mut::<Pin<Box<F>>>() {
            Some(future) => future.as_mut().poll(cx),
            None => Poll::Pending,
        }));
        match polled {
            Ok(Poll::Ready(value)) => {
                self.state.clear();
                Poll::Ready(value)
            }
            other => {
                if let State::Made(place) = &self.state {
                    place.put_back(future);
                }
                other.unwrap_or_else(|payload| resume_unwind(payload))
            }
        }
    }
}

impl<M> State<M> {
    /// Gives the place up and drops what lies there.
    fn clear(&mut self) {
        if let Self::Made(place) = std::mem::replace(self, Self::Over) {
            drop(place.give_up());
        }
    }
}

impl<M, F> Drop for LocalFuture<M, F> {
    fn drop(&mut self) {
        self.state.clear();
    }
}

impl Place {
    fn new() -> Self {
        let key = STORE.with_borrow_mut(|store| store.0.insert(None));
        Self { thread: std::thread::current().id(), key }
    }

    /// Uses the place, if this is its thread and the thread is not ending.
    fn with<T>(&self, act: impl FnOnce(&mut Store) -> Option<T>) -> Option<T> {
        if std::thread::current().id() != self.thread {
            return None;
        }
        STORE.try_with(|store| act(&mut store.borrow_mut())).ok().flatten()
    }

    fn take(&self) -> Option<Box<dyn Any>> {
        self.with(|store| store.0.get_mut(self.key)?.take())
    }

    fn put_back(&self, future: Box<dyn Any>) {
        self.with(|store| store.0.get_mut(self.key)?.replace(future));
    }

    /// What lay there is dropped by the caller, while the store is not borrowed.
    fn give_up(self) -> Option<Box<dyn Any>> {
        self.with(|store| store.0.try_remove(self.key)?)
    }
}

impl<M, F> fmt::Debug for LocalFuture<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalFuture").finish_non_exhaustive()
    }
}
