//! `status`, `peers`.

use std::process::ExitCode;

use clap::Args;
use p2p_taskqueue::api::{Durability, Peer, Peers, Status, StatusQuery, StoreStatus, TransportStatus};

use super::PeerArg;
use crate::{
    client::with_client,
    data_dir::DataDir,
    failure::Failure,
    output::{Output, ago, record, span, table},
};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Also show the queue, the store, the connections, the peers and the bridge.
    #[arg(long)]
    detail: bool,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
pub(super) struct PeersArgs {
    /// Only those with a standing connection.
    #[arg(long)]
    connected: bool,
    #[command(flatten)]
    peer: PeerArg,
}

pub(super) fn status(args: StatusArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let query = StatusQuery { detail: args.detail, ..StatusQuery::default() };
    let status = with_client(data_dir, args.peer.peer, async move |client| client.ask(query).await)?;
    output.answer(&status, || status_text(&status));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn status_text(status: &Status) -> String {
    let mut rows = vec![
        ("peer id", status.peer_id.to_string()),
        ("version", status.version.clone()),
        ("mode", format!("{} ({})", status.mode, status.p2p_runtime)),
        ("uptime", span(status.uptime_s)),
        ("workers", or_none(&status.capabilities.task_types)),
    ];
    rows.extend(status.addresses.iter().map(|address| ("address", address.to_string())));
    if let Some(queue) = &status.queue {
        let totals: Vec<_> = queue.totals.iter().map(|(state, count)| format!("{count} {state}")).collect();
        rows.push(("tasks", or_none(&totals)));
    }
    if let Some(store) = &status.store {
        rows.push(("store", store_text(store)));
    }
    if let Some(transport) = &status.transport {
        rows.extend(transport_rows(transport));
    }
    if let Some(bridge) = &status.bridge {
        rows.push(("bridge", format!("{} calls, {} in flight", bridge.calls, bridge.in_flight)));
    }
    let peers = status.peers.as_ref().map(|peers| format!("\n\n{}", peers_table(peers)));
    record(9, rows) + &peers.unwrap_or_default()
}

fn transport_rows(transport: &TransportStatus) -> [(&'static str, String); 2] {
    let TransportStatus { connections, unproven, pending, sessions, refused } = transport;
    let refused: Vec<_> =
        refused.iter().map(|(reason, count)| format!("{count} {}", reason.replace('_', " "))).collect();
    let stands = format!("{connections} connections ({unproven} unproven), {pending} pending, {sessions} sessions");
    [("network", stands), ("refused", or_none(&refused))]
}

fn store_text(store: &StoreStatus) -> String {
    let durability = match store.durability {
        Durability::Synced => ", each change on stable storage before its answer",
        Durability::Relaxed => ", changes on stable storage within 50 ms",
        _ => "",
    };
    let problems = match store.problems {
        Some(count @ 1..) => format!("; DAMAGED in {count} places: stop the node and run `taskmesh repair`"),
        Some(0) => "; looked over after its last end, and sound".to_owned(),
        None => String::new(),
    };
    format!("{}{durability}{problems}", store.kind)
}

pub(super) fn peers(args: PeersArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let query = Peers { connected_only: args.connected };
    let listed = with_client(data_dir, args.peer.peer, async move |client| client.ask(query).await)?;
    output.answer(&listed, || peers_table(&listed.peers));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn peers_table(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "no peers: `taskmesh invite` prints a ticket for another machine".to_owned();
    }
    let rows = peers.iter().map(|peer| {
        let addresses: Vec<_> = peer.addresses.iter().map(ToString::to_string).collect();
        let state = match (peer.connected, &peer.last_dial) {
            (true, _) => "connected".to_owned(),
            (false, Some(dial)) => format!("away: {}", dial.error),
            (false, None) => "away".to_owned(),
        };
        let name = peer.name.clone().unwrap_or_else(|| "-".to_owned());
        [
            name,
            peer.peer_id.to_string(),
            state,
            peer.last_seen.map_or_else(|| "never".to_owned(), ago),
            addresses.join(" "),
        ]
    });
    table(["NAME", "PEER", "STATE", "LAST SEEN", "ADDRESSES"], rows)
}

fn or_none(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
