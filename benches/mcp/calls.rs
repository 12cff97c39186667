use serde_json::json;
use tokio::runtime::Builder;

use super::{Candidate, Connection, Era, Error, Goal, Mode, STALL_MS, Server, in_turns, tool_call};

/// The length of the text in a payload, in bytes.
const PAYLOAD_BYTES: usize = 256;

/// Measures a call that reads one task, in each mode, beside a call that does nothing.
#[expect(clippy::print_stdout, reason = "the table")]
pub(crate) fn measure(goals: &mut Vec<Goal>) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let noop = Server::noop()?;
    let mut candidates: Vec<Candidate> = Era::ALL
        .map(|era| Candidate::new(name("noop", era), noop.place, tool_call(era, "noop", &json!({}), None)))
        .into();
    let mut servers = Vec::new();
    for mode in Mode::ALL {
        let server = Server::start(mode)?;
        let id = runtime.block_on(async {
            let task = json!({ "task_type": "later", "payload": "x".repeat(PAYLOAD_BYTES) });
            let submitted = Connection::open(server.place).await?.tool("p2p_taskqueue_submit", &task).await?;
            Ok::<_, Error>(submitted.get("task_id").cloned())
        })?;
        let arguments = json!({ "task_id": id });
        candidates.extend(Era::ALL.map(|era| {
            let request = tool_call(era, "p2p_taskqueue_get_task", &arguments, None);
            Candidate::new(name(mode.name(), era), server.place, request)
        }));
        servers.push(server);
    }
    in_turns(&runtime, &mut candidates)?;
    println!("\nget_task\n{}", Candidate::head());
    candidates.iter().for_each(|candidate| println!("{}", candidate.row()));
    add_goals(&candidates, goals);
    Ok(())
}

fn add_goals(candidates: &[Candidate], goals: &mut Vec<Goal>) {
    let of = |what, era, figure: fn(&Candidate) -> f64| {
        let name = name(what, era);
        candidates.iter().find(|candidate| candidate.name == name).map_or(f64::NAN, figure)
    };
    let over = |mode, era, figure| of(mode, era, figure) / of("noop", era, figure);
    let (modern, legacy, p50, rate) =
        (Era::Modern, Era::Legacy, Candidate::p50 as fn(&Candidate) -> f64, Candidate::rate);
    goals.extend([
        Goal::at_most("get, bridge, 2026-07-28: p50 of a no-op's", 1.5, "x", over("bridge", modern, p50)),
        Goal::at_most("get, bridge, 2025-11-25: p50 of a no-op's", 1.5, "x", over("bridge", legacy, p50)),
        Goal::at_most("get, native, 2026-07-28: p50 of a no-op's", 1.3, "x", over("native", modern, p50)),
        Goal::at_most("get, native, 2025-11-25: p50 of a no-op's", 1.3, "x", over("native", legacy, p50)),
        // These are the reciprocals of the two limits for the median.
        Goal::at_least("get, bridge, 32 connections: calls/s of a no-op's", 0.67, "x", over("bridge", modern, rate)),
        Goal::at_least("get, native, 32 connections: calls/s of a no-op's", 0.77, "x", over("native", modern, rate)),
    ]);
    let slowest = candidates.iter().map(Candidate::p90_ms).fold(0.0, f64::max);
    goals.push(Goal::at_most("get: no stall, largest p90", STALL_MS, " ms", slowest));
}

fn name(what: &str, era: Era) -> String {
    format!("{what}, {}", era.name())
}
