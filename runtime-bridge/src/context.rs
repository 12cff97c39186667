//! A future wrapper that enters a tokio context on every poll and on drop.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::runtime::Handle;

pin_project! {
    /// A future that is polled *and dropped* inside a tokio context.
    ///
    /// Code that needs tokio (libp2p's sockets, mDNS and QUIC, for example) fails with "there is no reactor running"
    /// when another executor polls it, and its destructors need the context as much as its polls do. Everything
    /// that such code spawns elsewhere needs the wrapper, too. Entering costs about 20 ns.
    ///
    /// The tokio runtime behind the handle must be running: the sockets and timers of a runtime that no thread
    /// drives never become ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct TokioContext<F> {
        // None only while being dropped.
        #[pin]
        future: Option<F>,
        handle: Handle,
    }

    impl<F> PinnedDrop for TokioContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = this.handle.enter();
            this.future.set(None);
        }
    }
}

/// Wraps `future` so that it is polled and dropped inside the context of `handle`.
///
/// # Cancel safety
///
/// As cancel safe as `future`.
pub fn in_tokio_context<F>(handle: &Handle, future: F) -> TokioContext<F> {
    TokioContext { future: Some(future), handle: handle.clone() }
}

impl<F: Future> Future for TokioContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.handle.enter();
        match this.future.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> fmt::Debug for TokioContext<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioContext").finish_non_exhaustive()
    }
}
