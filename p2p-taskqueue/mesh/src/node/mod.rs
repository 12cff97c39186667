//! The node: one loop that owns the libp2p swarm, the sessions with its peers, and the handle to it.

mod addresses;
mod admission;
mod arrivals;
mod config;
mod connections;
mod dialling;
mod directory;
mod driver;
mod error;
mod files;
mod finding;
mod finding_gate;
mod finding_kademlia;
mod finding_keep;
mod finding_rendezvous;
mod handle;
pub(crate) mod limits;
mod link;
mod links;
mod membership;
mod net;
mod peers;
mod reach;
mod reach_config;
mod reach_relays;
mod redial;
mod refusals;
mod room;
mod start;
mod transport;

pub use config::{ConnectionLimits, NodeConfig};
pub(crate) use directory::Directory;
pub(crate) use driver::unix_now;
pub use error::{NodeError, ParseAddressError, parse_address};
pub use files::{KnownPeer, NoFiles, NodeFiles};
pub use handle::NodeHandle;
pub(crate) use peers::Patience;
pub use reach_config::ReachConfig;
pub use start::Node;
pub(crate) use transport::is_loopback;

#[cfg(test)]
mod finding_tests;
#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod reach_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod ways_tests;
