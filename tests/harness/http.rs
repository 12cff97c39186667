use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{DEADLINE, until};

/// One HTTP connection that stays open, and does nothing of what an MCP client does by itself.
pub(crate) struct HttpConnection {
    reader: BufReader<TcpStream>,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl HttpReply {
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter().filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Parses the JSON-RPC message: the body, or the last event of a stream.
    pub(crate) fn message(&self) -> Result<Value> {
        let event = self.body.lines().filter_map(|line| line.strip_prefix("data:")).next_back();
        let text = event.filter(|_| self.header("content-type") == Some("text/event-stream")).unwrap_or(&self.body);
        serde_json::from_str(text).with_context(|| format!("no message: {self:?}"))
    }

    /// Returns the structured answer of a tool.
    pub(crate) fn structured(&self) -> Result<Value> {
        let message = self.message()?;
        let structured = message.pointer("/result/structuredContent").cloned();
        structured.with_context(|| format!("no answer of a tool: {message}"))
    }
}

/// Returns the `HOST:PORT` of a URL.
pub(crate) fn place(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches("/mcp")
}

impl HttpConnection {
    pub(crate) fn open(url: &str) -> Result<Self> {
        let stream = TcpStream::connect(place(url))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Writes these bytes, which need not be a whole request.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.reader.get_mut().write_all(bytes)?)
    }

    pub(crate) fn get(&mut self, path: &str, headers: &[&str]) -> Result<HttpReply> {
        self.write(format!("GET {path} HTTP/1.1\r\n{}\r\n", lines(headers)).as_bytes())?;
        self.reply()
    }

    /// Posts a message to the MCP endpoint, as a client of revision 2025-11-25 does.
    pub(crate) fn post(&mut self, headers: &[&str], message: &Value) -> Result<HttpReply> {
        let body = message.to_string();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n",
            body.len(),
            lines(headers)
        );
        self.write(&[head.as_bytes(), body.as_bytes()].concat())?;
        self.reply()
    }

    /// Reads one answer.
    pub(crate) fn reply(&mut self) -> Result<HttpReply> {
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            headers.push(line);
        }
        let status = headers.first().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("no status")?;
        let mut reply = HttpReply { status, headers, body: String::new() };
        let length = reply.header("content-length").and_then(|length| length.parse().ok());
        let body = match reply.header("transfer-encoding") {
            Some(_) => self.chunks()?,
            None => self.bytes(length.unwrap_or_default())?,
        };
        reply.body = String::from_utf8(body)?;
        Ok(reply)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim_end(), 16).with_context(|| format!("no length: {line:?}"))?;
            body.extend(self.bytes(length)?);
            self.reader.read_line(&mut line)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Waits until the server has closed the connection, and returns what it still sent.
    pub(crate) fn closed(&mut self) -> Result<String> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest)?;
        Ok(String::from_utf8_lossy(&rest).into_owned())
    }
}

fn lines(headers: &[&str]) -> String {
    let host = if headers.iter().any(|header| header.starts_with("Host:")) { "" } else { "Host: localhost\r\n" };
    headers.iter().fold(host.to_owned(), |lines, header| lines + header + "\r\n")
}

/// Waits until the metrics of the server have this line.
pub(crate) fn until_metric(url: &str, line: &str) -> Result<()> {
    let mut metrics = HttpConnection::open(url)?;
    until(line, || Ok(metrics.get("/metrics", &[])?.body.contains(line).then_some(())))
}
