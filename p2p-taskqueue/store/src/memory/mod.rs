//! The rows of a store in memory. They are gone with the process; in everything else the store equals the other stores.
//!
//! | file | content |
//! |---|---|
//! | `tables` | the tables, and the changes of an open transaction |
//! | `rows` | the rows as the writer uses them |
//! | `lines` | the lines of ready tasks |
//! | `cache` | the values of the cache |
//! | `reads` | the rows as readers use them |
//! | `list` | pages of records |
//! | `store` | [`MemoryStore`]: the store over these rows |

mod backend;
mod cache;
mod lines;
mod list;
mod reads;
mod rows;
mod store;
mod tables;

#[cfg(test)]
mod tests;

pub(crate) use backend::MemoryBackend;
pub use store::MemoryStore;
