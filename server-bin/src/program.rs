use std::process::ExitCode;

use clap::Parser as _;

use crate::{cli::Cli, output::Output, telemetry};

/// Runs the program with this process's arguments; the answer is the process's exit code.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start(cli.is_node(), cli.global.verbose);
    let output = Output::new(cli.global.json);
    cli.run(output).unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit_code()
    })
}
