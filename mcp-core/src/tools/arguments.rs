use std::{borrow::Cow, collections::BTreeMap};

use serde::{
    Deserialize,
    de::{DeserializeOwned, value::MapDeserializer},
};
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};
use taskqueue_api::{Check as _, Json, JsonError, PlaceError, QueueError, Target, parse_address, parse_peer_id};

use super::{
    machines::Machines,
    names::{MadeOf, Names},
    schema::{Form, Inputs},
};

/// The arguments of one call by name. Each value is still the text that the client sent, so that a payload is passed on
/// as given.
#[derive(Debug)]
pub(crate) struct Arguments<'a> {
    values: BTreeMap<String, Cow<'a, RawValue>>,
    /// The inputs of the tool, once the arguments have been compared with them.
    inputs: Option<&'a Inputs>,
    /// The arguments that were given under an alias, each with the alias.
    aliased: Vec<(&'static str, String)>,
}

impl<'a> Arguments<'a> {
    /// Takes a JSON object apart.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when the text is no JSON object.
    pub(crate) fn parse(object: &'a [u8]) -> Result<Self, QueueError> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(object)
            .map_err(|error| QueueError::invalid("arguments", format_args!("must be a JSON object: {error}")))?;
        let values = fields.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
        Ok(Self { values, inputs: None, aliased: Vec::new() })
    }

    /// Compares the arguments with the inputs of the tool. Forms that agents write instead are brought into the form
    /// that the tool takes, and names of machines become peer ids as far as they are known.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming the argument that is unknown, missing, malformed, or given twice with different
    /// values. `not_found`, naming the argument that names a machine which is not there.
    pub(crate) fn normalize(self, inputs: &'a Inputs, machines: &mut Machines) -> Result<Self, QueueError> {
        let mut normal: BTreeMap<String, Cow<'a, RawValue>> = BTreeMap::new();
        let mut aliased = Vec::new();
        // Names before their aliases, so that a contradiction is blamed on the alias.
        let (aliases, names): (Vec<_>, Vec<_>) =
            self.values.into_iter().partition(|(given, _)| inputs.meant_by(given).is_some());
        for (given, value) in names.into_iter().chain(aliases) {
            let own = inputs.meant_by(&given);
            let name = own.unwrap_or(&given);
            let Some(input) = inputs.get(name) else {
                return Err(QueueError::invalid(&given, unknown(&given, inputs)));
            };
            let Some(value) = input.form.normalize(&given, input.required, value, machines)? else { continue };
            // Two texts may mean one machine. That shows when the machines are known.
            let differs = |other: &Cow<'_, RawValue>| other.get() != value.get() && !machines.are_wanted();
            if normal.get(name).is_some_and(differs) {
                return Err(QueueError::invalid(&given, format_args!("contradicts {name}, which means the same")));
            }
            let is_new = normal.insert(name.to_owned(), value).is_none();
            aliased.extend(own.filter(|_| is_new).map(|own| (own, given)));
        }
        match inputs.required().find(|name| !normal.contains_key(*name)) {
            Some(name) => Err(QueueError::invalid(name, "is required")),
            None => Ok(Self { values: normal, inputs: Some(inputs), aliased }),
        }
    }

    /// Returns the caller's names for arguments that the operation knows by other names. These are aliases, and
    /// arguments that the tool makes of others; of several others the largest is named.
    pub(super) fn names(&self, made_of: impl Iterator<Item = MadeOf>) -> Names {
        let len = |name: &&&str| self.values.get(**name).map_or(0, |value| value.get().len());
        let made = made_of.filter_map(|(whole, parts)| {
            // Of equally large ones it is the first.
            parts.iter().rev().max_by_key(len).map(|part| (whole, Cow::Borrowed(*part)))
        });
        Names::new(made.chain(self.aliased.iter().map(|(own, given)| (*own, Cow::Owned(given.clone())))))
    }

    /// Takes out the arguments that name the target.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when one of them is malformed, or they contradict each other.
    pub(super) fn take_target(&mut self) -> Result<Target, QueueError> {
        let remote_multiaddr = self.take_parsed(MULTIADDR, parse_address)?;
        let target = Target { remote_multiaddr, remote_peer_id: self.take_parsed(PEER, parse_peer_id)? };
        target.check()?;
        Ok(target)
    }

    /// Takes out one argument.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when it does not fit the type.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, QueueError> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let read: Result<BTreeMap<String, T>, _> = read(std::iter::once((name, &**value)));
        let mut read = read.map_err(|error| self.blamed(error.path(), error.inner()))?;
        self.values.remove(name);
        Ok(read.remove(name))
    }

    /// Reads the remaining arguments into a type.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming the argument that does not fit the type.
    pub(super) fn into_type<T: DeserializeOwned>(self) -> Result<T, QueueError> {
        self.read_without(None).map_err(|error| {
            if error.path().iter().next().is_some() {
                return self.blamed(error.path(), error.inner());
            }
            let argument = self.blame::<T>(&error.inner().to_string());
            QueueError::invalid(argument.unwrap_or("arguments"), without_place(error.inner()))
        })
    }

    fn read_without<T: DeserializeOwned>(&self, left_out: Option<&str>) -> Result<T, ReadError> {
        let fields = self.values.iter().filter(|(name, _)| Some(name.as_str()) != left_out);
        read(fields.map(|(name, value)| (name.as_str(), &**value)))
    }

    /// Returns the argument to blame for an error that names no place, as errors in a flattened part do.
    ///
    /// Each argument is left out in turn. If the error then changes or goes away, that argument is to blame. Leaving
    /// out a required argument always changes the error, because the argument is then missing. So the required ones are
    /// tried last.
    fn blame<T: DeserializeOwned>(&self, error: &str) -> Option<&str> {
        let changes = |name: &&str| match self.read_without::<T>(Some(name)) {
            Err(other) => other.inner().to_string() != error,
            Ok(_) => true,
        };
        let is_required =
            |name: &str| self.inputs.and_then(|inputs| inputs.get(name)).is_some_and(|input| input.required);
        let (required, optional): (Vec<&str>, Vec<_>) =
            self.values.keys().map(String::as_str).partition(|name| is_required(name));
        optional.into_iter().chain(required).find(changes)
    }

    /// Makes the error for an argument of a wrong type. The parser's own place in the text of the argument would
    /// mislead, so it is left out.
    fn blamed(&self, path: &Path, error: &serde_json::Error) -> QueueError {
        let (argument, message) = (argument_at(self.inputs, path), without_place(error));
        let whole = argument.split(['.', '[']).next().and_then(|name| self.values.get(name));
        if let Some(error) = whole.and_then(|value| too_deep(&argument, value)) {
            return error;
        }
        let path = path.to_string();
        match path == argument {
            true => QueueError::invalid(&argument, message),
            false => QueueError::invalid(&argument, format_args!("{message} (at {path})")),
        }
    }

    fn into_raw(self) -> Result<Box<RawValue>, QueueError> {
        serde_json::value::to_raw_value(&self.values).map_err(|error| QueueError::invalid("arguments", error))
    }

    fn take_parsed<T>(
        &mut self,
        name: &str,
        parse: fn(&str) -> Result<T, PlaceError>,
    ) -> Result<Option<T>, QueueError> {
        let text: Option<String> = self.take(name)?;
        text.map(|text| parse(text.trim()).map_err(|error| QueueError::invalid(name, error))).transpose()
    }
}

impl Form {
    /// Brings a value into the form that the tool takes. An optional argument that is an empty text or null is dropped,
    /// unless it may be any value. A text becomes a list where an optional list of texts is meant. Objects within are
    /// read as strictly as the arguments themselves.
    fn normalize<'a>(
        &self,
        name: &str,
        required: bool,
        value: Cow<'a, RawValue>,
        machines: &mut Machines,
    ) -> Result<Option<Cow<'a, RawValue>>, QueueError> {
        let text = value.get();
        Ok(match self {
            Self::Anything => Some(value),
            Self::Ignored => None,
            _ if !required && matches!(text, "null" | "\"\"") => None,
            Self::Machine => Some(machines.read(name, value)?),
            Self::Object(inputs) => Some(Cow::Owned(normalize_object(name, inputs, &value, machines)?)),
            Self::Objects(inputs) => Some(Cow::Owned(normalize_objects(name, inputs, &value, machines)?)),
            _ if required => Some(value),
            Self::Texts => match split(&value) {
                Some(texts) => Some(Cow::Owned(texts)),
                None => Some(value),
            },
            Self::Text | Self::Other => Some(value),
        })
    }
}

/// Compares an object within the arguments with its inputs. Anything else is refused here, because the type that reads
/// it would accept a list as the values of its fields in order.
fn normalize_object(
    name: &str,
    inputs: &Inputs,
    value: &RawValue,
    machines: &mut Machines,
) -> Result<Box<RawValue>, QueueError> {
    if !value.get().starts_with('{') {
        return Err(QueueError::invalid(name, "must be an object"));
    }
    let normal = Arguments::parse(value.get().as_bytes())
        .and_then(|arguments| arguments.normalize(inputs, machines))
        .and_then(Arguments::into_raw);
    normal.map_err(|error| error.within(name))
}

fn normalize_objects(
    name: &str,
    inputs: &Inputs,
    value: &RawValue,
    machines: &mut Machines,
) -> Result<Box<RawValue>, QueueError> {
    let Ok(objects) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else {
        return Err(QueueError::invalid(name, "must be a list of objects"));
    };
    let normalize = |(at, object)| normalize_object(&format!("{name}[{at}]"), inputs, object, machines);
    let normal = objects.into_iter().enumerate().map(normalize).collect::<Result<Vec<_>, _>>()?;
    serde_json::value::to_raw_value(&normal).map_err(|error| QueueError::invalid(name, error))
}

/// Turns the text `"a, b"` into `["a","b"]`. Returns `None` when the value is not a text.
fn split(value: &RawValue) -> Option<Box<RawValue>> {
    let text = String::deserialize(value).ok()?;
    let texts: Vec<_> = text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
    serde_json::value::to_raw_value(&texts).ok()
}

fn unknown(name: &str, inputs: &Inputs) -> String {
    match taskqueue_api::nearest(name, inputs.names()) {
        Some(known) => format!("unknown argument; did you mean {known}?"),
        None => format!("unknown argument; known are {}", inputs.names().collect::<Vec<_>>().join(", ")),
    }
}

/// Returns the refusal of an argument that is nested so deep that no type reads it, or `None` for another one.
fn too_deep(argument: &str, value: &RawValue) -> Option<QueueError> {
    match Json::parse(value.get().to_owned()) {
        Err(error @ JsonError::TooDeep { .. }) => Some(QueueError::not_json(argument, &error)),
        _ => None,
    }
}

fn read<'a, T: DeserializeOwned>(fields: impl Iterator<Item = (&'a str, &'a RawValue)>) -> Result<T, ReadError> {
    serde_path_to_error::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields))
}

type ReadError = serde_path_to_error::Error<serde_json::Error>;

/// Returns the argument at a path, as deep as the schema names arguments. The contents of a list of texts or of a free
/// object are part of their argument.
fn argument_at(inputs: Option<&Inputs>, path: &Path) -> String {
    let mut argument = String::new();
    let mut form: Option<&Form> = None;
    let mut inputs = inputs;
    for segment in path {
        match (segment, form, inputs) {
            (Segment::Map { key }, _, Some(known)) => {
                let dot = if argument.is_empty() { "" } else { "." };
                argument.push_str(&format!("{dot}{key}"));
                form = known.get(key).map(|input| &input.form);
                inputs = if let Some(Form::Object(inner)) = form { Some(inner) } else { None };
            }
            (Segment::Seq { index }, Some(Form::Objects(inner)), _) => {
                argument.push_str(&format!("[{index}]"));
                (form, inputs) = (None, Some(inner));
            }
            _ => break,
        }
    }
    argument
}

fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map(|(message, _)| message.to_owned()).unwrap_or(message)
}

/// The names of the arguments for the target.
pub(super) const MULTIADDR: &str = "remote_multiaddr";
pub(super) const PEER: &str = "remote_peer_id";
/// Another name that some callers use for [`PEER`].
pub(super) const PEER_ALIAS: &str = "peer_id";
