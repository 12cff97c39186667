//! The operations: what can be asked, what is answered, and the one trait that every carrier implements.
//!
//! A new operation is a struct for its arguments, a struct for its answer, and one line in `operation.rs`; every carrier
//! then has it.

mod caller;
mod check;
mod error;
mod lease;
pub mod limits;
mod mesh;
mod operation;
mod read;
mod submit;
mod target;

pub use caller::Caller;
pub use check::Check;
pub use error::{ErrorCode, Outcome, QueueError};
pub use lease::{
    Cancel, Cancelled, Claim, Claimed, Complete, Completed, CompletedStatus, Fail, Failed, Release, Released, Renew,
    Renewed,
};
pub use mesh::{
    BridgeStatus, Capabilities, DialOutcome, Invitation, Invite, Join, Joined, Peer, Peers, PeersListed, QueueStatus,
    Status, StatusQuery,
};
pub use operation::{Operation, Request, Response, TaskQueue, TaskQueueExt};
pub use read::{Get, Got, List, Listed, Order, Wait, Waited};
pub use submit::{Durability, Submit, Submitted};
pub use target::{At, Target};
