use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use rmcp::{ErrorData, model::ErrorCode as RpcCode};
use serde_json::{json, value::RawValue};
use taskqueue_api::{ErrorCode, QueueError};

use crate::http::named;

/// The answer to a request that this server refuses: an HTTP status and a JSON-RPC error. The `data` of the error is
/// the same record that tools answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    rpc: RpcCode,
    error: Box<QueueError>,
    /// The id of the request as JSON, if it could be read.
    id: Option<Box<RawValue>>,
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        let (rpc, status) = rpc_code(error.code);
        Self { status, rpc, error: Box::new(error), id: None }
    }
}

impl Refusal {
    /// Refuses a body that is not JSON.
    pub(crate) fn malformed(reason: impl std::fmt::Display) -> Self {
        let error = QueueError::new(ErrorCode::InvalidArgument, format!("the body is not JSON: {reason}"));
        Self { status: StatusCode::BAD_REQUEST, rpc: RpcCode::PARSE_ERROR, error: Box::new(error), id: None }
    }

    /// Refuses a body that is JSON but not a JSON-RPC message.
    pub(crate) fn not_a_message(reason: impl std::fmt::Display) -> Self {
        let error =
            QueueError::new(ErrorCode::InvalidArgument, format!("the body is not a JSON-RPC message: {reason}"));
        Self { status: StatusCode::BAD_REQUEST, rpc: RpcCode::INVALID_REQUEST, error: Box::new(error), id: None }
    }

    /// Makes the refusal of a header, a method or a path that rmcp or the router refused. They answer in plain text or
    /// without a body.
    pub(crate) fn of_status(status: StatusCode, message: &str) -> Self {
        let (code, rpc, field) = match status {
            StatusCode::NOT_FOUND => (ErrorCode::NotFound, RpcCode::INVALID_REQUEST, None),
            StatusCode::METHOD_NOT_ALLOWED => (ErrorCode::Unsupported, RpcCode::INVALID_REQUEST, None),
            StatusCode::NOT_ACCEPTABLE => {
                (ErrorCode::InvalidArgument, RpcCode::INVALID_REQUEST, Some("Accept".to_owned()))
            }
            status if status.is_client_error() => {
                (ErrorCode::InvalidArgument, RpcCode::INVALID_REQUEST, named(message))
            }
            _ => (ErrorCode::Internal, RpcCode::INTERNAL_ERROR, None),
        };
        let mut error = QueueError::new(code, message);
        error.field = field;
        Self { status, rpc, error: Box::new(error), id: None }
    }

    /// Returns the same refusal with another HTTP status.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Returns the same refusal with the id of the request that it answers.
    pub(crate) fn with_id(self, id: Option<&RawValue>) -> Self {
        Self { id: id.map(ToOwned::to_owned), ..self }
    }

    /// Returns the code of the error record.
    pub(crate) fn code(&self) -> &'static str {
        self.error.code.as_str()
    }

    /// Makes the response, with further headers such as `Allow`.
    pub(crate) fn into_response_with(self, further: HeaderMap) -> Response<Body> {
        let mut response = self.into_response();
        let own = std::mem::replace(response.headers_mut(), further);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().extend(own);
        response
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = json!({
            "jsonrpc": "2.0",
            "id": self.id,
            "error": { "code": self.rpc.0, "message": self.error.message, "data": self.error },
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.error.retry_after_s {
            headers.insert(header::RETRY_AFTER, whole_seconds(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"taskmesh\""));
        }
        response
    }
}

/// Makes a JSON-RPC error of a queue error. It is used only where no tool answers, for example for the name of an
/// unknown tool.
pub(crate) fn rpc_error(error: &QueueError) -> ErrorData {
    let (code, _) = rpc_code(error.code);
    ErrorData::new(code, error.message.clone(), serde_json::to_value(error).ok())
}

/// Maps a code of the queue to a JSON-RPC code and an HTTP status. This is the only such mapping.
///
/// MCP leaves the codes -32000 to -32019 to implementations, but clients give -32000 to -32002 meanings of their own.
/// So the codes here begin at -32003. Of the codes that JSON-RPC names, only those with the same meaning are used.
fn rpc_code(code: ErrorCode) -> (RpcCode, StatusCode) {
    use StatusCode as Http;
    match code {
        ErrorCode::InvalidArgument => (RpcCode::INVALID_PARAMS, Http::BAD_REQUEST),
        ErrorCode::NotFound => (RpcCode::INVALID_PARAMS, Http::NOT_FOUND),
        ErrorCode::LimitExceeded => (RpcCode::INVALID_PARAMS, Http::PAYLOAD_TOO_LARGE),
        ErrorCode::Unsupported => (RpcCode::METHOD_NOT_FOUND, Http::NOT_IMPLEMENTED),
        ErrorCode::Unauthorized => (RpcCode(-32003), Http::UNAUTHORIZED),
        ErrorCode::Forbidden => (RpcCode(-32004), Http::FORBIDDEN),
        ErrorCode::Overloaded => (RpcCode(-32005), Http::SERVICE_UNAVAILABLE),
        ErrorCode::ShuttingDown => (RpcCode(-32006), Http::SERVICE_UNAVAILABLE),
        ErrorCode::Paused => (RpcCode(-32007), Http::SERVICE_UNAVAILABLE),
        ErrorCode::Unreachable => (RpcCode(-32008), Http::BAD_GATEWAY),
        ErrorCode::Interrupted => (RpcCode(-32009), Http::BAD_GATEWAY),
        ErrorCode::Timeout => (RpcCode(-32010), Http::GATEWAY_TIMEOUT),
        ErrorCode::Conflict => (RpcCode(-32011), Http::CONFLICT),
        ErrorCode::StaleFence => (RpcCode(-32012), Http::CONFLICT),
        ErrorCode::WrongState => (RpcCode(-32013), Http::CONFLICT),
        ErrorCode::AlreadyFinished => (RpcCode(-32014), Http::CONFLICT),
        ErrorCode::StorageFull => (RpcCode(-32015), Http::INSUFFICIENT_STORAGE),
        ErrorCode::StorageError => (RpcCode(-32016), Http::INTERNAL_SERVER_ERROR),
        // `Internal`, and codes that a later version of the queue adds.
        _ => (RpcCode::INTERNAL_ERROR, Http::INTERNAL_SERVER_ERROR),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates and the value is not negative"
)]
fn whole_seconds(seconds: f64) -> HeaderValue {
    HeaderValue::from(seconds.max(0.0).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_pair() {
        let pairs = [
            (ErrorCode::InvalidArgument, -32602, 400),
            (ErrorCode::LimitExceeded, -32602, 413),
            (ErrorCode::NotFound, -32602, 404),
            (ErrorCode::Conflict, -32011, 409),
            (ErrorCode::StaleFence, -32012, 409),
            (ErrorCode::WrongState, -32013, 409),
            (ErrorCode::AlreadyFinished, -32014, 409),
            (ErrorCode::Unauthorized, -32003, 401),
            (ErrorCode::Forbidden, -32004, 403),
            (ErrorCode::Unreachable, -32008, 502),
            (ErrorCode::Timeout, -32010, 504),
            (ErrorCode::Interrupted, -32009, 502),
            (ErrorCode::Overloaded, -32005, 503),
            (ErrorCode::StorageFull, -32015, 507),
            (ErrorCode::StorageError, -32016, 500),
            (ErrorCode::Paused, -32007, 503),
            (ErrorCode::ShuttingDown, -32006, 503),
            (ErrorCode::Unsupported, -32601, 501),
            (ErrorCode::Internal, -32603, 500),
        ];
        for (code, rpc, http) in pairs {
            let (rpc_code, status) = rpc_code(code);
            assert_eq!((rpc_code.0, status.as_u16()), (rpc, http), "{code:?}");
        }
    }

    #[test]
    fn a_refusal_says_when_to_try_again() {
        let error = QueueError::new(ErrorCode::Overloaded, "full").with_retry_after_s(0.2);
        let response = Refusal::from(error).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
