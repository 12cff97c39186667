//! The rows of a store in memory: gone with the process, equal to the other stores in everything else.
//!
//! | file | what is in it |
//! |---|---|
//! | `tables` | the tables, and what an open transaction has changed in them |
//! | `rows` | what the writer does with them |
//! | `lines` | the lines of ready tasks |
//! | `cache` | the values of the cache |
//! | `reads` | what readers ask |
//! | `list` | pages of records |
//! | `store` | [`MemoryStore`]: the store over it |

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
