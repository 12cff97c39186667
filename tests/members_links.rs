//! Taking a machine out of the mesh over real links: on hosts with their own addresses, through a relay, and while members
//! are away.

use std::{fmt::Display, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{Answered, Gate, Lan, Node, at, taskmesh_in, until},
    members::{copied, name_of, names, refused},
    namespaces::{knows, on_host},
};

/// Why a machine is refused that is known to be removed, and one that nobody knows.
const REMOVED: (&str, &str) = ("taken out of the mesh", "removed");
const STRANGER: (&str, &str) = ("not a member", "not_a_member");

fn submit(node: &Node, task_type: &str) -> Result<String> {
    let submitted = node.ask(&["submit", task_type])?;
    Ok(at(&submitted, "/task_id").as_str().context("no id")?.to_owned())
}

fn completed(node: &Node, id: &str) -> Result<Value> {
    let task = at(&node.ask(&["wait", id, "--timeout", "60"])?, "/task").clone();
    ensure!(at(&task, "/status") == "completed", "{task}");
    Ok(task)
}

fn remove(admin: &Node, name: &str) -> Result<Value> {
    admin.ask(&["members", "remove", name])
}

/// Returns a worker whose first run of a task ends with the text that is written to `end`, and whose later runs end at
/// once. The mark is shared by the hosts.
fn held(mark: &Path, begun: &Gate, end: &Gate) -> String {
    format!(
        "held=sh -c 'if mkdir {mark}; then echo > {begun}; cat {end}; else echo second run; fi'",
        mark = mark.display(),
        begun = begun.path().display(),
        end = end.path().display()
    )
}

/// Returns how often the node has refused connections for this reason.
fn refusals(node: &Node, reason: &str) -> Result<u64> {
    let status = node.ask(&["status", "--detail"])?;
    Ok(at(&status, &format!("/transport/refused/{reason}")).as_u64().unwrap_or_default())
}

/// Polls until the member lists exactly these machines.
fn lists(member: &Node, what: impl Display, wanted: &[&Node]) -> Result<()> {
    let mut wanted: Vec<_> = wanted.iter().map(|node| node.peer_id()).collect::<Result<_>>()?;
    wanted.sort_unstable();
    until(what, || {
        let listed = member.ask(&["members"])?;
        let members = at(&listed, "/members").as_array().into_iter().flatten();
        let mut listed: Vec<_> = members.filter_map(|member| at(member, "/peer_id").as_str()).collect();
        listed.sort_unstable();
        Ok((listed == wanted).then_some(()))
    })
}

/// Returns the address at which the other hosts dial the node.
fn address(node: &Node) -> Result<String> {
    let addresses = node.ready("addresses")?.as_array().into_iter().flatten().filter_map(Value::as_str);
    let on_lan = addresses.into_iter().find(|address| address.starts_with("/ip4/10.") && address.contains("/tcp/"));
    Ok(on_lan.context("no address on the network")?.to_owned())
}

/// Returns the number of the secret that the node uses: one more after each removal.
fn generation(node: &Node) -> Result<u64> {
    let kept: Value = serde_json::from_slice(&fs::read(node.folder().join("mesh.json"))?)?;
    at(&kept, "/secrets/newest/generation").as_u64().with_context(|| format!("no generation: {kept}"))
}

/// Fails if a machine with this folder gets in at one of the addresses, as a command or as a node.
fn gets_in_nowhere(host: &str, folder: TempDir, members: &[(&Node, String)], why: (&str, &str)) -> Result<TempDir> {
    for (_, address) in members {
        refused(&list(host, folder.path(), address)?, 3, why.0).with_context(|| address.clone())?;
    }
    let before: Vec<_> = members.iter().map(|(member, _)| refusals(member, why.1)).collect::<Result<_>>()?;
    let node = Node::start_on(folder, Some(host.to_owned()), &["--lan"])?;
    let own = node.peer_id()?;
    for ((member, address), before) in members.iter().zip(before) {
        refused(&list(host, node.folder(), address)?, 3, why.0)?;
        until(format_args!("{address} refuses the node"), || Ok((refusals(member, why.1)? > before).then_some(())))?;
        let connected = member.ask(&["peers", "--connected"])?;
        ensure!(!connected.to_string().contains(&own), "{connected}");
    }
    ensure!(at(&node.ask(&["peers", "--connected"])?, "/peers") == &json!([]));
    node.into_folder()
}

/// Asks a peer with a command of its own connection, which a host with this folder makes.
fn list(host: &str, folder: &Path, address: &str) -> Result<Answered> {
    taskmesh_in(host, folder, &["list", "--peer", address])
}

#[test]
fn a_removed_machine_loses_its_links_and_its_lease_and_gets_in_nowhere() -> Result<()> {
    let Some(lan) = Lan::new(4)? else { return Ok(()) };
    let (begun, end, mark) = (Gate::new()?, Gate::new()?, tempfile::tempdir()?);
    let held = held(&mark.path().join("mark"), &begun, &end);
    let owner = on_host(&lan, 1, tempfile::tempdir()?, &[])?;
    let mut removed = on_host(&lan, 2, owner.guest_folder()?, &["--worker", &held])?;
    knows(&owner, &removed, true)?;
    let task = submit(&owner, "held")?;
    begun.written()?;
    let other = on_host(&lan, 3, owner.guest_folder()?, &["--worker", &held])?;
    knows(&other, &owner, true)?;
    knows(&other, &removed, true)?;
    let (before, gone) = (copied(removed.folder())?, removed.peer_id()?);

    let answered = remove(&owner, &name_of(&removed)?)?;
    assert_eq!(answered["heard"], json!([name_of(&other)?]), "{answered}");
    assert_eq!(answered["not_heard"], json!([]), "{answered}");
    let connected = owner.ask(&["peers", "--connected"])?.to_string();
    assert!(!connected.contains(&gone), "{connected}");
    for (node, peer) in [(&other, &removed), (&removed, &owner), (&removed, &other)] {
        knows(node, peer, false)?;
    }
    for member in [&owner, &other] {
        lists(member, "the two that are left", &[&owner, &other])?;
    }

    // The lease would have lasted for five minutes.
    let done = completed(&owner, &task)?;
    let attempts = at(&done, "/attempts");
    assert_eq!(at(&done, "/result"), "second run", "{done}");
    assert_eq!((at(attempts, "/0/outcome"), at(attempts, "/0/machine")), (&json!("freed"), &json!(gone)), "{done}");
    assert_eq!(at(attempts, "/1/machine"), &json!(other.peer_id()?), "{done}");
    // The handler still runs, and its end is reported.
    let refused_before = refusals(&owner, REMOVED.1)?;
    end.write("a late result")?;
    until("the late report is refused", || Ok((refusals(&owner, REMOVED.1)? > refused_before).then_some(())))?;
    let log = removed.stop(Signal::TERM)?.2;
    ensure!(log.contains("the report was refused"), "{log}");
    assert_eq!(completed(&owner, &task)?, done);

    let members = [(&owner, address(&owner)?), (&other, address(&other)?)];
    // With all its files, then with what it knew of the mesh before, then under a new identity.
    let folder = gets_in_nowhere(&lan.host(2), removed.into_folder()?, &members, REMOVED)?;
    fs::copy(before.path().join("mesh.json"), folder.path().join("mesh.json"))?;
    let folder = gets_in_nowhere(&lan.host(2), folder, &members, REMOVED)?;
    fs::copy(before.path().join("mesh.json"), folder.path().join("mesh.json"))?;
    fs::remove_file(folder.path().join("identity.key"))?;
    let renewed = Node::start_on(folder, Some(lan.host(2)), &["--lan"])?;
    assert_ne!(renewed.peer_id()?, gone);
    drop(gets_in_nowhere(&lan.host(2), renewed.into_folder()?, &members, STRANGER)?);
    // A copy of its files on another host.
    drop(gets_in_nowhere(&lan.host(4), before, &members, REMOVED)?);
    for member in [&owner, &other] {
        lists(member, "still the two", &[&owner, &other])?;
        ensure!(at(&member.ask(&["list"])?, "/tasks").as_array().is_some_and(|tasks| tasks.len() <= 1));
    }
    Ok(())
}

#[test]
fn a_removed_machine_gets_in_nowhere_through_a_relay() -> Result<()> {
    let Some(lan) = Lan::new(3)? else { return Ok(()) };
    let are_parted = |are_parted| lan.set_deaf(2, 3, are_parted).and_then(|()| lan.set_deaf(3, 2, are_parted));
    are_parted(true)?;
    let mut owner = on_host(&lan, 2, tempfile::tempdir()?, &[])?;
    let folder = owner.guest_folder()?;
    fs::write(folder.path().join("config.toml"), "[reach]\nrelay_server = true\n")?;
    let relay = on_host(&lan, 1, folder, &[])?;
    let relay_address = address(&relay)?;
    owner.kill()?;
    fs::write(owner.folder().join("config.toml"), format!("[reach]\nrelays = [{relay_address:?}]\n"))?;
    owner.start_again()?;
    let circuit = until("the owner is reached through the relay", || {
        let status = owner.ask(&["status"])?;
        let addresses = at(&status, "/addresses").as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut circuits = addresses.filter(|address| address.contains("/p2p-circuit") && address.contains("/10."));
        Ok(circuits.next().map(str::to_owned))
    })?;

    // It comes in through the relay, by a ticket that a second machine could use too.
    let (begun, end, folder) = (Gate::new()?, Gate::new()?, tempfile::tempdir()?);
    let invitation = owner.ask(&["invite", "--uses", "2"])?;
    let ticket = at(&invitation, "/ticket").as_str().context("no ticket")?;
    let joined = taskmesh_in(&lan.host(3), folder.path(), &["join", ticket])?;
    ensure!(joined.code == Some(0), "{joined:?}");
    let bootstrap = format!("[discovery]\nbootstrap = [{circuit:?}]\n");
    fs::write(folder.path().join("config.toml"), bootstrap)?;
    let held = held(&folder.path().join("mark"), &begun, &end);
    let removed = on_host(&lan, 3, folder, &["--worker", &held])?;
    let task = submit(&owner, "held")?;
    begun.written()?;
    knows(&relay, &removed, true)?;
    refused(&list(&lan.host(3), removed.folder(), &address(&owner)?)?, 3, "cannot be reached")?;
    let before = copied(removed.folder())?;

    let answered = remove(&owner, &name_of(&removed)?)?;
    assert_eq!((&answered["heard"], &answered["not_heard"]), (&json!([name_of(&relay)?]), &json!([])), "{answered}");
    for (node, peer) in [(&owner, &removed), (&relay, &removed), (&removed, &owner), (&removed, &relay)] {
        knows(node, peer, false)?;
    }
    until("its lease has ended", || {
        let record = owner.ask(&["get", &task])?;
        Ok((at(&record, "/task/attempts/0/outcome") == "freed" && at(&record, "/task/status") == "queued")
            .then_some(()))
    })?;
    end.write("a late result")?;
    let folder = removed.into_folder()?;
    for folder in [folder.path(), before.path()] {
        // The relay carries nothing for it, and what it says itself is no news for the owner.
        let asked = list(&lan.host(3), folder, &circuit)?;
        ensure!(asked.code == Some(3) && asked.stdout.is_empty(), "{asked:?}");
        refused(&list(&lan.host(3), folder, &relay_address)?, 3, REMOVED.0)?;
    }
    // A newcomer may be carried to the owner, so its ticket must not be good any more.
    let again = taskmesh_in(&lan.host(3), tempfile::tempdir()?.path(), &["join", ticket])?;
    ensure!(again.code == Some(3) && again.stderr.contains("ticket"), "{again:?}");
    let relays =
        format!("{}[reach]\nrelays = [{relay_address:?}]\n", fs::read_to_string(folder.path().join("config.toml"))?);
    fs::write(folder.path().join("config.toml"), relays)?;
    let folder = gets_in_nowhere(&lan.host(3), folder, &[(&relay, relay_address.clone())], REMOVED)?;
    // And when it can dial the owner after all.
    are_parted(false)?;
    drop(gets_in_nowhere(&lan.host(3), folder, &[(&relay, relay_address), (&owner, address(&owner)?)], REMOVED)?);
    lists(&owner, "the two that are left", &[&owner, &relay])
}

/// The link of the admin is broken while it takes a machine out, and the other two still have theirs.
#[test]
fn a_member_that_was_away_hears_of_a_removal_and_its_own_work_goes_on() -> Result<()> {
    let Some(lan) = Lan::new(3)? else { return Ok(()) };
    let (begun, end, mark) = (Gate::new()?, Gate::new()?, tempfile::tempdir()?);
    let admin = on_host(&lan, 1, tempfile::tempdir()?, &[])?;
    let held = held(&mark.path().join("mark"), &begun, &end);
    let away = on_host(&lan, 2, admin.guest_folder()?, &["--worker", &held])?;
    let removed = on_host(&lan, 3, admin.guest_folder()?, &[])?;
    for (node, peer) in [(&admin, &away), (&admin, &removed), (&away, &removed)] {
        knows(node, peer, true)?;
    }
    let (before, away_address) = (copied(removed.folder())?, address(&away)?);
    let task = submit(&away, "held")?;
    begun.written()?;

    lan.set_cable(1, false)?;
    let answered = remove(&admin, &name_of(&removed)?)?;
    assert_eq!((&answered["heard"], &answered["not_heard"]), (&json!([]), &json!([name_of(&away)?])), "{answered}");
    // It cannot know yet, and its queue is open to the removed machine.
    let listed = list(&lan.host(3), removed.folder(), &away_address)?;
    ensure!(listed.code == Some(0), "{listed:?}");
    lists(&away, "all three", &[&admin, &away, &removed])?;

    lan.set_cable(1, true)?;
    knows(&away, &admin, true)?;
    lists(&away, "the two that are left", &[&admin, &away])?;
    knows(&away, &removed, false)?;
    until("it has the new secret", || Ok((generation(&away)? == generation(&admin)?).then_some(())))?;
    let peers = away.ask(&["peers", "--connected"])?;
    let connected: Vec<_> = at(&peers, "/peers").as_array().into_iter().flatten().collect();
    ensure!(connected.len() == 1 && at(connected[0], "/peer_id") == &json!(admin.peer_id()?), "{peers}");
    until("the removed machine knows it", || {
        Ok(removed.run(&["members"])?.stdout.contains("not a member").then_some(()))
    })?;
    // Its own work went on, and nothing of it was run twice.
    end.write("done while away")?;
    let done = completed(&away, &task)?;
    assert_eq!((at(&done, "/result"), at(&done, "/attempt")), (&json!("done while away"), &json!(1)), "{done}");
    drop(removed);
    drop(gets_in_nowhere(&lan.host(3), before, &[(&away, away_address)], REMOVED)?);
    Ok(())
}

#[test]
fn a_member_that_was_away_while_the_secret_changed_twice_comes_back_to_work() -> Result<()> {
    let Some(lan) = Lan::new(2)? else { return Ok(()) };
    let admin = on_host(&lan, 1, tempfile::tempdir()?, &[])?;
    let away = on_host(&lan, 2, admin.guest_folder()?, &["--worker", "quick=echo done"])?;
    for name in ["first", "second"] {
        let invitation = admin.ask(&["invite", "--name", name])?;
        let ticket = at(&invitation, "/ticket").as_str().context("no ticket")?;
        let joined = taskmesh_in(&lan.host(1), tempfile::tempdir()?.path(), &["join", ticket])?;
        ensure!(joined.code == Some(0), "{joined:?}");
    }
    knows(&admin, &away, true)?;
    until("it has heard of both", || Ok((names(&away.ask(&["members"])?).len() == 4).then_some(())))?;

    lan.set_cable(2, false)?;
    for name in ["first", "second"] {
        let answered = remove(&admin, name)?;
        ensure!(
            answered["heard"] == json!([]) && answered["not_heard"].to_string().contains(&name_of(&away)?),
            "{answered}"
        );
    }
    let task = submit(&admin, "quick")?;
    assert_eq!((generation(&admin)?, generation(&away)?), (3, 1));
    assert_eq!(names(&away.ask(&["members"])?).len(), 4);

    lan.set_cable(2, true)?;
    knows(&away, &admin, true)?;
    let done = completed(&admin, &task)?;
    assert_eq!((at(&done, "/result"), at(&done, "/attempts/0/machine")), (&json!("done"), &json!(away.peer_id()?)));
    lists(&away, "the two that are left", &[&admin, &away])?;
    until("it has the newest secret", || Ok((generation(&away)? == 3).then_some(())))?;
    Ok(())
}
