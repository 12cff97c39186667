//! Lists that are read up to their bound, however many entries the text has.

use std::fmt;

use serde::{
    Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use super::{Submit, limits::SUBMITS_MAX};

/// Reads the tasks of a submit: up to the bound and one more, so that the check notices when there are too many.
///
/// The entries after that are skipped, so that a request with many small tasks does not cost many times its size.
pub(super) fn submits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Submit>, D::Error> {
    deserializer.deserialize_seq(Submits)
}

struct Submits;

impl<'de> Visitor<'de> for Submits {
    type Value = Vec<Submit>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence of tasks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<Submit>, A::Error> {
        let mut submits = Vec::new();
        while submits.len() <= SUBMITS_MAX
            && let Some(submit) = entries.next_element()?
        {
            submits.push(submit);
        }
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(submits)
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
