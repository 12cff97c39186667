use std::{env, process::ExitCode};

use clap::Parser as _;
use p2p_taskqueue::worker::SUPERVISE;

use crate::{cli::Cli, output::Output, supervisor, telemetry};

/// Runs the program with this process's arguments; the answer is the process's exit code.
#[must_use]
pub fn run() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    // Not a command for people, and nothing else must be in its way: every task waits for it.
    if arguments.next().is_some_and(|first| first == SUPERVISE) {
        return supervisor::run(arguments);
    }
    let cli = Cli::parse();
    telemetry::start(cli.is_node(), cli.global.verbose);
    let output = Output::new(cli.global.json);
    cli.run(output).unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit_code()
    })
}
