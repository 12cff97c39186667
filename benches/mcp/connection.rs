use std::net::SocketAddr;

use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Error;

/// The protocol revision of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Modern,
    Legacy,
}

impl Era {
    pub(crate) const ALL: [Self; 2] = [Self::Modern, Self::Legacy];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Legacy => "2025-11-25",
        }
    }
}

/// Returns a whole HTTP request that calls a tool.
pub(crate) fn tool_call(era: Era, tool: &str, arguments: &Value, token: Option<&str>) -> Vec<u8> {
    let (mut meta, mut extra) = (Map::new(), String::new());
    meta.extend(token.map(|token| ("progressToken".to_owned(), json!(token))));
    if era == Era::Modern {
        meta.insert("io.modelcontextprotocol/protocolVersion".to_owned(), json!(era.name()));
        meta.insert("io.modelcontextprotocol/clientCapabilities".to_owned(), json!({}));
        extra = format!("Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\n");
    }
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {}\r\n{extra}Content-Length: {}\r\n\r\n",
        era.name(),
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

/// One HTTP connection that stays open.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(place: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(place).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(), Error> {
        self.read.clear();
        Ok(self.stream.write_all(request).await?)
    }

    /// Sends a request, reads its answer, which has to give its length, and returns the body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<&[u8], Error> {
        self.send(request).await?;
        let body = self.until(b"\r\n\r\n").await?;
        let head = std::str::from_utf8(self.read.get(..body).unwrap_or_default())?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(format!("refused: {head}").into());
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let end = body + length.ok_or("an answer without a length")?;
        while self.read.len() < end {
            self.more().await?;
        }
        Ok(self.read.get(body..end).unwrap_or_default())
    }

    /// Calls a tool that has to succeed, and returns its answer.
    pub(crate) async fn tool(&mut self, tool: &str, arguments: &Value) -> Result<Value, Error> {
        let answer = self.ask(&tool_call(Era::Legacy, tool, arguments, None)).await?;
        let answer: Value = serde_json::from_slice(answer)?;
        match answer.pointer("/result/structuredContent") {
            Some(content) if content.get("ok") == Some(&Value::Bool(true)) => Ok(content.clone()),
            _ => Err(format!("{tool}: {answer}").into()),
        }
    }

    /// Reads until `needle` has come, and returns the place of its end.
    pub(crate) async fn until(&mut self, needle: &[u8]) -> Result<usize, Error> {
        loop {
            if let Some(place) = self.read.windows(needle.len()).position(|window| window == needle) {
                return Ok(place + needle.len());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), Error> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err("the server closed the connection".into()),
            _ => Ok(()),
        }
    }
}
