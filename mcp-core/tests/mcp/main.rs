//! The server over a queue in memory, driven through its router without a socket.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and the allowance for tests does not reach the helpers of this binary"
)]

mod arguments;
mod client;
mod clients;
mod durable;
mod grants;
mod http;
mod limits;
mod machines;
mod mesh_tools;
mod metrics;
mod nested;
mod nodes;
mod odd;
mod progress;
mod protocol;
mod queue;
mod refusals;
mod resources;
mod schema;
mod steady;
mod task_methods;
mod task_states;
mod tools;
mod users;
mod waiting;
mod work;
