use p2p_taskqueue::api::{Cancel, Claim, Complete, Fail, Get, List, Release, Renew, StatusQuery, Submit, Wait};

use super::{Hints, Tool, list_peers::ListPeers, run_task::RunTask, schema::Named};

/// All tools, in the order in which clients see them: the usual ones first.
///
/// A tool for another operation is one more row.
#[expect(clippy::too_many_lines, reason = "a table: one row for each tool, and nothing else")]
pub(crate) fn table() -> Vec<Tool> {
    vec![
        Tool::of::<RunTask>("run_task", "Run a task and wait for it", Hints::STARTS_WORK).with_peer_alias().described(
            "Submits a task and waits for its result: the shortest way to have work done on one of the user's machines. \
             Takes what p2p_taskqueue_submit takes, and timeout_s. Answers task (its status, result or error) and done. \
             With done:false the time was up and the task goes on: call p2p_taskqueue_wait_task with its task_id, do not \
             submit it again.",
        ),
        Tool::of::<Submit>("p2p_taskqueue_submit", "Submit a task", Hints::STARTS_WORK).with_peer_alias().described(
            "Queues a task and answers its task_id at once, as soon as it is on stable storage. Use it when the result is \
             not needed now, and p2p_taskqueue_wait_task or p2p_taskqueue_get_task later; use run_task to wait in the same \
             call. Without a target any worker of the mesh that takes task_type may do it. With an idempotency_key a \
             repeated submit answers the first task's id and duplicate:true. Times in seconds.",
        ),
        Tool::of::<Wait>("p2p_taskqueue_wait_task", "Wait for tasks to end", Hints::READS).described(
            "Waits until a task (task_id), or each of several (task_ids), has ended, and answers its record (task or tasks) \
             and done. Wakes at once when it ends. At timeout_s, in seconds, it answers done:false with the record as it \
             stands: just call it again. Better than asking p2p_taskqueue_get_task repeatedly.",
        ),
        Tool::of::<Get>("p2p_taskqueue_get_task", "Read a task", Hints::READS).described(
            "Answers the record of one task as it stands: status, progress, status_message, result, error, times in Unix \
             seconds. Does not wait. not_found when there is no such task or its result has expired.",
        ),
        Tool::of::<List>("p2p_taskqueue_list_tasks", "List tasks", Hints::READS).described(
            "Answers a page of task records, filtered by status, task_types, session or label, the oldest first unless order \
             says newest. When next_cursor is not null, pass it as cursor for the next page; a page may be shorter than \
             limit. Lists the tasks of one node: the local one, or the target.",
        ),
        Tool::of::<Cancel>("p2p_taskqueue_cancel_task", "Call a task off", Hints::UNDOES).described(
            "Calls a task off. A queued task is cancelled at once (cancelled:true). The worker of a running task is told to \
             stop (cancel_requested:true), and a result that it delivers first still counts. already_finished when the task \
             had ended.",
        ),
        Tool::of::<StatusQuery>("p2p_taskqueue_status", "Status of a node", Hints::READS).with_peer_alias().described(
            "Answers what a node is and how it stands: peer_id, version, mode, uptime_s, addresses, and capabilities (the \
             task types that its own workers take). With detail:true also its queue, peers and bridge. Use it to see whether \
             a machine is there, or which task_type to submit.",
        ),
        Tool::of::<ListPeers>("list_peers", "List peers", Hints::READS).with_ignored(LIST_PEERS_IGNORED).described(
            "Answers the machines of the mesh that a node knows: peer_id, addresses, whether connected, when last seen (Unix \
             seconds), and with include_capabilities:true the task types that each connected one takes. Use it to find a \
             remote_peer_id for the other tools.",
        ),
        Tool::of::<Claim>("p2p_taskqueue_claim_next", "Claim a task to work on", Hints::ACTS)
            .with_aliases(&[("task_types", "supported_task_types")])
            .with_ignored(CLAIM_IGNORED)
            .described(
                "For workers: takes the next task under a lease and answers it with fence and lease_until (Unix seconds); \
                 task is null when there is none. With wait_s it waits up to so many seconds for one. Do the work, then \
                 call p2p_taskqueue_complete_task with the fence; when it takes longer than lease_s, call \
                 p2p_taskqueue_renew_task before lease_until, else the task goes to another worker.",
            ),
        Tool::of::<Complete>("p2p_taskqueue_complete_task", "Complete a claimed task", Hints::SETTLES).described(
            "For workers: ends a claimed task with its result (any JSON value), or with status failed and error for good. \
             Needs the fence of the claim, unchanged. stale_fence: the lease ran out and the task is no longer yours. The \
             same call again is harmless (repeated:true). For a failure that may be tried again use \
             p2p_taskqueue_fail_task.",
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

const CLAIM_IGNORED: &[Named] = &[
    ("peer_id", "The claimer's own peer id. Has no effect; the peer to ask is remote_peer_id."),
    ("clock", "Has no effect."),
];

const LIST_PEERS_IGNORED: &[Named] = &[
    ("capabilities_detail", "Has no effect."),
    ("discover", "Has no effect: the node looks for peers by itself, all the time."),
    ("discovery_timeout_s", "Has no effect."),
    ("discovery_methods", "Has no effect."),
];
