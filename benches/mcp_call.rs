//! What does a tool call over HTTP cost in each mode, beside a tool that does nothing on the same rmcp stack?
//!
//! `cargo bench --workspace --bench mcp_call` measures everything, in about two minutes. With names, as in
//! `… -- get status sse`, it measures only the tables whose names contain one of them. Every server is a separate
//! process on loopback, as it is shipped. The client is a few lines over a socket, so that it costs little itself.
//! Candidates take turns, and only ratios within a run are meaningful. All files are in the target folder.

#![expect(clippy::print_stdout, reason = "the tables")]

mod mcp;
mod report;

// Linked for its allocator: the tool that does nothing is served by a process of this binary, which must differ in
// nothing else.
use server_bin as _;

use mcp::{Error, calls, crowd, noop, stream};
use report::Lines;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Without this argument it was started by a test run or to list tests, and there is nothing to measure.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    if arguments.iter().any(|argument| argument == noop::FLAG) {
        return noop::serve();
    }
    mcp::allow_connections()?;
    let lines = Lines::new(arguments);
    let mut goals = Vec::new();
    if lines.want("get") {
        calls::measure(&mut goals)?;
    }
    if lines.want("status") {
        crowd::measure(&mut goals)?;
    }
    if lines.want("sse") {
        stream::measure(&mut goals)?;
    }
    println!("\n{:<52} {:>12} {:>12}", "what", "measured", "must");
    for goal in goals {
        println!("{goal}");
    }
    Ok(())
}
