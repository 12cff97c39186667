//! What travels between two nodes, and between a node and the clients of its machine: frames, the handshake, messages, and
//! the session that both ends run.

mod frame;
mod handshake;
mod limits;
mod local;
mod message;

pub use local::serve_local;
