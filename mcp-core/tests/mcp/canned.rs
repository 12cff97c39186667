//! What the queue of the tests answers without looking.

use std::collections::BTreeMap;

use p2p_taskqueue::{
    ErrorCode, Json, PeerId, QueueError, Request, Response, Task, TaskId, TaskStatus,
    api::{
        CacheDeleted, CacheGot, CacheHad, CacheStored, Discovered, Heard, KnownPeer, Limited, Paused, Purged, Resumed,
        Retried, Scheduler, Stats, ToolsListed, TypeStats, VectorClock,
    },
};

/// A task that has completed.
pub(crate) fn record(owner: PeerId, task_id: TaskId, task_type: &str, payload: Json) -> Task {
    Task {
        task_id,
        task_type: task_type.to_owned(),
        model_name: String::new(),
        payload,
        status: TaskStatus::Completed,
        priority: 5,
        attempt: 1,
        max_attempts: 3,
        created_at: 1.5,
        updated_at: 2.5,
        not_before: None,
        deadline: None,
        assigned_worker: Some("w".to_owned()),
        lease_until: None,
        progress: Some(1.0),
        status_message: None,
        result: Some(Json::from_value(&42).unwrap()),
        error: None,
        failed_by: None,
        input_requests: BTreeMap::new(),
        submitter: None,
        result_ttl_s: 86_400.0,
        labels: Vec::new(),
        session: None,
        after: Vec::new(),
        owner,
        dead: false,
        fence: None,
    }
}

/// What is answered without tasks.
pub(crate) fn answer(request: &Request) -> Result<Response, QueueError> {
    Ok(match request {
        Request::StatsQuery(_) => Response::Stats(stats()),
        Request::Retry(_) => Response::Retried(Retried { retried: 1, skipped: 0, more: false }),
        Request::Purge(_) => Response::Purged(Purged { purged: 1, skipped: 0, more: true }),
        Request::Pause(_) => Response::Paused(Paused { queued: 1, running: 0 }),
        Request::Resume(_) => Response::Resumed(Resumed { queued: 1, running: 0 }),
        Request::Limit(_) => Response::Limited(Limited { running: 1 }),
        Request::CacheGet(_) => {
            Response::CacheGot(CacheGot { hit: true, value: Json::parse(CACHED.to_owned()).unwrap() })
        }
        Request::CacheHas(_) => Response::CacheHad(CacheHad { hit: false }),
        Request::CacheSet(_) => Response::CacheStored(CacheStored { evicted: 1 }),
        Request::CacheDelete(_) => Response::CacheDeleted(CacheDeleted { deleted: true }),
        Request::Discover(_) => Response::Discovered(Discovered { peers: Vec::new(), attempts: Vec::new() }),
        Request::ListTools(_) => Response::ToolsListed(ToolsListed { tools: Vec::new() }),
        Request::Heartbeat(beat) => Response::Heard(Heard { scheduler: scheduler(&beat.peer_id) }),
        other => return Err(QueueError::new(ErrorCode::Unsupported, other.name())),
    })
}

fn stats() -> Stats {
    let counts = BTreeMap::from([("queued".to_owned(), 2)]);
    let limited = TypeStats { paused: true, running_max: Some(4), ..TypeStats::default() };
    let by_type = BTreeMap::from([
        ("wordcount".to_owned(), TypeStats { queued: 2, ..TypeStats::default() }),
        ("render".to_owned(), limited),
    ]);
    Stats { totals: counts, by_type, paused: false, draining: true, oldest_queued_s: Some(0.5) }
}

fn scheduler(peer: &str) -> Scheduler {
    let vector = BTreeMap::from([("me".to_owned(), 1)]);
    let clock = VectorClock { node_id: "me".to_owned(), vector, merkle_root: "0".repeat(64) };
    Scheduler { clock, known_peers: vec![KnownPeer { peer_id: peer.to_owned(), last_seen: 1.5 }] }
}

/// A value whose text a parser would change.
pub(crate) const CACHED: &str = r#"{"b":1.0,"a":[18446744073709551616,1e3]}"#;
