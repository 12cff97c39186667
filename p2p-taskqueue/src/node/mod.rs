//! The node: one loop that owns the libp2p swarm, the sessions with its peers, and the handle to it.

mod config;
mod error;
mod files;
mod handle;

pub use config::NodeConfig;
pub use error::{NodeError, ParseAddressError, parse_address};
pub use files::{KnownPeer, NoFiles, NodeFiles};
pub use handle::{Node, NodeHandle};
