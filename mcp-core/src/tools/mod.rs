//! The tools. Each one is a row of the table; everything else follows from the types of its operation.

mod answer;
mod arguments;
mod docker;
mod list_peers;
mod machines;
mod names;
mod of_task;
mod run_task;
mod schema;
mod table;
mod tool;
mod verb;

pub(crate) use answer::ToolAnswer;
pub(crate) use arguments::Arguments;
pub(crate) use machines::Machines;
pub(crate) use names::Names;
pub(crate) use of_task::queued;
pub(crate) use run_task::{default_timeout_s, ran, run_task_output};
pub(crate) use schema::{Inputs, Object};
pub(crate) use table::table;
pub(crate) use tool::{Called, Hints, Tool};
