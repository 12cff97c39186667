//! The taskmesh MCP server: tools over any [`TaskQueue`](taskqueue_api::TaskQueue), served as an axum router.
//!
//! The crate listens on no socket, reads no file and starts no runtime. [`McpServer::router`] returns a service, and the
//! program that binds the listener serves it. The one endpoint `/mcp` speaks the revision 2026-07-28, which is
//! stateless, and, for clients that begin with `initialize`, the revisions up to 2025-11-25. There are no sessions, so
//! a request may come over any connection.
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
//! | `config` | the settings of the server |
//! | `server` | the router over a queue |
//! | `handler` | rmcp's server handler |
//! | `tools` | the table of tools, their schemas, arguments and answers |
//! | `mesh_tools` | the tools that workers of the mesh offer |
//! | `resources` | what clients read without a tool: a task, its result, the node, its peers |
//! | `tasks` | tool calls that are durable tasks: handles, `tasks/*`, progress |
//! | `call` | one call of the queue: its time limit, its bounds, the shutdown |
//! | `http` | the checks before rmcp: host, origin, token, user, bounds, bodies; also health and metrics |
//! | `metrics` | the counters |
//! | `principal` | the client that asks, what it may do, and its share of the server |
//! | `overload` | the answer when a bound is reached |
//! | `error` | the single mapping of errors to JSON-RPC codes and HTTP statuses |
//!
//! `tools`, `call`, `config`, `metrics`, `principal` and `overload` use no types of rmcp.

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
pub use http::CallingUser;
pub use server::McpServer;

/// Compiles and runs the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
