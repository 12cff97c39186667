//! The carriers: the implementations of [`TaskQueue`](crate::TaskQueue), one per file.

mod routes;
mod targeted;

pub use routes::RouteBook;
pub use targeted::TargetedQueue;
