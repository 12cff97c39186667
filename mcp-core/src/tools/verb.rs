use std::future::Future;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use taskqueue_api::{Facts, Operation, QueueError, Target};

use super::{arguments::Arguments, names::MadeOf};
use crate::{call::Asker, tasks::Work};

/// What a tool does: an operation of the queue, or a few of them together.
pub(super) trait Verb: JsonSchema + Send + Sized {
    /// The members of the answer beside `ok`.
    type Answer: Serialize + JsonSchema + Send;

    /// The operation without which the verb does nothing. Clients that may not ask for it are not shown the tool.
    const NEEDS: Facts;

    /// The arguments of the operation that have another name in the tool, or are made of several arguments of the tool.
    const MADE_OF: &'static [MadeOf] = &[];

    /// Reads the arguments that are left when those of the target have been taken out.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming the argument.
    fn read(arguments: Arguments<'_>) -> Result<Self, QueueError>;

    /// Runs the verb at the target.
    fn run(self, asker: Asker<'_>, target: Target) -> impl Future<Output = Result<Self::Answer, QueueError>> + Send;
}

/// What a tool does that submits one task and answers with its end.
pub(super) trait WorkVerb: JsonSchema + Sized {
    /// Reads the arguments that are left when those of the target have been taken out.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, naming the argument.
    fn read(arguments: Arguments<'_>) -> Result<Self, QueueError>;

    /// Returns the task to submit at the target.
    fn at(self, target: Target) -> Work;
}

impl<O> Verb for O
where
    O: Operation + DeserializeOwned + JsonSchema + Send + 'static,
    O::Answer: Serialize + JsonSchema + Send,
{
    type Answer = O::Answer;

    const NEEDS: Facts = O::FACTS;

    fn read(arguments: Arguments<'_>) -> Result<Self, QueueError> {
        arguments.into_type()
    }

    async fn run(self, asker: Asker<'_>, target: Target) -> Result<Self::Answer, QueueError> {
        asker.ask(target, self).await
    }
}
