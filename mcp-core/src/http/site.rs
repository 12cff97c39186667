use axum::http::uri::Authority;

/// The hosts that are served, read once from their configured texts.
#[derive(Debug)]
pub(super) struct Hosts(Vec<Place>);

impl Hosts {
    pub(super) fn new(texts: &[String]) -> Self {
        Self(texts.iter().filter_map(|text| readable(text, Place::parse(text))).collect())
    }

    pub(super) fn allow(&self, host: &str) -> bool {
        let Ok(authority) = Authority::try_from(host) else { return false };
        // User information before the name is only there to mislead.
        !host.contains('@') && self.0.iter().any(|place| place.is(authority.host(), authority.port_u16()))
    }
}

/// Returns whether a configured host can be read.
pub(crate) fn is_host(text: &str) -> bool {
    Place::parse(text).is_some()
}

/// Returns whether a configured origin can be read.
pub(crate) fn is_origin(text: &str) -> bool {
    Origin::parse(text).is_some()
}

/// The origins that are served, read once from their configured texts.
#[derive(Debug)]
pub(super) struct Origins(Vec<Origin>);

#[derive(Debug)]
enum Origin {
    /// The origin of a page that has none, such as a local file.
    Null,
    Site {
        scheme: String,
        place: Place,
    },
}

impl Origins {
    pub(super) fn new(texts: &[String]) -> Self {
        Self(texts.iter().filter_map(|text| readable(text, Origin::parse(text))).collect())
    }

    pub(super) fn allow(&self, origin: &str) -> bool {
        self.0.iter().any(|allowed| allowed.is(origin))
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        if text == NULL {
            return Some(Self::Null);
        }
        let (scheme, place) = text.split_once("://")?;
        let place = Place::parse(place)?;
        let port = if has_port(text) { place.port } else { Some(default_port(scheme)?) };
        Some(Self::Site { scheme: scheme.to_ascii_lowercase(), place: Place { port, ..place } })
    }

    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Null => origin == NULL,
            Self::Site { scheme, place } => {
                let Some((given, authority)) = origin.split_once("://") else { return false };
                let Ok(parsed) = Authority::try_from(authority) else { return false };
                let port = parsed.port_u16().or_else(|| default_port(given));
                given.eq_ignore_ascii_case(scheme) && !authority.contains('@') && place.is(parsed.host(), port)
            }
        }
    }
}

/// A host, and a port unless any port will do.
#[derive(Debug)]
struct Place {
    host: String,
    port: Option<u16>,
}

impl Place {
    /// Reads `name`, `name:port`, `name:*`, the same with `[address]`, or a bare IPv6 address.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let any = text.strip_suffix(":*").unwrap_or(text);
        if any.parse::<std::net::Ipv6Addr>().is_ok() {
            return Some(Self { host: any.to_owned(), port: None });
        }
        let authority = Authority::try_from(any).ok()?;
        let host = bare(authority.host()).to_ascii_lowercase();
        let named = any.len() > authority.host().len();
        let port = if named { Some(authority.port_u16()?) } else { None };
        (!host.is_empty() && !text.contains('@') && (any.len() == text.len() || !named)).then_some(Self { host, port })
    }

    fn is(&self, host: &str, port: Option<u16>) -> bool {
        bare(host).eq_ignore_ascii_case(&self.host) && (self.port.is_none() || self.port == port)
    }
}

/// Removes the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Returns whether the text of an origin names a port, or any port with `:*`.
fn has_port(origin: &str) -> bool {
    origin.rsplit_once(':').is_some_and(|(_, port)| port == "*" || port.parse::<u16>().is_ok())
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Warns of a text that cannot be read. It allows nothing, and the operator should learn of it.
fn readable<T>(text: &str, parsed: Option<T>) -> Option<T> {
    if parsed.is_none() {
        tracing::warn!(entry = text, "an allowed host or origin cannot be read and is left out");
    }
    parsed
}

const NULL: &str = "null";

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(texts: &[&str]) -> Hosts {
        Hosts::new(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    fn origins(texts: &[&str]) -> Origins {
        Origins::new(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_host_without_port_is_served_on_any() {
        let hosts = hosts(&["localhost", "[::1]", "::2", "queue.example:8765"]);
        for host in ["localhost", "LOCALHOST:1", "[::1]:8765", "[::1]", "[::2]:9", "queue.example:8765"] {
            assert!(hosts.allow(host), "{host}");
        }
        for host in
            ["", "queue.example", "queue.example:1", "localhost.evil", "evil", "localhost@evil", "x@localhost", "[::3]"]
        {
            assert!(!hosts.allow(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origins = origins(&["http://localhost:*", "http://[::1]:*", "https://a.example", "https://b.example:8443"]);
        for origin in [
            "http://localhost",
            "http://localhost:3000",
            "HTTP://Localhost:3000",
            "http://[::1]:5",
            "https://a.example",
            "https://a.example:443",
            "https://b.example:8443",
        ] {
            assert!(origins.allow(origin), "{origin}");
        }
        for origin in [
            "null",
            "localhost",
            "https://localhost:3000",
            "http://a.example",
            "https://a.example:8443",
            "https://b.example",
            "http://localhost.evil:3000",
            "http://localhost:3000@evil",
            "http://localhost:3000/path",
            "",
        ] {
            assert!(!origins.allow(origin), "{origin}");
        }
    }

    #[test]
    fn null_is_served_only_when_named() {
        assert!(origins(&["null"]).allow("null"));
        assert!(!origins(&[]).allow("null"));
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        for text in ["", "a b", "user@host", "host:99999", "host:80:*"] {
            assert!(hosts(&[text]).0.is_empty(), "{text}");
        }
        for text in ["", "localhost", "ftp://x", "http://"] {
            assert!(origins(&[text]).0.is_empty(), "{text}");
        }
    }
}
