//! Client commands: the input that they refuse, and their exit codes.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::harness::{Node, taskmesh};

#[test]
fn without_a_node_a_command_says_how_to_start_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let answered = taskmesh(folder.path(), &["status", "--json"])?;
    assert_eq!(answered.code, Some(3), "{answered:?}");
    assert!(answered.stderr.contains("taskmesh serve"), "{answered:?}");
    assert_eq!(answered.json()?["error"]["code"], "unreachable");
    Ok(())
}

#[test]
fn malformed_input_is_refused_before_anything_is_asked() -> Result<()> {
    let node = Node::start(&[])?;
    let refused = |arguments: &[&str], word: &str| -> Result<()> {
        let answered = node.run(arguments)?;
        assert_eq!(answered.code, Some(2), "{arguments:?}: {answered:?}");
        assert!(answered.stderr.contains(word), "{arguments:?}: {answered:?}");
        Ok(())
    };
    refused(&["submit", "t", "--payload", "{not json"], "--payload")?;
    refused(&["submit", "t", "--text", "@/no/such/file"], "/no/such/file")?;
    refused(&["status", "--peer", "over there"], "--peer")?;
    refused(&["join", "hello"], "ticket")?;
    refused(&["get", "123"], "32 lower-case hex digits")?;
    let ticket = node.ask(&["invite"])?["ticket"].as_str().context("no ticket")?.to_owned();
    let mut damaged = ticket.clone().into_bytes();
    let middle = damaged.len() / 2;
    damaged[middle] = if damaged[middle] == b'a' { b'b' } else { b'a' };
    refused(&["join", &String::from_utf8(damaged)?], "damaged")?;
    refused(&["join", &ticket[..ticket.len() - 5]], "damaged")?;
    Ok(())
}

#[test]
fn a_number_that_is_none_queues_and_asks_nothing() -> Result<()> {
    let node = Node::start(&[])?;
    for number in ["NaN", "inf", "-inf", "1e400", "-1", ""] {
        for option in ["--delay", "--deadline", "--backoff"] {
            let arguments = ["submit", "t", option, number, "--json"];
            let answered = node.run(&arguments)?;
            assert_eq!(answered.code, Some(2), "{arguments:?}: {answered:?}");
            let error = &answered.json()?["error"];
            assert_eq!((&error["code"], &error["outcome"]), (&json!("invalid_argument"), &json!("not_applied")));
            let message = error["message"].as_str().context("no message")?;
            assert!(message.contains(option) && message.contains("such as 30 or 1.5"), "{message}");
        }
    }
    assert_eq!(node.ask(&["list"])?["tasks"], json!([]));
    // A negative zero is accepted as zero.
    let id = node.ask(&["submit", "t", "--delay", "-0", "--backoff=-0"])?["task_id"].clone();
    assert_eq!(node.ask(&["list"])?["tasks"][0]["task_id"], id);
    let mut command = crate::harness::taskmesh_command(node.folder());
    let attempt = ["TASKMESH_TASK_ID", "TASKMESH_FENCE"].into_iter().zip(["00112233445566778899aabbccddeeff", "1.1"]);
    command.envs(attempt).env("TASKMESH_LEASE_S", "NaN").args(["progress", "0.5"]);
    let refused = command.output()?;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8(refused.stderr)?.contains("from 1 to 86400"), "the range is named");
    Ok(())
}

#[test]
fn what_the_node_refuses_has_its_code_and_exit_code_1() -> Result<()> {
    let node = Node::start(&[])?;
    let refused = |arguments: &[&str], code: &str| -> Result<Value> {
        let answered = node.run(&[arguments, &["--json"]].concat())?;
        assert_eq!(answered.code, Some(1), "{arguments:?}: {answered:?}");
        let error = answered.json()?["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        Ok(error)
    };
    refused(&["get", "00112233445566778899aabbccddeeff"], "not_found")?;
    let error = refused(&["submit", "t", "--session", ""], "invalid_argument")?;
    assert_eq!(error["field"], "session");
    refused(&["submit", &"t".repeat(300)], "limit_exceeded")?;
    Ok(())
}

#[test]
fn a_peer_that_nobody_knows_is_not_reachable() -> Result<()> {
    let node = Node::start(&[])?;
    let nobody = "12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu";
    let unknown = node.run(&["status", "--peer", nobody, "--json"])?;
    assert_eq!((unknown.code, &unknown.json()?["error"]["code"]), (Some(1), &json!("not_found")), "{unknown:?}");
    let address = format!("/ip4/127.0.0.1/tcp/1/p2p/{nobody}");
    let closed = node.run(&["status", "--peer", &address, "--json"])?;
    assert_eq!((closed.code, &closed.json()?["error"]["code"]), (Some(3), &json!("unreachable")), "{closed:?}");
    Ok(())
}

#[test]
fn a_peer_of_another_mesh_is_turned_away_and_told_why() -> Result<()> {
    let (here, elsewhere) = (Node::start(&[])?, Node::start(&[])?);
    let answered = here.run(&["status", "--peer", &elsewhere.address()?, "--json"])?;
    assert_eq!(answered.code, Some(3), "{answered:?}");
    let error = &answered.json()?["error"];
    assert_eq!(error["code"], "unauthorized", "{error}");
    assert!(error["message"].as_str().context("no message")?.contains("mesh"), "{error}");
    Ok(())
}

#[test]
fn a_ticket_can_be_joined_before_the_node_runs() -> Result<()> {
    let inviting = Node::start(&[])?;
    let folder = tempfile::tempdir()?;
    let ticket = inviting.ask(&["invite"])?["ticket"].as_str().context("no ticket")?.to_owned();
    let joined = taskmesh(folder.path(), &["join", &ticket, "--json"])?;
    assert_eq!(joined.code, Some(0), "{joined:?}");
    assert_eq!(joined.json()?["peer_id"], inviting.peer_id()?);
    let status = taskmesh(folder.path(), &["status", "--peer", &inviting.peer_id()?, "--json"])?;
    assert_eq!(status.json()?["peer_id"], inviting.peer_id()?, "{status:?}");
    Ok(())
}

#[test]
fn peers_lists_who_is_connected() -> Result<()> {
    let (one, two) = (Node::start(&[])?, Node::start(&[])?);
    two.join(&one)?;
    let listed = one.ask(&["peers", "--connected"])?;
    assert_eq!(listed["self_peer_id"], one.peer_id()?);
    assert_eq!(listed["peers"][0]["peer_id"], two.peer_id()?, "{listed}");
    let status = two.ask(&["status", "--detail"])?;
    assert_eq!(status["peers"][0]["connected"], true, "{status}");
    Ok(())
}

#[test]
fn a_payload_comes_from_standard_input() -> Result<()> {
    let node = Node::start(&["--worker", "wordcount=wc -w"])?;
    let arguments = ["submit", "wordcount", "--text", "-", "--wait"];
    let counted = crate::harness::taskmesh_with_input(node.folder(), &arguments, b"one two three four")?;
    assert_eq!(counted.stdout, "4\n", "{counted:?}");
    Ok(())
}

#[test]
fn a_queued_task_is_listed_and_called_off() -> Result<()> {
    let node = Node::start(&[])?;
    let id = node.ask(&["submit", "t", "--label", "mine"])?["task_id"].as_str().context("no id")?.to_owned();
    node.ask(&["submit", "t"])?;
    let listed = node.ask(&["list", "--label", "mine"])?;
    assert_eq!(listed["tasks"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(node.ask(&["cancel", &id])?["cancelled"], true);
    assert_eq!(node.ask(&["list", "--status", "cancelled"])?["tasks"][0]["task_id"], id);
    let again = node.run(&["cancel", &id, "--json"])?;
    assert!(again.code == Some(0) || again.json()?["error"]["code"] == "already_finished", "{again:?}");
    Ok(())
}
