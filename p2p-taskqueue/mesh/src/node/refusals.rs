//! What the node has refused since it started, counted by reason, so that a person can see why a peer does not come in.

use std::{collections::BTreeMap, io};

use libp2p::{core::transport::TransportError, swarm::ListenError};

use super::{
    admission::{Full, Unwelcome},
    arrivals::MadeRoom,
    causes::source_of,
    transport::TooSlow,
};
use crate::wire::{HandshakeError, Reason};

/// A count for each reason.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counts: BTreeMap<&'static str, u64>,
}

impl Refusals {
    pub(super) fn count(&mut self, reason: &'static str) {
        *self.counts.entry(reason).or_default() += 1;
    }

    /// Returns how often each reason applied.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(reason, count)| (*reason, *count))
    }

    /// Counts an incoming connection that was not established.
    pub(super) fn count_incoming(&mut self, error: &ListenError) {
        let is_counted = |error: &io::Error| source_of::<MadeRoom>(error).is_some();
        if matches!(error, ListenError::Transport(TransportError::Other(error)) if is_counted(error)) {
            // `Admission` has counted it already.
            return;
        }
        self.count(match error {
            ListenError::Denied { cause } => {
                let unwelcome = source_of::<Unwelcome>(cause).map(|unwelcome| unwelcome.reason());
                unwelcome.or_else(|| source_of::<Full>(cause).map(Full::reason)).unwrap_or("not_allowed")
            }
            ListenError::Transport(TransportError::Other(error)) => match source_of::<TooSlow>(error) {
                Some(TooSlow) => "encryption_deadline",
                None => "no_encryption",
            },
            ListenError::WrongPeerId { .. } | ListenError::LocalPeerId { .. } => "wrong_peer",
            ListenError::Aborted | ListenError::Transport(_) => "broken_off",
        });
    }

    /// Counts a peer that did not prove that it belongs to the mesh.
    pub(super) fn count_handshake(&mut self, error: &HandshakeError) {
        self.count(match error {
            HandshakeError::OtherMesh => "other_mesh",
            HandshakeError::Refused(_) => "refused_by_peer",
            HandshakeError::Refusing(Reason::Removed) => "removed",
            HandshakeError::Refusing(Reason::Stranger | Reason::OtherMesh) => "not_a_member",
            HandshakeError::Refusing(_) => "ticket",
            HandshakeError::NotTaken(_) => "not_believed",
            HandshakeError::Version { .. } => "other_version",
            HandshakeError::Deadline => "handshake_deadline",
            HandshakeError::Closed | HandshakeError::Frame(_) => "handshake_broken",
            HandshakeError::Random(_) => "no_randomness",
        });
    }
}
