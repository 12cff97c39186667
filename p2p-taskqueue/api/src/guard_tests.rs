use std::{collections::BTreeSet, sync::Mutex};

use async_trait::async_trait;

use super::*;
use crate::{
    CacheDelete, CacheGet, CacheHas, CacheSet, Claim, Get, GotMany, Json, List, Listed, Role, Submit, SubmitMany,
    TaskStatus,
    testing::{
        exchanges::{Cast, exchanges, requests_at_once},
        task,
    },
};

fn cast() -> Cast {
    let [dialler, listener] = [(); 2].map(|()| PeerId::random());
    Cast { dialler, listener, ticket: "a ticket".to_owned() }
}

/// What each role may do, written once more, by the names of the operations.
const SUBMIT: &[&str] = &["submit", "submit_many", "cancel", "answer", "cache.set", "cache.delete", "call_tool"];
const WORK: &[&str] = &["claim", "claim_many", "renew", "complete", "fail", "release"];
const READ: &[&str] = &["get", "get_many", "wait", "list", "cache.get", "cache.has"];
const READ_OF_ALL: &[&str] = &["stats"];
const MANAGE: &[&str] = &["retry", "purge", "pause", "resume", "limit", "free"];
const ANYBODY: &[&str] = &[
    "peer.heartbeat",
    "status",
    "peers",
    "discover",
    "list_tools",
    "at",
    "members",
    "members.tell",
    "members.take_me_out",
    "workers",
    "workers.tell",
];
const ADMIN: &[&str] = &["invite", "join", "leave", "members.change", "members.remove"];

#[test]
fn each_role_may_ask_for_each_operation_or_not() {
    let cast = cast();
    let groups = [SUBMIT, WORK, READ, READ_OF_ALL, MANAGE, ANYBODY, ADMIN];
    let listed: BTreeSet<&str> = groups.concat().into_iter().collect();
    let known: BTreeSet<&str> = Request::NAMES.iter().copied().chain(["at"]).collect();
    assert_eq!(listed, known, "every operation stands in one group");
    for (role, may) in [
        (Role::Admin, vec![SUBMIT, WORK, READ, READ_OF_ALL, MANAGE, ANYBODY, ADMIN]),
        (Role::Member, vec![SUBMIT, WORK, READ, READ_OF_ALL, MANAGE, ANYBODY]),
        (Role::Agent, vec![SUBMIT, READ, ANYBODY]),
        (Role::Worker, vec![WORK, ANYBODY]),
    ] {
        let (may, grants) = (may.concat(), Grants::of(role));
        let guard = Guard { grants: &grants, own: Own::Machine(cast.dialler) };
        for request in requests_at_once(&cast) {
            // The completion of the examples adds tasks. That needs a right more, which has a test of its own.
            let request = match request {
                Request::Complete(complete) => Complete { submit: Vec::new(), ..complete }.into_request(),
                request => request,
            };
            let name = request.name();
            let asked = if matches!(request, Request::At(_)) { request.inner().name() } else { name };
            let allowed = may.contains(&asked);
            assert_eq!(guard.allows(request.inner().facts()), allowed, "{role}: {name}");
            let refused = guard.admit(request).err().map(|error| error.code);
            assert_eq!(refused, (!allowed).then_some(ErrorCode::Forbidden), "{role}: {name}");
        }
    }
}

/// A queue of two tasks: one of the machine that asks, and one of another.
#[derive(Debug)]
struct TwoTasks {
    own: TaskRecord,
    other: TaskRecord,
    /// The requests, each with whether it was for another peer.
    asked: Mutex<Vec<(&'static str, bool)>>,
}

#[async_trait]
impl TaskQueue for TwoTasks {
    async fn call(&self, _: &Caller, request: Request) -> Result<Response, QueueError> {
        self.asked.lock().unwrap().push((request.inner().name(), matches!(request, Request::At(_))));
        let both = [&self.own, &self.other];
        Ok(match request.inner() {
            Request::GetMany(get) => {
                let (there, missing): (Vec<TaskId>, Vec<TaskId>) =
                    get.task_ids.iter().partition(|id| both.iter().any(|task| task.task_id == **id));
                let tasks = there.iter().filter_map(|id| both.into_iter().find(|task| task.task_id == *id).cloned());
                Response::GotMany(GotMany { tasks: tasks.collect(), missing })
            }
            Request::List(_) => Response::Listed(Listed { tasks: both.map(Clone::clone).to_vec(), next_cursor: None }),
            inner => exchanges(&cast()).into_iter().find(|(known, _)| known.name() == inner.name()).unwrap().1,
        })
    }
}

fn two_tasks(peer: PeerId) -> TwoTasks {
    let record = |submitted_by| TaskRecord {
        submitted_by: Some(submitted_by),
        status: TaskStatus::Running,
        ..task(PeerId::random(), Submit::new("a", Json::null()))
    };
    TwoTasks { own: record(peer), other: record(PeerId::random()), asked: Mutex::default() }
}

/// Returns the request with this task for every task that it names.
fn about(request: Request, id: TaskId) -> Request {
    let mut request = request;
    match &mut request {
        Request::Get(get) => get.task_id = id,
        Request::GetMany(get) => get.task_ids = vec![id],
        Request::Wait(wait) => (wait.task_id, wait.task_ids) = (Some(id), Vec::new()),
        Request::Cancel(cancel) => cancel.task_id = id,
        Request::Answer(answer) => answer.task_id = id,
        _ => {}
    }
    request
}

#[test]
fn an_agent_reaches_its_own_tasks_and_never_those_of_others() {
    let cast = cast();
    let caller = Caller::peer(cast.dialler, Grants::of(Role::Agent));
    let queue = two_tasks(cast.dialler);
    let call = |request: Request| {
        let guard = Guard::of(&caller).unwrap();
        futures::executor::block_on(guard.call(&queue, &caller, &Caller::Local, request))
    };
    let mut checked = BTreeSet::new();
    for request in requests_at_once(&cast) {
        if matches!(request, Request::At(_)) || matches!(request.route(), Route::Here) {
            continue;
        }
        let name = request.name();
        if name == "get_many" || (!SUBMIT.contains(&name) && !READ.contains(&name)) {
            continue;
        }
        checked.insert(name);
        for target in [Target::default(), Target::peer(cast.listener)] {
            let is_away = !target.is_local();
            let at = |id| At::request(target.clone(), about(request.clone(), id));
            assert!(call(at(queue.own.task_id)).is_ok(), "{name}");
            queue.asked.lock().unwrap().clear();
            let error = call(at(queue.other.task_id)).unwrap_err();
            assert_eq!(error.code, ErrorCode::NotFound, "{name}: tells no more than of a task that is not there");
            // The record was read where the request was to go, and nothing else was asked.
            assert_eq!(*queue.asked.lock().unwrap(), [("get_many", is_away)], "{name}");
        }
    }
    assert_eq!(checked, BTreeSet::from(["get", "wait", "cancel", "answer"]));
    let Response::Listed(listed) = call(List::default().into_request()).unwrap() else { panic!() };
    assert_eq!(listed.tasks, vec![queue.own.clone()]);
    assert!(
        call(Get { task_id: TaskId::from_bytes([9; 16]) }.into_request()).is_ok(),
        "the queue says what is missing"
    );
}

#[test]
fn of_many_tasks_those_of_others_are_missing_like_those_that_are_not_there() {
    let cast = cast();
    let caller = Caller::peer(cast.dialler, Grants::of(Role::Agent));
    let (queue, absent) = (two_tasks(cast.dialler), TaskId::from_bytes([9; 16]));
    let task_ids = vec![queue.other.task_id, queue.own.task_id, absent];
    for target in [Target::default(), Target::peer(cast.listener)] {
        let request = At::request(target, GetMany { task_ids: task_ids.clone() }.into_request());
        let guard = Guard::of(&caller).unwrap();
        let got = futures::executor::block_on(guard.call(&queue, &caller, &Caller::Local, request)).unwrap();
        let Response::GotMany(got) = got else { panic!("{got:?}") };
        assert_eq!(got.tasks, vec![queue.own.clone()]);
        let missing: BTreeSet<_> = got.missing.into_iter().collect();
        assert_eq!(missing, BTreeSet::from([queue.other.task_id, absent]));
    }
}

#[test]
fn an_agent_puts_no_task_after_one_of_others() {
    let cast = cast();
    let caller = Caller::peer(cast.dialler, Grants::of(Role::Agent));
    let queue = two_tasks(cast.dialler);
    let after = |id| Submit { after: vec![id], ..Submit::new("a", Json::null()) };
    for (id, refused) in [(queue.own.task_id, None), (queue.other.task_id, Some(ErrorCode::NotFound))] {
        let many = SubmitMany { tasks: vec![Submit::new("a", Json::null()), after(id)] };
        for request in [after(id).into_request(), many.into_request()] {
            let guard = Guard::of(&caller).unwrap();
            let name = request.name();
            let answer = futures::executor::block_on(guard.call(&queue, &caller, &Caller::Local, request));
            assert_eq!(answer.err().map(|error| error.code), refused, "{name}");
        }
    }
}

#[test]
fn a_client_of_a_server_owns_what_carries_its_name() {
    let grants = Grants::of(Role::Agent);
    let guard = Guard::of_client("laptop", &grants);
    let named = |submitter: Option<&str>| TaskRecord {
        submitter: submitter.map(str::to_owned),
        ..task(PeerId::random(), Submit::new("a", Json::null()))
    };
    assert!(guard.owns(&named(Some("laptop"))) && !guard.owns(&named(Some("desk"))) && !guard.owns(&named(None)));
}

#[test]
fn each_agent_has_a_cache_of_its_own() {
    let (grants, peer) = (Grants::of(Role::Agent), PeerId::random());
    let key_of = |request: Request| match request {
        Request::CacheGet(get) => get.key,
        Request::CacheHas(has) => has.key,
        Request::CacheSet(set) => set.key,
        Request::CacheDelete(delete) => delete.key,
        other => panic!("{other:?}"),
    };
    let key = |own: Own<'_>, key: &str| {
        let guard = Guard { grants: &grants, own };
        let key = || key.to_owned();
        let operations = [
            CacheGet { key: key() }.into_request(),
            CacheHas { key: key() }.into_request(),
            CacheSet { key: key(), value: Json::null(), ttl_s: None }.into_request(),
            CacheDelete { key: key() }.into_request(),
        ];
        let away = operations.clone().map(|request| At::request(Target::peer(peer), request));
        let keys: BTreeSet<String> = operations
            .into_iter()
            .chain(away)
            .map(|request| match guard.admit(request).unwrap().request {
                Request::At(at) => key_of(*at.request),
                request => key_of(request),
            })
            .collect();
        assert_eq!(keys.len(), 1, "all operations, at every node, mean the same key: {keys:?}");
        keys.into_iter().next().unwrap()
    };
    let keys = [
        key(Own::Client("a"), "b/x"),
        key(Own::Client("a/b"), "x"),
        key(Own::Client("a"), "x"),
        key(Own::Machine(peer), "x"),
        "x".to_owned(),
    ];
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{keys:?}");
}

#[test]
fn a_worker_claims_its_types_only_and_adds_no_tasks() {
    let (grants, cast): (Grants, _) = ("worker:render.*,ocr".parse().unwrap(), cast());
    let guard = Guard { grants: &grants, own: Own::Machine(cast.dialler) };
    let claim = |types: &[&str]| Claim {
        supported_task_types: types.iter().map(|&one| one.to_owned()).collect(),
        ..Claim::new("w")
    };
    let all_forms = |types: &[&str]| {
        let forms = [
            claim(types).into_request(),
            crate::ClaimMany { claim: claim(types), max_tasks: 1 }.into_request(),
            completion(&cast, Some(claim(types)), Vec::new()),
        ];
        let at = forms.clone().map(|request| At::request(Target::peer(cast.listener), request));
        forms.into_iter().chain(at)
    };
    for (types, left) in [
        (&["ocr"][..], Some(&["ocr"][..])),
        (&["render.video", "ocr"], Some(&["render.video", "ocr"])),
        (&["wordcount", "ocr", "renders"], Some(&["ocr"])),
        (&["wordcount"], None),
        (&[], None),
    ] {
        let expected = left.map(|left| all_forms(left).collect::<Vec<_>>());
        let admitted: Result<Vec<_>, _> =
            all_forms(types).map(|request| guard.admit(request).map(|admitted| admitted.request)).collect();
        assert_eq!(admitted.ok(), expected, "{types:?}");
    }
    let child = Submit::new("ocr", Json::null());
    assert!(guard.admit(completion(&cast, None, vec![child.clone()])).is_err());
    assert!(guard.admit(completion(&cast, None, Vec::new())).is_ok());
    assert!(guard.admit(SubmitMany { tasks: vec![child] }.into_request()).is_err());
    let unlimited = Grants::of(Role::Worker);
    let anything = Guard { grants: &unlimited, own: Own::Machine(cast.dialler) };
    assert!(anything.admit(claim(&[]).into_request()).is_ok());
}

fn completion(cast: &Cast, claim_next: Option<Claim>, submit: Vec<Submit>) -> Request {
    let complete = exchanges(cast).into_iter().find_map(|(request, _)| match request {
        Request::Complete(complete) => Some(complete),
        _ => None,
    });
    Complete { claim_next, submit, ..complete.unwrap() }.into_request()
}

#[test]
fn a_refusal_says_what_is_missing() {
    let grants = Grants::of(Role::Worker);
    let guard = Guard { grants: &grants, own: Own::Machine(PeerId::random()) };
    let error = guard.admit(StatsQuery {}.into_request()).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(error.message.contains("worker") && error.message.contains("read tasks"), "{}", error.message);
}
