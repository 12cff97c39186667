//! The client's side of the RPC: connections to a node of this machine.

use std::{fmt, future::pending, io, net::SocketAddr, path::PathBuf};

use async_trait::async_trait;
use futures::future::{Either, select};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1,
    header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use p2p_taskqueue::{
    ErrorCode, QueueError,
    mesh::{Connection, Connector},
};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::{
    Token,
    http::{PATH, PROTOCOL},
    socket_path::SocketPath,
};

/// A node's Unix socket.
#[derive(Debug)]
pub(crate) struct UnixConnector {
    pub(crate) path: PathBuf,
    /// What the user can do when nobody listens there.
    pub(crate) hint: String,
}

#[async_trait]
impl Connector for UnixConnector {
    async fn connect(&self) -> Result<Connection, QueueError> {
        let connected = match SocketPath::of(&self.path) {
            Ok(reached) => UnixStream::connect(reached.path()).await,
            Err(error) => Err(error),
        };
        let stream = connected.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                QueueError::new(ErrorCode::Unreachable, self.hint.as_str())
            }
            io::ErrorKind::PermissionDenied => {
                let problem = format!("{self} is another user's: run this as the user of the node");
                QueueError::new(ErrorCode::Unauthorized, problem)
            }
            _ => QueueError::new(ErrorCode::Unreachable, format!("cannot connect to {self}: {error}")),
        })?;
        Ok(Box::new(stream.compat()))
    }
}

impl fmt::Display for UnixConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node at unix:{}", self.path.display())
    }
}

/// A node's RPC over HTTP.
#[derive(Debug)]
pub(crate) struct HttpConnector {
    pub(crate) address: SocketAddr,
    /// The file is read for each connection, because a node makes it only when it starts for the first time.
    pub(crate) token_file: PathBuf,
}

#[async_trait]
impl Connector for HttpConnector {
    async fn connect(&self) -> Result<Connection, QueueError> {
        let unreachable = |problem: &dyn fmt::Display| {
            QueueError::new(ErrorCode::Unreachable, format!("cannot connect to {self}: {problem}"))
        };
        let token = match Token::read(&self.token_file) {
            Ok(Some(token)) => token,
            Ok(None) => return Err(unreachable(&format_args!("{} is not there", self.token_file.display()))),
            Err(error) => return Err(QueueError::new(ErrorCode::Unauthorized, error.to_string())),
        };
        let stream = TcpStream::connect(self.address).await.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let upgrade = Box::pin(async {
            let request = self.request(&token).map_err(|error| unreachable(&error))?;
            let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            self.upgraded(response).await
        });
        // The connection makes progress only while it is polled.
        let moving = Box::pin(async {
            drop(connection.with_upgrades().await);
            pending::<()>().await;
        });
        match select(upgrade, moving).await {
            Either::Left((upgraded, _)) => Ok(Box::new(TokioIo::new(upgraded?).compat())),
            Either::Right(_) => Err(unreachable(&"it closed the connection")),
        }
    }
}

impl HttpConnector {
    fn request(&self, token: &Token) -> hyper::http::Result<Request<String>> {
        Request::get(PATH)
            .header(HOST, self.address.to_string())
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, PROTOCOL)
            .header(AUTHORIZATION, format!("Bearer {}", token.text()))
            .body(String::new())
    }

    async fn upgraded(&self, response: Response<Incoming>) -> Result<Upgraded, QueueError> {
        let refused = |code, problem: fmt::Arguments<'_>| Err(QueueError::new(code, format!("{self} {problem}")));
        let token_file = self.token_file.display();
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => hyper::upgrade::on(response).await.map_err(|error| {
                QueueError::new(ErrorCode::Unreachable, format!("{self} broke the connection: {error}"))
            }),
            StatusCode::UNAUTHORIZED => refused(
                ErrorCode::Unauthorized,
                format_args!("does not take the token in {token_file}: name the file that its ready line names"),
            ),
            StatusCode::UPGRADE_REQUIRED => {
                let theirs = response.headers().get(UPGRADE).and_then(|theirs| theirs.to_str().ok());
                let theirs = theirs.unwrap_or("something else");
                let ours = env!("CARGO_PKG_VERSION");
                refused(
                    ErrorCode::Unsupported,
                    format_args!("speaks {theirs}, this program (taskmesh {ours}) {PROTOCOL}: update the older one"),
                )
            }
            status => refused(ErrorCode::Unsupported, format_args!("is no RPC of a node: it answered {status}")),
        }
    }
}

impl fmt::Display for HttpConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node at http://{}", self.address)
    }
}
