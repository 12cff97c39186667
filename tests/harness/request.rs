use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{HttpConnection, HttpReply};

/// The protocol revision of a hand-made client.
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

    /// Returns a message with everything that this revision requires of a client.
    pub(crate) fn request(self, method: &str, mut params: Value) -> Request {
        let name = params.get("name").or_else(|| params.get("taskId")).and_then(Value::as_str).map(str::to_owned);
        if let (Self::Modern, Some(params)) = (self, params.as_object_mut()) {
            let mut client = json!({
                "io.modelcontextprotocol/protocolVersion": self.version(),
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "by hand", "version": "1" },
            });
            // What a test says of the client itself takes precedence.
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

    /// Returns a call of a tool.
    pub(crate) fn call(self, tool: &str, arguments: Value) -> Request {
        let params = [("name".to_owned(), tool.into()), ("arguments".to_owned(), arguments)];
        self.request("tools/call", Value::Object(params.into_iter().collect()))
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
    /// Returns a POST request like that of an MCP client.
    pub(crate) fn post(body: &str) -> Self {
        let bare = Self { method: "POST", headers: Vec::new(), body: body.to_owned() };
        bare.with("content-type", "application/json").with("accept", "application/json, text/event-stream")
    }

    /// Returns the preflight request that a browser sends before it lets a page post.
    pub(crate) fn preflight(method: &str, headers: &str) -> Self {
        let bare = Self { method: "OPTIONS", headers: Vec::new(), body: String::new() };
        bare.with("access-control-request-method", method).with("access-control-request-headers", headers)
    }

    /// Replaces the body.
    pub(crate) fn with_body(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }

    /// Replaces a text in the body, for content that no JSON value can hold.
    pub(crate) fn replacing(self, what: &str, with: &str) -> Self {
        Self { body: self.body.replace(what, with), ..self }
    }

    /// Replaces the HTTP method.
    pub(crate) fn by(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// Sets a header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the request, and leaves the answer to be read. Dropping the connection hangs up.
    pub(crate) fn send(&self, url: &str) -> Result<HttpConnection> {
        let mut connection = HttpConnection::open(url)?;
        connection.write(self.head(url)?.as_bytes())?;
        // A server that refuses the head need not read the body.
        connection.write(self.body.as_bytes()).ok();
        Ok(connection)
    }

    fn head(&self, url: &str) -> Result<String> {
        let (authority, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).context("no URL")?;
        let mut text = format!("{} /{path} HTTP/1.1\r\n", self.method);
        let host = (!self.headers.iter().any(|(name, _)| name == "host")).then(|| format!("host: {authority}\r\n"));
        text.extend(host);
        text.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
        text += &format!("content-length: {}\r\n\r\n", self.body.len());
        Ok(text)
    }

    /// Sends the request on a connection that stays open, and reads the answer.
    pub(crate) fn ask_on(&self, connection: &mut HttpConnection, url: &str) -> Result<HttpReply> {
        connection.write(&[self.head(url)?.as_bytes(), self.body.as_bytes()].concat())?;
        connection.reply()
    }

    /// Sends the request on a connection of its own, and reads the answer.
    pub(crate) fn ask(&self, url: &str) -> Result<HttpReply> {
        self.send(url)?.reply()
    }
}
