//! What stands before rmcp: each file one reason to turn a request away.

mod accept;
mod body;
mod gate;
mod health;
mod site;

pub(crate) use body::RawArguments;
pub(crate) use gate::{Gate, admit};
pub(crate) use health::{health, ready};
