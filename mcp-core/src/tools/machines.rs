use std::borrow::Cow;

use serde::Deserialize as _;
use serde_json::value::RawValue;
use taskqueue_api::{MachineNames, Members, Outcome, QueueError, Target, whole_peer_id};

use crate::call::Asker;

/// What is known of the machines of the mesh while the arguments of a call are read.
///
/// Arguments are read without knowing anything at first, because most calls name no machine, or name it by its peer id.
/// When one is named otherwise, the local node is asked for the members, and the arguments are read once more.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    /// The answer of the local node, once it has been asked.
    answered: Option<Result<MachineNames, QueueError>>,
    is_wanted: bool,
}

impl Machines {
    /// Asks the local node which machines there are, in the name of the client.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub(super) async fn ask(asker: Asker<'_>) -> Self {
        let listed = asker.ask(Target::default(), Members {}).await;
        // The question failed, and the operation has not begun.
        let answered = listed.map(|listed| MachineNames::from(&listed)).map_err(|mut error| {
            (error.outcome, error.field) = (Outcome::NotApplied, None);
            error
        });
        Self { answered: Some(answered), is_wanted: false }
    }

    /// Returns whether an argument named a machine in a way for which the members have to be known.
    pub(super) const fn are_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Returns the peer id that a name, or the beginning of a peer id, stands for. Any other value is returned as it is,
    /// and so is every value as long as nothing is known.
    ///
    /// # Errors
    ///
    /// As [`MachineNames::find`], naming the argument, and the error of the node that was asked.
    pub(super) fn read<'a>(
        &mut self,
        argument: &str,
        value: Cow<'a, RawValue>,
    ) -> Result<Cow<'a, RawValue>, QueueError> {
        // What is no text is refused by the type that reads it.
        let Ok(text) = String::deserialize(&*value) else { return Ok(value) };
        let text = text.trim();
        if text.is_empty() || whole_peer_id(text).is_some() {
            return Ok(value);
        }
        let found = match &self.answered {
            None => {
                self.is_wanted = true;
                return Ok(value);
            }
            Some(Ok(names)) => names.find(text),
            Some(Err(error)) => Err(error.clone()),
        };
        let peer = found.map_err(|error| error.within(argument))?.to_base58();
        let peer = serde_json::value::to_raw_value(&peer).map_err(|error| QueueError::invalid(argument, error))?;
        Ok(Cow::Owned(peer))
    }
}
