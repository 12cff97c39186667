//! `cache get`, `set`, `has`, `delete`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use p2p_taskqueue::api::{CacheDelete, CacheGet, CacheHas, CacheSet, limits::SPAN_S_MAX};

use super::PeerArg;
use crate::{
    client::with_client,
    data_dir::DataDir,
    failure::Failure,
    number::seconds,
    output::{Output, result_text},
    payload::ValueArgs,
};

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Print a value; exit code 1 when there is none.
    Get(KeyArgs),
    /// Put a value in, in place of an older one.
    Set(SetArgs),
    /// Say whether there is a value; exit code 1 when there is none.
    Has(KeyArgs),
    /// Remove a value.
    Delete(KeyArgs),
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// The key, up to 1,024 bytes.
    key: String,
    #[command(flatten)]
    peer: PeerArg,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The key, up to 1,024 bytes.
    key: String,
    #[command(flatten)]
    value: ValueArgs,
    /// Keep it no longer than so many seconds; 0 is without limit.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = seconds(0.0..=SPAN_S_MAX))]
    ttl: Option<f64>,
    #[command(flatten)]
    peer: PeerArg,
}

pub(super) fn run(args: CacheArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    match args.command {
        CacheCommand::Get(args) => get(args, data_dir, output),
        CacheCommand::Set(args) => set(args, data_dir, output),
        CacheCommand::Has(args) => has(args, data_dir, output),
        CacheCommand::Delete(args) => delete(args, data_dir, output),
    }
}

fn get(args: KeyArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let KeyArgs { key, peer } = args;
    let got = with_client(data_dir, peer.peer, async move |client| client.ask(CacheGet { key }).await)?;
    if got.hit {
        output.result(&got, || result_text(Some(&got.value)));
    } else {
        // Standard output is only for the value.
        output.absent(&got, "the cache has no such value");
    }
    Ok(code(got.hit))
}

fn set(args: SetArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let set = CacheSet { key: args.key, value: args.value.read()?, ttl_s: args.ttl };
    let stored = with_client(data_dir, args.peer.peer, async move |client| client.ask(set).await)?;
    output.answer(&stored, || match stored.evicted {
        0 => "stored".to_owned(),
        evicted => format!("stored; {evicted} older values had to go"),
    });
    Ok(ExitCode::SUCCESS)
}

fn has(args: KeyArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let KeyArgs { key, peer } = args;
    let had = with_client(data_dir, peer.peer, async move |client| client.ask(CacheHas { key }).await)?;
    output.answer(&had, || if had.hit { "yes" } else { "no" }.to_owned());
    Ok(code(had.hit))
}

fn delete(args: KeyArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let KeyArgs { key, peer } = args;
    let deleted = with_client(data_dir, peer.peer, async move |client| client.ask(CacheDelete { key }).await)?;
    output.answer(&deleted, || if deleted.deleted { "deleted" } else { "there was none" }.to_owned());
    Ok(ExitCode::SUCCESS)
}

fn code(hit: bool) -> ExitCode {
    if hit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
