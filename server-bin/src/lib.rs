//! The `taskmesh` binary: arguments, configuration, wiring, signals, output.
//!
//! Only this crate reads files, the environment and signals; what it starts is in the other crates.

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
mod number;
mod output;
mod patient;
mod payload;
mod program;
mod rpc;
mod supervisor;
mod telemetry;
mod token_file;

pub use program::run;

/// Of every program made of this crate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
