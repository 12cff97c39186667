//! The nodes of a taskmesh: their identities, how they find each other and prove that they are members, and the queues
//! of other nodes and processes.
//!
//! A [`Node`] is one machine of a mesh. Its queue, `MeshQueue`, answers what concerns its own tasks by asking the queue that
//! it was started with, and passes on what concerns a peer's. Another process of the same machine asks it over
//! [`serve_local`] and a [`DaemonQueue`].
//!
//! | module | what is in it |
//! |---|---|
//! | `identity`, `ticket` | the identity of a node, and the invitation to a mesh |
//! | `members` | who belongs to a mesh, under which name and with which grants |
//! | `wire` | frames, the handshake and the session, over any byte stream |
//! | `node` | the one loop that owns the swarm, and its handle |
//! | `workers` | what the workers of the mesh take, and why a task waits for one |
//! | `discovery` | how peers are found: one file for each way |
//! | `carrier` | the queues that other nodes and processes keep |

mod carrier;
mod checked_text;
mod discovery;
mod heartbeat;
mod identity;
mod members;
mod node;
#[cfg(test)]
mod testing;
mod ticket;
mod wire;
mod workers;

pub use carrier::{Connection, Connector, DaemonQueue, Duplex, RemoteQueue};
pub use checked_text::TextError;
pub use discovery::DiscoveryConfig;
pub use identity::Identity;
pub(crate) use identity::MeshSecret;
pub use members::{Mesh, MeshError, ParseNameError, RootKey, host_name};
pub use node::{
    ConnectionLimits, NoFiles, Node, NodeConfig, NodeError, NodeFiles, NodeHandle, ReachConfig, RememberedPeer,
    is_loopback,
};
pub use ticket::{TICKET_ADDRESSES_MAX, Ticket, TicketError};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use wire::fuzzing;
pub use wire::{serve_local, serve_local_until};

/// Compiles and runs the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
