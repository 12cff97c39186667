//! Machines in arguments: by name, by peer id, or by the beginning of a peer id.

use p2p_taskqueue::{
    ErrorCode, Json, PeerId, QueueError, Request,
    api::{At, Submit, Target},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, and, call_with},
    queue::TestQueue,
};

const GPU: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
const LAPTOP: &str = "12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu";
/// Begins like the first one.
const TWIN: &str = "12D3KooWDpJ7As7BWAwRVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu";

fn id(text: &str) -> PeerId {
    text.parse().unwrap()
}

fn queue() -> TestQueue {
    TestQueue::new().with_members([("gpu-box", id(GPU)), ("gpu-box-2", id(TWIN)), ("laptop", id(LAPTOP))])
}

fn client() -> Client {
    Client::new(queue())
}

fn asked_for_members(client: &Client) -> usize {
    client.queue.asked_of(|request| matches!(request, Request::Members(_)))
}

/// Returns every call that names a machine, with this text.
fn naming(machine: &str, leased: &Value) -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("p2p_taskqueue_stats", json!({ "remote_peer_id": machine }), "remote_peer_id"),
        ("p2p_taskqueue_status", json!({ "peer_id": machine }), "peer_id"),
        ("p2p_taskqueue_claim_next", json!({ "worker_id": "w", "peer_id": machine }), "peer_id"),
        ("run_task", json!({ "task_type": "t", "pin_to": machine, "timeout_s": 0 }), "pin_to"),
        ("run_task", json!({ "task_type": "t", "peer_id": machine, "timeout_s": 0 }), "peer_id"),
        ("p2p_taskqueue_submit", json!({ "task_type": "t", "pin_to": machine }), "pin_to"),
        (
            "p2p_taskqueue_submit_many",
            json!({ "tasks": [{ "task_type": "t" }, { "task_type": "t", "pin_to": machine }] }),
            "tasks[1].pin_to",
        ),
        (
            "p2p_taskqueue_complete_task",
            and(leased.clone(), json!({ "submit": [{ "task_type": "t", "pin_to": machine }] })),
            "submit[0].pin_to",
        ),
        ("p2p_taskqueue_free", json!({ "machine": machine }), "machine"),
        ("p2p_taskqueue_discover", json!({ "peer_id": machine }), "peer_id"),
    ]
}

/// Returns the machine that a request names.
fn named(request: Request) -> PeerId {
    let of = |submits: &[Submit]| submits.iter().find_map(|submit| submit.pin_to);
    let named = match request {
        Request::At(At { target, .. }) => target.remote_peer_id,
        Request::Submit(submit) => submit.pin_to,
        Request::SubmitMany(many) => of(&many.tasks),
        Request::Complete(complete) => of(&complete.submit),
        Request::Free(free) => Some(free.machine),
        Request::Discover(discover) => discover.peer_id,
        other => panic!("{other:?} names no machine"),
    };
    named.expect("a machine")
}

fn leased() -> Value {
    json!({ "task_id": "0".repeat(32), "fence": "1.1" })
}

#[tokio::test]
async fn a_machine_is_named_by_its_name_its_id_or_the_beginning_of_its_id() {
    let stranger = PeerId::random().to_string();
    for (text, machine, members) in [
        ("gpu-box", GPU, 1),
        (" GPU-Box-2 ", TWIN, 1),
        (&LAPTOP[..10], LAPTOP, 1),
        // The first twelve characters of such an id are a valid peer id themselves.
        (&LAPTOP[..12], LAPTOP, 1),
        (&TWIN[..21], TWIN, 1),
        (GPU, GPU, 0),
        (&stranger, &stranger, 0),
    ] {
        for (tool, arguments, _) in naming(text, &leased()) {
            // The answer is of no interest here. The completion is refused, because nobody has claimed the task.
            let client = client();
            client.call(tool, arguments).await;
            let asked = if tool == "run_task" { client.queue.first_after(members) } else { client.queue.last() };
            assert_eq!(named(asked), id(machine), "{tool}: {text}");
            assert_eq!(asked_for_members(&client), members, "{tool}: {text}");
        }
    }
}

#[tokio::test]
async fn a_peer_id_costs_no_question() {
    for (tool, arguments, _) in naming(LAPTOP, &leased()) {
        let client = client();
        client.call(tool, arguments).await;
        let questions = if tool == "run_task" { 2 } else { 1 };
        assert_eq!((client.queue.asked(), asked_for_members(&client)), (questions, 0), "{tool}");
    }
}

#[tokio::test]
async fn all_names_of_a_call_cost_one_question() {
    let client = client();
    let task = |machine: &str| json!({ "task_type": "t", "pin_to": machine });
    let arguments = json!({ "tasks": [task("laptop"), task("gpu-box"), task("laptop")], "remote_peer_id": "gpu-box" });
    client.done("p2p_taskqueue_submit_many", arguments).await;
    assert_eq!((client.queue.asked(), asked_for_members(&client)), (2, 1));
    let Request::At(At { target, request }) = client.queue.last() else { panic!("not at a peer") };
    let Request::SubmitMany(many) = *request else { panic!("not a submit") };
    let pinned: Vec<_> = many.tasks.iter().map(|task| task.pin_to.unwrap()).collect();
    assert_eq!((target, pinned), (Target::peer(id(GPU)), vec![id(LAPTOP), id(GPU), id(LAPTOP)]));
}

#[tokio::test]
async fn what_looks_like_a_name_within_a_payload_stays_as_it_is() {
    let client = client();
    let payload = r#"{ "pin_to" : "gpu-box","machine":"laptop", "n":1.50 }"#;
    let arguments = json!({ "task_type": "t", "payload": "PAYLOAD", "pin_to": "gpu-box" });
    client.send(call_with("p2p_taskqueue_submit", arguments, payload)).await;
    let Request::Submit(submit) = client.queue.last() else { panic!("not a submit") };
    assert_eq!((submit.payload.get(), submit.pin_to), (payload, Some(id(GPU))));
}

#[tokio::test]
async fn a_text_that_means_no_machine_is_refused_by_the_name_that_the_caller_wrote() {
    let twins = &GPU[..12];
    for (text, code, says) in [
        ("gpu-bxo", "not_found", "no machine of the mesh is called \"gpu-bxo\": did you mean gpu-box?"),
        ("render", "not_found", "no machine of the mesh is called \"render\": `taskmesh members` lists them"),
        (twins, "invalid_argument", "2 machines"),
        ("12D3KooW", "invalid_argument", "10 characters"),
    ] {
        for (tool, arguments, field) in naming(text, &leased()) {
            let client = client();
            let error = client.refused(tool, arguments).await;
            assert_eq!((&error["code"], &error["field"]), (&json!(code), &json!(field)), "{tool}: {error}");
            assert_eq!(error["outcome"], "not_applied", "{tool}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(says) && message.contains("pin_to:") == field.contains("pin_to"), "{message}");
            assert_eq!((client.queue.asked(), asked_for_members(&client)), (1, 1), "{tool}: nothing is done");
        }
    }
}

#[tokio::test]
async fn a_mistake_beside_a_name_is_refused_before_anybody_is_asked() {
    let client = client();
    for (arguments, field) in [
        (json!({ "pin_to": "gpu-box" }), "task_type"),
        (json!({ "task_type": "t", "pin_to": "gpu-box", "colour": 1 }), "colour"),
        (json!({ "task_type": "t", "pin_to": ["gpu-box"] }), "pin_to"),
        (json!({ "task_type": "t", "pin_to": " " }), "pin_to"),
    ] {
        let error = client.refused("p2p_taskqueue_submit", arguments).await;
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_argument"), &json!(field)), "{error}");
    }
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test]
async fn when_the_members_are_not_known_the_call_is_not_made() {
    let lost = QueueError::new(ErrorCode::Timeout, "no answer").with_field("somewhere");
    for (tool, arguments, field) in naming("gpu-box", &leased()) {
        let queue = queue().refusing_if(|request| matches!(request, Request::Members(_)), lost.clone());
        let client = Client::new(queue);
        let error = client.refused(tool, arguments).await;
        assert_eq!((&error["code"], &error["field"]), (&json!("timeout"), &json!(field)), "{tool}: {error}");
        assert_eq!(error["outcome"], "not_applied", "{tool}: {error}");
        assert_eq!(client.queue.asked(), 1, "{tool}");
    }
}

#[tokio::test]
async fn both_names_of_an_argument_may_mean_one_machine() {
    let client = client();
    for (one, other, fits) in
        [("gpu-box", GPU, true), (LAPTOP, "laptop", true), ("gpu-box", "GPU-BOX", true), ("gpu-box", "laptop", false)]
    {
        let arguments = json!({ "remote_peer_id": one, "peer_id": other });
        if fits {
            client.done("p2p_taskqueue_status", arguments).await;
            continue;
        }
        let error = client.refused("p2p_taskqueue_status", arguments).await;
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_argument"), &json!("peer_id")), "{error}");
    }
}

#[tokio::test]
async fn the_schemas_say_how_a_machine_is_named() {
    let tools = client().tools().await;
    let says = "its name, peer id, or the beginning of its peer id";
    let described = |tool: &str, place: &str| {
        let tool = tools.iter().find(|known| known["name"] == tool).unwrap();
        tool["inputSchema"]
            .pointer(place)
            .unwrap_or_else(|| panic!("{place} of {tool}"))
            .as_str()
            .unwrap()
            .contains(says)
    };
    for tool in &tools {
        assert!(described(tool["name"].as_str().unwrap(), "/properties/remote_peer_id/description"));
    }
    for (tool, place) in [
        ("run_task", "/properties/pin_to/description"),
        ("p2p_taskqueue_submit_many", "/properties/tasks/items/properties/pin_to/description"),
        ("p2p_taskqueue_complete_task", "/properties/submit/items/properties/pin_to/description"),
        ("p2p_taskqueue_free", "/properties/machine/description"),
        ("p2p_taskqueue_discover", "/properties/peer_id/description"),
    ] {
        assert!(described(tool, place), "{tool} {place}");
    }
    assert!(!described("p2p_taskqueue_heartbeat", "/properties/peer_id/description"), "it takes any text");
}

/// A worker's own arguments are its own, whatever they are called.
#[tokio::test]
async fn the_arguments_of_a_mesh_tool_name_no_machines() {
    let schema = r#"{"type":"array","items":{"type":"object","properties":{"machine":{"type":"string"}}}}"#;
    let offer = crate::nodes::offer("scan", Json::parse(schema.to_owned()).unwrap());
    let client = Client::new(queue().with_workers(vec![crate::queue::worker(id(GPU), vec![offer])]));
    let payload = json!([{ "machine": "no machine" }]);
    let answer = client.done("scan", json!({ "payload": payload }));
    let answer = client.worked(answer, json!(1)).await;
    assert_eq!(answer["task"]["payload"], payload);
    assert_eq!(asked_for_members(&client), 0);
}
