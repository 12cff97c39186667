//! The wire protocol between two nodes, and between a node and the clients of its machine: frames, the handshake,
//! messages, and the session that both ends run. `p2p-taskqueue/PROTOCOL.md` describes it for other implementations.

mod door;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handshake;
pub(crate) mod limits;
mod local;
mod message;
mod pipe;
mod proof;
mod refused;
mod request;
mod session;
mod terms;

pub use local::{serve_local, serve_local_until};

pub(crate) use door::Reason;
pub(crate) use handshake::{Met, Ours, Proven, enter, prove, within};
pub(crate) use local::open;
pub(crate) use pipe::pipe;
pub(crate) use proof::Role;
pub(crate) use refused::HandshakeError;
pub(crate) use session::{Counts, Driver, Service, Session, SessionEnd};
pub(crate) use terms::Terms;

#[cfg(test)]
mod door_tests;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod protocol_tests;
#[cfg(test)]
pub(crate) use {
    examples::exchanges, frame::FrameReader, message::Incoming, pipe::Pipe, request::read_request, session::Agreed,
};
