use std::fmt;

use async_trait::async_trait;

use super::{At, Caller, Check, ErrorCode, Facts, QueueError, Request, Response, Target};

/// Something that answers operations: the queue in this process, a peer, another process, another runtime.
#[async_trait]
pub trait TaskQueue: Send + Sync + fmt::Debug {
    /// Answers one operation.
    ///
    /// # Errors
    ///
    /// A [`QueueError`], whose code says what kind of refusal or failure it is and whose outcome says whether the
    /// operation may have been applied.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer, not the operation: a change may still have been applied. A claim whose
    /// answer is dropped on this machine is given back.
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError>;
}

/// The arguments of one operation, tied to the type of their answer.
pub trait Operation: Check + Sized {
    /// The facts about the operation.
    const FACTS: Facts;
    /// The name on the wire.
    const NAME: &'static str = Self::FACTS.name;
    /// The type of the answer.
    type Answer;
    /// Wraps the arguments.
    fn into_request(self) -> Request;
    /// Unwraps the answer; returns the response when it answers another operation.
    ///
    /// # Errors
    ///
    /// The response itself when it answers another operation.
    fn from_response(response: Response) -> Result<Self::Answer, Box<Response>>;

    /// Unwraps what a queue answered.
    ///
    /// # Errors
    ///
    /// `internal` when it answers another operation.
    fn answer(response: Response) -> Result<Self::Answer, QueueError> {
        Self::from_response(response).map_err(|_| {
            QueueError::new(ErrorCode::Internal, format!("{} was answered with something else", Self::NAME))
        })
    }
}

/// Generates the types and the facts of the operations from their [table](super::table).
macro_rules! operations {
    ($($(#[doc = $doc:literal])* $name:literal $method:ident: $request:ident => $answer:ident {
        answered_by: $answered_by:ident, open_to: $open_to:ident, grant: $grant:ident,
        carries_content: $carries_content:literal, keeps_lease: $keeps_lease:literal,
        content_bytes: |$content_of:pat_param| $content_bytes:expr,
        route: |$route_of:pat_param| $route:expr,
        repeat: |$repeat_of:pat_param| $repeat:expr,
        waits_for: |$waits_of:pat_param| $waits_for:expr,
        hands_out: |$hands_of:pat_param| $hands_out:expr,
        needs_sync: |$sync_of:pat_param| $needs_sync:expr,
        adds: |$adds_of:pat_param| $adds:expr,
    })*) => {
        /// An operation and its arguments, as it travels.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Request {
            $($(#[doc = $doc])* #[serde(rename = $name)] $request($request),)*
            /// Ask another peer.
            At(At),
        }

        /// An operation's answer, as it travels.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Response {
            $(#[doc = concat!("Answers `", stringify!($method), "`.")] $answer($answer),)*
        }

        impl Request {
            /// The names of all operations, as a node's capabilities list them.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// What is true of each operation, in the order of the names.
            pub const OPERATIONS: &'static [Facts] = &[$(<$request as Operation>::FACTS),*];

            /// The operation's name.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                self.facts().name
            }

            /// The facts about the operation. For a request to another peer these are the facts about passing it on.
            #[must_use]
            pub const fn facts(&self) -> &'static Facts {
                match self {
                    $(Self::$request(_) => &<$request as Operation>::FACTS,)*
                    Self::At(_) => &Facts::PASSING_ON,
                }
            }

            /// The bytes of payloads, results, values and texts in the request.
            #[must_use]
            pub fn content_bytes(&self) -> usize {
                match self {
                    $(Self::$request($content_of) => $content_bytes,)*
                    Self::At(at) => at.request.content_bytes(),
                }
            }

            /// The tasks whose owner has to answer.
            #[must_use]
            pub fn route(&self) -> Route<'_> {
                match self {
                    $(Self::$request($route_of) => $route,)*
                    Self::At(_) => Route::Here,
                }
            }

            /// The effect of asking the same request twice.
            #[must_use]
            pub fn repeat(&self) -> Repeat {
                match self {
                    $(Self::$request($repeat_of) => $repeat,)*
                    // The session with this node cannot tell what a third node does with a change that arrives twice.
                    Self::At(at) => match at.request.repeat() {
                        Repeat::Reads => Repeat::Reads,
                        _ => Repeat::Differs,
                    },
                }
            }

            /// What the request waits for. It is the same for a request to another peer.
            #[must_use]
            pub fn waits_for(&self) -> Waits {
                match self {
                    $(Self::$request($waits_of) => $waits_for,)*
                    Self::At(at) => at.request.waits_for(),
                }
            }

            /// Whether the answer may hand out tasks. It is the same for a request to another peer.
            #[must_use]
            pub fn hands_out(&self) -> bool {
                match self {
                    $(Self::$request($hands_of) => $hands_out,)*
                    Self::At(at) => at.request.hands_out(),
                }
            }

            /// Whether the answer must wait until the change is on stable storage.
            #[must_use]
            pub fn needs_sync(&self) -> bool {
                match self {
                    $(Self::$request($sync_of) => $needs_sync,)*
                    Self::At(_) => false,
                }
            }

            /// What the request adds to the store.
            #[must_use]
            pub fn adds(&self) -> Adds<'_> {
                match self {
                    $(Self::$request($adds_of) => $adds,)*
                    Self::At(_) => Adds::Nothing,
                }
            }
        }

        impl Check for Request {
            fn check(&self) -> Result<(), QueueError> {
                match self {
                    $(Self::$request(arguments) => arguments.check(),)*
                    Self::At(At { target, request }) => {
                        target.check()?;
                        match &**request {
                            Self::At(_) => Err(QueueError::invalid("target", "a call is passed on once")),
                            request => request.check(),
                        }
                    }
                }
            }
        }

        $(impl Operation for $request {
            const FACTS: Facts = Facts {
                name: $name,
                about: concat!($($doc),*).trim_ascii_start(),
                answered_by: AnsweredBy::$answered_by,
                open_to: OpenTo::$open_to,
                grant: Grant::$grant,
                carries_content: $carries_content,
                keeps_lease: $keeps_lease,
            };
            type Answer = $answer;

            fn into_request(self) -> Request {
                Request::$request(self)
            }

            fn from_response(response: Response) -> Result<$answer, Box<Response>> {
                match response {
                    Response::$answer(answer) => Ok(answer),
                    other => Err(Box::new(other)),
                }
            }
        })*

        /// Typed methods over [`TaskQueue::call`], one for each operation.
        #[async_trait]
        pub trait TaskQueueExt: TaskQueue {
            /// Asks one operation and unwraps its answer.
            ///
            /// # Errors
            ///
            /// As [`TaskQueue::call`]; `internal` when the answer is another operation's.
            ///
            /// # Cancel safety
            ///
            /// As [`TaskQueue::call`].
            async fn ask<O>(&self, caller: &Caller, operation: O) -> Result<O::Answer, QueueError>
            where
                O: Operation + Send + 'static,
                O::Answer: Send,
            {
                O::answer(self.call(caller, operation.into_request()).await?)
            }

            $($(#[doc = $doc])*
            ///
            /// # Errors
            ///
            /// As [`TaskQueue::call`].
            ///
            /// # Cancel safety
            ///
            /// As [`TaskQueue::call`].
            async fn $method(&self, caller: &Caller, arguments: $request) -> Result<$answer, QueueError> {
                self.ask(caller, arguments).await
            })*
        }

        impl<Q: TaskQueue + ?Sized> TaskQueueExt for Q {}
    };
}

pub(super) use operations;

impl At {
    /// Directs the operation at the target, or at the local node when the target names no peer.
    #[must_use]
    pub fn request(target: Target, request: Request) -> Request {
        if target.is_local() { request } else { Request::At(Self { target, request: Box::new(request) }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallTool, Claim, Complete, Json, PeerId, Peers, Renew, StatusQuery, Submit, Wait};

    #[test]
    fn what_a_call_did_before_it_waits_is_left_open_when_the_wait_is_ended() {
        let (task, fence) = (crate::TaskId::from_bytes([1; 16]), crate::Fence { epoch: 1, counter: 1 });
        let call = CallTool { timeout_s: 5.0, ..CallTool::new("t", Json::null()) };
        let complete = Complete { claim_next: Some(Claim::new("w")), ..Complete::new(task, fence, None) };
        for request in [Renew::new(task, fence, 5.0).into_request(), call.into_request(), complete.into_request()] {
            assert!(request.changes_before_it_waits(), "{}", request.name());
            let passed_on = At::request(Target::peer(PeerId::random()), request);
            assert!(passed_on.changes_before_it_waits(), "{}", passed_on.name());
        }
        for request in [Claim::new("w").into_request(), Wait::one(task, 5.0).into_request()] {
            assert!(!request.changes_before_it_waits(), "{}", request.name());
        }
    }

    #[test]
    fn a_request_travels_with_its_payload_as_given() {
        let payload = Json::parse(r#"{"b":1.0,"a":[18446744073709551616]}"#.to_owned()).unwrap();
        let submit = Submit::new("wordcount", payload).into_request();
        let request = At::request(Target::peer(PeerId::random()), submit);
        let text = serde_json::to_string(&request).unwrap();
        assert!(text.contains(r#"{"b":1.0,"a":[18446744073709551616]}"#), "{text}");
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }

    #[test]
    fn a_request_is_named_on_the_wire_as_its_operation() {
        let text = serde_json::to_string(&Request::StatusQuery(StatusQuery::default())).unwrap();
        assert!(text.starts_with(r#"{"status":"#), "{text}");
    }

    #[test]
    fn fields_of_a_newer_peer_are_ignored() {
        let text = r#"{"get":{"task_id":"00112233445566778899aabbccddeeff","colour":"red"}}"#;
        assert_eq!(serde_json::from_str::<Request>(text).unwrap().name(), "get");
    }

    #[test]
    fn a_call_is_passed_on_once() {
        let target = Target::peer(PeerId::random());
        let once = At::request(target.clone(), Request::Peers(Peers::default()));
        assert!(once.check().is_ok());
        assert!(At::request(target, once).check().is_err());
    }
}
