use std::{fmt, sync::Arc};

use futures::future::{self, BoxFuture};
use serde_json::json;
use taskqueue_api::{Facts, Operation as _, QueueError, Submit};

use super::{
    answer::ToolAnswer,
    arguments::{Arguments, MULTIADDR, PEER, PEER_ALIAS},
    machines::Machines,
    names::MadeOf,
    of_task::OfTask,
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
    /// The operation without which the tool does nothing.
    pub(crate) needs: Facts,
    inputs: Inputs,
    made_of: &'static [MadeOf],
    run: Run,
}

/// The function that reads the arguments into a verb. It then runs the verb, or returns the work that is to be
/// submitted.
type Run = for<'a> fn(Asker<'a>, Arguments<'a>) -> BoxFuture<'a, Result<Called, QueueError>>;

/// What a tool call came to.
#[derive(Debug)]
pub(crate) enum Called {
    /// The call is done, and this is its answer.
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
    /// Changes something more with each call.
    pub(super) const ACTS: Self = Self { read_only: false, destructive: false, idempotent: false, open_world: false };
    /// Changes something. The same call again changes nothing more.
    pub(super) const SETTLES: Self = Self { idempotent: true, ..Self::ACTS };
    /// Undoes somebody's work.
    pub(super) const UNDOES: Self = Self { destructive: true, ..Self::SETTLES };
    /// Makes a worker do its work, whose effects may be anywhere.
    pub(super) const STARTS_WORK: Self = Self { open_world: true, ..Self::ACTS };
}

impl Tool {
    /// Makes a row of the table. The rest follows from the types of the verb.
    pub(super) const fn of<V: Verb>(name: &'static str, title: &'static str, hints: Hints) -> Row {
        Row {
            name,
            title,
            hints,
            peer_alias: false,
            aliases: &[],
            ignored: &[],
            machines: MACHINES,
            needs: V::NEEDS,
            made_of: V::MADE_OF,
            input: schema::input::<V>,
            output: schema::output::<V::Answer>,
            run: run::<V>,
        }
    }

    /// Makes a row for a tool whose answer is about one task. When the task waits for a worker, a sentence says why.
    pub(super) const fn of_task<V: Verb<Answer: OfTask>>(name: &'static str, title: &'static str, hints: Hints) -> Row {
        Row { run: run_of_task::<V>, ..Self::of::<V>(name, title, hints) }
    }

    /// Makes a row for a tool that submits one task and answers with its end.
    pub(super) const fn of_work<J: WorkVerb>(name: &'static str, title: &'static str, hints: Hints) -> Row {
        Row {
            name,
            title,
            hints,
            peer_alias: false,
            aliases: &[],
            ignored: &[],
            machines: MACHINES,
            needs: Submit::FACTS,
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
    /// Dropping the future drops the call of the queue. The answer is lost, but the operation may have been applied.
    pub(crate) async fn call(&self, asker: Asker<'_>, arguments: &[u8]) -> Called {
        let called = match self.read(asker, arguments).await {
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

    /// Reads the arguments. Asks the local node for the machines of the mesh only when one is named otherwise than by its
    /// peer id.
    async fn read<'a>(&'a self, asker: Asker<'_>, arguments: &'a [u8]) -> Result<Arguments<'a>, QueueError> {
        let mut machines = Machines::default();
        let read = Arguments::parse(arguments)?.normalize(&self.inputs, &mut machines)?;
        if !machines.are_wanted() {
            return Ok(read);
        }
        let mut machines = Box::pin(Machines::ask(asker)).await;
        Arguments::parse(arguments)?.normalize(&self.inputs, &mut machines)
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.name).finish_non_exhaustive()
    }
}

fn run<'a, V: Verb>(asker: Asker<'a>, arguments: Arguments<'a>) -> BoxFuture<'a, Result<Called, QueueError>> {
    Box::pin(async move {
        let answer = answer::<V>(asker, arguments).await?;
        ToolAnswer::done(&answer).map(Called::Answered)
    })
}

fn run_of_task<'a, V: Verb<Answer: OfTask>>(
    asker: Asker<'a>,
    arguments: Arguments<'a>,
) -> BoxFuture<'a, Result<Called, QueueError>> {
    Box::pin(async move {
        let answer = answer::<V>(asker, arguments).await?;
        Ok(Called::Answered(ToolAnswer::done(&answer)?.about(&answer)))
    })
}

async fn answer<V: Verb>(asker: Asker<'_>, mut arguments: Arguments<'_>) -> Result<V::Answer, QueueError> {
    let target = arguments.take_target()?;
    V::read(arguments)?.run(asker, target).await
}

fn read_work<'a, J: WorkVerb>(_: Asker<'a>, mut arguments: Arguments<'a>) -> BoxFuture<'a, Result<Called, QueueError>> {
    let target = arguments.take_target();
    let work = target.and_then(|target| Ok(J::read(arguments)?.at(target)));
    Box::pin(future::ready(work.map(|work| Called::Work(Box::new(work)))))
}

/// A row of the table, from which a tool is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    name: &'static str,
    title: &'static str,
    hints: Hints,
    peer_alias: bool,
    aliases: &'static [Alias],
    ignored: &'static [Named],
    machines: &'static [&'static str],
    needs: Facts,
    made_of: &'static [MadeOf],
    input: fn() -> Object,
    output: fn() -> Arc<Object>,
    run: Run,
}

impl Row {
    /// Lets the tool also take `peer_id` for `remote_peer_id`.
    pub(super) const fn with_peer_alias(self) -> Self {
        Self { peer_alias: true, ..self }
    }

    /// Sets other names of arguments.
    pub(super) const fn with_aliases(self, aliases: &'static [Alias]) -> Self {
        Self { aliases, ..self }
    }

    /// Sets arguments that some callers send and that have no effect.
    pub(super) const fn with_ignored(self, ignored: &'static [Named]) -> Self {
        Self { ignored, ..self }
    }

    /// Sets the arguments that name machines, in place of the usual ones.
    pub(super) const fn with_machines(self, machines: &'static [&'static str]) -> Self {
        Self { machines, ..self }
    }

    /// Adds the description and makes the tool.
    pub(super) fn described(self, description: &'static str) -> Tool {
        let mut input = (self.input)();
        schema::describe_machines(&mut input, self.machines);
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
        let inputs = Inputs::new(&input, self.ignored, aliases, self.machines);
        Tool {
            name: self.name,
            title: self.title,
            description,
            hints: self.hints,
            input: Arc::new(input),
            output: (self.output)(),
            needs: self.needs,
            inputs,
            made_of: self.made_of,
            run: self.run,
        }
    }
}

const TARGET: [Named; 2] = [
    (MULTIADDR, "The address of the peer to ask, ending in /p2p/PEER_ID. None: the local node."),
    (PEER, "The machine to ask: its name, peer id, or the beginning of its peer id. None: the local node."),
];

/// The usual arguments that name machines, also within tasks.
const MACHINES: &[&str] = &[PEER, "pin_to", "machine"];

/// The name by which errors of carriers call the target.
const TARGET_MADE_OF: MadeOf = ("target", &[MULTIADDR, PEER]);
