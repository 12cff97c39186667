use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::TcpStream,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::DEADLINE;

/// Which revision a hand-made client speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Era {
    /// 2025-11-25.
    Legacy,
    /// 2026-07-28, without a handshake.
    Modern,
}

impl Era {
    pub(crate) const BOTH: [Self; 2] = [Self::Legacy, Self::Modern];

    const fn version(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }

    /// A message, with all that this revision asks of a client.
    pub(crate) fn request(self, method: &str, mut params: Value) -> Request {
        let name = params.get("name").or_else(|| params.get("taskId")).and_then(Value::as_str).map(str::to_owned);
        if let (Self::Modern, Some(params)) = (self, params.as_object_mut()) {
            let mut client = json!({
                "io.modelcontextprotocol/protocolVersion": self.version(),
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "by hand", "version": "1" },
            });
            // What a test says of the client itself goes before.
            if let (Some(client), Some(Value::Object(said))) = (client.as_object_mut(), params.remove("_meta")) {
                client.extend(said);
            }
            params.insert("_meta".to_owned(), client);
        }
        let message = json!({ "jsonrpc": "2.0", "id": ID, "method": method, "params": params });
        let mut request = Request::post(&message.to_string()).with("mcp-protocol-version", self.version());
        if self == Self::Modern {
            request = request.with("mcp-method", method);
            request = name.into_iter().fold(request, |request, name| request.with("mcp-name", &name));
        }
        request
    }

    /// A call of a tool.
    pub(crate) fn call(self, tool: &str, arguments: Value) -> Request {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments }))
    }
}

/// The id of every message.
pub(crate) const ID: u64 = 7;

/// An HTTP request, to be sent on a connection of its own.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: &'static str,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    /// What a client of MCP posts.
    pub(crate) fn post(body: &str) -> Self {
        let bare = Self { method: "POST", headers: Vec::new(), body: body.to_owned() };
        bare.with("content-type", "application/json").with("accept", "application/json, text/event-stream")
    }

    /// What a browser asks before it lets a page post so.
    pub(crate) fn preflight(method: &str, headers: &str) -> Self {
        let bare = Self { method: "OPTIONS", headers: Vec::new(), body: String::new() };
        bare.with("access-control-request-method", method).with("access-control-request-headers", headers)
    }

    /// The same with another body.
    pub(crate) fn with_body(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }

    /// The same with something in the body that no value can hold.
    pub(crate) fn replacing(self, what: &str, with: &str) -> Self {
        Self { body: self.body.replace(what, with), ..self }
    }

    /// The same by another method.
    pub(crate) fn by(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// Sets a header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends it, and leaves the answer to be read.
    pub(crate) fn send(&self, url: &str) -> Result<Sent> {
        let (authority, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).context("no URL")?;
        let mut head = format!("{} /{path} HTTP/1.1\r\nconnection: close\r\n", self.method);
        let host = (!self.headers.iter().any(|(name, _)| name == "host")).then(|| format!("host: {authority}\r\n"));
        head.extend(host);
        head.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
        head += &format!("content-length: {}\r\n\r\n", self.body.len());
        let mut stream = TcpStream::connect(authority)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(head.as_bytes())?;
        // A server that refuses the head need not read the body.
        stream.write_all(self.body.as_bytes()).ok();
        Ok(Sent(stream))
    }

    /// Sends it and reads the answer.
    pub(crate) fn ask(&self, url: &str) -> Result<Reply> {
        self.send(url)?.reply()
    }
}

/// A request that was sent. Dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Sent(TcpStream);

impl Sent {
    pub(crate) fn reply(self) -> Result<Reply> {
        let mut stream = BufReader::new(self.0);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line)? > 0, "hung up after {lines:?}");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
        let headers = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let mut reply = Reply { status, headers, body: String::new() };
        reply.body = if reply.header("transfer-encoding").is_some() { chunked(stream)? } else { whole(stream)? };
        Ok(reply)
    }
}

fn whole(mut stream: impl Read) -> Result<String> {
    let mut body = String::new();
    stream.read_to_string(&mut body)?;
    Ok(body)
}

fn chunked(mut stream: BufReader<TcpStream>) -> Result<String> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim_end(), 16).with_context(|| format!("no length: {line:?}"))?;
        if length == 0 {
            return Ok(String::from_utf8(body)?);
        }
        let read = (&mut stream).take(length).read_to_end(&mut body)?;
        ensure!(read as u64 == length, "broke off");
        stream.read_line(&mut line)?;
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The names of its headers that start so.
    pub(crate) fn headers_of(&self, start: &str) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with(start)).collect()
    }

    /// The JSON-RPC message: the body, or the last event of a stream.
    pub(crate) fn message(&self) -> Result<Value> {
        let events = self.body.lines().filter_map(|line| line.strip_prefix("data:"));
        let text =
            if self.header("content-type") == Some("text/event-stream") { events.last() } else { Some(&*self.body) };
        serde_json::from_str(text.unwrap_or_default()).with_context(|| format!("no message: {self:?}"))
    }

    /// The structured answer of a tool.
    pub(crate) fn structured(&self) -> Result<Value> {
        let message = self.message()?;
        match message.pointer("/result/structuredContent") {
            Some(structured) => Ok(structured.clone()),
            None => bail!("no answer of a tool: {message}"),
        }
    }
}
