use std::io;

use libp2p::Multiaddr;

/// The reason why a node did not start. The message names what the user can change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A node that serves was given no address.
    #[error("no address to listen on: give one such as /ip4/127.0.0.1/tcp/9710")]
    NoListenAddress,
    /// Another program, or another node, listens on the address.
    #[error("the address {address} is in use: stop the program that listens there, or choose another port")]
    AddressInUse {
        /// The address that was asked for.
        address: Multiaddr,
    },
    /// No transport of this build understands the address.
    #[error("the address {address} is not one that a node can listen on: use the form /ip4/127.0.0.1/tcp/9710")]
    UnsupportedAddress {
        /// The address that was asked for.
        address: Multiaddr,
    },
    /// The operating system refused.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: Multiaddr,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The identity could not be used for encryption.
    #[error("failed to set the encryption up")]
    Noise(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The local network cannot be listened to.
    #[error("failed to set up mDNS on the local network: switch it off, or let this program use multicast")]
    Mdns(#[source] io::Error),
    /// The operating system has no randomness to give.
    #[error("failed to draw a random number")]
    Random(#[source] getrandom::Error),
}
