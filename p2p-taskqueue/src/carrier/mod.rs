//! The carriers: the implementations of [`TaskQueue`](crate::TaskQueue), one per file.

mod at_once;
mod bridged;
mod connector;
mod daemon;
mod inline;
mod local;
mod mesh;
mod nothing;
mod nudges;
mod reconnect;
mod remote;
mod repeat;
mod routes;
mod submitted;
mod targeted;
mod timeout;
mod waits;

pub use at_once::AtOnceQueue;
pub use bridged::BridgedQueue;
pub use connector::{Connection, Connector, Duplex};
pub use daemon::DaemonQueue;
pub use inline::InlineQueue;
pub use local::LocalQueue;
pub use mesh::MeshQueue;
pub(crate) use nothing::Nothing;
pub use remote::RemoteQueue;
pub use routes::RouteBook;
pub use targeted::TargetedQueue;

#[cfg(test)]
mod daemon_tests;
#[cfg(test)]
mod mesh_tests;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unwritable_tests;
