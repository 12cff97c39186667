//! The built program on loopback: real processes, real files, ephemeral ports.

mod asking;
mod cli;
mod clients;
mod commands;
mod crash;
mod daemon;
mod demo;
mod discover;
mod disk_full;
mod early_refusals;
mod every_argument;
mod harness;
mod http_door;
mod http_drain;
mod http_memory;
mod large_submits;
mod line;
mod long_path;
mod mesh_tools;
mod mistakes;
mod modes;
mod namespaces;
#[path = "../p2p-taskqueue/src/odd_json.rs"]
mod odd_json;
mod odd_values;
mod paused_worker;
mod queue;
mod readiness;
mod reference;
mod restart;
mod runtimes;
mod shutdown;
mod start;
mod suite;
mod sync_error;
mod systemd;
#[path = "queue_process/talk.rs"]
mod talk;
mod terminal;
mod wordcount;
