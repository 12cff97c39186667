//! How peers are found: a chain of ways, the same for commands, tools and workers, and a trace of what each came to.
//!
//! ```text
//!   explicit ─ address book ─ announce file ─ bootstrap ─ rendezvous ─ Kademlia ─ mDNS
//!       └──────────┴── addresses ──┴──────────────┴───────────┴───────────┴─────────┘
//!                           │
//!                     dial, and the proof of the mesh secret ──▶ a peer, or the reason why not
//! ```
//!
//! A way only comes up with addresses. Whether a peer belongs to the mesh is decided by the handshake, so that a way may be
//! open to anybody. Rendezvous and the hash table use a [name](Namespace) that follows from the mesh secret, so that only
//! members know what to ask for; what they hear about a peer is signed by that peer.

mod announce;
mod chain;
mod config;
pub(crate) mod kademlia;
mod namespace;
pub(crate) mod record;
pub(crate) mod rendezvous;
mod search;
mod trace;

pub(crate) use announce::announcement_of;
pub(crate) use chain::{discover, find};
pub use config::DiscoveryConfig;
pub(crate) use config::named;
pub(crate) use namespace::Namespace;
use search::Found;
pub(crate) use search::Search;
#[cfg(test)]
pub(crate) use search::search;
