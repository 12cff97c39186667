//! Incoming connections that are being set up.
//!
//! The swarm counts them but offers no way to end one. So the transport hands out a handle for each, and notes whether
//! anything has been received over it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt as _, TryFutureExt as _,
    future::{AbortHandle, Abortable, BoxFuture},
};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};

/// The place where the transport leaves the newest arrival for [`Admission`](super::admission::Admission).
///
/// One place is enough: the swarm asks about each arrival right after it has taken it from the transport, and takes no
/// other one in between.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals(Arc<Mutex<Newest>>);

#[derive(Debug, Default)]
struct Newest {
    /// The mark of the newest socket, until [`Endable`] takes it for the arrival.
    heard: Option<Heard>,
    arrival: Option<Arrival>,
}

/// A connection that is being set up.
#[derive(Debug)]
pub(super) struct Arrival {
    abort: AbortHandle,
    heard: Heard,
}

/// A mark that is set once the first byte has come. For QUIC it is never set, because the first packet may carry a
/// forged sender address.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<AtomicBool>);

/// The error of a connection that was ended to make room for a newer one.
#[derive(Debug, thiserror::Error)]
#[error("it made room for a newer connection")]
pub(super) struct MadeRoom;

impl Arrivals {
    /// Takes the arrival about which the swarm asks.
    pub(super) fn take(&self) -> Arrival {
        let newest = self.with(|newest| newest.arrival.take());
        newest.unwrap_or_else(|| Arrival { abort: AbortHandle::new_pair().0, heard: Heard::default() })
    }

    fn came(&self) -> Heard {
        let heard = Heard::default();
        self.with(|newest| newest.heard = Some(heard.clone()));
        heard
    }

    fn with<T>(&self, change: impl FnOnce(&mut Newest) -> T) -> T {
        // Nothing that can panic runs under the lock.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Arrival {
    /// Ends the connection.
    pub(super) fn end(&self) {
        self.abort.abort();
    }

    pub(super) fn has_spoken(&self) -> bool {
        self.heard.0.load(Ordering::Relaxed)
    }
}

/// A transport that notes, for each incoming connection, when the first byte has come.
#[derive(Debug)]
pub(super) struct Listened<T> {
    sockets: T,
    arrivals: Arrivals,
}

impl<T> Listened<T> {
    pub(super) const fn new(sockets: T, arrivals: Arrivals) -> Self {
        Self { sockets, arrivals }
    }
}

impl<T> Transport for Listened<T>
where
    T: Transport + Unpin,
    T::ListenerUpgrade: Send + 'static,
    T::Dial: Send + 'static,
    T::Output: 'static,
    T::Error: 'static,
{
    type Output = Ear<T::Output>;
    type Error = T::Error;
    type ListenerUpgrade = BoxFuture<'static, Result<Self::Output, T::Error>>;
    type Dial = BoxFuture<'static, Result<Self::Output, T::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.sockets.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.sockets.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<T::Error>> {
        let dial = self.sockets.dial(address, options)?;
        Ok(dial.map_ok(|socket| Ear { socket, heard: None }).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = ready!(Pin::new(&mut self.sockets).poll(cx));
        Poll::Ready(event.map_upgrade(|upgrade| {
            let heard = self.arrivals.came();
            upgrade.map_ok(|socket| Ear { socket, heard: Some(heard) }).boxed()
        }))
    }
}

/// A socket that notes when the first byte has come.
#[derive(Debug)]
pub(super) struct Ear<S> {
    socket: S,
    /// `None` once the byte has come, and on a connection that this node dialled.
    heard: Option<Heard>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Ear<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, room));
        if read.as_ref().is_ok_and(|bytes| *bytes > 0)
            && let Some(Heard(heard)) = self.heard.take()
        {
            heard.store(true, Ordering::Relaxed);
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ear<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

/// A transport whose incoming connections can be ended while they are being set up.
#[derive(Debug)]
pub(super) struct Endable<T> {
    inner: T,
    arrivals: Arrivals,
}

impl<T> Endable<T> {
    pub(super) const fn new(inner: T, arrivals: Arrivals) -> Self {
        Self { inner, arrivals }
    }
}

impl<T> Transport for Endable<T>
where
    T: Transport<Error = io::Error> + Unpin,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<T::Output>>;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = ready!(Pin::new(&mut self.inner).poll(cx));
        Poll::Ready(event.map_upgrade(|upgrade| {
            let (abort, registration) = AbortHandle::new_pair();
            self.arrivals.with(|newest| {
                let heard = newest.heard.take().unwrap_or_default();
                newest.arrival = Some(Arrival { abort, heard });
            });
            let upgrade = Abortable::new(upgrade, registration);
            upgrade.map(|ended| ended.unwrap_or_else(|_aborted| Err(io::Error::other(MadeRoom)))).boxed()
        }))
    }
}
