//! The RPC by which other processes of this machine ask the node: the same session over a Unix socket and over an
//! upgraded HTTP connection.

mod address;
mod connect;
mod http;
mod server;
mod socket_path;
mod token;
mod unix;

pub(crate) use address::RpcAddress;
pub(crate) use connect::{HttpConnector, UnixConnector};
pub(crate) use server::RpcServer;
pub(crate) use token::Token;
