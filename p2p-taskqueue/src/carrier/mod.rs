//! The carriers: the implementations of [`TaskQueue`](crate::TaskQueue), one per file.

mod bridged;
mod daemon;
mod routes;
mod targeted;

pub use bridged::BridgedQueue;
pub use daemon::DaemonQueue;
pub use routes::RouteBook;
pub use targeted::TargetedQueue;
