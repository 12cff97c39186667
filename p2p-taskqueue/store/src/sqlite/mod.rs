//! The rows of a store in one SQLite file.
//!
//! | file | what is in it |
//! |---|---|
//! | `backend` | [`SqliteBackend`]: opening the file, and the handles of it |
//! | `schema`, `migrate` | tables, versions, connections |
//! | `rows` | the connection that writes, and its transactions |
//! | `task`, `find` | the rows of tasks; finding one task's rows |
//! | `row` | rows to engine types and back, and how damage is noticed |
//! | `line`, `timer`, `edge`, `key`, `types`, `cache`, `route`, `meta` | the tables beside those of the tasks |
//! | `readings`, `reads`, `list`, `select` | the connections that read |
//! | `log`, `note` | how commits become durable, and how a lost one is noticed |
//! | `scrub`, `repair` | looking over a whole store; making a sound one of what is intact |
//! | `reserve` | room set aside so that a full disk does not stop completions |
//! | `store` | [`SqliteStore`]: the store over these rows |
//! | `files` | the store's files |
//! | `fault` | what an error of SQLite means |

mod backend;
mod cache;
mod edge;
mod fault;
mod files;
mod find;
mod key;
mod line;
mod list;
mod log;
mod meta;
mod migrate;
mod note;
mod readings;
mod reads;
mod repair;
mod reserve;
mod route;
mod row;
mod rows;
mod schema;
mod scrub;
mod select;
mod store;
mod task;
mod timer;
mod types;

pub(crate) use backend::{Opened, SqliteBackend};
pub use repair::RepairReport;
pub use scrub::ScrubReport;
#[cfg(test)]
pub(crate) use scrub::scrub;
pub use store::SqliteStore;

#[cfg(test)]
mod tests;
