//! The one table of the operations, with everything that other code has to know about each of them.
//!
//! | column | what reads it |
//! |---|---|
//! | `answered_by` | which of store, queue and node answers; what a node says that it can do |
//! | `open_to` | the node, before it answers a peer |
//! | `grant` | what whoever asks has to be allowed to do |
//! | `carries_content` | the reader of the wire, which refuses what is large without a reason |
//! | `keeps_lease`, `waits_for`, `hands_out` | every bound that keeps some room for each [kind](crate::RequestKind) of request |
//! | `route` | the node, when no target is named |
//! | `repeat` | whoever lost the answer and may ask again |
//! | `content_bytes`, `needs_sync`, `adds` | the store's writer |
//!
//! Every row has every column, so a new operation does not compile until each column is decided.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::operation::operations;
use crate::{
    Adds, Answer, Answered, AnsweredBy, At, CacheDelete, CacheDeleted, CacheGet, CacheGot, CacheHad, CacheHas,
    CacheSet, CacheStored, CallTool, Caller, Cancel, Cancelled, ChangeMember, Check, Claim, ClaimMany, Claimed,
    ClaimedMany, Complete, Completed, Discover, Discovered, Facts, Fail, Failed, Free, Freed, Get, GetMany, Got,
    GotMany, Grant, Heard, Heartbeat, Invitation, Invite, Join, Joined, Json, Leave, Left, Limit, Limited, List,
    ListTools, Listed, MemberChanged, MemberRemoved, Members, MembersListed, MembersTold, OpenTo, Operation, Pause,
    Paused, Peers, PeersListed, Purge, Purged, QueueError, Release, Released, RemoveMember, Renew, Renewed, Repeat,
    Resume, Resumed, Retried, Retry, Route, Stats, StatsQuery, Status, StatusQuery, Submit, SubmitMany, Submitted,
    SubmittedMany, TakeMeOut, TakenOut, TaskQueue, TellMembers, TellWorkers, ToolCalled, ToolsListed, Wait, Waited,
    Waits, Workers, WorkersListed, WorkersTold,
};

operations! {
    /// Queue a task.
    "submit" submit: Submit => Submitted {
        answered_by: Store, open_to: Everybody, grant: Submit,
        carries_content: true, keeps_lease: false,
        content_bytes: |it| it.payload.len_bytes(), route: |_| Route::Here,
        repeat: |_| Repeat::Known, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |it| Adds::Tasks(std::slice::from_ref(it)),
    }
    /// Queue several tasks with one sync.
    "submit_many" submit_many: SubmitMany => SubmittedMany {
        answered_by: Store, open_to: Everybody, grant: Submit,
        carries_content: true, keeps_lease: false,
        content_bytes: |it| payloads(&it.tasks), route: |_| Route::Here,
        repeat: |_| Repeat::Known, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |it| Adds::Tasks(&it.tasks),
    }
    /// Take a task under a lease.
    "claim" claim: Claim => Claimed {
        answered_by: Store, open_to: Everybody, grant: Work,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |it| Waits::ForWork(it.wait_s),
        hands_out: |_| true,
        // If a claim is lost, its task only becomes claimable again, and no fence is issued twice (clause T2).
        needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Take several tasks, each under a lease of its own.
    "claim_many" claim_many: ClaimMany => ClaimedMany {
        answered_by: Store, open_to: Everybody, grant: Work,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |it| Waits::ForWork(it.claim.wait_s),
        hands_out: |_| true, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Extend a lease.
    "renew" renew: Renew => Renewed {
        answered_by: Store, open_to: Everybody, grant: Work,
        carries_content: false, keeps_lease: true,
        content_bytes: |it| inputs(&it.input_requests), route: |_| Route::Here,
        // A renewal extends the lease from the present time.
        repeat: |_| Repeat::Same, waits_for: |it| Waits::ForWork(it.wait_s),
        hands_out: |_| false,
        // The questions of a worker are shown to people, so they must not change after a crash.
        needs_sync: |it| !it.input_requests.is_empty(), adds: |_| Adds::Nothing,
    }
    /// End a task.
    "complete" complete: Complete => Completed {
        answered_by: Store, open_to: Everybody, grant: Work,
        carries_content: true, keeps_lease: true,
        content_bytes: |it| payloads(&it.submit) + it.result.as_ref().map_or(0, Json::len_bytes),
        route: |_| Route::Here,
        // A completion and its tasks are one transaction under one fence, so a repeated completion adds no tasks. But a
        // task that it claimed besides would be lost until its lease ends.
        repeat: |it| if it.claim_next.is_none() { Repeat::Same } else { Repeat::Differs },
        waits_for: |it| Waits::ForWork(it.claim_next.as_ref().map_or(0.0, |claim| claim.wait_s)),
        hands_out: |it| it.claim_next.is_some(), needs_sync: |_| true, adds: |it| Adds::Tasks(&it.submit),
    }
    /// Report a failed attempt.
    "fail" fail: Fail => Failed {
        answered_by: Store, open_to: Everybody, grant: Work,
        carries_content: false, keeps_lease: true,
        content_bytes: |it| it.error.len(), route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// Give a task back.
    "release" release: Release => Released {
        answered_by: Store, open_to: Everybody, grant: Work,
        carries_content: false, keeps_lease: true,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// Call a task off.
    "cancel" cancel: Cancel => Cancelled {
        answered_by: Store, open_to: Everybody, grant: Submit,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |it| Route::Task(it.task_id),
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// Answer what a task's worker asks for.
    "answer" answer: Answer => Answered {
        answered_by: Store, open_to: Everybody, grant: Submit,
        carries_content: false, keeps_lease: false,
        content_bytes: |it| inputs(&it.input_responses), route: |it| Route::Task(it.task_id),
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// Read one record.
    "get" get: Get => Got {
        answered_by: Store, open_to: Everybody, grant: Read,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |it| Route::Task(it.task_id),
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Read several records.
    "get_many" get_many: GetMany => GotMany {
        answered_by: Store, open_to: Everybody, grant: Read,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |it| Route::Tasks(&it.task_ids),
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Wait for tasks to end.
    "wait" wait: Wait => Waited {
        answered_by: Queue, open_to: Everybody, grant: Read,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |it| it.task_id.map_or(Route::Tasks(&it.task_ids), Route::Task),
        repeat: |_| Repeat::Reads, waits_for: |it| Waits::ForOthers(it.timeout_s),
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Read a page of records.
    "list" list: List => Listed {
        answered_by: Store, open_to: Everybody, grant: Read,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Count tasks by type and state.
    "stats" stats: StatsQuery => Stats {
        answered_by: Store, open_to: Everybody, grant: Read,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Queue dead letters again.
    "retry" retry: Retry => Retried {
        answered_by: Store, open_to: Everybody, grant: Manage,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        // The second answer counts other tasks than the first one.
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// Remove ended tasks.
    "purge" purge: Purge => Purged {
        answered_by: Store, open_to: Everybody, grant: Manage,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// Hold the queue or types of it.
    "pause" pause: Pause => Paused {
        answered_by: Store, open_to: Everybody, grant: Manage,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// Let them go on.
    "resume" resume: Resume => Resumed {
        answered_by: Store, open_to: Everybody, grant: Manage,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// Set how many may run at once.
    "limit" limit: Limit => Limited {
        answered_by: Store, open_to: Everybody, grant: Manage,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// End the leases of a machine.
    "free" free: Free => Freed {
        answered_by: Store, open_to: ThisMachine, grant: Manage,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        // Asked again, it ends what the machine has claimed since.
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| true, adds: |_| Adds::Nothing,
    }
    /// Read a value of the cache.
    "cache.get" cache_get: CacheGet => CacheGot {
        answered_by: Store, open_to: Everybody, grant: Read,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Ask whether the cache has a value.
    "cache.has" cache_has: CacheHas => CacheHad {
        answered_by: Store, open_to: Everybody, grant: Read,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Put a value into the cache.
    "cache.set" cache_set: CacheSet => CacheStored {
        answered_by: Store, open_to: Everybody, grant: Submit,
        carries_content: true, keeps_lease: false,
        content_bytes: |it| it.value.len_bytes(), route: |_| Route::Here,
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false,
        // A cache may lose a value.
        needs_sync: |_| false, adds: |_| Adds::Value,
    }
    /// Remove a value from the cache.
    "cache.delete" cache_delete: CacheDelete => CacheDeleted {
        answered_by: Store, open_to: Everybody, grant: Submit,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Give a sign of life.
    "peer.heartbeat" heartbeat: Heartbeat => Heard {
        answered_by: Node, open_to: Everybody, grant: None,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        // Each heartbeat advances the clock.
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Ask a node how it stands.
    "status" status: StatusQuery => Status {
        answered_by: Queue, open_to: Everybody, grant: None,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Ask a node which peers it knows.
    "peers" peers: Peers => PeersListed {
        answered_by: Node, open_to: Everybody, grant: None,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Look for peers.
    "discover" discover: Discover => Discovered {
        answered_by: Node, open_to: ThisMachine, grant: None,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |it| Waits::ForOthers(it.timeout_s),
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Ask a node which tools it offers.
    "list_tools" list_tools: ListTools => ToolsListed {
        answered_by: Node, open_to: Everybody, grant: None,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Call a tool of a node.
    "call_tool" call_tool: CallTool => ToolCalled {
        answered_by: Node, open_to: Everybody, grant: Submit,
        carries_content: true, keeps_lease: false,
        content_bytes: |it| it.args.len_bytes(), route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |it| Waits::ForOthers(it.timeout_s),
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// List the workers of the mesh.
    "workers" workers: Workers => WorkersListed {
        answered_by: Node, open_to: Everybody, grant: None,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Tell a node what workers take.
    "workers.tell" tell_workers: TellWorkers => WorkersTold {
        answered_by: Node, open_to: Everybody, grant: None,
        carries_content: true, keeps_lease: false,
        content_bytes: |it| it.content_bytes(), route: |_| Route::Here,
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Make a ticket.
    "invite" invite: Invite => Invitation {
        answered_by: Node, open_to: ThisMachine, grant: Admin,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Join the mesh of a ticket.
    "join" join: Join => Joined {
        answered_by: Node, open_to: ThisMachine, grant: Admin,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// List the members of the mesh.
    "members" members: Members => MembersListed {
        answered_by: Node, open_to: Everybody, grant: None,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Reads, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Give a machine another name or role.
    "members.change" change_member: ChangeMember => MemberChanged {
        answered_by: Node, open_to: ThisMachine, grant: Admin,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Take a machine out of the mesh.
    "members.remove" remove_member: RemoveMember => MemberRemoved {
        answered_by: Node, open_to: ThisMachine, grant: Admin,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Leave the mesh.
    "leave" leave: Leave => Left {
        answered_by: Node, open_to: ThisMachine, grant: Admin,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Tell a node what is new about the members.
    "members.tell" tell_members: TellMembers => MembersTold {
        answered_by: Node, open_to: Everybody, grant: None,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Same, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
    /// Ask an admin to take this machine out of the mesh.
    "members.take_me_out" take_me_out: TakeMeOut => TakenOut {
        answered_by: Node, open_to: Everybody, grant: None,
        carries_content: false, keeps_lease: false,
        content_bytes: |_| 0, route: |_| Route::Here,
        repeat: |_| Repeat::Differs, waits_for: |_| Waits::No,
        hands_out: |_| false, needs_sync: |_| false, adds: |_| Adds::Nothing,
    }
}

fn payloads(tasks: &[Submit]) -> usize {
    tasks.iter().map(|task| task.payload.len_bytes()).sum()
}

fn inputs(inputs: &BTreeMap<String, Json>) -> usize {
    inputs.iter().map(|(key, value)| key.len() + value.len_bytes()).sum()
}
