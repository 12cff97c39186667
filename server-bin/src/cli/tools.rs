//! `tools`, `call`.

use std::process::ExitCode;

use clap::Args;
use p2p_taskqueue::{
    TaskStatus,
    api::{CallTool, Check as _, ListTools, TaskRecord, ToolOffer, limits::CALL_TIMEOUT_S_MAX},
};

use super::PeerArg;
use crate::{
    client::with_client,
    data_dir::DataDir,
    failure::Failure,
    foreign::Foreign,
    number::seconds,
    output::{Output, result_text, table},
    payload::ToolArgs,
};

#[derive(Debug, Args)]
pub(super) struct ToolsArgs {
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
pub(super) struct CallArgs {
    /// Which tool, as `taskmesh tools` names it.
    tool: String,
    #[command(flatten)]
    args: ToolArgs,
    /// How long to wait for its result, in seconds, up to 600; its task goes on when the time is up.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, allow_hyphen_values = true, value_parser = seconds(0.0..=CALL_TIMEOUT_S_MAX))]
    timeout: f64,
    #[command(flatten)]
    peer: PeerArg,
}

pub(super) fn list(args: ToolsArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let listed = with_client(data_dir, args.peer.peer, async |client| client.ask(ListTools {}).await)?;
    output.answer(&listed, || tools_table(&listed.tools));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn call(args: CallArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let call = CallTool { timeout_s: args.timeout, ..CallTool::new(args.tool, args.args.read()?) };
    call.check()?;
    let called = with_client(data_dir, args.peer.peer, async move |client| client.ask(call).await)?;
    let completed = called.task.status == TaskStatus::Completed;
    if completed {
        output.result(&called, || result_text(Some(&called.result)));
    } else {
        output.answer(&called, || unfinished_text(&called.task));
    }
    Ok(if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn tools_table(tools: &[ToolOffer]) -> String {
    if tools.is_empty() {
        return "no tools: a node's workers are its tools (`taskmesh serve --worker TYPE=COMMAND`); `taskmesh workers` shows \
                those of the whole mesh"
            .to_owned();
    }
    table(["TOOL", "DESCRIPTION"], tools.iter().map(|tool| [tool.name.clone(), tool.description.clone()]))
}

pub(super) fn unfinished_text(task: &TaskRecord) -> String {
    let TaskRecord { task_id, status, error, waiting_for, .. } = task;
    match (waiting_for, error) {
        (Some(waiting), _) => {
            format!("{task_id} {status}: {}; `taskmesh wait {task_id}` waits on", Foreign(&waiting.message))
        }
        (None, Some(error)) => format!("{task_id} {status}: {}", Foreign(error)),
        (None, None) => format!("{task_id} {status}: `taskmesh wait {task_id}` waits on"),
    }
}
