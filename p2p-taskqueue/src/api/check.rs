use std::{
    collections::{BTreeMap, HashSet},
    ops::RangeInclusive,
};

use super::{
    QueueError,
    limits::{INPUTS_BYTES_MAX, INPUTS_MAX, NAME_BYTES_MAX, TASK_TYPES_MAX, WAIT_IDS_MAX},
};
use crate::task::{Json, TaskId};

/// Arguments that know their own bounds.
///
/// Whoever keeps the tasks checks before it acts, so that no carrier can be a way around a bound.
pub trait Check {
    /// Compares every argument with its bound.
    ///
    /// # Errors
    ///
    /// `invalid_argument` or `limit_exceeded`, naming the argument.
    fn check(&self) -> Result<(), QueueError>;
}

/// A text that must be there and short.
pub(super) fn name(field: &str, value: &str) -> Result<(), QueueError> {
    if value.trim().is_empty() {
        return Err(QueueError::invalid(field, "must not be empty"));
    }
    text(field, value, NAME_BYTES_MAX)?;
    if value.chars().any(char::is_control) {
        return Err(QueueError::invalid(field, "must not contain control characters"));
    }
    Ok(())
}

pub(super) fn text(field: &str, value: &str, bytes_max: usize) -> Result<(), QueueError> {
    if value.len() > bytes_max {
        return Err(QueueError::over_limit(field, value.len(), bytes_max, "bytes"));
    }
    Ok(())
}

pub(super) fn labels(field: &str, values: &[String], count_max: usize) -> Result<(), QueueError> {
    if values.len() > count_max {
        return Err(QueueError::over_limit(field, values.len(), count_max, "entries"));
    }
    values.iter().try_for_each(|label| name(field, label))
}

/// Leaves each entry once, where it comes first: these lists are sets, and a repeat says nothing more.
pub(crate) fn once(mut values: Vec<String>) -> Vec<String> {
    if values.len() > 1 {
        let mut known = HashSet::with_capacity(values.len());
        values.retain(|value| known.insert(value.clone()));
    }
    values
}

pub(super) fn ids(field: &str, ids: &[TaskId]) -> Result<(), QueueError> {
    if ids.is_empty() {
        return Err(QueueError::invalid(field, "must not be empty"));
    }
    if ids.len() > WAIT_IDS_MAX {
        return Err(QueueError::over_limit(field, ids.len(), WAIT_IDS_MAX, "ids"));
    }
    Ok(())
}

pub(super) fn task_types(field: &str, values: &[String]) -> Result<(), QueueError> {
    labels(field, values, TASK_TYPES_MAX)
}

/// What a worker asks for, or the answers.
pub(super) fn inputs(field: &str, values: &BTreeMap<String, Json>) -> Result<(), QueueError> {
    if values.len() > INPUTS_MAX {
        return Err(QueueError::over_limit(field, values.len(), INPUTS_MAX, "keys"));
    }
    values.keys().try_for_each(|key| name(field, key))?;
    let bytes = values.iter().map(|(key, value)| key.len() + value.len_bytes()).sum();
    if bytes > INPUTS_BYTES_MAX {
        return Err(QueueError::over_limit(field, bytes, INPUTS_BYTES_MAX, "bytes"));
    }
    Ok(())
}

pub(super) fn seconds(field: &str, value: Option<f64>, range: RangeInclusive<f64>) -> Result<(), QueueError> {
    match value {
        // NaN is in no range.
        Some(value) if !range.contains(&value) => {
            Err(QueueError::invalid(field, format!("must be from {} to {}", range.start(), range.end())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Claim, List, Submit};

    #[test]
    fn a_list_may_name_an_entry_twice() {
        let twice = || vec!["gpu".to_owned(), "ssd".to_owned(), "gpu".to_owned()];
        let claim = Claim { supported_task_types: twice(), labels: twice(), ..Claim::new("w") };
        let submit = Submit { labels: twice(), requires: twice(), ..Submit::new("a", Json::null()) };
        let list = List { task_types: twice(), ..List::default() };
        assert_eq!((claim.check(), submit.check(), list.check()), (Ok(()), Ok(()), Ok(())));
        assert_eq!(once(twice()), ["gpu", "ssd"]);
    }
}
