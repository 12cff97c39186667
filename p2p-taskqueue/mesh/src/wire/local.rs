//! The session between a node and the clients of its own machine: no proof, since the socket's mode or a token keeps others
//! out, but versions are compared.

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
    handshake::{HandshakeError, check_versions, receive, send, short, versions, within},
    limits::{FRAME_BYTES_MAX, FRAME_BYTES_UNPROVEN, HANDSHAKE_DEADLINE},
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

    /// What is agreed with the end that says this.
    pub(super) fn terms(self) -> Result<Terms, HandshakeError> {
        check_versions(self.versions, || short(self.software))?;
        Ok(Terms::new(&self.features, self.limits))
    }
}

/// Serves one client of this machine over an open connection, for example a Unix socket whose mode keeps other users out;
/// returns when the connection is over. The client is [`Caller::Local`].
///
/// # Cancel safety
///
/// Dropping the future closes the connection; what the client asked is given up, as if it had gone.
pub async fn serve_local<S>(io: S, queue: Arc<dyn TaskQueue>, runtime: Arc<dyn Runtime>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    serve_local_until(io, queue, runtime, pending()).await;
}

/// As [`serve_local`], until `stop` is over: then the client is told to ask nothing more, long polls are answered
/// `shutting_down`, and the connection ends when the rest is answered.
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
