//! Workers: they claim tasks from the local queue and from every connected peer, run them, and report how they ended.
//!
//! A [`Worker`] takes tasks of some types, a few at a time. It keeps one long poll open at each source: the local queue
//! and every peer that serves. While a [`Handler`] works, it renews the lease. It repeats the report of the end until
//! the task's owner has answered it, so that no result is lost while an owner restarts.
//!
//! One renewal waits at the owner as long as the handler works. So the worker learns at once that its task was
//! cancelled, or that a question was answered. A handler reports progress and asks questions through its [`Contact`].

mod attempt;
mod command;
mod contact;
mod handler;
mod pool;
mod renewals;
mod telling;

pub use command::{CommandHandler, ParseCommandError, SUPERVISE, supervise};
pub use contact::{AskError, Contact, Source};
pub use handler::{AttemptEnd, Handler};
pub use pool::{Worker, WorkerConfig};

/// Compiles and runs the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
