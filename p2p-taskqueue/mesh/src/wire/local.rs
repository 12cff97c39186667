//! The session between a node and the clients of its own machine.
//!
//! There is no proof, since the mode of the socket or a token keeps others out. Versions are compared.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::Arc,
};

use futures::{
    AsyncRead, AsyncWrite,
    future::{Either, select},
};
use runtime_bridge::Runtime;
use serde::{Deserialize, Serialize};
use taskqueue_api::{Caller, TaskQueue};

use super::{
    frame::FrameReader,
    handshake::{check_versions, receive, send, short, versions, within},
    limits::{FRAME_BYTES_MAX, FRAME_BYTES_UNPROVEN, HANDSHAKE_DEADLINE},
    refused::HandshakeError,
    session::{Agreed, Driver, Service, Session},
    terms::{Limits, Terms, features},
};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LocalHello {
    versions: (u16, u16),
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    limits: Limits,
    software: String,
}

impl LocalHello {
    pub(super) fn ours() -> Self {
        let software = env!("CARGO_PKG_VERSION").to_owned();
        Self { versions: versions(), features: features(), limits: Limits::ours(), software }
    }

    /// Returns the terms that follow from this hello, if the versions match.
    pub(super) fn terms(self) -> Result<Terms, HandshakeError> {
        check_versions(self.versions, || short(self.software))?;
        Ok(Terms::new(&self.features, self.limits))
    }
}

/// Serves one client of this machine over an open connection, for example a Unix socket whose mode keeps other users
/// out.
///
/// Returns when the connection is over. The client is [`Caller::Local`].
///
/// # Cancel safety
///
/// Dropping the future closes the connection. The client's requests are given up, as when the client closes the
/// connection.
pub async fn serve_local<S>(io: S, queue: Arc<dyn TaskQueue>, runtime: Arc<dyn Runtime>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    serve_local_until(io, queue, runtime, pending()).await;
}

/// Serves one client as [`serve_local`] does, until `stop` completes.
///
/// Then the client is told to make no new requests, and long polls are answered with `shutting_down`. The connection
/// ends when the other requests are answered.
///
/// # Cancel safety
///
/// As [`serve_local`].
pub async fn serve_local_until<S>(
    io: S,
    queue: Arc<dyn TaskQueue>,
    runtime: Arc<dyn Runtime>,
    stop: impl Future<Output = ()>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = Service { queue, caller: Caller::Local };
    match open(io, Some(service), runtime).await {
        Ok((session, driver)) => {
            let end = match select(driver, pin!(stop)).await {
                Either::Left((end, _)) => end,
                Either::Right(((), driver)) => {
                    session.drain();
                    driver.await
                }
            };
            tracing::debug!(%end, "a local client has gone");
        }
        Err(error) => tracing::debug!(%error, "a local client did not introduce itself"),
    }
}

/// Exchanges hellos and starts a session.
pub(crate) async fn open<S>(
    mut io: S,
    service: Option<Service>,
    runtime: Arc<dyn Runtime>,
) -> Result<(Session, Driver<S>), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        let mut reader = FrameReader::new(FRAME_BYTES_UNPROVEN);
        send(&mut io, &LocalHello::ours()).await?;
        let theirs: LocalHello = receive(&mut io, &mut reader).await?;
        let terms = theirs.terms()?;
        reader.set_bytes_max(FRAME_BYTES_MAX);
        Ok(Agreed { reader, terms })
    };
    let agreed = within(HANDSHAKE_DEADLINE, exchange, &*runtime).await.unwrap_or(Err(HandshakeError::Deadline))?;
    Ok(Driver::new(io, agreed, service, runtime))
}
