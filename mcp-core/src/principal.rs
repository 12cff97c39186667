use std::sync::Arc;

use taskqueue_api::{Facts, Grants, Guard, QueueError, Request, Submit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::overload::overloaded;

/// The client in whose name a request is made, known by the token that it showed. When the server asks for no token,
/// all requests are in the name of the anonymous principal.
///
/// The checks before rmcp put it into the extensions of the HTTP request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Principal(Option<Arc<Client>>);

/// A client, what it may do, and its share of the server. Because of the share it cannot take the room of the others.
#[derive(Debug)]
struct Client {
    name: Box<str>,
    grants: Grants,
    /// The places for its requests. Each request holds one until it is answered.
    requests: Share,
    /// The places for its waits. Each call that waits holds one.
    waits: Share,
}

impl Principal {
    /// Makes the principal of a named client with these grants. It may have so many requests and so many waits at once.
    pub(crate) fn sharing(name: impl Into<Box<str>>, grants: Grants, requests_max: usize, waits_max: usize) -> Self {
        Self(Some(Arc::new(Client {
            name: name.into(),
            grants,
            requests: Share::new(requests_max),
            waits: Share::new(waits_max),
        })))
    }

    /// Returns the name of the client, as its tasks carry it; `None` for the anonymous principal.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|client| &*client.name)
    }

    /// Returns the guard over the requests of this client; `None` for the anonymous principal, which may do everything.
    pub(crate) fn guard(&self) -> Option<Guard<'_>> {
        self.0.as_ref().map(|client| Guard::of_client(&client.name, &client.grants))
    }

    /// Tells whether this client may ask for an operation at all.
    pub(crate) fn allows(&self, facts: &Facts) -> bool {
        self.guard().is_none_or(|guard| guard.allows(facts))
    }

    /// Takes room for one more request of this client. The anonymous principal has no share and gets `None`: only the
    /// server's own bound applies to it.
    ///
    /// # Errors
    ///
    /// `overloaded` when the client's share is used up.
    pub(crate) fn request(&self) -> Result<Option<OwnedSemaphorePermit>, QueueError> {
        let take = |client: &Arc<Client>| client.requests.take("this client has too many requests at once");
        self.0.as_ref().map(take).transpose()
    }

    /// Takes room for one more wait of this client, as [`request`](Self::request) does for a request.
    pub(crate) fn wait(&self) -> Result<Option<OwnedSemaphorePermit>, QueueError> {
        let take = |client: &Arc<Client>| {
            client.waits.take("too many calls of this client wait already: ask without waiting, or later")
        };
        self.0.as_ref().map(take).transpose()
    }

    /// Returns how many requests and how many waits the client has at this moment.
    pub(crate) fn load(&self) -> (usize, usize) {
        self.0.as_ref().map_or((0, 0), |client| (client.requests.taken(), client.waits.taken()))
    }

    /// Writes the name of the client as the submitter into every task that the request submits.
    pub(crate) fn sign(&self, request: &mut Request) {
        let name = || self.name().map(str::to_owned);
        let sign_all = |submits: &mut [Submit]| submits.iter_mut().for_each(|submit| submit.submitter = name());
        match request {
            Request::Submit(submit) => submit.submitter = name(),
            Request::SubmitMany(many) => sign_all(&mut many.tasks),
            Request::Complete(complete) => sign_all(&mut complete.submit),
            // The node that answers the call submits the task.
            Request::CallTool(call) => call.submitter = name(),
            _ => {}
        }
    }
}

/// A fixed number of places. The taken ones can be counted.
#[derive(Debug)]
pub(crate) struct Share {
    places: Arc<Semaphore>,
    max: usize,
}

impl Share {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(max)), max }
    }

    /// Takes one place. It is free again when the permit is dropped.
    ///
    /// # Errors
    ///
    /// `overloaded`, with this message, when all places are taken.
    pub(crate) fn take(&self, message: &str) -> Result<OwnedSemaphorePermit, QueueError> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| overloaded(message))
    }

    /// Returns how many places are taken at this moment.
    pub(crate) fn taken(&self) -> usize {
        self.max.saturating_sub(self.places.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use taskqueue_api::{
        Adds, CallTool, ErrorCode, Json, Operation, PeerId, Role, SubmitMany,
        testing::exchanges::{Cast, exchanges},
    };

    use super::*;
    use crate::overload::RETRY_AFTER_S;

    fn laptop(requests_max: usize, waits_max: usize) -> Principal {
        Principal::sharing("laptop", Grants::of(Role::Member), requests_max, waits_max)
    }

    #[test]
    fn a_task_carries_the_name_of_whoever_submits_it_and_no_other() {
        let forged = Submit { submitter: Some("somebody".to_owned()), ..Submit::new("wordcount", Json::null()) };
        for (principal, name) in [(laptop(1, 1), Some("laptop")), (Principal::default(), None)] {
            let mut request = SubmitMany { tasks: vec![forged.clone()] }.into_request();
            principal.sign(&mut request);
            let Request::SubmitMany(many) = request else { panic!("{request:?}") };
            assert_eq!(many.tasks[0].submitter.as_deref(), name);
            let call = CallTool::new("wordcount", Json::null());
            let mut request = CallTool { submitter: forged.submitter.clone(), ..call }.into_request();
            principal.sign(&mut request);
            let Request::CallTool(call) = request else { panic!("{request:?}") };
            assert_eq!(call.submitter.as_deref(), name);
        }
    }

    #[test]
    fn every_operation_that_adds_tasks_signs_them() {
        let [dialler, listener] = [(); 2].map(|()| PeerId::random());
        let cast = Cast { dialler, listener, ticket: "a ticket".to_owned() };
        let mut signed = 0;
        for (mut request, _) in exchanges(&cast) {
            laptop(1, 1).sign(&mut request);
            if let Adds::Tasks(submits) = request.adds() {
                signed += submits.len();
                assert!(submits.iter().all(|one| one.submitter.as_deref() == Some("laptop")), "{request:?}");
            }
        }
        assert!(signed > 0, "the examples add tasks");
    }

    #[test]
    fn a_share_is_used_up_and_given_back() {
        let client = laptop(2, 1);
        let held = (client.request().unwrap(), client.clone().request().unwrap(), client.wait().unwrap());
        assert_eq!(client.load(), (2, 1));
        for error in [client.request().unwrap_err(), client.wait().unwrap_err()] {
            assert_eq!((error.code, error.retry_after_s), (ErrorCode::Overloaded, Some(RETRY_AFTER_S)));
        }
        drop(held);
        assert_eq!(client.load(), (0, 0));
        assert!(client.request().is_ok() && client.wait().is_ok());
    }

    #[test]
    fn nobody_in_particular_has_no_share() {
        assert!(Principal::default().request().unwrap().is_none());
        assert!(Principal::default().wait().unwrap().is_none());
    }
}
