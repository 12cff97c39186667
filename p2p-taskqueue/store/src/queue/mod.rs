//! The logic that all stores share: a writer thread makes every decision and every change; reader threads work beside
//! it.
//!
//! ```text
//! callers ──bounded──▶ writer: all waiting commands, one transaction, one commit ──▶ sync ──▶ answers
//!         ──bounded──▶ readers: a snapshot each; what they saw is synced before they answer
//! ```
//!
//! When other commands wait, the sync is left to a thread of its own, and the writer goes on with the next transaction.
//!
//! | file | content |
//! |---|---|
//! | `store`, `stats` | the handle that callers hold; starting and closing; the numbers of a queue |
//! | `opening` | the transaction that every opening of a store begins with |
//! | `work` | what callers send to the writer, and its replies |
//! | `writer`, `syncer`, `recovery` | the writer thread: batches, commits, the timer; syncs; recovery from failures |
//! | `room` | what is refused while the disk is full, and when it is accepted again |
//! | `batch` | the content of one transaction, in order |
//! | `timeline` | elapsed time, which goes on over restarts |
//! | `turn` | one transaction: finding tasks, moving them from state to state |
//! | `recorder` | the rows as a transaction sees them, and a record of its writes: every write goes through here |
//! | `explain` | what a pause or a limit holds back, for reads |
//! | `submit`, `claim`, `finish`, `free`, `manage`, `cache` | the operations, within one transaction |
//! | `depend`, `chores`, `aside` | effects of the end of a task; work that nobody asked for; due timers that stay |
//! | `lanes`, `gates`, `running` | the writer's memory: heads of the lines of ready tasks; counts and limits; leases |
//! | `parked` | claims that wait for a task |
//! | `readers`, `recent` | the reader threads; a cache of records that were read and have not changed |

mod aside;
mod batch;
mod cache;
mod chores;
mod claim;
mod depend;
mod explain;
mod finish;
mod free;
mod gates;
mod lanes;
mod manage;
mod opening;
mod parked;
mod readers;
mod recent;
mod recorder;
mod recovery;
mod room;
mod running;
mod sets;
mod stats;
mod store;
mod submit;
mod syncer;
mod timeline;
mod turn;
mod work;
mod writer;

#[cfg(test)]
mod bystanders;
#[cfg(test)]
mod chores_tests;
#[cfg(test)]
mod explain_tests;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod vitals;

pub(crate) use store::Core;
#[cfg(test)]
pub(crate) use vitals::{CLAIM_BYTES, InUse, Vitals};
