use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::{Candidate, Connection, Era, Error, Goal, Mode, Server, in_turns, tool_call};

/// The number of waits that stay pending, each for a task of its own and over a connection of its own.
const CROWD: usize = 1_000;

/// The timeout of a wait, in seconds: longer than the measurement.
const WAIT_S: u32 = 900;

/// Measures how long a status takes while many clients wait.
#[expect(clippy::print_stdout, reason = "the table")]
pub(crate) fn measure(goals: &mut Vec<Goal>) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for mode in Mode::ALL {
        let (idle, crowded) = (Server::start(mode)?, Server::start(mode)?);
        let _waiting = runtime.block_on(crowd(&crowded))?;
        let status = || tool_call(Era::Modern, "p2p_taskqueue_status", &json!({}), None);
        let mut candidates = [
            Candidate::new(format!("{}, alone", mode.name()), idle.place, status()),
            Candidate::new(format!("{}, beside {CROWD} waits", mode.name()), crowded.place, status()),
        ];
        in_turns(&runtime, &mut candidates)?;
        println!("\nstatus\n{}", Candidate::head());
        candidates.iter().for_each(|candidate| println!("{}", candidate.row()));
        let [alone, beside] = &candidates;
        let what = match mode {
            Mode::Bridge => "status, bridge: p50 beside 1,000 waits of alone",
            Mode::Native => "status, native: p50 beside 1,000 waits of alone",
            Mode::Daemon => "status, daemon: p50 beside 1,000 waits of alone",
        };
        goals.push(Goal::at_most(what, 1.5, "x", beside.p50() / alone.p50()));
    }
    Ok(())
}

/// Makes many clients wait, for as long as the returned connections exist.
async fn crowd(server: &Server) -> Result<Vec<Connection>, Error> {
    let mut control = Connection::open(server.place).await?;
    let tasks = vec![json!({ "task_type": "crowd", "payload": 1 }); CROWD];
    let submitted = control.tool("p2p_taskqueue_submit_many", &json!({ "tasks": tasks })).await?;
    let results = submitted.get("results").and_then(Value::as_array).ok_or("no results")?;
    let waits = results.iter().map(|result| async move {
        let id = result.get("task_id").ok_or("a task was not queued")?;
        let arguments = json!({ "task_id": id, "timeout_s": WAIT_S });
        let mut connection = Connection::open(server.place).await?;
        connection.send(&tool_call(Era::Modern, "p2p_taskqueue_wait_task", &arguments, None)).await?;
        Ok::<_, Error>(connection)
    });
    let waiting = try_join_all(waits).await?;
    let expected = format!("taskmesh_waits_in_flight {CROWD}\n");
    // The metrics show when all waits have arrived.
    loop {
        let told = control.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        if std::str::from_utf8(told)?.contains(&expected) {
            return Ok(waiting);
        }
    }
}
