//! `discover`.

use std::process::ExitCode;

use clap::Args;
use p2p_taskqueue::{
    Multiaddr, PeerId,
    api::{
        Check as _, Discover, Discovered, Method, SearchAttempt, Target,
        limits::{CALL_TIMEOUT_S_MAX, DISCOVER_LIMIT_MAX},
    },
};

use super::mesh::peers_table;
use crate::{
    client::with_client,
    data_dir::DataDir,
    failure::Failure,
    number::{count, seconds},
    output::{Output, table},
};

#[derive(Debug, Args)]
pub(super) struct DiscoverArgs {
    /// The peer to find, by its id or an address that ends in /p2p/PEER_ID; without it all that can be found.
    #[arg(value_name = "PEER_ID|MULTIADDR")]
    peer: Option<String>,
    /// Only in this way: explicit, address_book, announce_file, bootstrap, rendezvous, kademlia or mdns (repeatable)
    /// [default: all that the node has on].
    #[arg(long = "method", value_name = "METHOD", value_parser = method)]
    methods: Vec<Method>,
    /// How long to look, in seconds, up to 600.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, allow_hyphen_values = true, value_parser = seconds(0.0..=CALL_TIMEOUT_S_MAX))]
    timeout: f64,
    /// How many peers at the most, up to 1,000.
    #[arg(long, value_name = "COUNT", default_value_t = 50, allow_hyphen_values = true, value_parser = count(1..=DISCOVER_LIMIT_MAX))]
    limit: u32,
}

/// The exit code when a peer was named and not reached.
const NOT_REACHED: u8 = 3;

pub(super) fn run(args: DiscoverArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let DiscoverArgs { peer, methods, timeout, limit } = args;
    let is_named = peer.is_some();
    let (peer_id, multiaddr) = peer.map_or(Ok((None, None)), |peer| sought(&peer))?;
    let query = Discover { peer_id, multiaddr, methods, timeout_s: timeout, limit };
    query.check().map_err(|error| Failure::argument("--method", error))?;
    let found = with_client(data_dir, None, async move |client| client.ask(query).await)?;
    output.answer(&found, || found_text(&found));
    let is_missed = is_named && found.peers.is_empty();
    Ok(if is_missed { ExitCode::from(NOT_REACHED) } else { ExitCode::SUCCESS })
}

/// Reads a peer as a person names it: its id, and the address to try first if one is given.
fn sought(peer: &str) -> Result<(Option<PeerId>, Option<Multiaddr>), Failure> {
    if let Ok(peer_id) = peer.parse() {
        return Ok((Some(peer_id), None));
    }
    let refused = || {
        let form = "neither a peer id nor an address that ends in /p2p/PEER_ID";
        Failure::argument("PEER_ID|MULTIADDR", format!("{peer:?} is {form}"))
    };
    let target = Target { remote_multiaddr: Some(peer.parse().map_err(|_| refused())?), remote_peer_id: None };
    let named = target.peer_id().ok_or_else(refused)?;
    Ok((Some(named), target.remote_multiaddr))
}

fn method(text: &str) -> Result<Method, String> {
    let known = || Method::ALL.map(Method::as_str).join(", ");
    serde_json::from_value(text.replace('-', "_").into()).map_err(|_| format!("not one of {}", known()))
}

pub(super) fn found_text(found: &Discovered) -> String {
    let peers = if found.peers.is_empty() { "no peers found".to_owned() } else { peers_table(&found.peers) };
    if found.attempts.is_empty() { peers } else { format!("{peers}\n\n{}", attempts_table(&found.attempts)) }
}

fn attempts_table(attempts: &[SearchAttempt]) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = attempts.iter().map(|attempt| {
        let code = attempt.code.map_or("failed", |code| code.as_str());
        let outcome = match &attempt.error {
            _ if attempt.ok => "reached".to_owned(),
            Some(error) => format!("{code}: {error}"),
            None => code.to_owned(),
        };
        [
            attempt.method.as_str().to_owned(),
            or_dash(attempt.multiaddr.as_ref().map(ToString::to_string)),
            or_dash(attempt.peer_id.map(|peer| peer.to_string())),
            format!("{:.0} ms", attempt.elapsed_s * 1_000.0),
            outcome,
        ]
    });
    table(["METHOD", "ADDRESS", "PEER", "TIME", "OUTCOME"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_its_id_or_by_where_it_is() {
        let peer = PeerId::random();
        assert_eq!(sought(&peer.to_string()).unwrap(), (Some(peer), None));
        let address = format!("/ip4/192.0.2.7/tcp/9710/p2p/{peer}");
        assert_eq!(sought(&address).unwrap(), (Some(peer), Some(address.parse().unwrap())));
        for text in ["/ip4/192.0.2.7/tcp/9710", "over there", ""] {
            assert!(sought(text).unwrap_err().to_string().contains("PEER_ID"), "{text}");
        }
    }

    #[test]
    fn ways_have_the_names_that_answers_have() {
        assert_eq!(method("announce-file"), Ok(Method::AnnounceFile));
        assert!(Method::ALL.into_iter().all(|way| method(way.as_str()) == Ok(way)));
        assert!(method("telepathy").unwrap_err().contains("address_book"));
    }
}
