//! The `taskmesh` binary, built for the benchmarks of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    server_bin::run()
}
