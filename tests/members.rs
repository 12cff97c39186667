//! Members of a mesh, as a person meets them on the command line: tickets, roles, names, and taking a machine out.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{Answered, Gate, Node, at, taskmesh, taskmesh_with_input, until};

const LOOPBACK: &[&str] = &["--p2p-listen", "/ip4/127.0.0.1/tcp/0"];

fn ticket(node: &Node, arguments: &[&str]) -> Result<String> {
    let invitation = node.ask(&[&["invite"], arguments].concat())?;
    Ok(at(&invitation, "/ticket").as_str().context("no ticket")?.to_owned())
}

pub(crate) fn names(listed: &Value) -> Vec<String> {
    let members = at(listed, "/members").as_array().into_iter().flatten();
    members.map(|member| at(member, "/name").as_str().unwrap_or_default().to_owned()).collect()
}

pub(crate) fn name_of(node: &Node) -> Result<String> {
    let listed = node.ask(&["members"])?;
    let own = node.peer_id()?;
    let member = at(&listed, "/members").as_array().into_iter().flatten().find(|member| at(member, "/peer_id") == &own);
    Ok(member.and_then(|member| at(member, "/name").as_str()).context("it does not know itself")?.to_owned())
}

/// Copies a data folder, as somebody would who took the disk out.
pub(crate) fn copied(folder: &Path) -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for name in ["identity.key", "mesh.json", "peers.json"] {
        fs::copy(folder.join(name), copy.path().join(name)).with_context(|| name.to_owned())?;
    }
    Ok(copy)
}

pub(crate) fn refused(answered: &Answered, code: i32, part: &str) -> Result<()> {
    ensure!(answered.code == Some(code) && answered.stderr.contains(part), "{code}, {part:?}: {answered:?}");
    Ok(())
}

#[test]
fn serve_and_invite_in_one_block_work_every_time() -> Result<()> {
    for _ in 0..5 {
        let folder = tempfile::tempdir()?;
        let mut serve = crate::harness::taskmesh_command(folder.path());
        serve.args(["serve", "--http", "127.0.0.1:0"]).args(LOOPBACK);
        let mut serving = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let invited = taskmesh(folder.path(), &["invite", "--json"]);
        serving.kill()?;
        serving.wait()?;
        let invited = invited?;
        ensure!(invited.code == Some(0), "{invited:?}");
        let ticket = invited.json()?["ticket"].as_str().context("no ticket")?.to_owned();
        ensure!(ticket.starts_with("taskmesh2") && ticket.len() <= 200, "{} characters: {ticket}", ticket.len());
    }
    Ok(())
}

#[test]
fn a_ticket_is_read_from_standard_input_or_a_file_and_lets_one_machine_in() -> Result<()> {
    let inviting = Node::start(&[])?;
    let [a, b, c] = [tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?];
    let once = ticket(&inviting, &["--name", "gpu-box"])?;
    let joined = taskmesh_with_input(a.path(), &["join", "-", "--json"], format!("{once}\n").as_bytes())?;
    assert_eq!(joined.code, Some(0), "{joined:?}");
    assert_eq!(joined.json()?["name"], "gpu-box");
    refused(&taskmesh(b.path(), &["join", &once])?, 3, "has been used already")?;

    let file = b.path().join("ticket");
    fs::write(&file, ticket(&inviting, &["--uses", "2"])?)?;
    let from_file = format!("@{}", file.display());
    for folder in [&b, &c] {
        let joined = taskmesh(folder.path(), &["join", &from_file, "--json"])?;
        assert_eq!(joined.code, Some(0), "{joined:?}");
    }
    let listed = names(&inviting.ask(&["members"])?);
    assert_eq!(listed.len(), 4, "{listed:?}");
    assert_eq!(listed.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "every name is another: {listed:?}");
    Ok(())
}

#[test]
fn each_mistake_with_a_ticket_is_told_in_a_sentence() -> Result<()> {
    let inviting = Node::start(&[])?;
    let other = Node::start(&[])?;
    let guest = Node::start(&[])?;
    refused(&inviting.run(&["invite", "--role", "boss"])?, 2, "admin, member, agent, worker")?;
    refused(&inviting.run(&["invite", "--for", "1w"])?, 2, "s, m, h or d")?;
    refused(&inviting.run(&["invite", "--uses", "0"])?, 2, "--uses")?;
    refused(&inviting.run(&["invite", "--name", "box", "--uses", "2"])?, 1, "for one machine")?;
    let own = name_of(&inviting)?;
    refused(&inviting.run(&["invite", "--name", &own])?, 1, "choose another name")?;
    refused(&inviting.run(&["join", &ticket(&inviting, &[])?])?, 1, "this node's own")?;

    let taken = ticket(&inviting, &[])?;
    refused(&guest.run(&["join", &taken, "--name", &own])?, 3, "--name")?;
    let late = ticket(&inviting, &["--for", "1s"])?;
    // The ticket ends by the clock of the machine that made it: there is nothing else to wait on.
    let ends = Instant::now() + Duration::from_millis(1_100);
    until("the ticket has ended", || Ok((Instant::now() >= ends).then_some(())))?;
    refused(&guest.run(&["join", &late])?, 3, "has expired")?;

    guest.join(&inviting)?;
    let elsewhere = ticket(&other, &[])?;
    refused(&guest.run(&["join", &elsewhere])?, 1, "--leave")?;
    refused(&guest.run(&["invite"])?, 1, "not an admin")?;
    refused(&guest.run(&["join", &ticket(&inviting, &[])?])?, 1, "belongs already")?;
    let left = guest.ask(&["join", &elsewhere, "--leave"])?;
    assert_eq!(left["connected"], true, "{left}");
    let gone = guest.peer_id()?;
    until("the old mesh has taken it off its list", || {
        Ok((!inviting.ask(&["members"])?.to_string().contains(&gone)).then_some(()))
    })?;

    Ok(())
}

#[test]
fn a_join_goes_on_while_the_machine_that_invites_is_off() -> Result<()> {
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        format!("/ip4/127.0.0.1/tcp/{}", free.local_addr()?.port())
    };
    let mut inviting = Node::start_at(&address, &[])?;
    let running = Node::start(&[])?;
    let folder = tempfile::tempdir()?;
    let invitation = ticket(&inviting, &["--uses", "2"])?;
    inviting.kill()?;
    refused(&running.run(&["join", &invitation])?, 3, "goes on trying")?;
    refused(&taskmesh(folder.path(), &["join", &invitation])?, 3, "goes on trying")?;
    let stopped = Node::start_on(folder, None, LOOPBACK)?;
    inviting.start_again()?;
    for node in [&running, &stopped] {
        let id = node.peer_id()?;
        until(format_args!("{id} is a member"), || {
            Ok(inviting.ask(&["members"])?.to_string().contains(&id).then_some(()))
        })?;
        until("its ticket is forgotten", || Ok((!node.folder().join("join.json").exists()).then_some(())))?;
    }
    Ok(())
}

#[test]
fn members_are_listed_renamed_given_roles_and_named_on_the_command_line() -> Result<()> {
    let (first, second) = (Node::start(&[])?, Node::start(&["--worker", "wordcount=wc -w"])?);
    second.join(&first)?;
    let second_name = name_of(&second)?;
    let renamed = first.ask(&["members", "rename", &second_name, "gpu-box"])?;
    assert_eq!((&renamed["name"], &renamed["heard"]), (&"gpu-box".into(), &serde_json::json!(["gpu-box"])));
    assert_eq!(name_of(&second)?, "gpu-box", "it has heard of its own name");
    // A name, or the beginning of the id, stands for the machine.
    let id = second.peer_id()?;
    for named in ["gpu-box", "GPU-box", &id, &id[..16]] {
        assert_eq!(first.ask(&["status", "--peer", named])?["peer_id"], *id, "{named}");
    }
    let misspelt = first.run(&["members", "rename", "gpu-bxo", "x"])?;
    refused(&misspelt, 1, "did you mean gpu-box?")?;
    refused(&first.run(&["members", "role", "gpu-box", "boss"])?, 2, "admin, member, agent, worker")?;
    let given = first.ask(&["members", "role", "gpu-box", "worker:wordcount"])?;
    assert_eq!(given["role"], "worker:wordcount");
    second.sees(&first)?;
    let not_allowed = second.run(&["submit", "wordcount", "--peer", &first.address()?])?;
    refused(&not_allowed, 1, "submit tasks")?;
    // What it is there for goes on.
    let own = name_of(&first)?;
    refused(&first.run(&["members", "role", &own, "member"])?, 1, "last admin")?;
    refused(&first.run(&["members", "remove", &own])?, 1, "taskmesh leave")?;
    refused(&first.run(&["leave"])?, 1, "last admin")?;
    let table = first.run(&["members"])?;
    for part in ["NAME", "gpu-box", "worker:wordcount", "root key", &id[..16]] {
        assert!(table.stdout.contains(part), "{part}: {}", table.stdout);
    }
    Ok(())
}

#[test]
fn a_removed_machine_is_out_at_once_and_stays_out_with_all_its_files() -> Result<()> {
    let (first, other) = (Node::start(&[])?, Node::start(&[])?);
    let mut removed = Node::start(&[])?;
    other.join(&first)?;
    removed.join(&first)?;
    let name = name_of(&removed)?;
    let before = copied(removed.folder())?;
    let answered = first.ask(&["members", "remove", &name])?;
    assert_eq!(answered["heard"], serde_json::json!([name_of(&other)?]), "{answered}");
    assert_eq!(answered["not_heard"], serde_json::json!([]));
    let gone = removed.peer_id()?;
    for node in [&first, &other] {
        let connected = node.ask(&["peers", "--connected"])?;
        assert!(!connected.to_string().contains(&gone), "{connected}");
        assert!(!node.ask(&["members"])?.to_string().contains(&gone));
    }
    refused(&first.run(&["members", "remove", &name])?, 1, "taskmesh members")?;
    until("the removed machine knows it", || {
        Ok(removed.run(&["members"])?.stdout.contains("not a member").then_some(()))
    })?;

    // As it is, started again, with a copy of its files from before, and under a new identity.
    removed.kill()?;
    for address in [first.address()?, other.address()?] {
        for folder in [removed.folder(), before.path()] {
            refused(&taskmesh(folder, &["list", "--peer", &address])?, 3, "taken out of the mesh")?;
        }
        let renewed = copied(before.path())?;
        fs::remove_file(renewed.path().join("identity.key"))?;
        let identity = Command::new("head").args(["-c", "32", "/dev/urandom"]).output()?.stdout;
        fs::write(renewed.path().join("identity.key"), identity)?;
        refused(&taskmesh(renewed.path(), &["list", "--peer", &address])?, 3, "not a member")?;
    }
    // The root key takes it back.
    let back = ticket(&first, &[])?;
    let joined = taskmesh(removed.folder(), &["join", &back, "--json"])?;
    assert_eq!(joined.code, Some(0), "{joined:?}");
    assert!(first.ask(&["members"])?.to_string().contains(&gone));
    Ok(())
}

#[test]
fn a_machine_leaves_while_its_node_is_off() -> Result<()> {
    let mut first = Node::start(&[])?;
    let (mut told, mut untold, mut starting) = (Node::start(&[])?, Node::start(&[])?, Node::start(&[])?);
    for node in [&mut told, &mut untold, &mut starting] {
        node.join(&first)?;
    }
    let (own, gone) = (name_of(&first)?, told.peer_id()?);
    told.kill()?;
    let left = told.ask(&["leave"])?;
    assert_eq!(left["told"], *own, "{left}");
    until("it is off the list", || Ok((!first.ask(&["members"])?.to_string().contains(&gone)).then_some(())))?;
    refused(&told.run(&["leave"])?, 1, "alone in its mesh")?;
    told.start_again()?;
    assert_eq!(names(&told.ask(&["members"])?).len(), 1);
    assert_eq!(told.ask(&["peers"])?["peers"], serde_json::json!([]));

    // A node that is just starting is waited for.
    starting.kill()?;
    let mut serve = crate::harness::taskmesh_command(starting.folder());
    serve.args(["serve", "--http", "127.0.0.1:0"]).args(LOOPBACK).stdout(Stdio::null()).stderr(Stdio::null());
    let mut serving = serve.spawn()?;
    let left = starting.run(&["leave"]);
    serving.kill()?;
    serving.wait()?;
    ensure!(left.as_ref().is_ok_and(|left| left.code == Some(0)), "{left:?}");

    // Nobody can be told, and the machine leaves all the same.
    first.kill()?;
    untold.kill()?;
    let left = untold.run(&["leave"])?;
    ensure!(left.code == Some(0) && left.stdout.contains("taskmesh members remove"), "{left:?}");
    refused(&first.run(&["leave"])?, 1, "last admin")?;
    assert_eq!(first.ask(&["leave", "--force"])?["told"], Value::Null);
    Ok(())
}

#[test]
fn leaving_needs_a_mesh_and_a_folder_that_is_free() -> Result<()> {
    let folder = tempfile::tempdir()?;
    refused(&taskmesh(folder.path(), &["leave"])?, 1, "belongs to no mesh yet")?;
    let lock = fs::File::options().write(true).open(folder.path().join("lock"))?;
    lock.lock()?;
    refused(&taskmesh(folder.path(), &["leave"])?, 2, "is in use")?;
    Ok(())
}

#[test]
fn the_root_key_is_kept_elsewhere_and_restored() -> Result<()> {
    let (mut first, mut second) = (Node::start(&[])?, Node::start(&[])?);
    second.join_as(&first, "admin")?;
    let printed = first.run(&["members", "recovery"])?;
    let key = printed.stdout.lines().next().context("no key")?.to_owned();
    assert!(key.starts_with("taskmesh-recovery1"), "{printed:?}");
    refused(&second.run(&["members", "recovery"])?, 2, "does not have the root key")?;
    let own = name_of(&first)?;
    refused(&second.run(&["members", "remove", &own])?, 1, "root key")?;
    first.kill()?;
    second.kill()?;
    let restored = taskmesh_with_input(second.folder(), &["members", "restore", "-"], key.as_bytes())?;
    assert_eq!(restored.code, Some(0), "{restored:?}");
    refused(&taskmesh(second.folder(), &["members", "restore", &key[..40]])?, 2, "damaged")?;
    second.start_again()?;
    let removed = second.ask(&["members", "remove", &own, "--keep", "all"])?;
    assert_eq!(removed["name"], *own);
    Ok(())
}

#[test]
fn a_removed_worker_loses_its_lease_at_once_and_the_task_goes_to_another() -> Result<()> {
    let (begun, end) = (Gate::new()?, Gate::new()?);
    let held = format!("held=sh -c 'echo > {}; cat {}'", begun.path().display(), end.path().display());
    let owner = Node::start(&[])?;
    let removed = Node::start(&["--worker", &held])?;
    removed.join(&owner)?;
    let submitted = owner.ask(&["submit", "held"])?;
    let id = at(&submitted, "/task_id").as_str().context("no id")?.to_owned();
    begun.written()?;
    let (machine, name) = (removed.peer_id()?, name_of(&removed)?);
    let record = owner.ask(&["get", &id])?;
    assert_eq!(at(&record, "/task/attempts/0/machine"), &Value::from(machine.clone()), "{record}");

    let started = Instant::now();
    owner.ask(&["members", "remove", &name])?;
    let other = Node::start(&["--worker", "held=echo done elsewhere"])?;
    other.join(&owner)?;
    let done = owner.ask(&["wait", &id, "--timeout", "60"])?;
    assert_eq!(at(&done, "/task/result"), "done elsewhere", "{done}");
    // The lease of the removed worker would have lasted for five minutes.
    ensure!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    // Its late result gets nowhere.
    end.write("a late result")?;
    let shown = owner.run(&["get", &id])?.stdout;
    let other_name = name_of(&other)?;
    for part in ["freed", "completed", &other_name] {
        ensure!(shown.contains(part), "{part}: {shown}");
    }
    ensure!(owner.run(&["peers"])?.stdout.contains(&other_name));
    let record = owner.ask(&["get", &id])?;
    let attempts = at(&record, "/task/attempts");
    assert_eq!(attempts.as_array().map(Vec::len), Some(2), "{record}");
    assert_eq!((at(attempts, "/0/outcome"), at(attempts, "/0/machine")), (&"freed".into(), &machine.into()));
    assert_eq!(
        (at(attempts, "/1/outcome"), at(attempts, "/1/machine")),
        (&"completed".into(), &other.peer_id()?.into())
    );
    assert_eq!(at(&record, "/task/result"), "done elsewhere");
    Ok(())
}
