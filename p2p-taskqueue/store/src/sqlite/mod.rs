//! The rows of a store in one SQLite file.
//!
//! | file | content |
//! |---|---|
//! | `backend` | [`SqliteBackend`]: opening the file, and its handles |
//! | `schema`, `migrate` | tables, versions, connections |
//! | `rows` | the connection that writes, and its transactions |
//! | `task`, `find` | the rows of tasks; finding the rows of one task |
//! | `row` | rows to engine types and back, with checksums that show damage |
//! | `line`, `timer`, `edge`, `key`, `types`, `cache`, `route`, `meta` | the other tables |
//! | `readings`, `reads`, `list`, `select` | the connections that read |
//! | `log`, `note` | making commits durable; noticing lost ones |
//! | `scrub`, `repair` | checking a whole store; building a sound store from the intact rows |
//! | `reserve` | disk space that is set aside so that a full disk does not stop completions |
//! | `store` | [`SqliteStore`]: the store over these rows |
//! | `files` | the store's files |
//! | `fault` | the meaning of SQLite's errors |

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

pub(crate) use backend::{OpenFile, SqliteBackend};
pub use repair::RepairReport;
pub use scrub::ScrubReport;
#[cfg(test)]
pub(crate) use scrub::scrub;
pub use store::SqliteStore;

#[cfg(test)]
mod tests;
