//! `taskmesh`: hand work to any of your machines, durably and without a broker.

use std::process::ExitCode;

fn main() -> ExitCode {
    server_bin::run()
}
