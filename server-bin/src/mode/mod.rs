//! How the HTTP side and the p2p side are joined: one file per mode.

mod bridge;

pub(crate) use bridge::{Ready, Server, ServerConfig};
