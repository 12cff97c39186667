//! The announce file: a node says where it is in a file that other programs of the machine read. It is a JSON
//! object with `peer_id` and `multiaddr`, one address.

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use taskqueue_api::peer_of;

use crate::node::is_loopback;

/// The content of an announce file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Announcement {
    peer_id: String,
    multiaddr: String,
}

/// What a node at these addresses announces: the first address that other machines can dial, else the first one.
pub(crate) fn announcement_of(peer: PeerId, addresses: &[Multiaddr]) -> Option<String> {
    let address = addresses.iter().find(|address| !is_loopback(address)).or_else(|| addresses.first())?;
    serde_json::to_string(&Announcement { peer_id: peer.to_string(), multiaddr: address.to_string() }).ok()
}

/// The peer and the address that the announcement names. `None` if it cannot be read.
pub(crate) fn announced(text: &str) -> Result<(PeerId, Multiaddr), String> {
    let Announcement { peer_id, multiaddr } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let address: Multiaddr = multiaddr.parse().map_err(|_| format!("{multiaddr:?} is not an address"))?;
    let named = peer_of(&address).or_else(|| peer_id.parse().ok());
    named.map(|peer| (peer, address)).ok_or_else(|| "it does not say which peer it is".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_announces_is_understood() {
        let peer = PeerId::random();
        let addresses: Vec<Multiaddr> = ["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/1"]
            .map(|text| format!("{text}/p2p/{peer}").parse().unwrap())
            .to_vec();
        let text = announcement_of(peer, &addresses).unwrap();
        assert_eq!(announced(&text), Ok((peer, addresses[1].clone())));
    }

    #[test]
    fn an_announcement_that_makes_no_sense_is_told() {
        for text in [
            "",
            "{}",
            r#"{"peer_id":"x","multiaddr":"nowhere"}"#,
            r#"{"peer_id":"x","multiaddr":"/ip4/1.2.3.4/tcp/1"}"#,
        ] {
            assert!(announced(text).is_err(), "{text}");
        }
    }
}
