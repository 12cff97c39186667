use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{
    QueueError,
    limits::{INPUTS_BYTES_MAX, INPUTS_MAX, JSON_BYTES_MAX, NAME_BYTES_MAX, TASK_TYPES_MAX, WAIT_IDS_MAX},
};
use crate::{Json, TaskId, Unreadable};

/// Arguments that know their own bounds.
///
/// The store's owner runs this check before it acts, so that no carrier can bypass a bound.
pub trait Check {
    /// Compares every argument with its bound.
    ///
    /// # Errors
    ///
    /// `invalid_argument` or `limit_exceeded`, naming the argument.
    fn check(&self) -> Result<(), QueueError>;
}

/// Checks a text that must not be empty and must be short.
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

/// Checks a payload, a result or a cached value. This is new content, and everybody who lists it must be able to read
/// it.
pub(super) fn content(field: &str, value: &Json) -> Result<(), QueueError> {
    let bytes = value.len_bytes();
    if bytes > JSON_BYTES_MAX {
        return Err(QueueError::over_limit(field, bytes, JSON_BYTES_MAX, "bytes"));
    }
    value.check_readable().map_err(|unreadable| match unreadable {
        Unreadable::TooDeep { levels } => QueueError::too_deep(field, levels),
        other => QueueError::invalid(field, other),
    })
}

pub(super) fn labels(field: &str, values: &[String], count_max: usize) -> Result<(), QueueError> {
    if values.len() > count_max {
        return Err(QueueError::over_limit(field, values.len(), count_max, "entries"));
    }
    values.iter().try_for_each(|label| name(field, label))
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

/// Checks the questions of a worker, or the answers to them.
pub(super) fn inputs(field: &str, values: &BTreeMap<String, Json>) -> Result<(), QueueError> {
    if values.len() > INPUTS_MAX {
        return Err(QueueError::over_limit(field, values.len(), INPUTS_MAX, "keys"));
    }
    values.keys().try_for_each(|key| name(field, key))?;
    let bytes = values.iter().map(|(key, value)| key.len() + value.len_bytes()).sum();
    if bytes > INPUTS_BYTES_MAX {
        return Err(QueueError::over_limit(field, bytes, INPUTS_BYTES_MAX, "bytes"));
    }
    values.iter().try_for_each(|(key, value)| content(&format!("{field}.{key}"), value))
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
    use crate::{
        Answer, At, CacheSet, CallTool, Claim, Complete, ErrorCode, Fence, List, Operation as _, Renew, Request,
        Submit, SubmitMany, Target, testing::odd_json,
    };

    /// Lists every request that brings new content, with the name of the argument that carries it.
    fn ways_in(json: &Json) -> Vec<(Request, &'static str)> {
        let (id, fence) = (TaskId::from_bytes([1; 16]), Fence { epoch: 1, counter: 1 });
        let (submit, fine) = (Submit::new("t", json.clone()), Submit::new("t", Json::null()));
        let inputs = || BTreeMap::from([("a".to_owned(), Json::null()), ("q".to_owned(), json.clone())]);
        let children = Complete { submit: vec![submit.clone()], ..Complete::new(id, fence, None) };
        let many = SubmitMany { tasks: vec![fine.clone(), fine.clone(), fine, submit.clone()] };
        let set = CacheSet { key: "k".to_owned(), value: json.clone(), ttl_s: None };
        let call = CallTool::new("t", json.clone());
        vec![
            (submit.into_request(), "payload"),
            (many.into_request(), "tasks[3].payload"),
            (Complete::new(id, fence, Some(json.clone())).into_request(), "result"),
            (children.into_request(), "submit[0].payload"),
            (Renew { input_requests: inputs(), ..Renew::new(id, fence, 5.0) }.into_request(), "input_requests.q"),
            (Answer { task_id: id, input_responses: inputs() }.into_request(), "input_responses.q"),
            (set.into_request(), "value"),
            (call.into_request(), "args"),
        ]
    }

    #[test]
    fn new_content_that_readers_stop_at_is_refused_by_name() {
        for text in odd_json::refused() {
            let json = Json::parse(text.clone()).unwrap();
            let depth = text.matches(['[', '{']).count();
            let expected = if depth > odd_json::DEEPEST {
                (ErrorCode::LimitExceeded, Some(odd_json::DEEPEST as u64), Some(depth as u64))
            } else {
                (ErrorCode::InvalidArgument, None, None)
            };
            for (request, field) in ways_in(&json) {
                let passed_on = At::request(Target::peer(crate::PeerId::random()), request.clone());
                for request in [request, passed_on] {
                    let error = request.check().unwrap_err();
                    assert_eq!(error.field.as_deref(), Some(field), "{text}: {error}");
                    assert_eq!((error.code, error.limit, error.value), expected, "{text}: {error}");
                }
            }
        }
    }

    #[test]
    fn content_that_is_merely_odd_is_taken() {
        for text in odd_json::kept() {
            for (request, field) in ways_in(&Json::parse(text.clone()).unwrap()) {
                assert_eq!(request.check(), Ok(()), "{field}: {text}");
            }
        }
    }

    #[test]
    fn a_list_may_name_an_entry_twice() {
        let twice = || vec!["gpu".to_owned(), "ssd".to_owned(), "gpu".to_owned()];
        let claim = Claim { supported_task_types: twice(), labels: twice(), ..Claim::new("w") };
        let submit = Submit { labels: twice(), requires: twice(), ..Submit::new("a", Json::null()) };
        let list = List { task_types: twice(), ..List::default() };
        assert_eq!((claim.check(), submit.check(), list.check()), (Ok(()), Ok(()), Ok(())));
    }
}
