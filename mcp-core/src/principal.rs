use std::sync::Arc;

use p2p_taskqueue::{Request, api::Submit};

/// Who asks: the name that goes with the token that was shown. Nobody in particular when the server asks for no token.
///
/// The checks before rmcp put it into the extensions of the HTTP request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Principal(Option<Arc<str>>);

impl Principal {
    /// The one of this name.
    pub(crate) fn named(name: impl Into<Arc<str>>) -> Self {
        Self(Some(name.into()))
    }

    /// Its name, as tasks carry it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Writes into every task that the request submits whose it is.
    pub(crate) fn sign(&self, request: &mut Request) {
        let submits: &mut [Submit] = match request {
            Request::Submit(submit) => std::slice::from_mut(submit),
            Request::SubmitMany(many) => &mut many.tasks,
            Request::Complete(complete) => &mut complete.submit,
            _ => &mut [],
        };
        submits.iter_mut().for_each(|submit| submit.submitter = self.name().map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use p2p_taskqueue::{Json, Operation, api::SubmitMany};

    use super::*;

    #[test]
    fn a_task_carries_the_name_of_whoever_submits_it_and_no_other() {
        let forged = Submit { submitter: Some("somebody".to_owned()), ..Submit::new("wordcount", Json::null()) };
        for (principal, name) in [(Principal::named("laptop"), Some("laptop")), (Principal::default(), None)] {
            let mut request = SubmitMany { tasks: vec![forged.clone()] }.into_request();
            principal.sign(&mut request);
            let Request::SubmitMany(many) = request else { panic!("{request:?}") };
            assert_eq!(many.tasks[0].submitter.as_deref(), name);
        }
    }
}
