use std::{borrow::Cow, collections::BTreeMap};

use p2p_taskqueue::{QueueError, api::Target};
use serde::{
    Deserialize,
    de::{DeserializeOwned, value::MapDeserializer},
};
use serde_json::value::RawValue;

use super::schema::{Form, Inputs};

/// The arguments of one call by name, each still the text that the client sent, so that a payload is passed on as given.
#[derive(Debug)]
pub(super) struct Arguments<'a>(BTreeMap<String, Cow<'a, RawValue>>);

impl<'a> Arguments<'a> {
    /// Takes a JSON object apart.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when the text is no JSON object.
    pub(super) fn parse(object: &'a [u8]) -> Result<Self, QueueError> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(object)
            .map_err(|error| QueueError::invalid("arguments", format_args!("must be a JSON object: {error}")))?;
        Ok(Self(fields.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect()))
    }

    /// Compares the arguments with those that the tool takes and brings what agents write instead into their form.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming the argument that is unknown, missing or given twice.
    pub(super) fn normalize(mut self, inputs: &Inputs) -> Result<Self, QueueError> {
        for (alias, name) in inputs.aliases() {
            if let Some(value) = self.0.remove(*alias)
                && let Some(other) = self.0.insert((*name).to_owned(), value)
                && self.0.get(*name).is_some_and(|value| value.get() != other.get())
            {
                return Err(QueueError::invalid(alias, format_args!("contradicts {name}, which means the same")));
            }
        }
        for (name, value) in std::mem::take(&mut self.0) {
            let Some(input) = inputs.get(&name) else {
                return Err(QueueError::invalid(&name, unknown(&name, inputs)));
            };
            if let Some(value) = input.form.normalize(input.required, value) {
                self.0.insert(name, value);
            }
        }
        match inputs.required().find(|name| !self.0.contains_key(*name)) {
            Some(name) => Err(QueueError::invalid(name, "is required")),
            None => Ok(self),
        }
    }

    /// Takes out the arguments that say which peer is meant.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when one of them is malformed, or two name different peers.
    pub(super) fn take_target(&mut self) -> Result<Target, QueueError> {
        let remote_multiaddr = self.take_parsed(MULTIADDR)?;
        let remote_peer_id = self.take_parsed(PEER)?;
        let peer_id = self.take_parsed(PEER_ALIAS)?;
        match (remote_peer_id, peer_id) {
            (Some(one), Some(other)) if one != other => {
                Err(QueueError::invalid(PEER_ALIAS, format_args!("names another peer than {PEER}")))
            }
            _ => Ok(Target { remote_multiaddr, remote_peer_id: remote_peer_id.or(peer_id) }),
        }
    }

    /// Takes out one argument.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when it does not fit the type.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, QueueError> {
        let value = self.0.remove(name);
        value.map(|value| T::deserialize(&*value).map_err(|error| invalid(name, &error))).transpose()
    }

    /// Reads what is left into a type.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming the argument that does not fit the type.
    pub(super) fn into_type<T: DeserializeOwned>(self) -> Result<T, QueueError> {
        let fields = self.0.iter().map(|(name, value)| (name.as_str(), &**value));
        serde_path_to_error::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields)).map_err(|error| {
            let path = error.path().to_string();
            invalid(&path, error.inner())
        })
    }

    fn take_parsed<T>(&mut self, name: &str) -> Result<Option<T>, QueueError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let text: Option<String> = self.take(name)?;
        text.map(|text| text.trim().parse().map_err(|error| QueueError::invalid(name, error))).transpose()
    }
}

impl Form {
    /// Empty texts and nulls stand for "not given" where a text is optional, and a text for a list of texts.
    fn normalize<'a>(self, required: bool, value: Cow<'a, RawValue>) -> Option<Cow<'a, RawValue>> {
        let text = value.get();
        match self {
            Self::Anything => Some(value),
            Self::Ignored => None,
            _ if required => Some(value),
            _ if text == "null" => None,
            Self::Text if text == "\"\"" => None,
            Self::Texts => match split(&value) {
                Some(texts) => Some(Cow::Owned(texts)),
                None => Some(value),
            },
            Self::Text | Self::Other => Some(value),
        }
    }
}

/// `"a, b"` as `["a","b"]`: nothing when the value is no text.
fn split(value: &RawValue) -> Option<Box<RawValue>> {
    let text = String::deserialize(value).ok()?;
    let texts: Vec<_> = text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
    serde_json::value::to_raw_value(&texts).ok()
}

fn unknown(name: &str, inputs: &Inputs) -> String {
    let near = inputs
        .names()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= known.len() / 3 + 1)
        .min();
    match near {
        Some((_, known)) => format!("unknown argument; did you mean {known}?"),
        None => format!("unknown argument; known are {}", inputs.names().collect::<Vec<_>>().join(", ")),
    }
}

/// Names the argument of the path; the parser's own place in the argument's text would mislead.
fn invalid(path: &str, error: &serde_json::Error) -> QueueError {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    let field = path.split(['.', '[']).next().unwrap_or(path);
    let at = path.strip_prefix(field).unwrap_or_default();
    let message = if at.is_empty() { message.to_owned() } else { format!("{message} (at {path})") };
    QueueError::invalid(field, message)
}

/// The names that the target's arguments go by.
pub(super) const MULTIADDR: &str = "remote_multiaddr";
pub(super) const PEER: &str = "remote_peer_id";
/// How the reference calls [`PEER`] in `submit` and `status`.
pub(super) const PEER_ALIAS: &str = "peer_id";
