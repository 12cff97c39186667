//! Logs: to standard error, so that standard output stays the answer's.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging. A node says what it does, a client command only what is wrong. `-v` shows more, `-vv` everything of this
/// project; `RUST_LOG` decides alone when it is set.
pub(crate) fn start(is_node: bool, verbose: u8) {
    let level = match verbose {
        0 if !is_node => "warn",
        0 => "warn,server_bin=info,p2p_taskqueue=info,mcp_core=info,runtime_bridge=info",
        // rmcp says something of every request.
        1 => "info,rmcp=warn,server_bin=debug,p2p_taskqueue=debug,mcp_core=debug,runtime_bridge=debug",
        _ => "debug,server_bin=trace,p2p_taskqueue=trace,mcp_core=trace,runtime_bridge=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal).init();
}
