use std::{borrow::Cow, collections::BTreeMap};

use p2p_taskqueue::{Json, QueueError, api::Target, task::JsonError};
use serde::{
    Deserialize,
    de::{DeserializeOwned, value::MapDeserializer},
};
use serde_json::value::RawValue;

use super::schema::{Form, Inputs};

/// The arguments of one call by name, each still the text that the client sent, so that a payload is passed on as given.
#[derive(Debug)]
pub(crate) struct Arguments<'a>(BTreeMap<String, Cow<'a, RawValue>>);

impl<'a> Arguments<'a> {
    /// Takes a JSON object apart.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when the text is no JSON object.
    pub(crate) fn parse(object: &'a [u8]) -> Result<Self, QueueError> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(object)
            .map_err(|error| QueueError::invalid("arguments", format_args!("must be a JSON object: {error}")))?;
        Ok(Self(fields.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect()))
    }

    /// Compares the arguments with those that the tool takes and brings what agents write instead into their form.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming the argument that is unknown, missing or given twice.
    pub(crate) fn normalize(self, inputs: &Inputs) -> Result<Self, QueueError> {
        let mut normal: BTreeMap<String, Cow<'a, RawValue>> = BTreeMap::new();
        // Names before their aliases, so that a contradiction is blamed on the alias.
        let (aliases, names): (Vec<_>, Vec<_>) =
            self.0.into_iter().partition(|(given, _)| inputs.meant_by(given).is_some());
        for (given, value) in names.into_iter().chain(aliases) {
            let name = inputs.meant_by(&given).unwrap_or(&given);
            let Some(input) = inputs.get(name) else {
                return Err(QueueError::invalid(&given, unknown(&given, inputs)));
            };
            let Some(value) = input.form.normalize(&given, input.required, value)? else { continue };
            if normal.get(name).is_some_and(|other| other.get() != value.get()) {
                return Err(QueueError::invalid(&given, format_args!("contradicts {name}, which means the same")));
            }
            normal.insert(name.to_owned(), value);
        }
        match inputs.required().find(|name| !normal.contains_key(*name)) {
            Some(name) => Err(QueueError::invalid(name, "is required")),
            None => Ok(Self(normal)),
        }
    }

    /// Takes out the arguments that say which peer is meant.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when one of them is malformed.
    pub(super) fn take_target(&mut self) -> Result<Target, QueueError> {
        let remote_multiaddr = self.take_parsed(MULTIADDR)?;
        Ok(Target { remote_multiaddr, remote_peer_id: self.take_parsed(PEER)? })
    }

    /// Takes out one argument.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when it does not fit the type.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, QueueError> {
        let value = self.0.remove(name);
        let read = |value: Cow<'_, RawValue>| {
            T::deserialize(&*value).map_err(|error| too_deep(name, &value).unwrap_or_else(|| invalid(name, &error)))
        };
        value.map(read).transpose()
    }

    /// Reads what is left into a type.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming the argument that does not fit the type.
    pub(super) fn into_type<T: DeserializeOwned>(self) -> Result<T, QueueError> {
        self.read_without(None).map_err(|error| {
            let path = error.path().to_string();
            if path == NO_PATH {
                let field = self.blame::<T>(&error.inner().to_string());
                return invalid(field.unwrap_or("arguments"), error.inner());
            }
            let name = path.split(['.', '[']).next().unwrap_or(&path);
            let deep = self.0.get(name).and_then(|value| too_deep(&path, value));
            deep.unwrap_or_else(|| invalid(&path, error.inner()))
        })
    }

    fn read_without<T: DeserializeOwned>(
        &self,
        left_out: Option<&str>,
    ) -> Result<T, serde_path_to_error::Error<serde_json::Error>> {
        let fields = self.0.iter().filter(|(name, _)| Some(name.as_str()) != left_out);
        let fields = fields.map(|(name, value)| (name.as_str(), &**value));
        serde_path_to_error::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields))
    }

    /// The argument to blame for an error that says no place, as those in a flattened part do: the one without which the
    /// error is another one, or none.
    fn blame<T: DeserializeOwned>(&self, error: &str) -> Option<&str> {
        let changes = |name: &&str| match self.read_without::<T>(Some(name)) {
            Err(other) => other.inner().to_string() != error,
            Ok(_) => true,
        };
        self.0.keys().map(String::as_str).find(changes)
    }

    fn into_raw(self) -> Result<Box<RawValue>, QueueError> {
        serde_json::value::to_raw_value(&self.0).map_err(|error| QueueError::invalid("arguments", error))
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
    /// Empty texts and nulls stand for "not given" where a text is optional, and a text for a list of texts. Objects within
    /// are read as strictly as the arguments themselves.
    fn normalize<'a>(
        &self,
        name: &str,
        required: bool,
        value: Cow<'a, RawValue>,
    ) -> Result<Option<Cow<'a, RawValue>>, QueueError> {
        let text = value.get();
        Ok(match self {
            Self::Anything => Some(value),
            Self::Ignored => None,
            _ if !required && text == "null" => None,
            Self::Object(inputs) => Some(normalize_object(name, inputs, value)?),
            Self::Objects(inputs) => Some(normalize_objects(name, inputs, value)?),
            _ if required => Some(value),
            Self::Text if text == "\"\"" => None,
            Self::Texts => match split(&value) {
                Some(texts) => Some(Cow::Owned(texts)),
                None => Some(value),
            },
            Self::Text | Self::Other => Some(value),
        })
    }
}

/// What is no object stays as it is: the type that reads it says so.
fn normalize_object<'a>(
    name: &str,
    inputs: &Inputs,
    value: Cow<'a, RawValue>,
) -> Result<Cow<'a, RawValue>, QueueError> {
    let Ok(arguments) = Arguments::parse(value.get().as_bytes()) else { return Ok(value) };
    let normal = arguments.normalize(inputs).and_then(Arguments::into_raw);
    normal.map(Cow::Owned).map_err(|error| within(name, error))
}

fn normalize_objects<'a>(
    name: &str,
    inputs: &Inputs,
    value: Cow<'a, RawValue>,
) -> Result<Cow<'a, RawValue>, QueueError> {
    let Ok(objects) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else { return Ok(value) };
    let normalize = |(at, object)| normalize_object(&format!("{name}[{at}]"), inputs, Cow::Borrowed(object));
    let normal = objects.into_iter().enumerate().map(normalize).collect::<Result<Vec<_>, _>>()?;
    let normal = serde_json::value::to_raw_value(&normal).map_err(|error| QueueError::invalid(name, error))?;
    Ok(Cow::Owned(normal))
}

/// The error, naming the object that it was found in: `tasks[3].priorty`.
fn within(object: &str, mut error: QueueError) -> QueueError {
    error.message = format!("{object}: {}", error.message);
    error.field = error.field.map(|field| format!("{object}.{field}"));
    error
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

/// The refusal of an argument that is nested so deep that no type reads it.
fn too_deep(path: &str, value: &RawValue) -> Option<QueueError> {
    match Json::parse(value.get().to_owned()) {
        Err(error @ JsonError::TooDeep { .. }) => Some(QueueError::not_json(path, &error)),
        _ => None,
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

/// How the path of an error is written that has none.
const NO_PATH: &str = ".";
