use std::{env, process::ExitCode};

use clap::Parser as _;
use p2p_taskqueue::worker::SUPERVISE;

use crate::{cli::Cli, failure::Failure, foreign, output::Output, supervisor, telemetry};

/// Runs the program with this process's arguments, and returns its exit code.
#[must_use]
pub fn run() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    // This is not a command for people. It is checked before everything else, because the start of every task waits for
    // it.
    if arguments.next().is_some_and(|first| first == SUPERVISE) {
        return supervisor::run(arguments);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    telemetry::start(cli.is_node(), cli.global.verbose);
    let output = Output::new(cli.global.json);
    cli.run(output).unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit_code()
    })
}

/// Prints the answer to a command line that is wrong, or that asks for help, and returns the exit code.
fn refused(error: &clap::Error) -> ExitCode {
    let asks_for_json = env::args_os().any(|argument| argument == "--json");
    let text = error.render().to_string();
    if error.use_stderr() && (asks_for_json || !foreign::is_plain(&text)) {
        let problem = text.strip_prefix("error: ").unwrap_or(&text);
        let problem = problem.split("\n\nFor more information").next().unwrap_or(problem).trim_end();
        Output::new(asks_for_json).failure(&Failure::Configuration(anyhow::anyhow!("{problem}")));
    } else {
        // Nothing can be done when the stream is gone.
        drop(error.print());
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}
