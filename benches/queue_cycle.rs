//! How fast is the durable queue, what does its length cost and what do many waiting clients, and how does that
//! compare?
//!
//! `cargo bench -p benches --bench queue_cycle` measures everything, in about two minutes. With names, as in
//! `… -- cycle/own_type/64 deep`, it measures only the lines whose names contain one of them. All files are in the
//! target folder, so the file system of that folder is measured. Candidates take turns in one run: the speed of a disk
//! changes by the minute, so only figures of the same run can be compared.

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
    // Without this argument it was started by a test run or to list tests, and there is nothing to measure.
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
