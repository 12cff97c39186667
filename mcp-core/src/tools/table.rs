use taskqueue_api::{
    Answer, CacheDelete, CacheGet, CacheHas, CacheSet, CallTool, Cancel, ChangeMember, Claim, ClaimMany, Complete,
    Discover, Fail, Free, Get, GetMany, Heartbeat, Invite, Join, Leave, Limit, List, ListTools, Members, Pause, Purge,
    Release, RemoveMember, Renew, Resume, Retry, StatsQuery, StatusQuery, Submit, SubmitMany, Wait, Workers,
};

use super::{
    Hints, Tool,
    arguments::PEER,
    docker::{DockerGithub, DockerHub},
    list_peers::ListPeers,
    run_task::RunTask,
    schema::{Alias, Named},
};

/// Returns all tools in the order in which clients see them, the usual ones first.
///
/// A tool for another operation is one more row.
pub(crate) fn table() -> Vec<Tool> {
    let mut tools = for_submitters();
    tools.extend(for_nodes());
    tools.extend(for_workers());
    tools.extend(for_operators());
    tools.extend(for_the_cache());
    tools.extend(for_admins());
    tools
}

/// Returns the tools for submitting tasks and following them.
fn for_submitters() -> Vec<Tool> {
    vec![
        Tool::of_work::<RunTask>("run_task", "Run a task and wait for it", Hints::STARTS_WORK)
            .with_peer_alias()
            .described(
                "Submits a task and waits for its result: the shortest way to have work done on one of the user's machines. \
                 Takes what p2p_taskqueue_submit takes, and timeout_s. Answers task (its status, result or error) and done. \
                 A task that failed or was called off is an error (isError); ok then says that the call itself was done. \
                 With done:false the time was up and the task goes on: call p2p_taskqueue_wait_task with its task_id, do \
                 not submit it again; waiting_for in task says why it is still queued, such as a misspelt task_type.",
            ),
        Tool::of_task::<Submit>("p2p_taskqueue_submit", "Submit a task", Hints::STARTS_WORK).with_peer_alias().described(
            "Queues a task and answers its task_id at once, as soon as it is on stable storage. Use it when the result is \
             not needed now, and p2p_taskqueue_wait_task or p2p_taskqueue_get_task later; use run_task to wait in the same \
             call. Without a target any worker of the mesh that takes task_type may do it; waiting_for says why none can \
             now. With an idempotency_key a repeated submit answers the first task's id and duplicate:true. With after it \
             becomes ready only when those tasks have completed. Times in seconds.",
        ),
        Tool::of::<SubmitMany>("p2p_taskqueue_submit_many", "Submit many tasks", Hints::STARTS_WORK).described(
            "Queues up to 1,000 tasks at once, much faster than one by one; together up to 4 MiB of payloads. Each entry \
             of tasks takes what p2p_taskqueue_submit takes, without a target. Answers results, one for each task in the \
             same order: ok with its task_id, or ok:false with its error. One that is refused does not keep the others \
             out, so look at every result. A malformed entry refuses the whole call, and nothing is queued.",
        ),
        Tool::of_task::<Wait>("p2p_taskqueue_wait_task", "Wait for tasks to end", Hints::READS).described(
            "Waits until a task (task_id), or each of several (task_ids), has ended, and answers its record (task or tasks) \
             and done. Wakes at once when it ends. At timeout_s, in seconds, it answers done:false with the record as it \
             stands: just call it again. Better than asking p2p_taskqueue_get_task repeatedly.",
        ),
        Tool::of_task::<Get>("p2p_taskqueue_get_task", "Read a task", Hints::READS).described(
            "Answers the record of one task as it stands: status, waiting_for (why it is still queued), progress, \
             status_message, result, error, times in Unix seconds. Does not wait. not_found when there is no such task or \
             its result has expired.",
        ),
        Tool::of::<GetMany>("p2p_taskqueue_get_tasks", "Read several tasks", Hints::READS).described(
            "Answers the records of up to 1,000 tasks as they stand, in the order of task_ids, and in missing the ids for \
             which there is no record. Does not wait. When the records together are larger than 6 MiB it answers \
             limit_exceeded: ask for fewer.",
        ),
        Tool::of::<List>("p2p_taskqueue_list_tasks", "List tasks", Hints::READS).described(
            "Answers a page of task records, filtered by status, task_types, session or label, the newest first unless order \
             says oldest. When next_cursor is not null, pass it as cursor for the next page; a page may be shorter than \
             limit. Lists the tasks of one node: the local one, or the target. status:failed shows the dead letters.",
        ),
        Tool::of::<Cancel>("p2p_taskqueue_cancel_task", "Call a task off", Hints::UNDOES).described(
            "Calls a task off. A queued task is cancelled at once (cancelled:true). The worker of a running task is told to \
             stop (cancel_requested:true), and a result that it delivers first still counts. To call off what was called off \
             before is harmless; already_finished when the task had completed or failed.",
        ),
        Tool::of::<Answer>("p2p_taskqueue_answer_task", "Answer a worker's question", Hints::SETTLES).described(
            "Answers what the worker of a running task asks for, which the task's input_requests show by key. input_responses \
             has an answer for each key, or for some: for a form {\"action\":\"accept\",\"content\":{…}} as its \
             requestedSchema says, or {\"action\":\"decline\"}. Ask the user; do not make answers up. Keys that are answered \
             or unknown are ignored; accepted says how many counted.",
        ),
    ]
}

/// Returns the tools for finding nodes and asking them.
fn for_nodes() -> Vec<Tool> {
    vec![
        Tool::of::<Workers>("p2p_taskqueue_workers", "Find a worker", Hints::READS).described(
            "Answers the workers of the mesh, which is how to find a machine that can do something: for each its machine and \
             peer_id, whether connected, what it takes (name is a task_type; none listed means any), its labels (such as gpu), \
             and of slots how many are busy. An agent that asks for a GPU finds it in one call, with label:gpu. Then submit \
             with requires:[label] for any such worker, or pin_to:machine for that one.",
        ),
        Tool::of::<StatusQuery>("p2p_taskqueue_status", "Status of a node", Hints::READS).with_peer_alias().described(
            "Answers what a node is and how it stands: peer_id, version, mode, uptime_s, addresses, and capabilities (the \
             task types that its own workers take). With detail:true also its queue, peers and bridge. Use it to see whether \
             a machine is there, or which task_type to submit.",
        ),
        Tool::of::<ListPeers>("list_peers", "List peers", Hints::READS).with_ignored(LIST_PEERS_IGNORED).described(
            "Answers the machines of the mesh that a node knows: peer_id, addresses, whether connected, when last seen (Unix \
             seconds), and with include_capabilities:true the task types that each connected one takes. First looks for \
             peers, for up to discovery_timeout_s seconds; discover:false answers at once what is known. For what they can \
             do use p2p_taskqueue_workers.",
        ),
        Tool::of::<Discover>("p2p_taskqueue_discover", "Look for peers", Hints::ACTS)
            .with_machines(DISCOVER_MACHINES)
            .described(
                "Looks for machines of the mesh, for peer_id or for all, by every way that is switched on, for up to timeout_s \
                 seconds, and connects to them. Answers peers (those that were reached) and attempts: for each what was tried \
                 (method, multiaddr, peer_id), whether it worked (ok), else code and error, and when (started_s, elapsed_s). Use \
                 it when a machine is missing from list_peers, and attempts to tell the user why.",
            ),
        Tool::of::<ListTools>("p2p_taskqueue_list_tools", "List a node's tools", Hints::READS).described(
            "Answers the tools that a node's own workers offer: name (a task type), description, input_schema (a JSON Schema \
             of the arguments; null when any will do). Name the node with remote_peer_id; without, the local one. Call them \
             with p2p_taskqueue_call_tool.",
        ),
        Tool::of_task::<CallTool>("p2p_taskqueue_call_tool", "Call a node's tool", Hints::STARTS_WORK).described(
            "Has a node's own worker do something: tool_name as p2p_taskqueue_list_tools names it, args as its input_schema \
             says. It runs as a durable task of that node. Answers result, and task (its record, with status and error). When \
             its status is queued or running the time (timeout_s, in seconds) was up and the task goes on: call \
             p2p_taskqueue_wait_task with its task_id and the same target, do not call the tool again.",
        ),
        Tool::of_task::<DockerHub>("p2p_taskqueue_submit_docker_hub", "Queue a container", Hints::STARTS_WORK).described(
            "Queues a task of type docker.execute: run a published image in a container, with command, entrypoint, environment \
             and volumes, and in extra what else the worker understands. Answers task_id at once; p2p_taskqueue_wait_task has \
             the result. Only for meshes with a worker for docker.execute (see p2p_taskqueue_workers): without one the \
             task stays queued.",
        ),
        Tool::of_task::<DockerGithub>("p2p_taskqueue_submit_docker_github", "Queue a build", Hints::STARTS_WORK).described(
            "Queues a task of type docker.github: build the image of a repository (repo_url, branch, dockerfile_path, \
             context_path, build_args) and run it, as p2p_taskqueue_submit_docker_hub does. Answers task_id at once. Only for \
             meshes with a worker for docker.github.",
        ),
        Tool::of::<Heartbeat>("p2p_taskqueue_heartbeat", "Give a sign of life", Hints::ACTS).described(
            "For schedulers: tells a node that the peer called peer_id is alive, with its vector clock if it has one, and \
             answers scheduler: the node's own clock, and the peers that gave a sign of life within the last 300 seconds. \
             It renews no lease: for a claimed task use p2p_taskqueue_renew_task. For the machines of the mesh use \
             list_peers.",
        ),
    ]
}

/// Returns the tools for workers.
fn for_workers() -> Vec<Tool> {
    vec![
        Tool::of::<Claim>("p2p_taskqueue_claim_next", "Claim a task to work on", Hints::ACTS)
            .with_aliases(CLAIM_ALIASES)
            .with_peer_alias()
            .with_ignored(CLAIM_IGNORED)
            .described(
                "For workers: takes the next task under a lease and answers it with fence and lease_until (Unix seconds); \
                 task is null when there is none. With wait_s it waits up to so many seconds for one. Do the work, then \
                 call p2p_taskqueue_complete_task with the fence; when it takes longer than lease_s, call \
                 p2p_taskqueue_renew_task before lease_until, else the task goes to another worker.",
            ),
        Tool::of::<ClaimMany>("p2p_taskqueue_claim_many", "Claim several tasks to work on", Hints::ACTS)
            .with_aliases(CLAIM_ALIASES)
            .with_peer_alias()
            .with_ignored(CLAIM_IGNORED)
            .described(
                "For workers that do several tasks at a time: takes up to max_tasks (1 to 128) at once and answers tasks, \
                 each with a fence and a lease_until of its own; fewer when there are fewer, or when they are large; none \
                 when there was none within wait_s seconds. It does not wait for the list to fill. End each one by itself, \
                 as after p2p_taskqueue_claim_next. Take no more than you can finish or renew within lease_s.",
            ),
        Tool::of::<Complete>("p2p_taskqueue_complete_task", "Complete a claimed task", Hints::SETTLES).described(
            "For workers: ends a claimed task with its result (any JSON value), or with status failed and error for good. \
             Needs the fence of the claim, unchanged. stale_fence: the lease ran out and the task is no longer yours. The \
             same call again is harmless (repeated:true, with the same ids; other tasks in submit are refused as conflict). In the same step it can queue follow-up tasks (submit: all or \
             none; their ids come as submitted, in order) and claim the next task (claim_next: it comes as next, or null). \
             For a failure that may be tried again use p2p_taskqueue_fail_task.",
        ),
        Tool::of::<Renew>("p2p_taskqueue_renew_task", "Extend a lease", Hints::SETTLES).described(
            "For workers: extends the lease of a claimed task by lease_s seconds from now, and tells whoever waits how far it \
             is (progress from 0 to 1, status_message). Answers lease_until in Unix seconds; with cancel_requested:true stop \
             the work and fail or release the task.",
        ),
        Tool::of::<Fail>("p2p_taskqueue_fail_task", "Report a failed attempt", Hints::SETTLES).described(
            "For workers: says that an attempt did not work. With retryable:true (the default) the task is queued again, \
             after delay_s seconds or its backoff, while attempts remain; the answered status is queued or failed.",
        ),
        Tool::of::<Release>("p2p_taskqueue_release_task", "Give a task back", Hints::SETTLES).described(
            "For workers: gives a claimed task back untouched, for another worker to take; the attempt does not count. Use it \
             when you cannot do the work, p2p_taskqueue_fail_task when you tried.",
        ),
    ]
}

/// Returns the tools for looking after a queue.
fn for_operators() -> Vec<Tool> {
    vec![
        Tool::of::<StatsQuery>("p2p_taskqueue_stats", "Count tasks", Hints::READS).described(
            "Counts the tasks of one node: totals by status, by_type (for each task type its counts, and whether it is \
             paused, draining or limited), paused and draining for the whole queue, and oldest_queued_s, how many seconds \
             the oldest claimable task has waited. Use it to see whether work piles up or has failed.",
        ),
        Tool::of::<Retry>("p2p_taskqueue_retry_task", "Queue failed tasks again", Hints::STARTS_WORK).described(
            "Queues tasks again that have failed or were called off, with their attempts starting anew and their task_id \
             kept. Give task_ids, or status (failed or cancelled) for all such tasks, narrowed by task_types, session, label \
             or older_than_s (seconds since they ended). Answers how many were retried and how many named ones were skipped. \
             With more:true some that pass the filter are left: call it again. Look first, with p2p_taskqueue_list_tasks.",
        ),
        Tool::of::<Purge>("p2p_taskqueue_purge", "Remove ended tasks", Hints::UNDOES).described(
            "Removes ended tasks with their results for good; queued and running ones stay. Give task_ids, or status \
             (completed, failed or cancelled) for all such tasks, narrowed by task_types, session, label or older_than_s \
             (seconds since they ended). Answers how many were purged and how many named ones were skipped; with more:true \
             call it again. Ended tasks go by themselves after their result_ttl_s, so there is seldom a need.",
        ),
        Tool::of::<Pause>("p2p_taskqueue_pause", "Hold the queue", Hints::SETTLES).described(
            "Holds a node's queue, or only some task_types: what is queued is not given out, running tasks go on, and new \
             tasks are taken. With drain:true the other way round: new tasks are refused as paused, and those that are \
             queued are still given out. Answers how many are queued and running there now. It lasts, also over restarts, \
             until p2p_taskqueue_resume.",
        ),
        Tool::of::<Resume>("p2p_taskqueue_resume", "Let the queue go on", Hints::SETTLES).described(
            "Ends what p2p_taskqueue_pause began: for some task_types, or without any for the whole queue and every type. \
             Answers how many tasks are queued and running there now.",
        ),
        Tool::of::<Limit>("p2p_taskqueue_limit", "Limit how many run at once", Hints::SETTLES).described(
            "Sets how many tasks may run at once on all workers together: those of a task_type, or those that were submitted \
             with a concurrency_key (give one of the two). running_max is at least 1; left out it takes the limit away, \
             and a concurrency_key then allows 1 again. Running tasks are not stopped. Answers how many run now. It lasts \
             over restarts. To hold a type altogether use p2p_taskqueue_pause.",
        ),
        Tool::of::<Free>("p2p_taskqueue_free", "End a machine's leases", Hints::UNDOES).described(
            "Ends at once every lease that a machine holds on tasks of the local node, as if the leases had expired: each \
             task goes to another worker or, without attempts left, fails. What the machine says of them later is refused. \
             Answers freed, how many leases ended. Use it when a machine is gone for good and its long leases hold tasks up. \
             It does not keep the machine from claiming again.",
        ),
    ]
}

/// Returns the tools for those who decide who belongs to the mesh.
fn for_admins() -> Vec<Tool> {
    vec![
        Tool::of::<Members>("p2p_taskqueue_members", "List the members", Hints::READS).described(
            "Answers the machines of the mesh by name: role, peer_id, whether connected, addresses, when last seen (Unix \
             seconds), version, and who added them. Machines that are off are listed too. Every tool that takes a machine \
             takes these names.",
        ),
        Tool::of::<Invite>("p2p_taskqueue_invite", "Make a ticket", Hints::ACTS).described(
            "Makes a ticket by which another machine becomes a member of the mesh, once (uses) and within an hour (for_s). \
             role says what it may do: member, agent, worker, worker:TYPE,… or admin. Only when the user asks for it: whoever \
             has the ticket gets in. Give the user the ticket to run `taskmesh join TICKET` on the other machine.",
        ),
        Tool::of::<ChangeMember>("p2p_taskqueue_members_change", "Rename or re-role a machine", Hints::SETTLES).described(
            "Gives a machine of the mesh another name, or another role. Answers heard and not_heard, the machines that know \
             of it and those that hear of it when they come. Only when the user asks for it.",
        ),
        Tool::of::<RemoveMember>("p2p_taskqueue_members_remove", "Take a machine out", Hints::UNDOES).described(
            "Takes a machine out of the mesh for good: its sessions and its leases end at once, and it gets in again only by \
             a new ticket. Only when the user asks for it, by the name that p2p_taskqueue_members shows.",
        ),
        Tool::of::<Join>("p2p_taskqueue_join", "Join a mesh", Hints::ACTS).described(
            "Makes the local machine a member of the mesh of a ticket that the user gives. With leave:true it leaves a mesh \
             that has other members. Only when the user asks for it.",
        ),
        Tool::of::<Leave>("p2p_taskqueue_leave", "Leave the mesh", Hints::UNDOES).described(
            "Takes the local machine out of its mesh; it begins one of its own. Its tasks stay; the machines of the mesh can no \
             longer be asked. Only when the user asks for it.",
        ),
    ]
}

/// Returns the tools for the cache, which nodes share beside tasks.
fn for_the_cache() -> Vec<Tool> {
    let ignored = CACHE_IGNORED;
    vec![
        Tool::of::<CacheGet>("p2p_taskqueue_cache_get", "Read from the cache", Hints::READS)
            .with_ignored(ignored)
            .described(
                "Reads a value from a node's shared cache. hit says whether there is one; with hit:true and value null, null \
                 was stored. A miss is an ordinary answer (hit:false), no error.",
            ),
        Tool::of::<CacheSet>("p2p_taskqueue_cache_set", "Put into the cache", Hints::SETTLES)
            .with_ignored(ignored)
            .described(
                "Puts a JSON value of up to 1 MiB into a node's shared cache, in place of an older one under the same key. \
                 With ttl_s it goes after so many seconds; without, or with 0, it stays until room is needed: then the values \
                 that were not used for longest go (evicted says how many went now). Something to share, not to rely on.",
            ),
        Tool::of::<CacheHas>("p2p_taskqueue_cache_has", "Look into the cache", Hints::READS)
            .with_ignored(ignored)
            .described(
                "Answers in hit whether a node's shared cache has a value under the key, without fetching it. Also a stored \
                 null is a hit.",
            ),
        Tool::of::<CacheDelete>("p2p_taskqueue_cache_delete", "Remove from the cache", Hints::UNDOES)
            .with_ignored(ignored)
            .described(
                "Removes a value from a node's shared cache before its time is over. Answers in deleted whether there was \
                 one; that there was none is no error.",
            ),
    ]
}

const DISCOVER_MACHINES: &[&str] = &[PEER, "peer_id"];

const CLAIM_ALIASES: &[Alias] = &[("task_types", "supported_task_types")];

const CLAIM_IGNORED: &[Named] = &[("clock", "Has no effect.")];

const CACHE_IGNORED: &[Named] = &[("timeout_s", "Has no effect: the cache answers at once.")];

const LIST_PEERS_IGNORED: &[Named] = &[("capabilities_detail", "Has no effect.")];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use taskqueue_api::Request;

    use super::*;

    /// The operations without a tool: nodes ask each other for them.
    const WITHOUT_TOOL: [&str; 3] = ["workers.tell", "members.tell", "members.take_me_out"];

    /// The operations whose tool has another name than usual.
    const OTHERWISE: [(&str, &str); 2] = [("peers", "list_peers"), ("get_many", "p2p_taskqueue_get_tasks")];

    #[test]
    fn every_operation_has_a_tool() {
        let tools: BTreeSet<_> = table().into_iter().map(|tool| tool.name).collect();
        for operation in Request::NAMES {
            let name = operation.trim_start_matches("peer.").replace('.', "_");
            let usual = ["", "_task", "_tasks", "_next"].map(|end| format!("p2p_taskqueue_{name}{end}"));
            let has_tool = usual.iter().any(|tool| tools.contains(tool.as_str()))
                || OTHERWISE.iter().any(|(of, tool)| of == operation && tools.contains(tool));
            assert_ne!(has_tool, WITHOUT_TOOL.contains(operation), "{operation}");
        }
    }
}
