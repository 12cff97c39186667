//! The built program on loopback: real processes, real files, ephemeral ports.

mod cli;
mod demo;
mod harness;
mod queue;
mod restart;
mod shutdown;
mod start;
mod wordcount;
