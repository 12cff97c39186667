use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{anyhow, bail};

/// The address at which a node can be asked, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RpcAddress {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `http://HOST:PORT`, on this machine only, because everything is sent unencrypted, the token included.
    Http(SocketAddr),
}

impl RpcAddress {
    pub(crate) const fn is_http(&self) -> bool {
        matches!(self, Self::Http(_))
    }
}

impl FromStr for RpcAddress {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(Path::new(path).to_owned()));
        }
        let malformed = || anyhow!("{text:?} is neither unix:PATH nor http://HOST:PORT, such as http://127.0.0.1:8766");
        let place = text.strip_prefix("http://").ok_or_else(malformed)?;
        let place = place.strip_suffix('/').unwrap_or(place);
        let address = match place.strip_prefix("localhost:") {
            Some(port) => (Ipv4Addr::LOCALHOST, port.parse().map_err(|_| malformed())?).into(),
            None => place.parse::<SocketAddr>().map_err(|_| malformed())?,
        };
        if !address.ip().is_loopback() {
            bail!(
                "{text} is not on this machine: the token and every task would travel unencrypted; use 127.0.0.1, and an SSH tunnel from elsewhere"
            );
        }
        Ok(Self::Http(address))
    }
}

impl fmt::Display for RpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(address) => write!(f, "http://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_or_a_port_of_this_machine() {
        let parse = |text: &str| text.parse::<RpcAddress>().unwrap();
        assert_eq!(parse("unix:/run/taskmesh/rpc.sock"), RpcAddress::Unix("/run/taskmesh/rpc.sock".into()));
        for (text, shown) in [
            ("http://127.0.0.1:8766", "http://127.0.0.1:8766"),
            ("http://localhost:0/", "http://127.0.0.1:0"),
            ("http://[::1]:1", "http://[::1]:1"),
        ] {
            assert_eq!(parse(text).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_of_this_machine_is_refused() {
        for (text, word) in [
            ("", "unix:PATH"),
            ("unix:", "unix:PATH"),
            ("/run/taskmesh.sock", "unix:PATH"),
            ("https://127.0.0.1:1", "http://HOST:PORT"),
            ("http://127.0.0.1", "http://HOST:PORT"),
            ("http://127.0.0.1:1/rpc", "http://HOST:PORT"),
            ("http://192.0.2.7:1", "SSH tunnel"),
            ("http://0.0.0.0:1", "SSH tunnel"),
        ] {
            let error = text.parse::<RpcAddress>().unwrap_err().to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }
}
