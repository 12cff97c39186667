//! One piece of work: a future, where its outcome goes, its span and its deadline.
//!
//! Calls and spawned futures are both made of it, on every runtime, so that dropping, cancelling and panicking mean
//! the same everywhere: no runtime's own cancellation or panic handling is ever used.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tracing::Span;

use crate::{
    answer::{Answer, Delivery, Failure},
    runtime::Sleep,
};

/// How a piece of work ended, for whoever counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Finished,
    Panicked,
    Cancelled,
    Expired,
}

pub(crate) type BoxWork = Pin<Box<dyn Future<Output = Ending> + Send>>;

pin_project! {
    /// Drives a future until it ends or its outcome is no longer wanted. The future is always dropped before the
    /// outcome is delivered, so whoever has the outcome knows that all that the future held is free.
    pub(crate) struct Work<F: Future> {
        // None once the future has ended or was dropped.
        #[pin]
        future: Option<F>,
        answer: Arc<Answer<F::Output>>,
        span: Span,
        deadline: Option<Sleep>,
    }

    impl<F: Future> PinnedDrop for Work<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                // The runtime has dropped the work unfinished. The asker must not wait for ever.
                let failure = drop_future(this.span, this.future.as_mut()).unwrap_or(Failure::ShutDown);
                let _late = this.answer.settle(Err(failure));
            }
        }
    }
}

impl<F: Future> Work<F> {
    pub(crate) fn new(future: F, answer: Arc<Answer<F::Output>>, deadline: Option<Sleep>) -> Self {
        Self { future: Some(future), answer, span: Span::current(), deadline }
    }
}

impl<F: Future> Future for Work<F> {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let mut this = self.project();
        if !this.answer.is_open() {
            drop_future(this.span, this.future.as_mut());
            return Poll::Ready(Ending::Cancelled);
        }
        // Looked at first: a call whose deadline passed in the queue must not begin.
        let expired = this.deadline.as_mut().is_some_and(|sleep| Pin::new(sleep).poll(cx).is_ready());
        let (outcome, ending) = if expired {
            (Err(Failure::DeadlineExceeded), Ending::Expired)
        } else {
            match poll_future(this.span, this.future.as_mut(), cx) {
                Ok(Some(Poll::Ready(value))) => (Ok(value), Ending::Finished),
                Ok(Some(Poll::Pending)) if this.answer.watch(cx.waker()) => return Poll::Pending,
                Ok(Some(Poll::Pending)) => (Err(Failure::Cancelled), Ending::Cancelled),
                // Polled after its end.
                Ok(None) => return Poll::Ready(Ending::Finished),
                Err(failure) => (Err(failure), Ending::Panicked),
            }
        };
        let panicked_in_drop = drop_future(this.span, this.future.as_mut());
        let (outcome, ending) = match panicked_in_drop {
            Some(failure) => (Err(failure), Ending::Panicked),
            None => (outcome, ending),
        };
        let (ending, unwanted) = match this.answer.settle(outcome) {
            Delivery::Delivered => return Poll::Ready(ending),
            Delivery::Detached(unwanted) => (ending, unwanted),
            Delivery::Late(unwanted) => (Ending::Cancelled, unwanted),
        };
        // The value's destructor is foreign code as well.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(unwanted)));
        Poll::Ready(if dropped.is_ok() { ending } else { Ending::Panicked })
    }
}

/// Polls the future, if there still is one, inside its span; its panic becomes a failure.
fn poll_future<F: Future>(
    span: &Span,
    future: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Result<Option<Poll<F::Output>>, Failure> {
    let _entered = span.enter();
    catch_unwind(AssertUnwindSafe(|| future.as_pin_mut().map(|future| future.poll(cx))))
        .map_err(|payload| Failure::Panicked(panic_message(payload.as_ref())))
}

/// Drops the future inside its span; the panic of a destructor becomes a failure.
fn drop_future<F>(span: &Span, mut future: Pin<&mut Option<F>>) -> Option<Failure> {
    let _entered = span.enter();
    catch_unwind(AssertUnwindSafe(|| future.set(None)))
        .err()
        .map(|payload| Failure::Panicked(panic_message(payload.as_ref())))
}

/// The text of a panic, if it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
