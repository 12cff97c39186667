//! The command line: one file per group of commands.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{data_dir::DataDir, failure::Failure, output::Output};

mod attempt;
mod cache;
mod care;
mod daemon;
mod demo;
mod discover;
#[cfg(test)]
mod hostile_tests;
mod http;
mod members;
mod mesh;
mod node;
#[cfg(test)]
mod number_tests;
#[cfg(test)]
mod reference_tests;
mod repair;
mod running;
mod serve;
mod submit;
mod sweep;
mod tasks;
mod tools;
mod workers;

pub(crate) use node::DurabilityArg;

/// Hand work to any of your machines, durably and without a broker.
#[derive(Debug, Parser)]
#[command(name = "taskmesh", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where this machine keeps its identity, its part in the mesh, and tasks [default: the platform's data folder].
    #[arg(long, global = true, value_name = "DIR", env = "TASKMESH_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Take what the command line does not say from this file [default: config.toml in the data folder, if it is there].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Which peer a client command asks.
#[derive(Debug, Args)]
pub(crate) struct PeerArg {
    /// Ask this peer straight over libp2p, not the local node: its name, its id, or its address (ending in
    /// /p2p/PEER_ID).
    #[arg(long, value_name = "NAME|PEER_ID|MULTIADDR")]
    pub(crate) peer: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run this machine's node: the MCP server, the queue, and workers.
    Serve(Box<serve::ServeArgs>),
    /// Run this machine's node without an MCP server, for MCP servers that are processes of their own.
    Daemon(Box<daemon::DaemonArgs>),
    /// Show the whole story on this machine: two nodes, a worker, an MCP client.
    Demo,
    /// Print a ticket by which another machine becomes a member of this mesh.
    Invite(members::InviteArgs),
    /// Become a member of the mesh of a ticket.
    Join(members::JoinArgs),
    /// Take this machine out of its mesh. It begins a mesh of its own.
    Leave(members::LeaveArgs),
    /// Show the machines of the mesh, and decide who belongs to it.
    Members(members::MembersArgs),
    /// Queue a task.
    Submit(Box<submit::SubmitArgs>),
    /// Show tasks.
    Get(tasks::GetArgs),
    /// Wait until a task has ended and show it.
    Wait(tasks::WaitArgs),
    /// List tasks.
    List(tasks::ListArgs),
    /// Call a task off.
    Cancel(tasks::CancelArgs),
    /// Answer what a running task asks.
    Answer(attempt::AnswerArgs),
    /// In a command of `--worker`: say how far the work is.
    Progress(attempt::ProgressArgs),
    /// In a command of `--worker`: ask whoever waits for the task, and print the answer.
    Ask(Box<attempt::AskArgs>),
    /// Count tasks by type and state.
    Stats(care::StatsArgs),
    /// Queue tasks again that have failed or were called off.
    Retry(care::RetryArgs),
    /// Remove ended tasks and their results for good.
    Purge(care::PurgeArgs),
    /// Hold the queue or some types of it, until it is resumed.
    Pause(care::PauseArgs),
    /// Let the queue go on.
    Resume(care::ResumeArgs),
    /// Set how many tasks of a type, or with a concurrency key, may run at once.
    Limit(care::LimitArgs),
    /// End every lease that a machine holds, so that its tasks go to other workers.
    Free(care::FreeArgs),
    /// Check the store while no node runs, and make a sound one of what is intact; the old one is kept beside it.
    Repair,
    /// Read and write the cache that machines share.
    Cache(cache::CacheArgs),
    /// Show how a node stands.
    Status(mesh::StatusArgs),
    /// Show the peers that a node knows.
    Peers(mesh::PeersArgs),
    /// Show the workers of the mesh: what each of them takes, where it is, and how busy it is.
    Workers(workers::WorkersArgs),
    /// Look for peers, and show what each way of finding them came to.
    Discover(discover::DiscoverArgs),
    /// List the tools of a node: what its workers can be given to do.
    Tools(tools::ToolsArgs),
    /// Call a tool of a node and print its result: a task, and the wait for its end.
    Call(tools::CallArgs),
}

impl Cli {
    /// Whether the command runs until it is stopped.
    pub(crate) const fn is_node(&self) -> bool {
        matches!(self.command, Command::Serve(_) | Command::Daemon(_))
    }

    pub(crate) fn run(self, output: Output) -> Result<ExitCode, Failure> {
        let data_dir = || DataDir::locate(self.global.data_dir.as_deref());
        match self.command {
            Command::Serve(args) => serve::run(*args, data_dir, self.global.config.as_deref(), output),
            Command::Daemon(args) => daemon::run(*args, data_dir()?, self.global.config.as_deref(), output),
            Command::Demo => demo::run(output),
            Command::Invite(args) => members::invite(args, data_dir()?, output),
            Command::Join(args) => members::join(args, data_dir()?, output),
            Command::Leave(args) => members::leave(&args, data_dir()?, output),
            Command::Members(args) => members::members(args, data_dir()?, output),
            Command::Submit(args) => submit::run(*args, data_dir()?, output),
            Command::Get(args) => tasks::get(args, data_dir()?, output),
            Command::Wait(args) => tasks::wait(args, data_dir()?, output),
            Command::List(args) => tasks::list(args, data_dir()?, output),
            Command::Cancel(args) => tasks::cancel(args, data_dir()?, output),
            Command::Answer(args) => attempt::answer(args, data_dir()?, output),
            Command::Progress(args) => attempt::progress(args, data_dir()?, output),
            Command::Ask(args) => attempt::ask(*args, data_dir()?, output),
            Command::Stats(args) => care::stats(args, data_dir()?, output),
            Command::Retry(args) => care::retry(args, data_dir()?, output),
            Command::Purge(args) => care::purge(args, data_dir()?, output),
            Command::Pause(args) => care::pause(args, data_dir()?, output),
            Command::Resume(args) => care::resume(args, data_dir()?, output),
            Command::Limit(args) => care::limit(args, data_dir()?, output),
            Command::Free(args) => care::free(&args, data_dir()?, output),
            Command::Repair => repair::run(&data_dir()?, output),
            Command::Cache(args) => cache::run(args, data_dir()?, output),
            Command::Status(args) => mesh::status(args, data_dir()?, output),
            Command::Peers(args) => mesh::peers(args, data_dir()?, output),
            Command::Workers(args) => workers::run(args, data_dir()?, output),
            Command::Discover(args) => discover::run(args, data_dir()?, output),
            Command::Tools(args) => tools::list(args, data_dir()?, output),
            Command::Call(args) => tools::call(args, data_dir()?, output),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_systemd_units_start_what_there_is() {
        for unit in [
            include_str!("../../systemd/taskmesh.service"),
            include_str!("../../systemd/taskmesh-daemon.service"),
            include_str!("../../systemd/taskmesh-mcp.service"),
        ] {
            let mut lines = unit.lines().filter_map(|line| line.strip_prefix("ExecStart="));
            let line = lines.next().unwrap();
            assert_eq!(lines.next(), None, "{unit}");
            let line = line.replace("${STATE_DIRECTORY}", "/var/lib/taskmesh");
            let line = line.replace("${RUNTIME_DIRECTORY}", "/run/taskmesh").replace("%t", "/run");
            assert!(!line.contains(['$', '%', '"', '\'', '\\']), "{line}");
            Cli::try_parse_from(line.split_whitespace()).unwrap();
        }
    }
}
