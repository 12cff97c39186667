//! The node: one loop that owns the libp2p swarm, the sessions with its peers, and the handle to it.

mod address;
mod addresses;
mod admission;
mod arrivals;
mod causes;
mod config;
mod connections;
mod directory;
mod driver;
mod ending;
mod error;
mod files;
mod finding;
mod finding_gate;
mod finding_kademlia;
mod finding_keep;
mod finding_mdns;
mod finding_rendezvous;
mod handle;
pub(crate) mod limits;
mod link;
mod links;
mod moment;
mod net;
mod own_addresses;
mod peer_entry;
mod peers;
mod reach;
mod reach_config;
mod reach_relays;
mod redial;
mod refusals;
mod room;
mod start;
mod transport;

pub use address::is_loopback;
pub use config::{ConnectionLimits, NodeConfig};
pub(crate) use directory::Directory;
pub use error::NodeError;
pub use files::{NoFiles, NodeFiles, RememberedPeer};
pub use handle::NodeHandle;
pub(crate) use moment::{Moment, unix_now};
pub(crate) use peer_entry::Patience;
pub use reach_config::ReachConfig;
pub use start::Node;

#[cfg(test)]
mod finding_tests;
#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod reach_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod ways_tests;
#[cfg(test)]
mod workers_tests;
