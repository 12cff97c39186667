//! The taskmesh MCP server: tools over any [`TaskQueue`](taskqueue_api::TaskQueue), served as an axum router.
//!
//! It binds no socket, reads no file and starts no runtime: [`McpServer::router`] gives a service, and whoever binds
//! the listener serves it. One endpoint, `/mcp`, speaks the revision 2026-07-28 (stateless) and, through `initialize`,
//! those up to 2025-11-25; there are no sessions, so any request may come over any connection.
//!
//! ```
//! # use std::sync::Arc;
//! # use mcp_core::{McpConfig, McpServer};
//! # fn serve(queue: Arc<dyn taskqueue_api::TaskQueue>) -> axum::Router {
//! McpServer::new(queue, McpConfig::default()).router()
//! # }
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | `config` | what the binder may set |
//! | `server` | the queue and the configuration made a router |
//! | `handler` | rmcp's server handler |
//! | `tools` | the table of tools, their schemas, arguments and answers |
//! | `resources` | a task and its result, the node, its peers, to be read |
//! | `tasks` | tool calls that are durable tasks: handles, `tasks/*`, progress |
//! | `call` | one call of the queue: its time limit, its bounds, the shutdown |
//! | `http` | what stands before rmcp: host, origin and token checks, bounds, bodies; health and metrics |
//! | `metrics` | what is counted |
//! | `principal` | who asks |
//! | `error` | the single mapping of errors to JSON-RPC codes and HTTP statuses |
//!
//! Only `handler`, `tasks`, `error` and `server` know rmcp's types.

mod call;
mod config;
mod error;
mod handler;
mod http;
mod mesh_tools;
mod metrics;
mod overload;
mod principal;
mod resources;
mod server;
#[cfg(feature = "fixtures")]
#[doc(hidden)]
pub mod stack;
mod tasks;
mod tools;

pub use config::{BearerToken, McpConfig};
pub use server::McpServer;

/// Compiles and runs the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
