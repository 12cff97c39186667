//! Finding peers, and configuring how they are found.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::harness::{HttpConnection, Node, at, taskmesh, until};

const LOOPBACK: [&str; 2] = ["--p2p-listen", "/ip4/127.0.0.1/tcp/0"];

const NOBODY: &str = "12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu";

/// Returns the attempts by this method.
fn attempts(found: &Value, method: &str) -> Vec<Value> {
    let all = at(found, "/attempts").as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|attempt| at(attempt, "/method") == method).collect()
}

#[test]
fn discover_shows_the_peers_and_what_each_way_came_to() -> Result<()> {
    let (one, two) = (Node::start(&[])?, Node::start(&[])?);
    two.join(&one)?;
    let found = one.ask(&["discover"])?;
    assert_eq!(found["peers"][0]["peer_id"], two.peer_id()?, "{found}");
    let by_book = attempts(&found, "address_book");
    assert_eq!((&by_book[0]["ok"], &by_book[0]["peer_id"]), (&json!(true), &json!(two.peer_id()?)), "{found}");
    assert_eq!(attempts(&found, "mdns")[0]["code"], "unsupported", "off unless switched on: {found}");

    let text = one.run(&["discover", &two.peer_id()?, "--method", "address_book"])?;
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(["METHOD", "OUTCOME", "address_book", "reached"].iter().all(|word| text.stdout.contains(word)), "{text:?}");
    Ok(())
}

#[test]
fn a_named_peer_that_is_not_reached_is_exit_code_3_with_the_reason() -> Result<()> {
    let (here, elsewhere) = (Node::start(&[])?, Node::start(&[])?);
    let nobody = here.run(&["discover", NOBODY, "--timeout", "5", "--json"])?;
    assert_eq!((nobody.code, &nobody.json()?["peers"]), (Some(3), &json!([])), "{nobody:?}");
    let stranger = here.run(&["discover", &elsewhere.address()?, "--method", "explicit", "--json"])?;
    assert_eq!(stranger.code, Some(3), "{stranger:?}");
    assert_eq!(attempts(&stranger.json()?, "explicit")[0]["code"], "unauthorized", "{stranger:?}");
    let malformed = here.run(&["discover", "over there"])?;
    assert_eq!(malformed.code, Some(2), "{malformed:?}");
    let unknown = here.run(&["discover", "--method", "telepathy"])?;
    assert!(unknown.code == Some(2) && unknown.stderr.contains("address_book"), "{unknown:?}");
    Ok(())
}

#[test]
fn a_configured_peer_is_found_and_the_command_line_wins_over_the_file() -> Result<()> {
    let known = Node::start(&[])?;
    let folder = known.guest_folder()?;
    let config = format!(
        "[p2p]\nlisten = [\"/ip4/127.0.0.1/udp/0/quic-v1\"]\nruntime = \"smol\"\n\
         [discovery]\nbootstrap = [{:?}]\n[worker]\nrun = [\"shout=tr a-z A-Z\"]\n",
        known.address()?
    );
    fs::write(folder.path().join("config.toml"), config)?;
    let node = Node::start_on(folder, None, &["--p2p-runtime", "tokio"])?;
    assert_eq!(node.ready("p2p_runtime")?, "tokio");
    assert!(node.address()?.contains("/quic-v1/"), "{}", node.address()?);
    node.sees(&known)?;
    let shouted = known.run(&["submit", "shout", "--text", "hello", "--wait"])?;
    assert_eq!(shouted.stdout, "HELLO\n", "{shouted:?}");
    Ok(())
}

#[test]
fn a_bootstrap_peer_of_the_command_line_is_dialled_at_the_start() -> Result<()> {
    let known = Node::start(&[])?;
    let address = known.address()?;
    let node = Node::start_on(known.guest_folder()?, None, &[&LOOPBACK[..], &["--bootstrap", &address]].concat())?;
    node.sees(&known)?;
    let found = node.ask(&["discover", "--method", "bootstrap"])?;
    assert_eq!(attempts(&found, "bootstrap")[0]["ok"], true, "{found}");
    Ok(())
}

#[test]
fn nodes_that_know_only_a_point_find_and_reach_each_other_through_it() -> Result<()> {
    let ways = "[discovery]\nkademlia = true\nrendezvous_server = true\n[reach]\nrelay_server = true\n";
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("config.toml"), ways)?;
    let point = Node::start_on(folder, None, &LOOPBACK)?;
    let address = point.address()?;
    let guest = || -> Result<Node> {
        let folder = point.guest_folder()?;
        let ways = format!(
            "[discovery]\nkademlia = true\nbootstrap = [{address:?}]\nrendezvous = [{address:?}]\n\
             [reach]\nrelays = [{address:?}]\n[worker]\nrun = [\"shout=tr a-z A-Z\"]\n"
        );
        fs::write(folder.path().join("config.toml"), ways)?;
        Node::start_on(folder, None, &LOOPBACK)
    };
    let (a, b) = (guest()?, guest()?);
    point.sees(&a)?;
    point.sees(&b)?;
    let wanted = b.peer_id()?;
    for method in ["rendezvous", "kademlia"] {
        // B may not have registered its addresses there yet.
        let found = || Ok((a.run(&["discover", &wanted, "--method", method])?.code == Some(0)).then_some(()));
        until(format_args!("B is found by {method}"), found)?;
    }
    let through_relay = b.ask(&["status"])?["addresses"].to_string();
    assert!(through_relay.contains("/p2p-circuit"), "{through_relay}");
    let shouted =
        a.run(&["call", "shout", "--args", "\"hello\"", "--peer", &format!("{address}/p2p-circuit/p2p/{wanted}")])?;
    assert_eq!(shouted.stdout, "HELLO\n", "{shouted:?}");
    Ok(())
}

#[test]
fn a_node_is_found_by_the_file_in_which_it_announces_itself() -> Result<()> {
    let shared = tempfile::tempdir()?;
    let file = shared.path().join("made").join("announce.json");
    let config = format!("[discovery]\nannounce_file = {:?}\n", file.display().to_string());
    let path = shared.path().join("announcing.toml");
    fs::write(&path, config)?;
    let path = path.to_str().context("no text")?;
    let announcing = Node::start(&["--config", path])?;
    for written in [&file, &announcing.folder().join("announce.json")] {
        let announcement: Value = serde_json::from_slice(&fs::read(written)?)?;
        assert_eq!(announcement["peer_id"], announcing.peer_id()?);
        assert_eq!(announcement["multiaddr"], announcing.address()?);
    }
    let announcement = fs::read(&file)?;

    let arguments = [&LOOPBACK[..], &["--config", path]].concat();
    let seeking = Node::start_on(announcing.guest_folder()?, None, &arguments)?;
    // The second node has replaced the first one's announcement with its own.
    fs::write(&file, announcement)?;
    let found = seeking.ask(&["discover", &announcing.peer_id()?, "--method", "announce_file"])?;
    let by_file = attempts(&found, "announce_file");
    let reached = by_file.iter().find(|attempt| attempt["ok"] == true).with_context(|| found.to_string())?;
    assert_eq!(reached["peer_id"], announcing.peer_id()?);
    Ok(())
}

#[test]
fn a_node_announces_itself_in_the_usual_place_and_reads_the_reference_s() -> Result<()> {
    let known = Node::start(&[])?;
    let folder = known.guest_folder()?;
    fs::write(folder.path().join("config.toml"), "[discovery]\nannounce_file = true\n")?;
    let places = folder.path().join("cache");
    let reference = places.join("ipfs_accelerate_py");
    fs::create_dir_all(&reference)?;
    let announcement = json!({ "peer_id": known.peer_id()?, "multiaddr": known.address()? });
    fs::write(reference.join("task_p2p_announce.json"), announcement.to_string())?;

    let node = Node::start_on(folder, None, &LOOPBACK)?;
    let own: Value = serde_json::from_slice(&fs::read(places.join("taskmesh").join("announce.json"))?)?;
    assert_eq!(own, json!({ "peer_id": node.peer_id()?, "multiaddr": node.address()? }));
    let found = node.ask(&["discover", "--method", "announce_file"])?;
    assert_eq!(found["peers"][0]["peer_id"], known.peer_id()?, "{found}");
    Ok(())
}

#[test]
fn a_mistake_in_the_configuration_is_named_with_its_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let refused = |text: &str, words: &[&str]| -> Result<()> {
        fs::write(folder.path().join("config.toml"), text)?;
        let answered = taskmesh(folder.path(), &["serve", "--json", "--http", "127.0.0.1:0"])?;
        assert_eq!(answered.code, Some(2), "{answered:?}");
        assert!(words.iter().all(|word| answered.stderr.contains(word)), "{answered:?}");
        Ok(())
    };
    refused("[p2p]\nlisen = []\n", &["config.toml:2:", "p2p.lisen", "did you mean listen?"])?;
    refused("[discovery]\nbootstrap = [\"/ip4/127.0.0.1/tcp/1\"]\n", &["config.toml:2:", "bootstrap", "/p2p/PEER_ID"])?;
    refused("[http]\nlisten = \"0.0.0.0:0\"\n[worker]\nrun = [\"t=cat\"]\nlabels = [\"\"]\n", &["label"])?;
    let missing = taskmesh(folder.path(), &["serve", "--config", "/no/such/file.toml"])?;
    assert!(missing.code == Some(2) && missing.stderr.contains("/no/such/file.toml"), "{missing:?}");
    Ok(())
}

#[test]
fn the_tools_of_a_node_are_listed_and_called() -> Result<()> {
    let asking = Node::start(&[])?;
    let worker = Node::start(&["--worker", "shout=tr a-z A-Z", "--worker", "broken=sh -c 'echo no >&2; exit 3'"])?;
    worker.join(&asking)?;
    let peer = worker.address()?;

    let listed = asking.ask(&["tools", "--peer", &peer])?;
    let names: Vec<_> = listed["tools"].as_array().context("no tools")?.iter().map(|tool| &tool["name"]).collect();
    assert!(names.contains(&&json!("shout")) && names.contains(&&json!("broken")), "{listed}");
    assert_eq!(asking.ask(&["tools"])?["tools"], json!([]), "this node has no workers");

    let called = asking.run(&["call", "shout", "--args", "\"good morning\"", "--peer", &peer])?;
    assert_eq!((called.code, called.stdout.as_str()), (Some(0), "GOOD MORNING\n"), "{called:?}");
    let unknown = asking.run(&["call", "whisper", "--peer", &peer, "--json"])?;
    assert_eq!((unknown.code, &unknown.json()?["error"]["code"]), (Some(1), &json!("not_found")), "{unknown:?}");
    let malformed = asking.run(&["call", "shout", "--args", "good", "--peer", &peer])?;
    assert!(malformed.code == Some(2) && malformed.stderr.contains("--args"), "{malformed:?}");
    Ok(())
}

/// The command holds the task for as long as the test wants.
#[test]
fn a_call_whose_time_is_up_names_the_task_that_goes_on() -> Result<()> {
    let gate = crate::harness::Gate::new()?;
    let node = Node::start(&["--worker", &format!("slow=cat {}", gate.path().display())])?;
    let called = node.run(&["call", "slow", "--timeout", "0.1", "--json"])?;
    assert_eq!(called.code, Some(1), "{called:?}");
    let called = called.json()?;
    let id = called["task"]["task_id"].as_str().with_context(|| called.to_string())?;
    gate.write("done")?;
    assert_eq!(node.ask(&["wait", id])?["task"]["result"], "done");
    Ok(())
}

#[test]
fn status_counts_connections_and_refusals() -> Result<()> {
    let (one, two, stranger) = (Node::start(&[])?, Node::start(&[])?, Node::start(&[])?);
    two.join(&one)?;
    let answered = stranger.run(&["status", "--peer", &one.address()?])?;
    assert_eq!(answered.code, Some(3), "{answered:?}");
    let text = one.run(&["status", "--detail"])?.stdout;
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(row("network").contains("1 sessions"), "{text}");
    assert!(!row("refused").ends_with("none"), "{text}");
    Ok(())
}

#[test]
fn a_peer_without_a_known_address_is_asked_through_the_running_node() -> Result<()> {
    let (here, there) = (Node::start(&[])?, Node::start(&[])?);
    there.join(&here)?;
    // This is the case of a peer that dialled this node and cannot be dialled.
    fs::remove_file(here.folder().join("peers.json"))?;
    let peer = there.peer_id()?;
    assert_eq!(here.ask(&["status", "--peer", &peer])?["peer_id"], peer);
    let nobody = here.run(&["status", "--peer", NOBODY])?;
    assert!(nobody.code != Some(0) && nobody.stderr.contains(NOBODY), "{nobody:?}");
    Ok(())
}

#[test]
fn whoever_was_dialled_in_vain_is_listed_only_when_the_configuration_names_it() -> Result<()> {
    let configured = NOBODY;
    let stranger = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";
    let at = |peer: &str| format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}");
    let node = Node::start(&["--bootstrap", &at(configured)])?;
    let foreign = Node::start(&[])?;
    let mut member = Node::start(&[])?;
    member.join(&node)?;
    for address in [at(stranger), foreign.address()?] {
        let searched = node.run(&["discover", &address, "--json"])?;
        assert_eq!(searched.code, Some(3), "{searched:?}");
    }
    let search = json!({ "peer_id": stranger, "remote_multiaddr": at(stranger) });
    let mut http = HttpConnection::open(node.http()?)?;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "p2p_taskqueue_status", "arguments": search } });
    assert_eq!(http.post(&[], &call)?.structured()?["error"]["code"], "unreachable");
    let gone = member.peer_id()?;
    member.kill()?;
    let listed = node.ask(&["peers"])?;
    let mut listed: Vec<_> =
        listed["peers"].as_array().context("no peers")?.iter().filter_map(|peer| peer["peer_id"].as_str()).collect();
    listed.sort_unstable();
    let mut expected = [configured, &gone];
    expected.sort_unstable();
    assert_eq!(listed, expected, "what is configured, and the member that is away");
    Ok(())
}
