//! The server that the official conformance suite is run against: the suite's tools, prompts and resources, behind the
//! product's own HTTP stack.
//!
//! `conformance-fixture` prints one ready line with its URL, serves on a free loopback port, and runs until it is ended.

mod book;
mod dialogue;
mod handler;

use std::io::{Write as _, stdout};

use anyhow::Result;
use axum::serve::ListenerExt as _;
use handler::Fixture;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<()> {
    let fixture = Fixture::new()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ready = json!({ "event": "ready", "http": format!("http://{}/mcp", listener.local_addr()?) });
    writeln!(stdout(), "{ready}")?;
    // As the product has it: a streamed answer would wait for the client's delayed acknowledgement.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, router(fixture)).await?)
}

fn router(fixture: Fixture) -> axum::Router {
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let service: StreamableHttpService<_, NeverSessionManager> =
        StreamableHttpService::new(move || Ok(fixture.clone()), std::sync::Arc::default(), config);
    axum::Router::new().route_service("/mcp", service)
}
