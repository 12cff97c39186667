//! How fast is the durable queue, what does it cost to be long or much waited for, and against what is that much?
//!
//! `cargo bench -p benches --bench queue_cycle` measures everything, in about two minutes; with names, as in
//! `… -- cycle/own_type/64 deep`, only the lines that one of them is part of. All files are in the target folder, so it
//! is the file system of that one which is measured. Candidates take turns in one run: a disk's mood changes by the
//! minute, so only figures of the same run mean anything beside each other.

#![expect(clippy::print_stdout, reason = "the tables")]

mod queue;
mod report;

use queue::{Bench, Error, Lines, deep, rates, wake};

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, file, count] = arguments.as_slice()
        && mode == deep::HOLD
    {
        return deep::hold(file.as_ref(), count.parse()?);
    }
    // Built and started by a test or a list of tests: there is nothing to measure.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let lines = Lines::new(arguments);
    let bench = Bench::new()?;
    let mut goals = Vec::new();
    rates::measure(&bench, &lines, &mut goals)?;
    wake::measure(&bench, &lines, &mut goals)?;
    deep::measure(&bench, &lines, &mut goals)?;
    println!("\n{:<52} {:>12} {:>12}", "what", "measured", "must");
    for goal in goals {
        println!("{goal}");
    }
    Ok(())
}
