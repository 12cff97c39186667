use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde_json::json;
use tokio::runtime::Builder;

use super::{Connection, Era, Error, Goal, Mode, STALL_MS, Server, Times, tool_call};

/// The number of calls whose answers are streams, in each mode and with each revision.
const STREAMS: usize = 32;

/// Measures how soon after a completion the answer of a call comes. The call has reported its progress before, so its
/// answer is a stream.
#[expect(clippy::print_stdout, reason = "the table")]
pub(crate) fn measure(goals: &mut Vec<Goal>) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    println!("\nrun_task with a progress token: from the completion's answer to the stream's last event");
    let mut slowest = Duration::ZERO;
    for mode in Mode::ALL {
        for era in Era::ALL {
            let server = Server::start(mode)?;
            let times = runtime.block_on(streams(&server, era))?;
            println!("{:<28} {times}", format!("{}, {}", mode.name(), era.name()));
            slowest = slowest.max(times.at(90));
        }
    }
    goals.push(Goal::at_most("sse: no stall, largest p90", STALL_MS, " ms", slowest.as_secs_f64() * 1e3));
    Ok(())
}

async fn streams(server: &Server, era: Era) -> Result<Times, Error> {
    let mut worker = Connection::open(server.place).await?;
    let mut callers = Vec::new();
    for number in 0..STREAMS {
        let task = json!({ "task_type": format!("sse-{number}"), "payload": 1, "timeout_s": 600 });
        let mut caller = Connection::open(server.place).await?;
        caller.send(&tool_call(era, "run_task", &task, Some("p"))).await?;
        callers.push(caller);
    }
    let mut completions = Vec::new();
    for number in 0..STREAMS {
        let claim = json!({ "worker_id": "w", "supported_task_types": [format!("sse-{number}")], "wait_s": 60 });
        let claimed = worker.tool("p2p_taskqueue_claim_next", &claim).await?;
        let of = |name| claimed.pointer(name).cloned().unwrap_or_default();
        let (id, fence) = (of("/task/task_id"), of("/task/fence"));
        let renewal = json!({ "task_id": id, "fence": fence, "progress": 0.5 });
        worker.tool("p2p_taskqueue_renew_task", &renewal).await?;
        completions.push(json!({ "task_id": id, "fence": fence, "status": "completed", "result": true }));
    }
    try_join_all(callers.iter_mut().map(|caller| caller.until(b"notifications/progress"))).await?;
    let mut times = Times::default();
    for (mut caller, completion) in callers.into_iter().zip(completions) {
        let start = Instant::now();
        worker.tool("p2p_taskqueue_complete_task", &completion).await?;
        let answered = Instant::now();
        caller.until(b"structuredContent").await?;
        // The stream may end before the completion itself is answered.
        times.push(answered.elapsed().min(start.elapsed()));
    }
    Ok(times)
}
