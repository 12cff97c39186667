//! The options of the MCP server on the command line.

use std::path::PathBuf;

use clap::Args;

use crate::config::HttpGiven;

#[derive(Debug, Args)]
pub(super) struct HttpArgs {
    /// Where the MCP server listens; port 0 takes a free one [default: 127.0.0.1:8765]. An address that other machines can
    /// reach needs --allowed-host, --allowed-origin and --http-token-file.
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Ask every MCP client for the bearer token in this file, which only its owner may read.
    #[arg(long, value_name = "FILE")]
    http_token_file: Option<PathBuf>,
    /// Serve requests to this name, on any port or that one (repeatable) [default: those of loopback].
    #[arg(long = "allowed-host", value_name = "NAME[:PORT]")]
    allowed_hosts: Vec<String>,
    /// Serve web pages of this origin; none: no browser (repeatable) [default: those of loopback].
    #[arg(long = "allowed-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<String>,
    /// Let every user of this machine ask, not only the one that runs this. Where clients show a token, the token says who
    /// asks.
    #[arg(long)]
    allow_other_users: bool,
}

impl From<HttpArgs> for HttpGiven {
    fn from(args: HttpArgs) -> Self {
        Self {
            listen: args.http,
            token_file: args.http_token_file,
            allowed_hosts: args.allowed_hosts,
            allowed_origins: args.allowed_origins,
            allow_other_users: args.allow_other_users,
        }
    }
}
