use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    Answer, Answered, At, CacheDelete, CacheDeleted, CacheGet, CacheGot, CacheHad, CacheHas, CacheSet, CacheStored,
    CallTool, Caller, Cancel, Cancelled, Check, Claim, ClaimMany, Claimed, ClaimedMany, Complete, Completed, Discover,
    Discovered, ErrorCode, Fail, Failed, Get, GetMany, Got, GotMany, Heard, Heartbeat, Invitation, Invite, Join,
    Joined, Limit, Limited, List, ListTools, Listed, Pause, Paused, Peers, PeersListed, Purge, Purged, QueueError,
    Release, Released, Renew, Renewed, Resume, Resumed, Retried, Retry, Stats, StatsQuery, Status, StatusQuery, Submit,
    SubmitMany, Submitted, SubmittedMany, Target, ToolCalled, ToolsListed, Wait, Waited,
};

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
    /// Dropping the future gives the answer up, not the operation: one that changes something may have been applied. A
    /// claim whose answer is given up on this machine is given back.
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError>;
}

/// The arguments of one operation, tied to the type of their answer.
pub trait Operation: Check + Sized {
    /// The name on the wire.
    const NAME: &'static str;
    /// What is answered.
    type Answer;
    /// Wraps the arguments.
    fn into_request(self) -> Request;
    /// Unwraps the answer; gives it back when it is another operation's.
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

/// The one table of the operations.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:literal $method:ident: $request:ident => $answer:ident;)*) => {
        /// An operation and its arguments, as it travels.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Request {
            $($(#[$doc])* #[serde(rename = $name)] $request($request),)*
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

            /// The operation's name.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$request(_) => $name,)*
                    Self::At(_) => "at",
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
            const NAME: &'static str = $name;
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

            $($(#[$doc])*
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

operations! {
    /// Queue a task.
    "submit" submit: Submit => Submitted;
    /// Queue several tasks with one sync.
    "submit_many" submit_many: SubmitMany => SubmittedMany;
    /// Take a task under a lease.
    "claim" claim: Claim => Claimed;
    /// Take several tasks, each under a lease of its own.
    "claim_many" claim_many: ClaimMany => ClaimedMany;
    /// Extend a lease.
    "renew" renew: Renew => Renewed;
    /// End a task.
    "complete" complete: Complete => Completed;
    /// Report a failed attempt.
    "fail" fail: Fail => Failed;
    /// Give a task back.
    "release" release: Release => Released;
    /// Call a task off.
    "cancel" cancel: Cancel => Cancelled;
    /// Answer what a task's worker asks for.
    "answer" answer: Answer => Answered;
    /// Read one record.
    "get" get: Get => Got;
    /// Read several records.
    "get_many" get_many: GetMany => GotMany;
    /// Wait for tasks to end.
    "wait" wait: Wait => Waited;
    /// Read a page of records.
    "list" list: List => Listed;
    /// Count tasks by type and state.
    "stats" stats: StatsQuery => Stats;
    /// Queue dead letters again.
    "retry" retry: Retry => Retried;
    /// Remove ended tasks.
    "purge" purge: Purge => Purged;
    /// Hold the queue or types of it.
    "pause" pause: Pause => Paused;
    /// Let them go on.
    "resume" resume: Resume => Resumed;
    /// Set how many may run at once.
    "limit" limit: Limit => Limited;
    /// Read a value of the cache.
    "cache.get" cache_get: CacheGet => CacheGot;
    /// Ask whether the cache has a value.
    "cache.has" cache_has: CacheHas => CacheHad;
    /// Put a value into the cache.
    "cache.set" cache_set: CacheSet => CacheStored;
    /// Remove a value from the cache.
    "cache.delete" cache_delete: CacheDelete => CacheDeleted;
    /// Give a sign of life.
    "peer.heartbeat" heartbeat: Heartbeat => Heard;
    /// Ask a node how it stands.
    "status" status: StatusQuery => Status;
    /// Ask a node which peers it knows.
    "peers" peers: Peers => PeersListed;
    /// Look for peers.
    "discover" discover: Discover => Discovered;
    /// Ask a node which tools it offers.
    "list_tools" list_tools: ListTools => ToolsListed;
    /// Call a tool of a node.
    "call_tool" call_tool: CallTool => ToolCalled;
    /// Make a ticket.
    "invite" invite: Invite => Invitation;
    /// Join the mesh of a ticket.
    "join" join: Join => Joined;
}

impl Request {
    /// How long the operation asks to wait, in seconds, as its caller gave it: not checked, perhaps no time at all. A new
    /// operation that waits is named here, and every carrier then gives it its time.
    #[must_use]
    pub fn wait_s(&self) -> f64 {
        match self {
            Self::Claim(claim) => claim.wait_s,
            Self::ClaimMany(many) => many.claim.wait_s,
            Self::Complete(complete) => complete.claim_next.as_ref().map_or(0.0, |claim| claim.wait_s),
            Self::Renew(renew) => renew.wait_s,
            Self::Wait(wait) => wait.timeout_s,
            Self::Discover(discover) => discover.timeout_s,
            Self::CallTool(call) => call.timeout_s,
            Self::At(at) => at.request.wait_s(),
            _ => 0.0,
        }
    }

    /// Whether the operation may have taken effect while its answer still waits, so that who ends the wait does not know
    /// what became of it.
    #[must_use]
    pub fn changes_before_it_waits(&self) -> bool {
        match self {
            // A claim that is given up gives back what it may have been given.
            Self::Claim(_) | Self::ClaimMany(_) | Self::Wait(_) | Self::Discover(_) => false,
            Self::At(at) => at.request.changes_before_it_waits(),
            // A completion waits for the next task, a renewal for news, a call of a tool for its result.
            _ => true,
        }
    }
}

impl At {
    /// The operation, asked of the target; of the local node when it names none.
    #[must_use]
    pub fn request(target: Target, request: Request) -> Request {
        if target.is_local() { request } else { Request::At(Self { target, request: Box::new(request) }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, PeerId, Target};

    #[test]
    fn what_a_call_did_before_it_waits_is_left_open_when_the_wait_is_ended() {
        let (task, fence) = (crate::TaskId::from_bytes([1; 16]), crate::Fence { epoch: 1, counter: 1 });
        let call = CallTool { tool_name: "t".to_owned(), args: Json::null(), timeout_s: 5.0 };
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
