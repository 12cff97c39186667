//! One exchange for every operation, for the examples of `PROTOCOL.md` and for tests that cover all operations.
#![expect(clippy::unwrap_used, reason = "what is parsed here is written here")]

use std::collections::BTreeMap;

use crate::{
    Answer, Answered, At, Attempt, AttemptOutcome, CacheDelete, CacheDeleted, CacheGet, CacheGot, CacheHad, CacheHas,
    CacheSet, CacheStored, CallTool, Cancel, Cancelled, Capabilities, ChangeMember, Claim, ClaimMany, Claimed,
    ClaimedMany, Complete, Completed, Discover, Discovered, Durability, Fail, Failed, Fence, Free, Freed, Get, GetMany,
    Got, GotMany, Grants, Heard, HeardPeer, Heartbeat, Invitation, Invite, Join, Joined, Json, Lacking, Leave, Left,
    Limit, Limited, List, ListTools, Listed, MachineInfo, MemberChanged, MemberRemoved, Members, MembersListed,
    MembersTold, Method, Operation, Pause, Paused, Peer, PeerId, Peers, PeersListed, Purge, Purged, QueueStatus,
    Release, Released, RemoveMember, Renew, Renewed, Request, Response, Resume, Resumed, Retried, Retry, Role,
    Scheduler, SearchAttempt, Selection, SignedText, Stats, StatsQuery, Status, StatusQuery, Submit, SubmitMany,
    SubmitResult, Submitted, SubmittedMany, TakeMeOut, TakenOut, Target, TaskId, TaskRecord, TaskStatus, TellMembers,
    TellWorkers, ToolCalled, ToolOffer, ToolsListed, TypeStats, VectorClock, Wait, WaitReason, Waited, WaitingFor,
    WorkerInfo, WorkerOffer, Workers, WorkersListed, WorkersTold, testing::task,
};

/// The fence of the task.
pub const FENCE: Fence = Fence { epoch: 3, counter: 41 };

/// The parties in the examples.
#[derive(Debug, Clone)]
pub struct Cast {
    /// The peer that asks.
    pub dialler: PeerId,
    /// The peer that keeps the tasks.
    pub listener: PeerId,
    /// A ticket of the listener.
    pub ticket: String,
}

/// The task of the examples.
#[must_use]
pub const fn task_id() -> TaskId {
    TaskId::from_bytes([0x1f; 16])
}

/// Returns a request for every operation in the order of the names, and last a request that is passed on. Each comes
/// with its answer.
#[must_use]
pub fn exchanges(cast: &Cast) -> Vec<(Request, Response)> {
    let mut all = tasks(cast);
    all.extend(reads(cast));
    all.extend(care(cast));
    all.extend(cache());
    all.extend(mesh(cast));
    all.extend(ways(cast));
    all.extend(workers(cast));
    all.extend(tickets(cast));
    all.extend(members(cast));
    let inner = Get { task_id: task_id() }.into_request();
    let got = Response::Got(Got { task: record(cast, TaskStatus::Queued) });
    all.push((At::request(Target::peer(cast.listener), inner), got));
    all
}

/// The requests of the exchanges. None of them waits.
#[must_use]
pub fn requests_at_once(cast: &Cast) -> Vec<Request> {
    let mut all: Vec<_> = exchanges(cast).into_iter().map(|(request, _)| request).collect();
    for request in &mut all {
        match request {
            Request::Claim(claim) => claim.wait_s = 0.0,
            Request::ClaimMany(many) => many.claim.wait_s = 0.0,
            Request::Renew(renew) => renew.wait_s = 0.0,
            Request::Wait(wait) => wait.timeout_s = 0.0,
            Request::Discover(discover) => discover.timeout_s = 0.0,
            Request::CallTool(call) => call.timeout_s = 0.0,
            _ => assert!(!request.waits(), "{}: take its wait away here", request.name()),
        }
    }
    all
}

fn tasks(cast: &Cast) -> Vec<(Request, Response)> {
    let (task_id, fence, owner) = (task_id(), FENCE, cast.listener);
    let (status, reason) = (TaskStatus::Queued, "no longer needed".to_owned());
    let submitted = || submitted(owner);
    let running = || record(cast, TaskStatus::Running);
    let claim = || Claim { supported_task_types: vec!["wordcount".to_owned()], wait_s: 20.0, ..Claim::new("worker-1") };
    let result = Some(Json::parse("{\"words\":3}".to_owned()).unwrap());
    let question = Json::parse(
        r#"{"method":"elicitation/create","params":{"message":"Go on?","requestedSchema":{"type":"object"}}}"#
            .to_owned(),
    );
    let key = || "go-on".to_owned();
    let renew = Renew {
        progress: Some(0.5),
        status_message: Some("half".to_owned()),
        input_requests: BTreeMap::from([(key(), question.unwrap())]),
        wait_s: 100.0,
        ..Renew::new(task_id, fence, 300.0)
    };
    let reply = || Json::parse(r#"{"action":"accept","content":{}}"#.to_owned()).unwrap();
    let input_responses = || BTreeMap::from([(key(), reply())]);
    vec![
        (submit().into_request(), Response::Submitted(submitted())),
        (
            SubmitMany { tasks: vec![submit()] }.into_request(),
            Response::SubmittedMany(SubmittedMany { results: vec![SubmitResult::from(Ok(submitted()))] }),
        ),
        (claim().into_request(), Response::Claimed(Claimed { task: Some(running()) })),
        (
            ClaimMany { claim: claim(), max_tasks: 8 }.into_request(),
            Response::ClaimedMany(ClaimedMany { tasks: vec![running()] }),
        ),
        (
            renew.into_request(),
            Response::Renewed(Renewed {
                lease_until: 1_760_000_300.5,
                input_responses: input_responses(),
                ..Renewed::default()
            }),
        ),
        (
            Complete { submit: vec![submit()], ..Complete::new(task_id, fence, result) }.into_request(),
            Response::Completed(Completed {
                task_id,
                status: TaskStatus::Completed,
                repeated: false,
                submitted: vec![TaskId::from_bytes([0x2f; 16])],
                next: None,
            }),
        ),
        (
            Fail { task_id, fence, error: "exit code 1".to_owned(), retryable: true, delay_s: None }.into_request(),
            Response::Failed(Failed { status, attempt: 1 }),
        ),
        (
            Release { task_id, fence, delay_s: 0.0, reason: "the node is stopping".to_owned() }.into_request(),
            Response::Released(Released { status }),
        ),
        (
            Cancel { task_id, reason }.into_request(),
            Response::Cancelled(Cancelled { cancelled: true, cancel_requested: false, status: TaskStatus::Cancelled }),
        ),
        (
            Answer { task_id, input_responses: input_responses() }.into_request(),
            Response::Answered(Answered { accepted: 1, open: 0, status: TaskStatus::Running }),
        ),
    ]
}

fn submitted(peer_id: PeerId) -> Submitted {
    let (task_id, durability) = (task_id(), Durability::Synced);
    Submitted { task_id, peer_id, duplicate: false, durability, waiting_for: Some(waiting()) }
}

fn reads(cast: &Cast) -> Vec<(Request, Response)> {
    let task_id = task_id();
    let queued = || record(cast, TaskStatus::Queued);
    let ended = || TaskRecord { result: Some(Json::from_text("done")), ..record(cast, TaskStatus::Completed) };
    let totals = || BTreeMap::from([("queued".to_owned(), 1), ("running".to_owned(), 0)]);
    let by_type = BTreeMap::from([("wordcount".to_owned(), TypeStats { queued: 1, ..TypeStats::default() })]);
    let stats = Stats { totals: totals(), by_type, oldest_queued_s: Some(1.5), ..Stats::default() };
    vec![
        (Get { task_id }.into_request(), Response::Got(Got { task: queued() })),
        (
            GetMany { task_ids: vec![task_id] }.into_request(),
            Response::GotMany(GotMany { tasks: vec![queued()], missing: Vec::new() }),
        ),
        (
            Wait::one(task_id, 60.0).into_request(),
            Response::Waited(Waited { task: Some(ended()), tasks: None, done: true }),
        ),
        (
            List { status: Some(TaskStatus::Queued), ..List::default() }.into_request(),
            Response::Listed(Listed { tasks: vec![queued()], next_cursor: None }),
        ),
        (StatsQuery {}.into_request(), Response::Stats(stats)),
    ]
}

fn care(cast: &Cast) -> Vec<(Request, Response)> {
    let selection = || Selection::ended(TaskStatus::Failed);
    let task_types = || vec!["wordcount".to_owned()];
    let limit = Limit { task_type: Some("wordcount".to_owned()), concurrency_key: None, running_max: Some(4) };
    vec![
        (
            Retry { selection: selection() }.into_request(),
            Response::Retried(Retried { retried: 2, skipped: 0, more: false }),
        ),
        (
            Purge { selection: selection() }.into_request(),
            Response::Purged(Purged { purged: 2, skipped: 0, more: false }),
        ),
        (
            Pause { task_types: task_types(), drain: false }.into_request(),
            Response::Paused(Paused { queued: 1, running: 0 }),
        ),
        (Resume { task_types: task_types() }.into_request(), Response::Resumed(Resumed { queued: 1, running: 0 })),
        (limit.into_request(), Response::Limited(Limited { running: 1 })),
        (Free { machine: cast.dialler }.into_request(), Response::Freed(Freed { freed: 2 })),
    ]
}

fn cache() -> Vec<(Request, Response)> {
    let key = || "weather/paris".to_owned();
    let value = || Json::parse("{\"c\":21}".to_owned()).unwrap();
    vec![
        (CacheGet { key: key() }.into_request(), Response::CacheGot(CacheGot { hit: true, value: value() })),
        (CacheHas { key: key() }.into_request(), Response::CacheHad(CacheHad { hit: true })),
        (
            CacheSet { key: key(), value: value(), ttl_s: Some(600.0) }.into_request(),
            Response::CacheStored(CacheStored { evicted: 0 }),
        ),
        (CacheDelete { key: key() }.into_request(), Response::CacheDeleted(CacheDeleted { deleted: true })),
    ]
}

fn mesh(cast: &Cast) -> Vec<(Request, Response)> {
    let owner = cast.listener;
    let addresses = || vec!["/ip4/192.0.2.7/tcp/9710".parse().unwrap()];
    let clock = Json::parse("{\"vector\":{\"a\":2}}".to_owned()).unwrap();
    let heard = Scheduler {
        clock: VectorClock {
            node_id: owner.to_string(),
            vector: BTreeMap::from([("a".to_owned(), 2)]),
            merkle_root: "0".repeat(64),
        },
        known_peers: vec![HeardPeer { peer_id: "a".to_owned(), last_seen: 1_760_000_000.5 }],
    };
    let status = Status {
        peer_id: owner,
        version: "0.1.0".to_owned(),
        mode: "bridge".to_owned(),
        p2p_runtime: "tokio".to_owned(),
        uptime_s: 12.5,
        capabilities: Capabilities { task_types: vec!["wordcount".to_owned()], operations: vec!["submit".into()] },
        addresses: addresses(),
        queue: Some(QueueStatus::default()),
        store: None,
        peers: None,
        transport: None,
        bridge: None,
    };
    vec![
        (
            Heartbeat { peer_id: "a".to_owned(), clock: Some(clock) }.into_request(),
            Response::Heard(Heard { scheduler: heard }),
        ),
        (StatusQuery { detail: true, ..StatusQuery::default() }.into_request(), Response::Status(status)),
        (
            Peers { connected_only: true }.into_request(),
            Response::PeersListed(PeersListed { self_peer_id: owner, peers: vec![peer(cast)] }),
        ),
    ]
}

fn ways(cast: &Cast) -> Vec<(Request, Response)> {
    let dialler = cast.dialler;
    let attempt = SearchAttempt {
        method: Method::Mdns,
        multiaddr: Some("/ip4/192.0.2.7/tcp/9710".parse().unwrap()),
        peer_id: Some(dialler),
        ok: true,
        code: None,
        error: None,
        started_s: 0.5,
        elapsed_s: 0.25,
    };
    let tool = ToolOffer {
        name: "wordcount".to_owned(),
        description: "Counts words.".to_owned(),
        input_schema: Json::parse("{\"type\":\"string\"}".to_owned()).unwrap(),
    };
    vec![
        (
            Discover { peer_id: Some(dialler), timeout_s: 5.0, ..Discover::default() }.into_request(),
            Response::Discovered(Discovered { peers: vec![peer(cast)], attempts: vec![attempt] }),
        ),
        (ListTools {}.into_request(), Response::ToolsListed(ToolsListed { tools: vec![tool] })),
        (
            CallTool::new("wordcount", Json::from_text("a b c")).into_request(),
            Response::ToolCalled(ToolCalled {
                result: Json::parse("{\"words\":3}".to_owned()).unwrap(),
                task: record(cast, TaskStatus::Running),
            }),
        ),
    ]
}

fn workers(cast: &Cast) -> Vec<(Request, Response)> {
    let takes = || {
        vec![ToolOffer {
            name: "render".to_owned(),
            description: "Renders a scene.".to_owned(),
            input_schema: Json::parse("{\"type\":\"object\"}".to_owned()).unwrap(),
        }]
    };
    let (worker_id, labels, since) = ("render".to_owned(), vec!["gpu".to_owned()], 1_760_000_000.5);
    let offer = WorkerOffer {
        instance: "f0e1d2c3b4a59687".to_owned(),
        worker_id: worker_id.clone(),
        takes: takes(),
        labels: labels.clone(),
        session: None,
        slots: 2,
        busy: 1,
        since,
    };
    let info = WorkerInfo {
        machine: "gpu-box".to_owned(),
        peer_id: cast.dialler,
        worker_id,
        connected: false,
        last_seen: Some(since),
        takes: takes(),
        labels,
        session: None,
        slots: Some(2),
        busy: Some(1),
        since,
    };
    vec![
        (
            Workers { label: Some("gpu".to_owned()), schemas: true, ..Workers::default() }.into_request(),
            Response::WorkersListed(WorkersListed { self_peer_id: cast.listener, workers: vec![info] }),
        ),
        (
            TellWorkers { workers: vec![offer], all: true, ..TellWorkers::default() }.into_request(),
            Response::WorkersTold(WorkersTold::default()),
        ),
    ]
}

fn tickets(cast: &Cast) -> Vec<(Request, Response)> {
    let owner = cast.listener;
    let addresses = || vec!["/ip4/192.0.2.7/tcp/9710".parse().unwrap()];
    let ticket = || cast.ticket.clone();
    vec![
        (
            Invite { name: Some("gpu-box".to_owned()), ..Invite::default() }.into_request(),
            Response::Invitation(Invitation {
                ticket: ticket(),
                peer_id: owner,
                addresses: addresses(),
                role: Grants::of(Role::Member),
                expires_at: 1_760_003_600.5,
            }),
        ),
        (
            Join { ticket: ticket(), ..Join::default() }.into_request(),
            Response::Joined(Joined {
                peer_id: owner,
                name: "laptop".to_owned(),
                role: Grants::of(Role::Member),
                connected: true,
                error: None,
            }),
        ),
    ]
}

fn members(cast: &Cast) -> Vec<(Request, Response)> {
    let (name, peer_id) = ("gpu-box".to_owned(), cast.dialler);
    let role: Grants = "worker:render.*,transcribe".parse().unwrap();
    let (heard, not_heard) = (vec!["laptop".to_owned()], vec!["desk".to_owned()]);
    let info = MachineInfo {
        name: name.clone(),
        peer_id,
        role: role.clone(),
        added_by: "root key".to_owned(),
        connected: true,
        addresses: vec!["/ip4/192.0.2.7/tcp/9710".parse().unwrap()],
        last_seen: Some(1_760_000_000.5),
        version: Some("0.1.0".to_owned()),
    };
    let (heard_too, not_heard_too) = (heard.clone(), not_heard.clone());
    let signed = SignedText { text: "{}".to_owned(), signature: "00".repeat(64) };
    vec![
        (
            Members {}.into_request(),
            Response::MembersListed(MembersListed {
                mesh: "5a".repeat(32),
                self_peer_id: cast.listener,
                members: vec![info],
            }),
        ),
        (
            ChangeMember { member: name.clone(), name: None, role: Some(role.clone()) }.into_request(),
            Response::MemberChanged(MemberChanged { peer_id, name: name.clone(), role, heard, not_heard }),
        ),
        (
            RemoveMember { member: name.clone(), keep: None }.into_request(),
            Response::MemberRemoved(MemberRemoved { peer_id, name, heard: heard_too, not_heard: not_heard_too }),
        ),
        (Leave::default().into_request(), Response::Left(Left { told: Some("laptop".to_owned()) })),
        (
            TellMembers { entries: vec![signed], ..TellMembers::default() }.into_request(),
            Response::MembersTold(MembersTold { is_known: true }),
        ),
        (TakeMeOut {}.into_request(), Response::TakenOut(TakenOut {})),
    ]
}

fn peer(cast: &Cast) -> Peer {
    Peer {
        peer_id: cast.dialler,
        name: Some("gpu-box".to_owned()),
        connected: true,
        addresses: vec!["/ip4/192.0.2.7/tcp/9710".parse().unwrap()],
        last_seen: Some(1_760_000_000.5),
        version: Some("0.1.0".to_owned()),
        last_dial: None,
    }
}

fn submit() -> Submit {
    Submit::new("wordcount", Json::from_text("a b c"))
}

fn waiting() -> WaitingFor {
    WaitingFor {
        lacking: Some(Lacking::Nothing),
        machines: vec!["gpu-box".to_owned()],
        ..WaitingFor::new(WaitReason::WorkerAbsent, "only gpu-box would take 'wordcount', and is not there now")
    }
}

fn record(cast: &Cast, status: TaskStatus) -> TaskRecord {
    let is_running = status == TaskStatus::Running;
    let attempt = Attempt {
        machine: cast.dialler,
        machine_name: Some("gpu-box".to_owned()),
        worker_id: "worker-1".to_owned(),
        started_at: 1_760_000_000.5,
        ended_at: (!is_running).then_some(1_760_000_000.5),
        outcome: (!is_running).then_some(AttemptOutcome::Completed),
        error: None,
    };
    TaskRecord {
        task_id: task_id(),
        status,
        attempt: u32::from(status != TaskStatus::Queued),
        created_at: 1_760_000_000.5,
        updated_at: 1_760_000_000.5,
        assigned_worker: is_running.then(|| "worker-1".to_owned()),
        lease_until: is_running.then_some(1_760_000_300.5),
        attempts: if status == TaskStatus::Queued { Vec::new() } else { vec![attempt] },
        submitted_by: Some(cast.dialler),
        waiting_for: (status == TaskStatus::Queued).then(waiting),
        fence: is_running.then_some(FENCE),
        ..task(cast.listener, submit())
    }
}
