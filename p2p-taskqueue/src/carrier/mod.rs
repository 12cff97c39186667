//! The carriers: the implementations of [`TaskQueue`](crate::TaskQueue), one per file.

mod routes;

pub use routes::RouteBook;
