//! Who may ask a server without tokens.

use std::{convert::Infallible, net::Ipv4Addr};

use axum::{
    body::{Body, Bytes},
    http::{Request, StatusCode, header},
};
use futures::stream;
use mcp_core::{BearerToken, CallingUser, McpConfig};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    client::{Client, call, legacy, soon},
    queue::TestQueue,
};

fn status_call() -> Request<Body> {
    legacy().body(Body::from(call("p2p_taskqueue_status", json!({})).to_string())).unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header(header::HOST, "localhost").body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_request_of_an_unknown_user_is_refused_before_its_body_is_read() {
    let client = Client::with_config(TestQueue::new(), McpConfig::default().with_own_user_only(true));
    let endless = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let refused = soon(client.send(legacy().body(endless).unwrap())).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let error = &refused.json()["error"];
    assert_eq!(error["data"]["code"], "forbidden");
    assert!(error["message"].as_str().unwrap().contains("allow_other_users"), "{error}");
    assert_eq!(client.send(get("/metrics")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(client.queue.asked(), 0, "nothing was asked of the queue");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(client.send(get(path)).await.status, StatusCode::OK, "{path}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_request_of_the_own_user_is_served() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let _there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (here, _) = soon(listener.accept()).await.unwrap();
    let user = CallingUser::of(&here);
    let client = Client::with_config(TestQueue::new(), McpConfig::default().with_own_user_only(true));
    for mut request in [status_call(), get("/metrics")] {
        request.extensions_mut().insert(user.clone());
        assert_eq!(client.send(request).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_token_says_who_asks_whatever_the_user() {
    let config = McpConfig::default().with_own_user_only(true).with_client("laptop", BearerToken::new("sesame"));
    let client = Client::with_config(TestQueue::new(), config);
    assert_eq!(client.send(status_call()).await.status, StatusCode::UNAUTHORIZED);
    let mut request = status_call();
    request.headers_mut().insert(header::AUTHORIZATION, "Bearer sesame".parse().unwrap());
    assert_eq!(client.send(request).await.status, StatusCode::OK);
}
