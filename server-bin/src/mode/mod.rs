//! How the HTTP side and the p2p side are joined: one file per mode.

mod bridge;
mod settings;

pub(crate) use bridge::{Ready, Server};
pub(crate) use settings::{Listen, ServerConfig, WorkerSpec};
