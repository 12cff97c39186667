//! `invite`, `join`, `leave` and `members`: who belongs to the mesh.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use p2p_taskqueue::{
    Ticket,
    api::{
        ChangeMember, Grants, Invite, Join, Joined, Leave, Left, MachineInfo, MemberChanged, MemberRemoved, Members,
        RemoveMember,
        limits::{TICKET_S_RANGE, TICKET_USES_MAX},
    },
    mesh::{RootKey, is_loopback},
};
use serde_json::json;

use super::PeerArg;
use crate::{
    client::{on_folder_or_node, with_client, with_starting_client},
    data_dir::{DataDir, LockedDir},
    failure::Failure,
    foreign::Foreign,
    number::{count, duration},
    offline::{join_offline, leave_offline},
    output::{Output, ago, span, table},
    payload::read_source,
};

#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    /// What the newcomer may do: admin, member, agent (submits, and reads its own tasks), worker, or worker:TYPE,… for
    /// some task types only.
    #[arg(long, value_name = "ROLE", default_value = "member")]
    role: Grants,
    /// How long the ticket can be used, for example 7d.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", allow_hyphen_values = true, value_parser = duration(TICKET_S_RANGE))]
    for_s: f64,
    /// How many machines may use it.
    #[arg(long, value_name = "N", default_value_t = 1, allow_hyphen_values = true, value_parser = count(1..=TICKET_USES_MAX))]
    uses: u32,
    /// What the newcomer is called [default: as its host].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// The text that `taskmesh invite` printed on the other machine; `-` reads it from standard input, `@FILE` from a
    /// file, so that other users do not see it in the list of processes.
    #[arg(value_name = "TICKET|-|@FILE")]
    ticket: String,
    /// Leave the mesh to which this machine belongs, though it has other members.
    #[arg(long)]
    leave: bool,
    /// What this machine is called in the mesh [default: as its host].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct LeaveArgs {
    /// Leave although no other member is an admin.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct MembersArgs {
    #[command(subcommand)]
    command: Option<MembersCommand>,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Subcommand)]
enum MembersCommand {
    /// Take a machine out of the mesh: its sessions and its leases end at once.
    Remove {
        /// Its name, its peer id, or the beginning of its peer id.
        #[arg(value_name = "NAME")]
        member: String,
        /// Of the machines that a removed admin has let in, those that stay: names, or all, or none.
        #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
        keep: Option<Vec<String>>,
    },
    /// Give a machine another name.
    Rename {
        /// Its name, its peer id, or the beginning of its peer id.
        #[arg(value_name = "NAME")]
        member: String,
        /// The new name.
        #[arg(value_name = "NEW_NAME")]
        name: String,
    },
    /// Give a machine another role.
    Role {
        /// Its name, its peer id, or the beginning of its peer id.
        #[arg(value_name = "NAME")]
        member: String,
        /// admin, member, agent, worker, or worker:TYPE,… for some task types only.
        role: Grants,
    },
    /// Print the root key of the mesh, once, for a safe place. Whoever has it decides who belongs to the mesh.
    Recovery,
    /// Give this machine the root key, so that it decides about admins. The node must not run.
    Restore {
        /// The text that `taskmesh members recovery` printed; `-` reads it from standard input, `@FILE` from a file.
        #[arg(value_name = "KEY|-|@FILE")]
        key: String,
    },
}

pub(super) fn invite(args: InviteArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let InviteArgs { role, for_s, uses, name } = args;
    let request = Invite { role, for_s, uses, name };
    let invitation = with_starting_client(data_dir, async move |client| client.ask(request).await)?;
    output.answer(&invitation, || {
        let for_whom = match uses {
            1 => "one machine".to_owned(),
            uses => format!("{uses} machines"),
        };
        let mut text = format!("{}\n\nOn the other machine:\n  taskmesh join TICKET", invitation.ticket);
        text += &format!("\n\nThe ticket lets {for_whom} in as {}, for {}.", invitation.role, span(for_s));
        text += " Pass it on as you would a password. This machine has to be up.";
        if invitation.addresses.iter().all(is_loopback) {
            text += "\n\nThis node listens on loopback only, so no other machine can reach it.";
            text += "\nStart it with --lan (or --p2p-listen) and invite again.";
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn join(args: JoinArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let JoinArgs { ticket, leave, name } = args;
    let text = read_source("TICKET", &ticket)?;
    let ticket: Ticket = text.parse().map_err(|error| Failure::argument("TICKET", error))?;
    let join = Join { ticket: ticket.to_text(), name: name.clone(), leave, keep_trying: true };
    let offline = |locked: &LockedDir| join_offline(locked, ticket, name, leave);
    let joined = on_folder_or_node(data_dir, offline, async move |client| client.ask(join).await)?;
    output.answer(&joined, || joined_text(&joined));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn joined_text(joined: &Joined) -> String {
    let Joined { peer_id, name, role, connected, error } = joined;
    let connection = match (connected, error) {
        (true, _) => format!("connected to {peer_id}"),
        (false, Some(error)) => format!("{peer_id} cannot be reached yet: {}", Foreign(error)),
        (false, None) => format!("{peer_id} is dialled when `taskmesh serve` starts"),
    };
    format!("joined: this machine is {} in the mesh, as {role}; {connection}", Foreign(name))
}

pub(super) fn leave(args: &LeaveArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let force = args.force;
    let offline = |locked: &LockedDir| leave_offline(locked, force);
    let left = on_folder_or_node(data_dir, offline, async move |client| client.ask(Leave { force }).await)?;
    output.answer(&left, || left_text(&left));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn left_text(left: &Left) -> String {
    match &left.told {
        Some(admin) => format!("left the mesh: {} has taken this machine off its list", Foreign(admin)),
        None => {
            "left the mesh; no admin could be told, so run `taskmesh members remove` on one to take this machine off \
                 the list"
                .to_owned()
        }
    }
}

pub(super) fn members(args: MembersArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    match args.command {
        None => list(args.peer, data_dir, output)?,
        Some(MembersCommand::Remove { member, keep }) => {
            let remove = RemoveMember { member, keep };
            let removed = with_client(data_dir, None, async move |client| client.ask(remove).await)?;
            output.answer(&removed, || removed_text(&removed));
        }
        Some(MembersCommand::Rename { member, name }) => {
            change(ChangeMember { member, name: Some(name), role: None }, data_dir, output)?;
        }
        Some(MembersCommand::Role { member, role }) => {
            change(ChangeMember { member, name: None, role: Some(role) }, data_dir, output)?;
        }
        Some(MembersCommand::Recovery) => recovery(&data_dir, output)?,
        Some(MembersCommand::Restore { key }) => restore(&data_dir, &key, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(peer: PeerArg, data_dir: DataDir, output: Output) -> Result<(), Failure> {
    let listed = with_client(data_dir, peer.peer, async |client| client.ask(Members {}).await)?;
    output.answer(&listed, || {
        let rows = listed.members.iter().map(|member| {
            let is_self = member.peer_id == listed.self_peer_id;
            let id: String = member.peer_id.to_string().chars().take(ID_CHARS_SHOWN).collect();
            [
                format!("{}{}", Foreign(&member.name), if is_self { " *" } else { "" }),
                member.role.to_string(),
                id,
                seen(member),
                member.version.clone().unwrap_or_else(|| "-".to_owned()),
                Foreign(&member.added_by).to_string(),
            ]
        });
        let text = table(["NAME", "ROLE", "PEER ID", "ADDRESS OR LAST SEEN", "VERSION", "ADDED BY"], rows);
        match listed.members.iter().any(|member| member.peer_id == listed.self_peer_id) {
            true => text,
            false => format!("{text}\n\n{NO_MEMBER}"),
        }
    });
    Ok(())
}

/// What a machine is told that is on no list.
const NO_MEMBER: &str = "This machine is not a member: it was taken out of the mesh. To come back it needs a ticket \
                         (`taskmesh invite` on an admin's machine), or leave with `taskmesh leave`.";

/// How much of a peer id is shown: enough to tell machines apart, and to name one by.
const ID_CHARS_SHOWN: usize = 16;

fn seen(member: &MachineInfo) -> String {
    match (member.connected, member.addresses.first(), member.last_seen) {
        (true, Some(address), _) => address.to_string().split("/p2p/").next().unwrap_or_default().to_owned(),
        (true, None, _) => "connected".to_owned(),
        (false, _, Some(at)) => ago(at),
        (false, _, None) => "never seen from here".to_owned(),
    }
}

fn change(request: ChangeMember, data_dir: DataDir, output: Output) -> Result<(), Failure> {
    let changed = with_client(data_dir, None, async move |client| client.ask(request).await)?;
    output.answer(&changed, || {
        let MemberChanged { name, role, heard, not_heard, .. } = &changed;
        format!("{} is {role} now{}", Foreign(name), told(heard, not_heard))
    });
    Ok(())
}

fn removed_text(removed: &MemberRemoved) -> String {
    let MemberRemoved { name, heard, not_heard, .. } = removed;
    let name = Foreign(name);
    format!("{name} is out of the mesh: its sessions and leases here have ended{}", told(heard, not_heard))
}

fn told(heard: &[String], not_heard: &[String]) -> String {
    let names = |names: &[String]| names.iter().map(|name| Foreign(name).to_string()).collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    if !heard.is_empty() {
        text += &format!("\nheard by: {}", names(heard));
    }
    if !not_heard.is_empty() {
        text += &format!("\nnot heard yet by: {} (they hear of it when they come)", names(not_heard));
    }
    text
}

fn recovery(data_dir: &DataDir, output: Output) -> Result<(), Failure> {
    let mesh = data_dir.mesh()?;
    let Some(root) = mesh.as_ref().and_then(|mesh| mesh.root_key()) else {
        let problem =
            "this machine does not have the root key of its mesh: run this on the machine that began the mesh";
        return Err(Failure::argument("recovery", problem));
    };
    let text = root.to_text();
    output.document(&json!({ "ok": true, "mesh": root.mesh_name(), "recovery": text }), || {
        format!(
            "{text}\n\nKeep this line in a safe place, not on this machine. If this machine is lost, \
             `taskmesh members restore` on another member lets that one decide who is an admin."
        )
    });
    Ok(())
}

fn restore(data_dir: &DataDir, key: &str, output: Output) -> Result<(), Failure> {
    let text = read_source("KEY", key)?;
    let root: RootKey = text.parse().map_err(|error| Failure::argument("KEY", error))?;
    let name = root.mesh_name();
    let locked = data_dir.lock()?;
    let identity = locked.identity_or_new()?;
    let mut mesh = locked.mesh_or_new(&identity)?;
    mesh.restore_root_key(root)
        .map_err(|error| Failure::argument("KEY", format!("{error}: join that mesh first, then restore the key")))?;
    locked.save_mesh(&mesh).context("cannot keep the root key")?;
    output.document(&json!({ "ok": true, "mesh": name }), || {
        "this machine has the root key now: it decides about admins when `taskmesh serve` runs".to_owned()
    });
    Ok(())
}
