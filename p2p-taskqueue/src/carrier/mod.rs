//! The carriers: the implementations of [`TaskQueue`](crate::TaskQueue), one per file.

mod local;
mod routes;
mod targeted;

pub use local::LocalQueue;
pub use routes::RouteBook;
pub use targeted::TargetedQueue;
