use p2p_taskqueue::{Multiaddr, api};

/// The error of a text that is not a multiaddr.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not an address: use the form /ip4/192.0.2.7/tcp/9710/p2p/PEER_ID")]
pub(crate) struct ParseAddressError {
    text: String,
}

/// Parses an address that a person typed, without the white space around it.
pub(crate) fn parse_address(text: &str) -> Result<Multiaddr, ParseAddressError> {
    api::parse_address(text.trim()).map_err(|_| ParseAddressError { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_multiaddr_and_a_mistake_shows_the_form() {
        assert!(parse_address(" /ip4/192.0.2.7/tcp/9710\n").is_ok());
        let error = parse_address("localhost:9710").unwrap_err().to_string();
        assert!(error.contains("localhost:9710") && error.contains("/ip4/192.0.2.7/tcp/9710/p2p/PEER_ID"), "{error}");
    }
}
