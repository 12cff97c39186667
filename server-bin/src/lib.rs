//! The `taskmesh` binary: arguments, configuration, wiring, signals, output.
//!
//! Only this crate reads files, the environment and signals. The parts that it starts are in the other crates.

mod address;
mod announce;
mod cli;
mod client;
mod config;
mod data_dir;
mod descriptors;
mod failure;
mod foreign;
mod http;
mod linger;
mod mode;
mod names;
mod number;
mod offline;
mod output;
mod patient;
mod payload;
mod program;
mod rpc;
mod supervisor;
mod telemetry;
mod token_file;

pub use program::run;

/// The allocator of every program that links this crate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
