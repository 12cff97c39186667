//! The carriers: the implementations of [`TaskQueue`](taskqueue_api::TaskQueue), one per file.

mod connector;
mod daemon;
mod joining;
mod members;
mod mesh;
mod nothing;
mod reconnect;
mod remote;
mod repeat;
mod submitted;
mod timeout;
mod waits;
mod workers;

pub use connector::{Connection, Connector, Duplex};
pub use daemon::DaemonQueue;
pub(crate) use joining::Joiner;
pub(crate) use mesh::MeshQueue;
pub(crate) use nothing::Nothing;
pub use remote::RemoteQueue;

#[cfg(test)]
mod daemon_tests;
#[cfg(test)]
mod mesh_tests;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod unwritable_tests;
