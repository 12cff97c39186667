use std::{fmt, sync::Arc};

use futures::future::{self, BoxFuture};
use serde_json::json;
use taskqueue_api::QueueError;

use super::{
    answer::ToolAnswer,
    arguments::{Arguments, MULTIADDR, PEER, PEER_ALIAS},
    names::MadeOf,
    run_task::run_task_output,
    schema::{self, Alias, Inputs, Named, Object},
    verb::{Verb, WorkVerb},
};
use crate::{call::Asker, tasks::Work};

/// A tool: what clients are told about it, and what it does.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) hints: Hints,
    pub(crate) input: Arc<Object>,
    pub(crate) output: Arc<Object>,
    inputs: Inputs,
    made_of: &'static [MadeOf],
    run: Run,
}

/// Reads the arguments as the verb's own and does it, or says what is to be done.
type Run = for<'a> fn(Asker<'a>, Arguments<'a>) -> BoxFuture<'a, Result<Called, QueueError>>;

/// What a call of a tool has come to.
#[derive(Debug)]
pub(crate) enum Called {
    /// It is done.
    Answered(ToolAnswer),
    /// A task is to be submitted, and its end is the answer.
    Work(Box<Work>),
}

/// What a client may assume of a tool before it asks its user.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "the four hints of the protocol, each independent of the others")]
pub(crate) struct Hints {
    pub(crate) read_only: bool,
    pub(crate) destructive: bool,
    pub(crate) idempotent: bool,
    pub(crate) open_world: bool,
}

impl Hints {
    /// Changes nothing.
    pub(super) const READS: Self = Self { read_only: true, destructive: false, idempotent: true, open_world: false };
    /// Each call does something more.
    pub(super) const ACTS: Self = Self { read_only: false, destructive: false, idempotent: false, open_world: false };
    /// Does something; the same call again does no more.
    pub(super) const SETTLES: Self = Self { idempotent: true, ..Self::ACTS };
    /// Undoes somebody's work.
    pub(super) const UNDOES: Self = Self { destructive: true, ..Self::SETTLES };
    /// Makes a worker do whatever it does, somewhere.
    pub(super) const STARTS_WORK: Self = Self { open_world: true, ..Self::ACTS };
}

impl Tool {
    /// A row of the table, of which the rest follows from the verb's types.
    pub(super) const fn of<V: Verb>(name: &'static str, title: &'static str, hints: Hints) -> Row {
        Row {
            name,
            title,
            hints,
            peer_alias: false,
            aliases: &[],
            ignored: &[],
            made_of: V::MADE_OF,
            input: schema::input::<V>,
            output: schema::output::<V::Answer>,
            run: run::<V>,
        }
    }

    /// A row for a tool that submits one task, whose end is the answer.
    pub(super) const fn of_work<J: WorkVerb>(name: &'static str, title: &'static str, hints: Hints) -> Row {
        Row {
            name,
            title,
            hints,
            peer_alias: false,
            aliases: &[],
            ignored: &[],
            made_of: &[],
            input: schema::input::<J>,
            output: run_task_output,
            run: read_work::<J>,
        }
    }

    /// Calls the tool with its arguments, a JSON object.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the queue's call: its answer is given up, not what it may have done.
    pub(crate) async fn call(&self, asker: Asker<'_>, arguments: &[u8]) -> Called {
        let arguments = Arguments::parse(arguments).and_then(|arguments| arguments.normalize(&self.inputs));
        let called = match arguments {
            Ok(arguments) => {
                let names = arguments.names(self.made_of.iter().copied().chain([TARGET_MADE_OF]));
                match (self.run)(asker, arguments).await {
                    Ok(Called::Work(work)) => Ok(Called::Work(Box::new(Work { names, ..*work }))),
                    called => called.map_err(|error| names.restore(error)),
                }
            }
            Err(error) => Err(error),
        };
        called.unwrap_or_else(|error| Called::Answered(ToolAnswer::refused(&error)))
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.name).finish_non_exhaustive()
    }
}

fn run<'a, V: Verb>(asker: Asker<'a>, mut arguments: Arguments<'a>) -> BoxFuture<'a, Result<Called, QueueError>> {
    Box::pin(async move {
        let target = arguments.take_target()?;
        let answer = V::read(arguments)?.run(asker, target).await?;
        ToolAnswer::done(&answer).map(Called::Answered)
    })
}

fn read_work<'a, J: WorkVerb>(_: Asker<'a>, mut arguments: Arguments<'a>) -> BoxFuture<'a, Result<Called, QueueError>> {
    let target = arguments.take_target();
    let work = target.and_then(|target| Ok(J::read(arguments)?.at(target)));
    Box::pin(future::ready(work.map(|work| Called::Work(Box::new(work)))))
}

/// A tool as the table writes it down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    name: &'static str,
    title: &'static str,
    hints: Hints,
    peer_alias: bool,
    aliases: &'static [Alias],
    ignored: &'static [Named],
    made_of: &'static [MadeOf],
    input: fn() -> Object,
    output: fn() -> Arc<Object>,
    run: Run,
}

impl Row {
    /// Also takes `peer_id` for `remote_peer_id`.
    pub(super) const fn with_peer_alias(self) -> Self {
        Self { peer_alias: true, ..self }
    }

    /// Other names of arguments.
    pub(super) const fn with_aliases(self, aliases: &'static [Alias]) -> Self {
        Self { aliases, ..self }
    }

    /// Arguments that some callers send and that mean nothing here.
    pub(super) const fn with_ignored(self, ignored: &'static [Named]) -> Self {
        Self { ignored, ..self }
    }

    /// Ends the row with what the tool's user should know, and makes the tool.
    pub(super) fn described(self, description: &'static str) -> Tool {
        let mut input = (self.input)();
        for (name, what) in TARGET {
            schema::add(&mut input, name, json!({ "type": "string", "description": what }));
        }
        let mut aliases = self.aliases.to_vec();
        if self.peer_alias {
            aliases.push((PEER_ALIAS, PEER));
            let what = format!("The same as {PEER}.");
            schema::add(&mut input, PEER_ALIAS, json!({ "type": "string", "description": what }));
        }
        for (name, what) in self.ignored {
            schema::add(&mut input, name, json!({ "description": what }));
        }
        let inputs = Inputs::new(&input, self.ignored, aliases);
        Tool {
            name: self.name,
            title: self.title,
            description,
            hints: self.hints,
            input: Arc::new(input),
            output: (self.output)(),
            inputs,
            made_of: self.made_of,
            run: self.run,
        }
    }
}

const TARGET: [Named; 2] = [
    (MULTIADDR, "The address of the peer to ask, ending in /p2p/PEER_ID. None: the local node."),
    (PEER, "The id of the peer to ask, as list_peers shows it. None: the local node."),
];

/// What carriers call the peer that is meant.
const TARGET_MADE_OF: MadeOf = ("target", &[MULTIADDR, PEER]);
