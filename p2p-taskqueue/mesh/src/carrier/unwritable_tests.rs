//! Numbers that JSON has no form for: written as null, they would arrive as an argument that was not given.

use std::sync::Arc;

use libp2p::PeerId;
use taskqueue_api::{
    At, CacheSet, CallTool, Caller, Claim, ClaimMany, Complete, Discover, ErrorCode, Fail, Fence, Json, Operation as _,
    Purge, Release, Renew, Request, Retry, Selection, StatusQuery, Submit, SubmitMany, Target, TaskId, TaskQueue as _,
    TaskStatus, Wait,
};

use super::DaemonQueue;
use crate::testing::{TestQueue, runtime};

/// Every number of every request that is no whole number, with the name that a refusal has for it.
fn requests(odd: f64) -> Vec<(Request, &'static str)> {
    let (task_id, fence) = (TaskId::from_bytes([1; 16]), Fence { epoch: 1, counter: 1 });
    let submit = || Submit::new("t", Json::null());
    let renew = || Renew::new(task_id, fence, 30.0);
    let ended = || Selection { older_than_s: odd, ..Selection::ended(TaskStatus::Failed) };
    let claim = || Claim { lease_s: odd, ..Claim::new("w") };
    let delayed = || Submit { delay_s: Some(odd), ..submit() };
    vec![
        (delayed().into_request(), "delay_s"),
        (Submit { not_before: Some(odd), ..submit() }.into_request(), "not_before"),
        (Submit { deadline_s: Some(odd), ..submit() }.into_request(), "deadline_s"),
        (Submit { backoff_s: odd, ..submit() }.into_request(), "backoff_s"),
        (Submit { idempotency_window_s: odd, ..submit() }.into_request(), "idempotency_window_s"),
        (Submit { result_ttl_s: odd, ..submit() }.into_request(), "result_ttl_s"),
        (SubmitMany { tasks: vec![submit(), delayed()] }.into_request(), "tasks[1].delay_s"),
        (claim().into_request(), "lease_s"),
        (Claim { wait_s: odd, ..Claim::new("w") }.into_request(), "wait_s"),
        (ClaimMany { claim: claim(), max_tasks: 1 }.into_request(), "lease_s"),
        (Renew::new(task_id, fence, odd).into_request(), "lease_s"),
        (Renew { progress: Some(odd), ..renew() }.into_request(), "progress"),
        (Renew { wait_s: odd, ..renew() }.into_request(), "wait_s"),
        (Complete { claim_next: Some(claim()), ..Complete::new(task_id, fence, None) }.into_request(), "lease_s"),
        (Complete { submit: vec![delayed()], ..Complete::new(task_id, fence, None) }.into_request(), "delay_s"),
        (Fail { task_id, fence, error: String::new(), retryable: true, delay_s: Some(odd) }.into_request(), "delay_s"),
        (Release { task_id, fence, delay_s: odd, reason: String::new() }.into_request(), "delay_s"),
        (Wait::one(task_id, odd).into_request(), "timeout_s"),
        (Retry { selection: ended() }.into_request(), "older_than_s"),
        (Purge { selection: ended() }.into_request(), "older_than_s"),
        (CacheSet { key: "k".to_owned(), value: Json::null(), ttl_s: Some(odd) }.into_request(), "ttl_s"),
        (StatusQuery { timeout_s: odd, ..StatusQuery::default() }.into_request(), "timeout_s"),
        (Discover { timeout_s: odd, ..Discover::default() }.into_request(), "timeout_s"),
        (CallTool { timeout_s: odd, ..CallTool::new("t", Json::null()) }.into_request(), "timeout_s"),
        (At::request(Target::peer(PeerId::random()), delayed().into_request()), "delay_s"),
    ]
}

#[tokio::test]
async fn a_number_that_json_cannot_write_is_refused_before_it_is_sent() {
    let behind = TestQueue::new(PeerId::random());
    let queue = DaemonQueue::in_memory(Arc::<TestQueue>::clone(&behind), runtime());
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (request, field) in requests(odd) {
            let error = queue.call(&Caller::Local, request.clone()).await.expect_err(&format!("{request:?}"));
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{request:?}: {error:?}");
            let named = error.field.as_deref().unwrap_or_default();
            assert!(named.ends_with(field), "{request:?}: {error:?}");
        }
    }
    assert_eq!(behind.calls.borrow().0, 0, "nothing was asked");
}
