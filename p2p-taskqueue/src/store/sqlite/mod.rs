//! The store on SQLite: one file, one writer, a few readers.
//!
//! ```text
//! callers ──bounded──▶ writer thread: up to BATCH_MAX commands, one transaction, one commit, then the answers
//!         ──bounded──▶ reader threads: one read-only connection each
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `store` | [`SqliteStore`]: the handle that callers hold; opening and closing |
//! | `schema` | tables, versions, connections |
//! | `rows`, `checksum` | rows to engine types and back, and how damage is noticed |
//! | `command` | what callers send to the writer |
//! | `writer`, `recovery` | the writer thread: batches, commits, the timer; what follows when one of these fails |
//! | `batch`, `chores`, `turn` | commands, and what nobody asked for, against one transaction |
//! | `lanes`, `leases`, `tally` | what the writer has in memory: heads of the lines of ready tasks, ends of leases, numbers |
//! | `parked` | claims that wait for a task |
//! | `reader`, `list` | the reader threads and their queries |
//! | `routes` | which peer keeps a task that went elsewhere |
//! | `reserve` | room set aside so that a full disk does not stop completions |

mod batch;
mod checksum;
mod chores;
mod command;
mod lanes;
mod leases;
mod list;
mod parked;
mod reader;
mod recovery;
mod reserve;
mod routes;
mod rows;
mod schema;
mod store;
mod tally;
mod turn;
mod writer;

pub use store::{SqliteStore, StoreOptions};

#[cfg(test)]
mod tests;
