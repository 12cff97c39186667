//! The carriers: the implementations of [`TaskQueue`](crate::TaskQueue), one per file.

mod local;
mod routes;

pub use local::LocalQueue;
pub use routes::RouteBook;
