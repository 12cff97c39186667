//! What travels between two nodes, and between a node and the clients of its machine: frames, the handshake, messages, and
//! the session that both ends run.

mod frame;
mod handshake;
pub(crate) mod limits;
mod local;
mod message;
mod session;

pub use local::serve_local;

pub(crate) use handshake::{HandshakeError, Ours, Role, prove, within};
pub(crate) use local::open;
pub(crate) use session::{Driver, Service, Session, SessionEnd};
