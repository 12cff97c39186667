//! The configuration file: its sections and keys, and where it has a mistake.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, anyhow};
use p2p_taskqueue::{Multiaddr, PeerId, api::Target};
use runtime_bridge::Backend;
use serde::{Deserialize, Deserializer, de};

use crate::{
    address::parse_address,
    cli::DurabilityArg,
    failure::Failure,
    mode::{Mode, WorkerSpec},
};

mod http;
mod mistake;
#[cfg(test)]
mod tests;

pub(crate) use http::{HttpConfig, HttpGiven, HttpSection};

/// The largest configuration file. What a person writes by hand is far below this, so a larger file is something else.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A configuration file. Keys that it does not set are `None`, and the command line takes precedence over it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConfigFile {
    pub(crate) server: ServerSection,
    pub(crate) http: HttpSection,
    pub(crate) p2p: P2pSection,
    pub(crate) discovery: DiscoverySection,
    pub(crate) reach: ReachSection,
    pub(crate) store: StoreSection,
    pub(crate) worker: WorkerSection,
}

/// The section `[server]`: the process.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSection {
    pub(crate) mode: Option<Mode>,
}

/// The section `[p2p]`: the node.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct P2pSection {
    pub(crate) listen: Option<Vec<Address>>,
    pub(crate) lan: Option<bool>,
    pub(crate) runtime: Option<Parsed<Backend>>,
    pub(crate) allow: Option<Vec<Parsed<PeerId>>>,
    pub(crate) deny: Option<Vec<Parsed<PeerId>>>,
}

/// The section `[discovery]`: how peers are found.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DiscoverySection {
    pub(crate) bootstrap: Option<Vec<PeerAddress>>,
    pub(crate) mdns: Option<bool>,
    pub(crate) announce_file: Option<AnnounceSetting>,
    pub(crate) rendezvous: Option<Vec<PeerAddress>>,
    pub(crate) rendezvous_server: Option<bool>,
    pub(crate) kademlia: Option<bool>,
    pub(crate) namespace: Option<String>,
}

/// The section `[reach]`: how the node is reached from networks that cannot dial it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReachSection {
    pub(crate) relays: Option<Vec<PeerAddress>>,
    pub(crate) relay_server: Option<bool>,
    pub(crate) autonat: Option<bool>,
    pub(crate) hole_punching: Option<bool>,
    pub(crate) upnp: Option<bool>,
}

/// The section `[store]`: how the tasks of this node are stored.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreSection {
    pub(crate) durability: Option<DurabilityArg>,
}

/// The section `[worker]`: the workers of this machine.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WorkerSection {
    pub(crate) run: Option<Vec<Parsed<WorkerSpec>>>,
    /// The workers that describe themselves to agents.
    pub(crate) tool: Option<Vec<WorkerTool>>,
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) session: Option<String>,
}

/// A worker, with its description for agents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerTool {
    pub(crate) name: String,
    pub(crate) command: String,
    pub(crate) description: Option<String>,
    /// A JSON Schema of the payload.
    pub(crate) input_schema: Option<serde_json::Map<String, serde_json::Value>>,
}

/// An address, as a person types it.
#[derive(Debug, Clone)]
pub(crate) struct Address(pub(crate) Multiaddr);

/// An address that says which peer is meant.
#[derive(Debug, Clone)]
pub(crate) struct PeerAddress(pub(crate) Multiaddr);

/// A value that is written as a text and parsed at once, so that a mistake is reported with its line.
#[derive(Debug, Clone)]
pub(crate) struct Parsed<T>(pub(crate) T);

/// Whether the node writes an announce file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnnounceSetting {
    Off,
    /// A file at the usual place.
    On,
    /// A file at this path.
    At(PathBuf),
}

impl ConfigFile {
    /// Reads the named file, or else the usual one in the data folder if it exists.
    pub(crate) fn load(named: Option<&Path>, usual: &Path) -> Result<Self, Failure> {
        let path = named.unwrap_or(usual);
        let text = match read(path) {
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read.with_context(|| format!("cannot read the configuration file {}", path.display()))?,
        };
        let refused = |mistake| Failure::Configuration(anyhow!("{}:{mistake}", path.display()));
        Self::parse(&text).map_err(refused)
    }

    fn parse(text: &str) -> Result<Self, mistake::Mistake> {
        let document = toml::Deserializer::parse(text).map_err(|error| mistake::Mistake::of(text, "", &error))?;
        serde_path_to_error::deserialize(document).map_err(|error| {
            let key = error.path().to_string();
            mistake::Mistake::of(text, &key, error.inner())
        })
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let problem = format!("it is over the limit of {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_address(&text).map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Address(address) = Address::deserialize(deserializer)?;
        let target = Target { remote_multiaddr: Some(address.clone()), remote_peer_id: None };
        match target.peer_id() {
            Some(_) => Ok(Self(address)),
            None => Err(de::Error::custom(format_args!("{address} does not end with /p2p/PEER_ID"))),
        }
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for AnnounceSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Setting;

        impl de::Visitor<'_> for Setting {
            type Value = AnnounceSetting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or the absolute path of a file")
            }

            fn visit_bool<E: de::Error>(self, is_on: bool) -> Result<AnnounceSetting, E> {
                Ok(if is_on { AnnounceSetting::On } else { AnnounceSetting::Off })
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<AnnounceSetting, E> {
                // A node may be started in any folder, so a relative path would name another file each time.
                if Path::new(path).is_absolute() {
                    Ok(AnnounceSetting::At(path.into()))
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(path), &self))
                }
            }
        }

        deserializer.deserialize_any(Setting)
    }
}
