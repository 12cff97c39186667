//! The operations: the requests, their answers, and the one trait that every carrier implements.
//!
//! A new operation is a struct for its arguments, a struct for its answer, and one line in `operation.rs`; every carrier
//! then has it.

mod answer;
mod at_once;
mod bounded;
mod cache;
mod caller;
mod check;
mod discover;
mod envelope;
mod error;
mod facts;
mod grants;
mod guard;
mod kind;
mod lease;
pub mod limits;
mod machine_names;
mod manage;
mod members;
mod mesh;
mod nearest;
mod operation;
pub(crate) mod peer_text;
mod place;
mod read;
mod repeat;
mod routes;
mod size;
mod submit;
mod table;
mod target;
mod targeted;
mod task;
#[cfg(any(test, feature = "__testing"))]
#[doc(hidden)]
pub mod testing;
mod tools;
mod waiting;
mod workers;

pub use answer::{Answer, Answered};
pub use at_once::AtOnceQueue;
pub use cache::{CacheDelete, CacheDeleted, CacheGet, CacheGot, CacheHad, CacheHas, CacheSet, CacheStored};
pub use caller::{Caller, Member};
pub use check::Check;
pub use discover::{Discover, Discovered, Method, SearchAttempt};
pub use envelope::{write_answer, write_refusal};
pub use error::{ErrorCode, Outcome, QueueError};
pub use facts::{Adds, AnsweredBy, Facts, Grant, OpenTo, Route, Waits};
pub use grants::{Allowed, Grants, GrantsError, Role, TypePattern};
pub use guard::Guard;
pub use kind::RequestKind;
pub use lease::{
    Cancel, Cancelled, Claim, ClaimMany, Claimed, ClaimedMany, Complete, Completed, CompletedStatus, Fail, Failed,
    Release, Released, Renew, Renewed,
};
pub use libp2p_identity::PeerId;
pub use machine_names::{MachineNames, whole_peer_id};
pub use manage::{
    Free, Freed, Limit, Limited, Pause, Paused, Purge, Purged, Resume, Resumed, Retried, Retry, Selection,
};
pub use members::{
    ChangeMember, Invitation, Invite, Join, Joined, Leave, Left, MachineInfo, MemberChanged, MemberRemoved, Members,
    MembersListed, MembersTold, RemoveMember, SignedText, TakeMeOut, TakenOut, TellMembers,
};
pub use mesh::{
    BridgeStatus, Capabilities, DialOutcome, Heard, HeardPeer, Heartbeat, Peer, Peers, PeersListed, QueueStatus,
    Scheduler, Status, StatusQuery, StoreStatus, TransportStatus, VectorClock,
};
pub use multiaddr::Multiaddr;
pub use nearest::nearest;
pub use operation::{Operation, TaskQueue};
pub use place::{PlaceError, parse_address, parse_peer_id};
pub use read::{Get, GetMany, Got, GotMany, List, Listed, Order, Stats, StatsQuery, TypeStats, Wait, Waited};
pub use repeat::Repeat;
pub use routes::RouteBook;
pub use size::check_size;
pub(crate) use submit::default_day_s;
pub use submit::{Durability, OnParentFailure, Submit, SubmitMany, SubmitResult, Submitted, SubmittedMany};

pub use table::{Request, Response, TaskQueueExt};
pub use target::{At, Target, peer_of};
pub use targeted::TargetedQueue;
pub use task::{
    Attempt, AttemptOutcome, FailedBy, Fence, Json, JsonError, ParseFenceError, ParseTaskIdError, TaskId, TaskRecord,
    TaskStatus, UnknownStatus, Unreadable,
};
pub use tools::{CallTool, ListTools, ToolCalled, ToolOffer, ToolsListed};
pub use waiting::{Lacking, WaitReason, WaitingFor, span_text};
pub use workers::{TellWorkers, WorkerInfo, WorkerOffer, Workers, WorkersListed, WorkersTold};

/// Compiles and runs the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
