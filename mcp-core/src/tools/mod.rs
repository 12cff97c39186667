//! The tools: one row of the table for each, everything else follows from the operation's types.

mod answer;
mod arguments;
mod list_peers;
mod run_task;
mod schema;
mod table;
mod tool;
mod verb;

pub(crate) use answer::Answer;
pub(crate) use run_task::ran;
pub(crate) use table::table;
pub(crate) use tool::{Called, Hints, Tool};
