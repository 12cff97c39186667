use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use taskqueue_api::{ErrorCode, QueueError};

use crate::{
    McpConfig,
    config::{ClientConfig, TokenDigest},
    principal::Principal,
};

/// The clients that may ask, each with a token of its own. When there are none, anybody may ask.
#[derive(Debug)]
pub(super) struct Clients(Vec<(Option<TokenDigest>, Principal)>);

impl Clients {
    pub(super) fn new(config: &McpConfig) -> Self {
        let client = |client: &ClientConfig| {
            let ClientConfig { name, token, grants } = client;
            let (requests_max, waits_max) = (config.requests_per_client_max, config.waits_per_client_max);
            (token.digest(), Principal::sharing(name.clone(), grants.clone(), requests_max, waits_max))
        };
        Self(config.clients.iter().map(client).collect())
    }

    /// Returns the client whose token the `Authorization` header shows.
    ///
    /// # Errors
    ///
    /// `unauthorized` when there are clients and the header shows the token of none of them.
    pub(super) fn who(&self, authorization: Option<&[u8]>) -> Result<Principal, QueueError> {
        if self.0.is_empty() {
            return Ok(Principal::default());
        }
        let found = authorization.and_then(bearer).and_then(|token| self.holder(token));
        found.cloned().ok_or_else(|| QueueError::new(ErrorCode::Unauthorized, "show the bearer token of this server"))
    }

    /// Returns the holder of the token. It compares the token with all others even after a match, so that the time that
    /// it takes tells nothing about them. It compares digests, so the time does not tell a length either.
    fn holder(&self, shown: &[u8]) -> Option<&Principal> {
        let shown = TokenDigest::of(shown);
        let mut place = 0_u32;
        for (number, (token, _)) in (1..).zip(&self.0) {
            let is_it = token.as_ref().map_or_else(|| 0.into(), |token| token.as_bytes().ct_eq(shown.as_bytes()));
            place.conditional_assign(&number, is_it);
        }
        let index = usize::try_from(place).ok()?.checked_sub(1)?;
        self.0.get(index).map(|(_, principal)| principal)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Principal> {
        self.0.iter().map(|(_, principal)| principal)
    }
}

/// Returns the token of `Bearer TOKEN`. The scheme is case-insensitive.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

const SCHEME: &[u8] = b"bearer ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BearerToken;

    fn clients(tokens: &[(&str, &str)]) -> Clients {
        let config = McpConfig::default();
        let named =
            |config: McpConfig, (name, token): &(&str, &str)| config.with_client(*name, BearerToken::new(token));
        Clients::new(&tokens.iter().fold(config, named))
    }

    fn who<'a>(clients: &'a Clients, authorization: &str) -> Option<&'a str> {
        let name = clients.who(Some(authorization.as_bytes())).ok()?.name()?.to_owned();
        clients.all().filter_map(Principal::name).find(|known| *known == name)
    }

    #[test]
    fn each_token_is_its_clients() {
        let clients = clients(&[("laptop", "sesame"), ("phone", "poppy"), ("forgotten", "")]);
        assert_eq!(who(&clients, "Bearer sesame"), Some("laptop"));
        assert_eq!(who(&clients, "bearer  poppy "), Some("phone"));
        for shown in ["", "Bearer", "Bearer ", "Bearer sesam", "Bearer sesame2", "Bearer Sesame", "Basic sesame"] {
            assert_eq!(who(&clients, shown), None, "{shown:?}");
        }
        assert_eq!(clients.who(None).unwrap_err().code, ErrorCode::Unauthorized);
    }

    #[test]
    fn without_tokens_it_is_nobody_in_particular() {
        assert_eq!(clients(&[]).who(None).unwrap().name(), None);
    }
}
