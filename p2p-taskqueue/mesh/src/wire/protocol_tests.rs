//! Tests that compare `PROTOCOL.md` with the code.
//!
//! The marked blocks of the document are generated from the types. When one of them has to change, run these tests with
//! `TASKMESH_WRITE_PROTOCOL=1`, and check what the difference means for older peers.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use futures::{AsyncReadExt, AsyncWriteExt};
use hmac::{Hmac, KeyInit, Mac};
use libp2p::PeerId;
use runtime_bridge::RuntimeExt;
use sha2::Sha256;
use taskqueue_api::{
    AnsweredBy, Caller, ErrorCode, Get, Grants, OpenTo, Operation as _, QueueError, Request, Response, Route,
    TaskQueue, Waits, limits,
    testing::{DEADLINE, exchanges::task_id},
};

use super::{
    examples::{exchanges, identity, peers},
    frame::put_frame,
    handshake::{AtDoor, Ours, Proven, come_in, pass_door},
    limits::{
        FRAME_BYTES_DOOR, FRAME_BYTES_MAX, FRAME_BYTES_MIN, FRAME_BYTES_ROSTER, FRAME_BYTES_UNPROVEN,
        HANDSHAKE_DEADLINE, IN_FLIGHT_MAX, IN_FLIGHT_MIN, INBOUND_BYTES_MAX, PING_AFTER, PROGRESS_BYTES_MIN,
        REQUEST_BYTES_SMALL, ROSTER_DEADLINE, SILENT_TICKS_MAX, WAITS_MAX, WRITE_BUFFER_HIGH, WRITE_BUFFER_MAX,
    },
    local::LocalHello,
    message::{Incoming, Outgoing, put_answer, read_answer},
    proof::{Binding, MESH_LABEL, NONCE_BYTES, Proof, Role},
    request::read_request,
    session::{Driver, Service},
    terms::Terms,
};
use crate::{
    Mesh, MeshSecret, NoFiles, RootKey, TICKET_ADDRESSES_MAX,
    members::{
        Membership,
        limits::{ADMINS_MAX, MACHINE_NAME_BYTES_MAX, MEMBERS_MAX, SECRETS_MAX, SIGNED_BY_ADMIN_MAX, TICKETS_MAX},
    },
    testing::{Pipe, pipe, runtime, soon},
    ticket,
};

const PROTOCOL: &str = include_str!("../../../PROTOCOL.md");
const SECRET: [u8; 32] = [0x5a; 32];
const NONCES: ([u8; NONCE_BYTES], [u8; NONCE_BYTES]) = ([0xd1; NONCE_BYTES], [0x17; NONCE_BYTES]);
/// The software version of both ends in the transcript. It is fixed, so that the transcript does not change with each
/// release.
const SOFTWARE: &str = "0.1.0";

/// Returns the content of a marked block.
fn block(name: &str) -> &'static str {
    let begin = format!("<!-- {name} -->\n```text\n");
    let at = PROTOCOL.find(&begin).unwrap_or_else(|| panic!("no block {name}")) + begin.len();
    let rest = &PROTOCOL[at..];
    &rest[..rest.find("```").unwrap()]
}

/// Compares a block with the generated text. Writes it if they differ and `TASKMESH_WRITE_PROTOCOL` is set.
fn check_block(name: &str, generated: &str) {
    let written = block(name);
    if written == generated {
        return;
    }
    assert!(std::env::var_os("TASKMESH_WRITE_PROTOCOL").is_some(), "block {name} should be:\n{generated}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../PROTOCOL.md");
    // Other tests may have written their blocks since this was compiled.
    let now = std::fs::read_to_string(path).unwrap();
    std::fs::write(
        path,
        now.replacen(
            &format!("<!-- {name} -->\n```text\n{written}"),
            &format!("<!-- {name} -->\n```text\n{generated}"),
            1,
        ),
    )
    .unwrap();
}

/// Returns the values of a block of `name value` lines.
fn values(name: &str) -> BTreeMap<&'static str, &'static str> {
    block(name).lines().filter_map(|line| line.split_once(' ')).map(|(name, value)| (name, value.trim())).collect()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn unhex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

#[test]
fn the_proof_vectors_are_those_of_the_code() {
    let (dialler, listener) = peers();
    let secret = MeshSecret::from_bytes(SECRET);
    let binding = Binding { nonces: NONCES, peers: peers() };
    let mac = |role| Proof::of_mesh(&secret, role, &binding).to_hex();
    let input = |role: &[u8]| {
        let mut input = [MESH_LABEL, role, &NONCES.0, &NONCES.1].concat();
        for peer in [dialler.to_bytes(), listener.to_bytes()] {
            input.extend_from_slice(&(peer.len() as u64).to_be_bytes());
            input.extend_from_slice(&peer);
        }
        hex(&input)
    };
    let mut text = String::new();
    for (name, value) in [
        ("secret", hex(&SECRET)),
        ("dialler", dialler.to_string()),
        ("dialler_bytes", hex(&dialler.to_bytes())),
        ("listener", listener.to_string()),
        ("listener_bytes", hex(&listener.to_bytes())),
        ("dialler_nonce", hex(&NONCES.0)),
        ("listener_nonce", hex(&NONCES.1)),
        ("dialler_input", input(b"dialer..")),
        ("dialler_proof", mac(Role::Dialer)),
        ("listener_input", input(b"listener")),
        ("listener_proof", mac(Role::Listener)),
    ] {
        writeln!(text, "{name:<15} {value}").unwrap();
    }
    check_block("proof", &text);
}

#[test]
fn the_written_proof_is_the_hmac_of_the_written_input() {
    let values = values("proof");
    assert_eq!(unhex(values["secret"]), SECRET);
    for role in ["dialler", "listener"] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&unhex(values["secret"])).unwrap();
        mac.update(&unhex(values[&*format!("{role}_input")]));
        assert_eq!(hex(&mac.finalize().into_bytes()), values[&*format!("{role}_proof")]);
        assert_eq!(PeerId::from_bytes(&unhex(values[&*format!("{role}_bytes")])).unwrap().to_string(), values[role]);
    }
}

#[test]
fn the_frame_vectors_are_those_of_the_code() {
    let request = Get { task_id: task_id() }.into_request();
    let refused: Result<Response, _> = Err(QueueError::new(ErrorCode::NotFound, "no such task"));
    let put = |message: Outgoing<'_>| {
        let mut out = Vec::new();
        message.put(&mut out, FRAME_BYTES_MAX).unwrap();
        out
    };
    let mut answer = Vec::new();
    put_answer(&mut answer, 1, &refused, FRAME_BYTES_MAX).unwrap();
    let mut text = String::new();
    for frame in [
        put(Outgoing::Ping),
        put(Outgoing::Pong),
        put(Outgoing::Goaway),
        put(Outgoing::Call { id: 1, request: &request }),
        answer,
        put(Outgoing::Cancel { id: 1 }),
    ] {
        write_frame(&mut text, "", &frame);
    }
    check_block("frames", &text);
}

/// Writes a frame as its content and as its bytes.
fn write_frame(text: &mut String, from: &str, frame: &[u8]) {
    let content = std::str::from_utf8(&frame[4..]).unwrap();
    assert_eq!(frame[..4], u32::try_from(content.len()).unwrap().to_be_bytes());
    writeln!(text, "{from}{content}\n{}", hex(frame)).unwrap();
}

#[test]
fn the_written_frames_are_read() {
    for (written, frames) in [(block("frames"), 6), (block("transcript"), 14)] {
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines.len(), 2 * frames);
        for pair in lines.chunks(2) {
            let content = pair[0].split_once("> ").map_or(pair[0], |(_, content)| content);
            let frame = unhex(pair[1]);
            assert_eq!(frame[4..], *content.as_bytes());
            assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, content.len());
            if content.contains("\"kind\"") {
                assert!(
                    !matches!(Incoming::read(&frame[4..]), Ok(Incoming::Other) | Err(_)) || content.contains("pong")
                );
            }
        }
    }
}

/// A queue that gives the answers of the examples.
#[derive(Debug)]
struct Example;

#[async_trait]
impl TaskQueue for Example {
    async fn call(&self, _: &Caller, request: Request) -> Result<Response, QueueError> {
        Ok(exchanges().into_iter().find(|(one, _)| *one == request).unwrap().1)
    }
}

/// Passes on `count` frames, and returns them as text.
async fn relay(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    name: &str,
    count: usize,
) -> String {
    let mut text = String::new();
    for _ in 0..count {
        let mut length = [0; 4];
        from.read_exact(&mut length).await.unwrap();
        let mut frame = vec![0; 4 + u32::from_be_bytes(length) as usize];
        frame[..4].copy_from_slice(&length);
        from.read_exact(&mut frame[4..]).await.unwrap();
        to.write_all(&frame).await.unwrap();
        write_frame(&mut text, name, &of_the_first_release(frame));
    }
    text
}

fn of_the_first_release(frame: Vec<u8>) -> Vec<u8> {
    let mut content: serde_json::Value = serde_json::from_slice(&frame[4..]).unwrap();
    let Some(software) = content.get_mut("software") else { return frame };
    *software = SOFTWARE.into();
    let mut out = Vec::new();
    put_frame(&mut out, FRAME_BYTES_UNPROVEN, |out| serde_json::to_writer(out, &content)).unwrap();
    out
}

fn ours(seed: u8, serves: bool) -> Ours {
    let addresses = if serves { vec!["/ip4/192.0.2.7/tcp/9710".parse().unwrap()] } else { Vec::new() };
    let instance = format!("{seed:02}").repeat(8);
    let identity = identity(seed);
    let (root, name) = (RootKey::from_secret_bytes([3; 32]), if serves { "desk" } else { "laptop" });
    let mesh = Mesh::enrolled(&root, &identity, name, Grants::of(taskqueue_api::Role::Member)).unwrap();
    let membership = Membership::new(identity, mesh, Arc::new(NoFiles));
    Ours { membership, serves, instance, addresses }
}

async fn meet(io: &mut Pipe, ours: &Ours, peer: PeerId, role: Role, nonce: [u8; NONCE_BYTES]) -> Proven {
    match pass_door(io, ours, peer, role, nonce).await.unwrap() {
        AtDoor::Member(inside) => come_in(io, ours, peer, *inside).await.unwrap(),
        AtDoor::Newcomer => panic!("a newcomer"),
    }
}

/// Acts as the dialler: the handshake, then one request.
async fn dial(mut io: Pipe) {
    let proven = meet(&mut io, &ours(1, false), peers().1, Role::Dialer, NONCES.0).await;
    let (session, driver) = Driver::new(io, proven.agreed, None, runtime());
    let _driver = runtime().spawn(driver);
    let request = Get { task_id: task_id() }.into_request();
    session.call(&request, DEADLINE).await.unwrap();
}

async fn listen(mut io: Pipe) {
    let proven = meet(&mut io, &ours(2, true), peers().0, Role::Listener, NONCES.1).await;
    let service = Service { queue: Arc::new(Example), caller: Caller::member(peers().0) };
    let (_session, driver) = Driver::new(io, proven.agreed, Some(service), runtime());
    driver.await;
}

#[tokio::test]
async fn the_transcript_is_what_travels() {
    let ((near, from_dialler), (from_listener, far)) = (pipe(64 * 1024), pipe(64 * 1024));
    let _listening = runtime().spawn(listen(far));
    let ((mut from_d, mut to_d), (mut from_l, mut to_l)) = (from_dialler.split(), from_listener.split());
    let (dialler, listener, ()) = soon(async {
        tokio::join!(
            relay(&mut from_d, &mut to_l, "dialler> ", 7),
            relay(&mut from_l, &mut to_d, "listener> ", 7),
            dial(near),
        )
    })
    .await;
    // The two ends send at the same time. The transcript shows the frames of both in turn, so one hello follows the
    // other.
    let (dialler, listener): (Vec<&str>, Vec<&str>) = (dialler.lines().collect(), listener.lines().collect());
    let mut text = String::new();
    for (a, b) in dialler.chunks(2).zip(listener.chunks(2)) {
        writeln!(text, "{}\n{}\n{}\n{}", a[0], a[1], b[0], b[1]).unwrap();
    }
    check_block("transcript", &text);
}

#[test]
fn every_operation_is_written_down_with_an_example_that_parses() {
    let mut text = String::new();
    for (request, response) in exchanges() {
        let (request, response) = (serde_json::to_string(&request).unwrap(), serde_json::to_string(&response).unwrap());
        writeln!(text, "{request}\n  {response}").unwrap();
    }
    check_block("operations", &text);

    let mut names = Vec::new();
    let lines: Vec<&str> = block("operations").lines().collect();
    for pair in lines.chunks(2) {
        let request = read_request(serde_json::from_str(pair[0]).unwrap()).unwrap();
        taskqueue_api::Check::check(&request).unwrap();
        read_answer(Some(serde_json::from_str(pair[1].trim()).unwrap()), None).unwrap();
        names.push(request.name());
    }
    let expected: Vec<&str> = Request::NAMES.iter().copied().chain(["at"]).collect();
    assert_eq!(names, expected);
}

#[test]
fn the_table_of_operations_is_the_one_of_the_code() {
    let row = |cells: [&str; 7]| {
        let [name, by, open_to, found_by, twice, waits_for, content] = cells;
        format!("{name:<22}{by:<13}{open_to:<11}{found_by:<10}{twice:<18}{waits_for:<11}{content}")
            .trim_end()
            .to_owned()
    };
    let mut text = row(["operation", "answered by", "open to", "found by", "twice", "waits for", "content"]) + "\n";
    for facts in Request::OPERATIONS {
        let mut requests: Vec<_> = exchanges().into_iter().map(|(request, _)| request).collect();
        requests.retain(|request| request.name() == facts.name);
        // An argument of `complete` changes its facts.
        if let Some(Request::Complete(complete)) = requests.first().cloned() {
            let claim_next = Some(taskqueue_api::Claim::new("worker-1"));
            requests.push(Request::Complete(taskqueue_api::Complete { claim_next, ..complete }));
        }
        let twice: Vec<_> = requests.iter().map(|request| format!("{:?}", request.repeat()).to_lowercase()).collect();
        let request = requests.first().unwrap();
        let found_by = match request.route() {
            Route::Here => "",
            Route::Task(_) => "task",
            Route::Tasks(_) => "tasks",
        };
        let waits_for = match request.waits_for() {
            Waits::No => "",
            Waits::ForWork(_) => "work",
            Waits::ForOthers(_) => "others",
        };
        let by = if facts.answered_by == AnsweredBy::Node { "node" } else { "owner" };
        let open_to = if facts.open_to == OpenTo::Everybody { "everybody" } else { "machine" };
        let content = if facts.carries_content { "yes" } else { "" };
        text += &row([facts.name, by, open_to, found_by, &twice.join(" or "), waits_for, content]);
        text += "\n";
    }
    check_block("facts", &text);
}

#[test]
fn the_local_hello_is_that_of_the_code() {
    let mut hello = serde_json::to_value(LocalHello::ours()).unwrap();
    hello["software"] = SOFTWARE.into();
    check_block("local", &format!("{hello}\n"));
    let terms = |text: &str| serde_json::from_str::<LocalHello>(text).unwrap().terms();
    assert_eq!(terms(block("local")).unwrap(), Terms::ours());
    // A hello from before there were features and limits.
    assert_eq!(terms(r#"{"versions":[2,2],"software":"0.1.0"}"#).unwrap(), Terms::default());
    assert!(terms(r#"{"versions":[3,3],"software":"0.1.0"}"#).is_err());
}

#[test]
fn every_error_code_is_written_down() {
    let error = QueueError::over_limit("payload", 1_048_577, 1_048_576, "bytes");
    check_block("error", &format!("{}\n", serde_json::to_string(&error).unwrap()));
    let table = PROTOCOL.split("## Errors").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let codes: Vec<&str> = rows.map(|(code, _)| code).collect();
    assert_eq!(codes.len(), 19);
    for code in codes {
        let known: ErrorCode = serde_json::from_value(code.into()).unwrap();
        assert_eq!(known.as_str(), code);
    }
}

#[test]
fn the_bounds_are_those_of_the_code() {
    let mut text = String::new();
    for (name, value) in [
        ("frame_bytes_unproven", FRAME_BYTES_UNPROVEN as u64),
        ("frame_bytes_max", FRAME_BYTES_MAX as u64),
        ("frame_bytes_min", FRAME_BYTES_MIN as u64),
        ("in_flight_max", IN_FLIGHT_MAX as u64),
        ("in_flight_min", IN_FLIGHT_MIN as u64),
        ("waits_max", WAITS_MAX as u64),
        ("in_flight_bytes_max", INBOUND_BYTES_MAX as u64),
        ("request_bytes_small", REQUEST_BYTES_SMALL as u64),
        ("unread_bytes_high", WRITE_BUFFER_HIGH as u64),
        ("unread_bytes_max", WRITE_BUFFER_MAX as u64),
        ("handshake_s", HANDSHAKE_DEADLINE.as_secs()),
        ("ping_after_s", PING_AFTER.as_secs()),
        ("silent_s_max", (PING_AFTER * SILENT_TICKS_MAX).as_secs()),
        ("progress_bytes_min", PROGRESS_BYTES_MIN),
        ("roster_s", ROSTER_DEADLINE.as_secs()),
        ("frame_bytes_door", FRAME_BYTES_DOOR as u64),
        ("frame_bytes_roster", FRAME_BYTES_ROSTER as u64),
        ("members_max", MEMBERS_MAX as u64),
        ("admins_max", ADMINS_MAX as u64),
        ("signed_by_admin_max", SIGNED_BY_ADMIN_MAX as u64),
        ("machine_name_bytes_max", MACHINE_NAME_BYTES_MAX as u64),
        ("role_types_max", limits::ROLE_TYPES_MAX as u64),
        ("statement_bytes_max", limits::STATEMENT_TEXT_BYTES_MAX as u64),
        ("statements_told_max", limits::STATEMENTS_TOLD_MAX as u64),
        ("kept_members_max", limits::KEPT_MEMBERS_MAX as u64),
        ("secrets_max", SECRETS_MAX as u64),
        ("tickets_max", TICKETS_MAX as u64),
        ("ticket_s_max", Duration::from_secs_f64(*limits::TICKET_S_RANGE.end()).as_secs()),
        ("ticket_uses_max", u64::from(limits::TICKET_USES_MAX)),
        ("ticket_addresses_max", TICKET_ADDRESSES_MAX as u64),
        ("ticket_address_bytes_max", ticket::ADDRESS_BYTES_MAX as u64),
        ("workers_told_max", limits::WORKERS_TOLD_MAX as u64),
        ("offer_bytes_max", limits::OFFER_BYTES_MAX as u64),
        ("worker_stands_s", Duration::from_secs_f64(limits::WORKER_STANDS_S).as_secs()),
        ("waiting_names_max", limits::WAITING_NAMES_MAX as u64),
    ] {
        writeln!(text, "{name:<25} {value}").unwrap();
    }
    check_block("bounds", &text);
}
