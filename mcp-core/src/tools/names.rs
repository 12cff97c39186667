use std::borrow::Cow;

use taskqueue_api::QueueError;

/// An argument of an operation, and the arguments of the tool that it is made of.
pub(super) type MadeOf = (&'static str, &'static [&'static str]);

/// The caller's names for arguments that the operation of the tool knows by other names. With them an error of the
/// operation names what the caller wrote.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<(&'static str, Cow<'static, str>)>);

impl Names {
    pub(super) fn new(names: impl Iterator<Item = (&'static str, Cow<'static, str>)>) -> Self {
        Self(names.collect())
    }

    /// Returns the error with the caller's name of the argument.
    pub(crate) fn restore(&self, error: QueueError) -> QueueError {
        self.0.iter().fold(error, |error, (own, given)| rename(error, own, given))
    }
}

fn rename(mut error: QueueError, own: &str, given: &str) -> QueueError {
    let Some(rest) = error.field.as_deref().and_then(|field| field.strip_prefix(own)) else { return error };
    // The field may be a longer name that only begins like `own`.
    if !(rest.is_empty() || rest.starts_with(['.', '['])) {
        return error;
    }
    let field = format!("{given}{rest}");
    if let Some(message) = error.message.strip_prefix(own) {
        error.message = format!("{given}{message}");
    }
    error.field = Some(field);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_the_caller_wrote() {
        let names =
            Names::new([("timeout_s", "discovery_timeout_s".into()), ("payload", "volumes".into())].into_iter());
        for (own, given) in [
            ("timeout_s", "discovery_timeout_s"),
            ("payload", "volumes"),
            ("payload.x[1]", "volumes.x[1]"),
            ("payloads", "payloads"),
            ("limit", "limit"),
        ] {
            let error = names.restore(QueueError::invalid(own, "is wrong"));
            assert_eq!(error.field.as_deref(), Some(given));
            assert_eq!(error.message, format!("{given}: is wrong"));
        }
    }
}
