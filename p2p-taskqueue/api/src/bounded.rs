//! Lists that are read up to their bound, however many entries the text has.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use super::{
    Submit, ToolOffer, WorkerOffer,
    limits::{SUBMITS_MAX, TASK_TYPES_MAX, WORKERS_TOLD_MAX},
};

/// Reads the tasks of a submit.
pub(super) fn submits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Submit>, D::Error> {
    deserializer.deserialize_seq(AtMost::<Submit, SUBMITS_MAX>(PhantomData))
}

/// Reads the workers of a machine.
pub(super) fn offers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WorkerOffer>, D::Error> {
    deserializer.deserialize_seq(AtMost::<WorkerOffer, WORKERS_TOLD_MAX>(PhantomData))
}

/// Reads the task types of a worker.
pub(super) fn offered_types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ToolOffer>, D::Error> {
    deserializer.deserialize_seq(AtMost::<ToolOffer, TASK_TYPES_MAX>(PhantomData))
}

/// Reads up to `MAX` entries and one more, so that the check notices when there are too many.
///
/// The entries after that are skipped, so that a request with many small entries does not cost many times its size.
struct AtMost<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMost<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let mut read = Vec::new();
        while read.len() <= MAX
            && let Some(entry) = entries.next_element()?
        {
            read.push(entry);
        }
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Check as _, ErrorCode, SubmitMany};

    #[test]
    fn no_more_tasks_are_taken_in_than_it_takes_to_refuse_them() {
        let read = |count: usize| {
            let text = format!(r#"{{"tasks":[{}]}}"#, vec![r#"{"task_type":"t"}"#; count].join(","));
            serde_json::from_str::<SubmitMany>(&text).unwrap()
        };
        assert!(read(SUBMITS_MAX).check().is_ok());
        let over = read(100 * SUBMITS_MAX);
        assert_eq!(over.tasks.len(), SUBMITS_MAX + 1);
        assert_eq!(over.check().unwrap_err().code, ErrorCode::LimitExceeded);
        assert!(serde_json::from_str::<SubmitMany>(r#"{"tasks":{}}"#).is_err());
    }
}
