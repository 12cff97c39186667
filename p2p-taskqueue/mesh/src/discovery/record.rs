//! The signed record in which a peer says where it is. A peer that passes it on cannot change it.

use libp2p::{
    Multiaddr, PeerId,
    core::{PeerRecord, SignedEnvelope},
    kad::RecordKey,
};

use super::namespace::Namespace;
use crate::{
    Identity,
    wire::limits::{ADDRESS_BYTES_MAX, ADDRESSES_MAX},
};

/// A record with the most and the longest addresses that are kept of a peer, a few bytes around each, its key, and its
/// signature.
pub(super) const RECORD_BYTES_MAX: usize = ADDRESSES_MAX * (ADDRESS_BYTES_MAX + 16) + 512;

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) peer: PeerId,
    /// The number of the record, which grows with every record that the peer signs.
    pub(crate) seq: u64,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("its key is not one of this mesh")]
    Key,
    #[error("it is larger than {RECORD_BYTES_MAX} bytes")]
    Size,
    #[error("it is not a signed record of a peer")]
    Signature,
    #[error("another peer than that of its key signed it")]
    Signer,
    #[error("it has no address that can be kept")]
    Empty,
    #[error("it is not newer than the one that is here")]
    Stale,
}

/// Signs a record of this node's addresses. `None` if it has no address or cannot sign.
pub(crate) fn sign(identity: &Identity, addresses: &[Multiaddr]) -> Option<Vec<u8>> {
    let addresses: Vec<_> = kept(addresses).collect();
    if addresses.is_empty() {
        return None;
    }
    let record = PeerRecord::new(identity.keypair(), addresses).ok()?;
    Some(record.into_signed_envelope().into_protobuf_encoding())
}

/// Reads the record that was found under this key. The size is checked before anything is parsed.
pub(crate) fn read(namespace: &Namespace, key: &RecordKey, value: &[u8]) -> Result<Located, RecordError> {
    if value.len() > RECORD_BYTES_MAX {
        return Err(RecordError::Size);
    }
    let peer = namespace.peer_of(key).ok_or(RecordError::Key)?;
    let envelope = SignedEnvelope::from_protobuf_encoding(value).map_err(|_| RecordError::Signature)?;
    let record = PeerRecord::from_signed_envelope(envelope).map_err(|_| RecordError::Signature)?;
    if record.peer_id() != peer {
        return Err(RecordError::Signer);
    }
    let addresses: Vec<_> = kept(record.addresses()).collect();
    if addresses.is_empty() {
        return Err(RecordError::Empty);
    }
    Ok(Located { peer, seq: record.seq(), addresses })
}

/// The addresses that are kept of a peer.
pub(crate) fn kept(addresses: &[Multiaddr]) -> impl Iterator<Item = Multiaddr> {
    let kept = addresses.iter().filter(|address| (1..=ADDRESS_BYTES_MAX).contains(&address.len()));
    kept.take(ADDRESSES_MAX).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MeshSecret;

    fn namespace() -> Namespace {
        Namespace::of(&MeshSecret::from_bytes([1; 32]))
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn what_a_peer_signs_is_read_under_its_key() {
        let (identity, namespace) = (Identity::generate().unwrap(), namespace());
        let value = sign(&identity, &[address(1)]).unwrap();
        let located = read(&namespace, &namespace.peer_key(&identity.peer_id()), &value).unwrap();
        assert_eq!((located.peer, located.addresses), (identity.peer_id(), vec![address(1)]));
        assert_eq!(sign(&identity, &[]), None);
    }

    #[test]
    fn the_largest_record_fits() {
        let (identity, namespace) = (Identity::generate().unwrap(), namespace());
        let longest = |number: usize| {
            let name = format!("{number:02}{}", "x".repeat(ADDRESS_BYTES_MAX));
            let mut address: Multiaddr = format!("/dns4/{}/tcp/1", &name[..240]).parse().unwrap();
            while address.len() < ADDRESS_BYTES_MAX - 2 {
                address.push(libp2p::multiaddr::Protocol::Tcp(1));
            }
            address
        };
        let addresses: Vec<_> = (0..ADDRESSES_MAX).map(longest).collect();
        let value = sign(&identity, &addresses).unwrap();
        let located = read(&namespace, &namespace.peer_key(&identity.peer_id()), &value).unwrap();
        assert_eq!(located.addresses, addresses);
    }

    #[test]
    fn a_forged_record_is_told_by_what_is_wrong_with_it() {
        let (identity, other, namespace) = (Identity::generate().unwrap(), Identity::generate().unwrap(), namespace());
        let (key, value) = (namespace.peer_key(&identity.peer_id()), sign(&identity, &[address(1)]).unwrap());
        let theirs = sign(&other, &[address(1)]).unwrap();
        let elsewhere = Namespace::of(&MeshSecret::from_bytes([2; 32])).peer_key(&identity.peer_id());
        let mut changed = value.clone();
        let at = changed.windows(2).position(|bytes| bytes == 1_u16.to_be_bytes()).unwrap();
        changed[at + 1] = 2;
        for (key, value, error) in [
            (&key, &theirs, RecordError::Signer),
            (&elsewhere, &value, RecordError::Key),
            (&namespace.members_key(), &value, RecordError::Key),
            (&key, &changed, RecordError::Signature),
            (&key, &b"hello".to_vec(), RecordError::Signature),
            (&key, &vec![0; RECORD_BYTES_MAX + 1], RecordError::Size),
        ] {
            assert_eq!(read(&namespace, key, value), Err(error));
        }
    }
}
