//! The calls of the suite: every tool, with right arguments and with wrong ones.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Transcript;
use crate::harness::at;

const UNKNOWN_TASK: &str = "0123456789abcdef0123456789abcdef";

/// The id of a peer that nobody knows.
const UNKNOWN_PEER: &str = "12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu";

/// An address at which nobody listens.
const NOWHERE: &str = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu";

pub(super) fn make(suite: &mut Transcript) -> Result<()> {
    running(suite)?;
    submitting(suite)?;
    mistakes(suite)?;
    working(suite)?;
    leases(suite)?;
    reading(suite)?;
    minding(suite)?;
    nodes(suite)?;
    offered(suite)?;
    away(suite)?;
    cache(suite)?;
    members(suite)?;
    resources(suite)
}

fn id(answer: &Value, pointer: &str) -> Result<Value> {
    let id = at(answer, pointer);
    ensure!(id.is_string(), "no {pointer} in {answer}");
    Ok(id.clone())
}

fn running(suite: &mut Transcript) -> Result<()> {
    let ran = suite
        .done("run_task", json!({ "task_type": "echo", "payload": { "n": [1, 2.5, null, "ü"] }, "timeout_s": 60 }))?;
    ensure!(at(&ran, "/task/result/n/1") == 2.5, "{ran}");
    let broken = json!({ "task_type": "broken", "payload": null, "max_attempts": 1, "timeout_s": 60 });
    let failed = suite.call("run_task", broken)?;
    ensure!(at(&failed, "/task/status") == "failed", "{failed}");
    suite.done("run_task", json!({ "task_type": "nobody takes it", "payload": 1, "timeout_s": 0.05 }))?;
    suite.call("run_task", json!({ "payload": 1 }))?;
    suite.call("run_task", json!({ "task_type": "echo", "payload": 1, "timeout_s": -1 }))?;
    Ok(())
}

fn submitting(suite: &mut Transcript) -> Result<()> {
    let submit = |suite: &mut Transcript, arguments| suite.done("p2p_taskqueue_submit", arguments);
    let first =
        submit(suite, json!({ "task_type": "echo", "payload": "x", "labels": ["a"], "session": null, "priority": 9 }))?;
    let id = id(&first, "/task_id")?;
    let waited = suite.done("p2p_taskqueue_wait_task", json!({ "task_id": id, "timeout_s": 60 }))?;
    ensure!(at(&waited, "/task/result") == "x" && at(&waited, "/done") == true, "{waited}");
    suite.done("p2p_taskqueue_get_task", json!({ "task_id": id }))?;
    let after = submit(suite, json!({ "task_type": "echo", "payload": 2, "after": [id], "deadline_s": 600 }))?;
    suite.done("p2p_taskqueue_wait_task", json!({ "task_ids": [id, at(&after, "/task_id")], "timeout_s": 60 }))?;
    let keyed = json!({ "task_type": "keyed", "payload": 1, "idempotency_key": "k" });
    submit(suite, keyed.clone())?;
    let again = submit(suite, keyed)?;
    ensure!(at(&again, "/duplicate") == true, "{again}");
    suite.fails(
        "conflict",
        "p2p_taskqueue_submit",
        json!({ "task_type": "keyed", "payload": 2, "idempotency_key": "k" }),
    )?;
    suite.fails(
        "not_found",
        "p2p_taskqueue_submit",
        json!({ "task_type": "echo", "payload": 1, "after": [UNKNOWN_TASK] }),
    )?;
    suite.done(
        "p2p_taskqueue_submit_many",
        json!({ "tasks": [
            { "task_type": "many", "payload": 1 },
            { "task_type": "keyed", "payload": 3, "idempotency_key": "k" },
            { "task_type": "many", "payload": 2, "delay_s": 3_600 },
        ] }),
    )?;
    suite.call("p2p_taskqueue_submit_many", json!({ "tasks": [] }))?;
    suite.call(
        "p2p_taskqueue_submit_many",
        json!({ "tasks": [{ "task_type": "many", "payload": 1, "colour": "red" }] }),
    )?;
    Ok(())
}

/// Mistakes of an agent.
fn mistakes(suite: &mut Transcript) -> Result<()> {
    let submit = "p2p_taskqueue_submit";
    suite.call(submit, json!({}))?;
    suite.call(submit, json!({ "task_type": "", "payload": 1 }))?;
    suite.call(submit, json!({ "task_type": 7, "payload": 1 }))?;
    suite.call(submit, json!({ "task_type": "x", "payload": 1, "priority": 99 }))?;
    suite.call(submit, json!({ "task_type": "x", "payload": 1, "priority": "high" }))?;
    suite.call(submit, json!({ "task_type": "x", "payload": 1, "taks": 1 }))?;
    suite.call(submit, json!({ "task_type": "x".repeat(257), "payload": 1 }))?;
    suite.call(submit, json!({ "task_type": "x", "payload": 1, "delay_s": 1, "not_before": 2e9 }))?;
    suite.fails("limit_exceeded", submit, json!({ "task_type": "x", "payload": "x".repeat(1024 * 1024) }))?;
    suite.done(submit, json!({ "task_type": "large", "payload": "x".repeat(1024 * 1024 - 2) }))?;
    let deep = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    suite.call(submit, json!({ "task_type": "x", "payload": deep(127) }))?;
    suite.call(submit, json!({ "task_type": "deep", "payload": deep(60) }))?;
    suite.call("p2p_taskqueue_no_such_tool", json!({}))?;
    suite.call(submit, json!([1]))?;
    suite.request("tools/call", json!({ "name": submit }))?;
    suite.request("no/such/method", json!({}))?;
    Ok(())
}

/// The whole life of a task, with the client as its worker.
fn working(suite: &mut Transcript) -> Result<()> {
    let submitted = suite.done("p2p_taskqueue_submit", json!({ "task_type": "manual", "payload": { "n": 1 } }))?;
    suite.done("p2p_taskqueue_submit", json!({ "task_type": "manual", "payload": { "n": 2 }, "priority": 1 }))?;
    let id = id(&submitted, "/task_id")?;
    suite.done("p2p_taskqueue_wait_task", json!({ "task_id": id, "timeout_s": 0.05 }))?;
    let none = json!({ "worker_id": "w", "supported_task_types": ["none of these"], "wait_s": 0.05 });
    suite.done("p2p_taskqueue_claim_next", none)?;
    let claim = json!({ "worker_id": "w", "supported_task_types": ["manual"], "lease_s": 60 });
    let claimed = suite.done("p2p_taskqueue_claim_next", claim.clone())?;
    ensure!(at(&claimed, "/task/task_id") == &id, "{claimed}");
    let fence = at(&claimed, "/task/fence").clone();
    let renew = json!({ "task_id": id, "fence": fence, "lease_s": 60, "progress": 0.5, "status_message": "half" });
    suite.done("p2p_taskqueue_renew_task", renew)?;
    suite.done("p2p_taskqueue_get_task", json!({ "task_id": id }))?;
    suite.call(
        "p2p_taskqueue_answer_task",
        json!({ "task_id": id, "input_responses": { "name": { "action": "decline" } } }),
    )?;
    suite.fails("stale_fence", "p2p_taskqueue_renew_task", json!({ "task_id": id, "fence": "1.99", "lease_s": 60 }))?;
    suite.call("p2p_taskqueue_renew_task", json!({ "task_id": id, "fence": "no fence", "lease_s": 60 }))?;
    suite.call("p2p_taskqueue_renew_task", json!({ "task_id": id, "fence": fence, "progress": 2 }))?;
    suite.call("p2p_taskqueue_complete_task", json!({ "task_id": id, "result": 1 }))?;
    let complete = json!({
        "task_id": id, "fence": fence, "status": "completed", "result": { "done": true },
        "submit": [{ "task_type": "child", "payload": 1 }], "claim_next": claim,
    });
    let completed = suite.done("p2p_taskqueue_complete_task", complete)?;
    ensure!(at(&completed, "/next/payload/n") == 2, "{completed}");
    suite.done("p2p_taskqueue_complete_task", json!({ "task_id": id, "fence": fence, "result": { "done": true } }))?;
    let other = json!({ "task_id": id, "fence": fence, "result": "other" });
    suite.fails("already_finished", "p2p_taskqueue_complete_task", other)?;
    let next = at(&completed, "/next");
    let failed = json!({ "task_id": at(next, "/task_id"), "fence": at(next, "/fence"), "status": "failed", "error": "for good" });
    suite.done("p2p_taskqueue_complete_task", failed)?;
    suite.call("p2p_taskqueue_answer_task", json!({ "task_id": id, "input_responses": {} }))?;
    suite.fails(
        "not_found",
        "p2p_taskqueue_answer_task",
        json!({ "task_id": UNKNOWN_TASK, "input_responses": { "k": 1 } }),
    )?;
    Ok(())
}

/// Leases that end in other ways.
fn leases(suite: &mut Transcript) -> Result<()> {
    for n in 0..3 {
        suite.done(
            "p2p_taskqueue_submit",
            json!({ "task_type": "leased", "payload": n, "max_attempts": 2, "backoff_s": 300 }),
        )?;
    }
    let claim = json!({ "worker_id": "w", "task_types": "leased", "max_tasks": 3 });
    let claimed = suite.done("p2p_taskqueue_claim_many", claim)?;
    let held = |n: usize| {
        let task = at(&claimed, "/tasks").get(n).context("fewer tasks")?;
        anyhow::Ok((at(task, "/task_id").clone(), at(task, "/fence").clone()))
    };
    let (id, fence) = held(0)?;
    suite.done("p2p_taskqueue_fail_task", json!({ "task_id": id, "fence": fence, "error": "not now" }))?;
    suite.fails(
        "stale_fence",
        "p2p_taskqueue_fail_task",
        json!({ "task_id": id, "fence": fence, "error": "again" }),
    )?;
    let (id, fence) = held(1)?;
    suite.done(
        "p2p_taskqueue_fail_task",
        json!({ "task_id": id, "fence": fence, "error": "never", "retryable": false }),
    )?;
    suite.done("p2p_taskqueue_retry_task", json!({ "task_ids": [id, UNKNOWN_TASK] }))?;
    let (id, fence) = held(2)?;
    suite.done("p2p_taskqueue_cancel_task", json!({ "task_id": id, "reason": "enough" }))?;
    suite.done("p2p_taskqueue_renew_task", json!({ "task_id": id, "fence": fence, "lease_s": 60 }))?;
    suite.done("p2p_taskqueue_release_task", json!({ "task_id": id, "fence": fence, "reason": "called off" }))?;
    suite.call("p2p_taskqueue_release_task", json!({ "task_id": id, "fence": fence }))?;
    suite.call("p2p_taskqueue_claim_many", json!({ "worker_id": "w", "max_tasks": 129 }))?;
    suite.call("p2p_taskqueue_claim_next", json!({ "supported_task_types": ["x"] }))?;
    suite.call("p2p_taskqueue_claim_next", json!({ "worker_id": "w", "wait_s": 1e9 }))?;
    Ok(())
}

fn reading(suite: &mut Transcript) -> Result<()> {
    suite.fails("not_found", "p2p_taskqueue_get_task", json!({ "task_id": UNKNOWN_TASK }))?;
    suite.call("p2p_taskqueue_get_task", json!({ "task_id": "no id" }))?;
    suite.fails("not_found", "p2p_taskqueue_wait_task", json!({ "task_id": UNKNOWN_TASK, "timeout_s": 1 }))?;
    suite.call("p2p_taskqueue_wait_task", json!({}))?;
    suite.fails("not_found", "p2p_taskqueue_cancel_task", json!({ "task_id": UNKNOWN_TASK }))?;
    suite.done("p2p_taskqueue_get_tasks", json!({ "task_ids": [UNKNOWN_TASK] }))?;
    suite.call("p2p_taskqueue_get_tasks", json!({ "task_ids": [] }))?;
    suite.done("p2p_taskqueue_list_tasks", json!({ "task_types": ["leased"], "order": "oldest" }))?;
    let page = suite.done("p2p_taskqueue_list_tasks", json!({ "task_types": "manual,child", "limit": 1 }))?;
    let cursor = at(&page, "/next_cursor").clone();
    suite.done("p2p_taskqueue_list_tasks", json!({ "task_types": "manual,child", "limit": 1, "cursor": cursor }))?;
    suite.done("p2p_taskqueue_list_tasks", json!({ "status": "failed" }))?;
    suite.call("p2p_taskqueue_list_tasks", json!({ "status": "lost" }))?;
    suite.call("p2p_taskqueue_list_tasks", json!({ "cursor": "nonsense" }))?;
    suite.call("p2p_taskqueue_list_tasks", json!({ "limit": 0 }))?;
    Ok(())
}

fn minding(suite: &mut Transcript) -> Result<()> {
    suite.done("p2p_taskqueue_stats", json!({}))?;
    suite.done("p2p_taskqueue_pause", json!({ "task_types": ["held"] }))?;
    suite.done("p2p_taskqueue_submit", json!({ "task_type": "held", "payload": 1 }))?;
    suite.done("p2p_taskqueue_claim_next", json!({ "worker_id": "w", "supported_task_types": ["held"] }))?;
    suite.done("p2p_taskqueue_resume", json!({ "task_types": ["held"] }))?;
    suite.done("p2p_taskqueue_pause", json!({ "task_types": ["drained"], "drain": true }))?;
    suite.fails("paused", "p2p_taskqueue_submit", json!({ "task_type": "drained", "payload": 1 }))?;
    suite.done("p2p_taskqueue_limit", json!({ "task_type": "held", "running_max": 1 }))?;
    suite.call("p2p_taskqueue_limit", json!({ "task_type": "held", "running_max": 0 }))?;
    suite.done("p2p_taskqueue_limit", json!({ "task_type": "held" }))?;
    suite.call("p2p_taskqueue_limit", json!({}))?;
    suite.done("p2p_taskqueue_purge", json!({ "status": "failed", "task_types": ["manual"] }))?;
    suite.call("p2p_taskqueue_purge", json!({}))?;
    suite.call("p2p_taskqueue_retry_task", json!({ "status": "running" }))?;
    suite.done("p2p_taskqueue_stats", json!({}))?;
    Ok(())
}

fn nodes(suite: &mut Transcript) -> Result<()> {
    suite.done("p2p_taskqueue_status", json!({}))?;
    suite.done("p2p_taskqueue_status", json!({ "detail": true }))?;
    suite.call("p2p_taskqueue_status", json!({ "detail": "perhaps" }))?;
    suite.done("list_peers", json!({ "discover": false }))?;
    suite.done("list_peers", json!({ "include_capabilities": true, "discovery_timeout_s": 0.1 }))?;
    suite.done("p2p_taskqueue_workers", json!({}))?;
    let workers = suite.done("p2p_taskqueue_workers", json!({ "task_type": "echo", "schemas": true }))?;
    ensure!(at(&workers, "/workers/0/connected") == true, "{workers}");
    suite.done("p2p_taskqueue_workers", json!({ "label": "no worker has it" }))?;
    suite.call("p2p_taskqueue_workers", json!({ "task_type": "x".repeat(257) }))?;
    suite.done("p2p_taskqueue_list_tools", json!({}))?;
    suite.done("p2p_taskqueue_call_tool", json!({ "tool_name": "echo", "args": { "a": 1 }, "timeout_s": 60 }))?;
    suite.fails("not_found", "p2p_taskqueue_call_tool", json!({ "tool_name": "no such tool", "args": {} }))?;
    suite.done("p2p_taskqueue_heartbeat", json!({ "peer_id": "somebody" }))?;
    suite.call("p2p_taskqueue_heartbeat", json!({ "clock": 7 }))?;
    Ok(())
}

/// The tools of workers, and the tasks of containers.
fn offered(suite: &mut Transcript) -> Result<()> {
    let echoed = suite.done("echo", json!({ "payload": { "a": [1] } }))?;
    ensure!(at(&echoed, "/task/result/a/0") == 1, "{echoed}");
    let broken = suite.call("broken", json!({ "payload": 1 }))?;
    ensure!(at(&broken, "/task/status") == "failed" && at(&broken, "/task/attempt") == 3, "{broken}");
    suite.call("echo", json!({ "colour": "red" }))?;
    suite.done("p2p_taskqueue_submit_docker_hub", json!({ "image": "alpine:3", "command": "echo hello" }))?;
    suite.call("p2p_taskqueue_submit_docker_hub", json!({ "command": "echo hello" }))?;
    suite.done("p2p_taskqueue_submit_docker_github", json!({ "repo_url": "https://github.com/owner/name" }))?;
    suite.call("p2p_taskqueue_submit_docker_github", json!({ "repo_url": "no address", "branch": 1 }))?;
    Ok(())
}

/// Tasks as resources.
fn resources(suite: &mut Transcript) -> Result<()> {
    let submitted = suite.done("p2p_taskqueue_submit", json!({ "task_type": "read", "payload": "me" }))?;
    let task = at(&submitted, "/task_id").as_str().context("no id")?.to_owned();
    suite.request("resources/templates/list", json!({}))?;
    suite.request("resources/read", json!({ "uri": format!("taskmesh://tasks/{task}") }))?;
    for uri in ["taskmesh://tasks/no-id", "taskmesh://nothing", &format!("taskmesh://tasks/{UNKNOWN_TASK}")] {
        suite.request("resources/read", json!({ "uri": uri }))?;
    }
    Ok(())
}

/// Peers that do not exist: every call is answered within its time and never hangs.
fn away(suite: &mut Transcript) -> Result<()> {
    suite.done("p2p_taskqueue_discover", json!({ "timeout_s": 0.2, "methods": ["address_book"] }))?;
    suite.call("p2p_taskqueue_discover", json!({ "multiaddr": NOWHERE, "timeout_s": 5 }))?;
    suite.call("p2p_taskqueue_discover", json!({ "methods": ["telepathy"] }))?;
    suite.fails("unreachable", "p2p_taskqueue_status", json!({ "remote_multiaddr": NOWHERE, "timeout_s": 5 }))?;
    suite.fails(
        "unreachable",
        "p2p_taskqueue_get_task",
        json!({ "task_id": UNKNOWN_TASK, "remote_multiaddr": NOWHERE }),
    )?;
    suite.fails(
        "unreachable",
        "p2p_taskqueue_submit",
        json!({ "task_type": "x", "payload": 1, "remote_multiaddr": NOWHERE }),
    )?;
    suite.call(
        "p2p_taskqueue_wait_task",
        json!({ "task_id": UNKNOWN_TASK, "timeout_s": 1, "remote_peer_id": UNKNOWN_PEER }),
    )?;
    suite.call("p2p_taskqueue_stats", json!({ "remote_peer_id": UNKNOWN_PEER }))?;
    suite.fails("not_found", "p2p_taskqueue_stats", json!({ "remote_peer_id": "nobody" }))?;
    suite.fails("not_found", "p2p_taskqueue_submit", json!({ "task_type": "x", "pin_to": "nobody" }))?;
    suite.call("p2p_taskqueue_stats", json!({ "remote_multiaddr": "/ip4/127.0.0.1/tcp/1" }))?;
    Ok(())
}

fn members(suite: &mut Transcript) -> Result<()> {
    let listed = suite.done("p2p_taskqueue_members", json!({}))?;
    let own = id(&listed, "/members/0/name")?;
    let ticket = id(&suite.done("p2p_taskqueue_invite", json!({ "role": "worker:echo", "for_s": 60 }))?, "/ticket")?;
    suite.call("p2p_taskqueue_invite", json!({ "role": "boss" }))?;
    suite.call("p2p_taskqueue_invite", json!({ "for_s": 0 }))?;
    suite.fails("invalid_argument", "p2p_taskqueue_join", json!({ "ticket": ticket }))?;
    suite.fails("invalid_argument", "p2p_taskqueue_join", json!({ "ticket": "hello" }))?;
    suite.fails("invalid_argument", "p2p_taskqueue_leave", json!({}))?;
    suite.done("p2p_taskqueue_members_change", json!({ "member": own, "name": "box" }))?;
    suite.fails("not_found", "p2p_taskqueue_members_change", json!({ "member": "nobody-here", "name": "x" }))?;
    suite.fails("invalid_argument", "p2p_taskqueue_members_change", json!({ "member": "box", "role": "agent" }))?;
    suite.fails("invalid_argument", "p2p_taskqueue_members_remove", json!({ "member": "box" }))?;
    suite.done("p2p_taskqueue_members_change", json!({ "member": "box", "name": own }))?;
    suite.done("p2p_taskqueue_free", json!({ "machine": UNKNOWN_PEER }))?;
    suite.done("p2p_taskqueue_free", json!({ "machine": own }))?;
    let pinned = suite.done("p2p_taskqueue_submit", json!({ "task_type": "nobody takes it", "pin_to": own }))?;
    let read = suite.done("p2p_taskqueue_get_task", json!({ "task_id": id(&pinned, "/task_id")? }))?;
    ensure!(at(&read, "/task/pin_to") == at(&listed, "/self_peer_id"), "{read}");
    Ok(())
}

fn cache(suite: &mut Transcript) -> Result<()> {
    suite.done("p2p_taskqueue_cache_get", json!({ "key": "k" }))?;
    suite.done("p2p_taskqueue_cache_set", json!({ "key": "k", "value": null, "ttl_s": 600 }))?;
    suite.done("p2p_taskqueue_cache_has", json!({ "key": "k" }))?;
    suite.done("p2p_taskqueue_cache_get", json!({ "key": "k" }))?;
    suite.done("p2p_taskqueue_cache_delete", json!({ "key": "k" }))?;
    suite.done("p2p_taskqueue_cache_delete", json!({ "key": "k" }))?;
    suite.call("p2p_taskqueue_cache_set", json!({ "key": "", "value": 1 }))?;
    suite.fails(
        "limit_exceeded",
        "p2p_taskqueue_cache_set",
        json!({ "key": "k", "value": "x".repeat(1024 * 1024) }),
    )?;
    suite.call("p2p_taskqueue_cache_get", json!({ "key": "k".repeat(1_025) }))?;
    Ok(())
}
