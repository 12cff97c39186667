//! The node and the MCP server as two processes.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Answered, DEADLINE, Era, Front, Gate, McpClient, Node, STOP, at, taskmesh, until, until_async, until_metric,
    while_busy,
};

const HTTP: &[&str] = &["--rpc", "http://127.0.0.1:0"];

/// Checks that the command has failed with this code, and that its standard error has all these words.
fn assert_refused(answered: &Answered, code: i32, words: &[&str]) {
    assert_eq!(answered.code, Some(code), "{answered:?}");
    for word in words {
        assert!(answered.stderr.contains(word), "no {word:?} in {:?}", answered.stderr);
    }
}

/// Runs a task through an MCP server and its daemon. Then each process ends in time with code 0, and no socket is left.
async fn two_processes(rpc: &[&str]) -> Result<()> {
    let mut node = Node::daemon(&[rpc, &["--worker", "wordcount=wc -w"]].concat())?;
    assert_eq!((node.ready("event")?, node.ready("mode")?), (&"ready".into(), &"daemon".into()));
    assert_eq!(node.ready("http")?, &Value::Null);
    let front = Front::of(&node)?;
    assert_eq!((at(front.ready(), "/event"), at(front.ready(), "/mode")), (&"ready".into(), &"daemon".into()));
    for field in ["peer_id", "addresses", "rpc", "p2p_runtime"] {
        assert_eq!(at(front.ready(), &format!("/{field}")), node.ready(field)?, "{field}");
    }
    let client = McpClient::connect(front.http()?).await?;
    let status = client.ask("p2p_taskqueue_status", json!({ "detail": true })).await?;
    assert_eq!((at(&status, "/mode"), at(&status, "/peer_id")), (&"daemon".into(), node.ready("peer_id")?), "{status}");
    let ran = client.ask("run_task", json!({ "task_type": "wordcount", "payload": "a b c" })).await?;
    assert_eq!(at(&ran, "/task/result"), 3, "{ran}");
    assert!(!front.has_data_folder());

    let (status, took, stderr) = tokio::task::block_in_place(|| front.stop(Signal::TERM))?;
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(took < while_busy(STOP), "{took:?}; {stderr}");
    let (status, took, stderr) = tokio::task::block_in_place(|| node.stop(Signal::TERM))?;
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(took < while_busy(STOP), "{took:?}; {stderr}");
    assert!(!node.folder().join("taskmesh.sock").exists(), "the socket is gone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mcp_server_asks_a_daemon_over_its_socket() -> Result<()> {
    two_processes(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mcp_server_asks_a_daemon_over_loopback_http() -> Result<()> {
    two_processes(HTTP).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mcp_server_asks_a_daemon_on_async_std_over_loopback_http() -> Result<()> {
    two_processes(&[HTTP, &["--p2p-runtime", "async-std"]].concat()).await
}

#[test]
fn a_daemon_listens_where_it_is_told_to_and_keeps_its_token_to_its_user() -> Result<()> {
    let sockets = tempfile::tempdir()?;
    let socket = format!("unix:{}", sockets.path().join("rpc.sock").display());
    let mut node = Node::daemon(&[HTTP, &["--rpc", &socket]].concat())?;
    let rpc = node.ready("rpc")?.clone();
    assert!(at(&rpc, "/0").as_str().is_some_and(|http| http.starts_with("http://127.0.0.1:")), "{rpc}");
    assert_eq!(at(&rpc, "/1"), socket.as_str());
    let token_file = node.folder().join("rpc.token");
    assert_eq!(node.ready("rpc_token_file")?, &json!(token_file));
    for file in [&token_file, &sockets.path().join("rpc.sock")] {
        assert_eq!(std::fs::metadata(file)?.permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let token = std::fs::read(&token_file)?;
    node.kill()?;
    // The socket of the killed node still exists, but nobody listens on it.
    node.start_again()?;
    assert_eq!(std::fs::read(&token_file)?, token, "made once");

    let plain = Node::daemon(&[])?;
    assert!(plain.ready("rpc_token_file").is_err() && !plain.folder().join("rpc.token").exists());
    assert_eq!(plain.ask(&["status"])?["mode"], "daemon", "the commands find it as they find any node");
    Ok(())
}

/// Sends one request and reads the answer to its end.
fn knock(http: &str, head: &str) -> Result<String> {
    let mut stream = TcpStream::connect(http.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(format!("{head}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_rpc_over_http_turns_away_whoever_does_not_know_it() -> Result<()> {
    let node = Node::daemon(HTTP)?;
    let http = at(node.ready("rpc")?, "/0").as_str().context("no address")?.to_owned();
    let token = std::fs::read_to_string(node.folder().join("rpc.token"))?;
    let bearer = format!("Authorization: Bearer {token}");
    let upgrade = "Connection: upgrade\r\nUpgrade: taskmesh-rpc/1";
    for (head, status, words) in [
        (format!("GET /rpc HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}"), "401", "www-authenticate: Bearer"),
        (format!("GET /rpc HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}\r\n{bearer}0"), "401", "rpc.token"),
        (
            format!("GET /rpc HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}\r\nAuthorization: Basic {token}"),
            "401",
            "rpc.token",
        ),
        (format!("GET /rpc HTTP/1.1\r\nHost: evil.example\r\n{upgrade}\r\n{bearer}"), "403", "Host"),
        (format!("GET /rpc HTTP/1.1\r\n{upgrade}\r\n{bearer}"), "403", "Host"),
        (format!("GET /rpc HTTP/1.1\r\nHost: localhost\r\n{bearer}"), "426", "upgrade: taskmesh-rpc/1"),
        (
            format!(
                "GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: taskmesh-rpc/2\r\n{bearer}"
            ),
            "426",
            "update the older of the two",
        ),
        (format!("POST /rpc HTTP/1.1\r\nHost: [::1]:1\r\nContent-Length: 0\r\n{bearer}"), "405", "GET"),
        (format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\n{bearer}"), "404", "/rpc"),
    ] {
        let answer = knock(&http, &head)?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        ensure!(answer.contains(words), "no {words:?} in {answer}, to {head}");
        ensure!(!answer.contains(&token), "{answer}");
    }

    let wrong = tempfile::NamedTempFile::new()?;
    std::fs::write(wrong.path(), "0123456789abcdef0123456789abcdef")?;
    let wrong_file = wrong.path().display().to_string();
    let serve = ["serve", "--json", "--http", "127.0.0.1:0", "--daemon", &http, "--daemon-token-file", &wrong_file];
    assert_refused(&taskmesh(node.folder(), &serve)?, 3, &[&http, "does not take the token", &wrong_file]);
    std::fs::set_permissions(wrong.path(), std::fs::Permissions::from_mode(0o644))?;
    assert_refused(&taskmesh(node.folder(), &serve)?, 3, &["chmod 600", &wrong_file]);
    Ok(())
}

#[test]
fn what_a_front_or_a_daemon_cannot_mean_is_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let refused = |arguments: &[&str], words: &[&str]| -> Result<()> {
        assert_refused(&taskmesh(folder.path(), arguments)?, 2, words);
        Ok(())
    };
    let front = ["serve", "--http", "127.0.0.1:0", "--daemon", "unix:/nowhere"];
    for option in [
        &["--lan"][..],
        &["--mode", "native"],
        &["--p2p-listen", "/ip4/127.0.0.1/tcp/0"],
        &["--worker", "wordcount=wc -w"],
        &["--p2p-runtime", "smol"],
        &["--bootstrap", "/ip4/127.0.0.1/tcp/1"],
        &["--durability", "relaxed"],
        &["--session", "night"],
        &["--label", "gpu"],
    ] {
        refused(
            &[&front[..], option].concat(),
            &["--daemon", option.first().context("no option")?, "cannot be used with"],
        )?;
    }
    refused(&["serve", "--daemon", "http://127.0.0.1:1"], &["--daemon-token-file", "rpc.token"])?;
    refused(&["serve", "--daemon", "http://192.0.2.7:1"], &["--daemon", "SSH tunnel"])?;
    refused(&["serve", "--daemon", "/nowhere"], &["--daemon", "unix:PATH"])?;
    refused(&["serve", "--daemon-token-file", "/nowhere"], &["--daemon"])?;
    refused(&[&front[..], &["--daemon-token-file", "/nowhere"]].concat(), &["--daemon-token-file", "Unix socket"])?;
    refused(&["daemon", "--rpc", "http://0.0.0.0:1"], &["--rpc", "127.0.0.1"])?;
    refused(&["daemon", "--http", "127.0.0.1:0"], &["--http"])?;
    Ok(())
}

#[test]
fn a_socket_of_another_program_is_not_taken_over() -> Result<()> {
    let node = Node::daemon(&[])?;
    let socket = format!("unix:{}", node.folder().join("taskmesh.sock").display());
    let folder = tempfile::tempdir()?;
    let daemon = ["daemon", "--json", "--p2p-listen", "/ip4/127.0.0.1/tcp/0", "--rpc", &socket];
    assert_refused(&taskmesh(folder.path(), &daemon)?, 2, &["taskmesh.sock", "in use"]);
    assert_eq!(node.ask(&["status"])?["mode"], "daemon");
    Ok(())
}

#[test]
fn a_front_without_a_daemon_says_after_a_while_what_it_tried() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = format!("unix:{}", folder.path().join("rpc.sock").display());
    let since = Instant::now();
    let answered = taskmesh(folder.path(), &["serve", "--json", "--http", "127.0.0.1:0", "--daemon", &socket])?;
    assert_refused(&answered, 3, &[&socket, "taskmesh daemon"]);
    assert_eq!(answered.json()?["error"]["code"], "unreachable");
    assert!(since.elapsed() > Duration::from_secs(2), "a daemon that starts at the same time is waited for");
    Ok(())
}

/// Both are started at the same time, the front first.
#[test]
fn a_front_waits_for_a_daemon_that_starts_beside_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = format!("unix:{}", folder.path().join("rpc.sock").display());
    let starting = std::thread::spawn({
        let socket = socket.clone();
        move || Front::start(&["--daemon", &socket])
    });
    let node = Node::daemon(&["--rpc", &socket])?;
    let front = starting.join().map_err(|_| anyhow::anyhow!("the starting thread panicked"))??;
    assert_eq!(at(front.ready(), "/peer_id"), node.ready("peer_id")?);
    Ok(())
}

/// Checks the answer that a client gets while the daemon is away.
fn assert_retryable(answer: &Value) -> Result<()> {
    ensure!(at(answer, "/ok") == false && at(answer, "/error/retryable") == true, "{answer}");
    ensure!(["unreachable", "interrupted"].iter().any(|code| at(answer, "/error/code") == code), "{answer}");
    Ok(())
}

/// Submits tasks until it is told to stop, and returns the ids of those that were acknowledged.
async fn load(url: String, mut stop: tokio::sync::watch::Receiver<bool>) -> Result<Vec<String>> {
    let client = McpClient::connect(&url).await?;
    let mut acknowledged = Vec::new();
    while !*stop.borrow_and_update() {
        let submit = json!({ "task_type": "echo", "payload": acknowledged.len() });
        let answer = client.call("p2p_taskqueue_submit", submit).await?;
        if at(&answer, "/ok") == true {
            acknowledged.push(at(&answer, "/task_id").as_str().context("no id")?.to_owned());
        } else {
            assert_retryable(&answer)?;
        }
    }
    Ok(acknowledged)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_under_load_comes_back_and_has_lost_nothing() -> Result<()> {
    let mut node = Node::daemon(&["--worker", "echo=cat"])?;
    let front = Front::of(&node)?;
    let client = McpClient::connect(front.http()?).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let url = front.http()?.to_owned();
    let mut loads = tokio::task::JoinSet::new();
    for _ in 0..8 {
        loads.spawn(load(url.clone(), stopped.clone()));
    }
    until_async("the load has submitted 100 tasks", async || {
        let stats = client.ask("p2p_taskqueue_stats", json!({})).await?;
        let totals = at(&stats, "/totals").as_object().context("no totals")?;
        Ok((totals.values().filter_map(Value::as_u64).sum::<u64>() >= 100).then_some(()))
    })
    .await?;
    tokio::task::block_in_place(|| node.kill())?;
    // The answers come quickly, and say that another try is worthwhile.
    for _ in 0..10 {
        let since = Instant::now();
        let answer = client.call("p2p_taskqueue_stats", json!({})).await?;
        assert_retryable(&answer)?;
        assert!(since.elapsed() < while_busy(Duration::from_secs(1)), "{:?}", since.elapsed());
    }
    tokio::task::block_in_place(|| node.start_again())?;
    until_async("the daemon is back and is asked", async || {
        Ok((at(&client.call("p2p_taskqueue_stats", json!({})).await?, "/ok") == true).then_some(()))
    })
    .await?;
    stop.send(true)?;
    let mut acknowledged = Vec::new();
    while let Some(load) = loads.join_next().await {
        acknowledged.extend(load??);
    }
    assert!(acknowledged.len() >= 100, "{}", acknowledged.len());
    for ids in acknowledged.chunks(1_000) {
        let waited = client.ask("p2p_taskqueue_wait_task", json!({ "task_ids": ids, "timeout_s": 60 })).await?;
        assert_eq!(at(&waited, "/done"), true);
        let tasks = at(&waited, "/tasks").as_array().context("no tasks")?;
        assert_eq!(tasks.len(), ids.len());
        assert!(
            tasks.iter().all(|task| at(task, "/status") == "completed" && at(task, "/result") == at(task, "/payload"))
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_outlives_a_restart_of_the_daemon() -> Result<()> {
    let (begun, go) = (Gate::new()?, Gate::new()?);
    let command = format!("gated=sh -c 'echo > {}; cat {}'", begun.path().display(), go.path().display());
    let worker = Node::start(&["--worker", &command])?;
    let mut node = Node::daemon(&[])?;
    worker.join(&node)?;
    let front = Front::of(&node)?;
    let client = McpClient::connect(front.http()?).await?;
    let submitted = client.ask("p2p_taskqueue_submit", json!({ "task_type": "gated", "payload": null })).await?;
    begun.written()?;
    let wait = json!({ "task_id": at(&submitted, "/task_id"), "timeout_s": 60 });
    let waiting = client.call("p2p_taskqueue_wait_task", wait);
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut waiting).await.is_err());
    tokio::task::block_in_place(|| until_metric(front.http()?, "taskmesh_waits_in_flight 1\n"))?;
    tokio::task::block_in_place(|| node.kill())?;
    tokio::task::block_in_place(|| node.start_again())?;
    go.write("worth the wait")?;
    let waited = waiting.await?;
    assert_eq!(at(&waited, "/task/result"), "worth the wait", "{waited}");
    Ok(())
}

/// Sends a request of a client that follows tasks by their handles.
fn follow(url: &str, method: &str, mut params: Value) -> Result<Value> {
    let capabilities = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    if let Some(params) = params.as_object_mut() {
        let meta = json!({ "io.modelcontextprotocol/clientCapabilities": capabilities });
        params.insert("_meta".to_owned(), meta);
    }
    let answer = Era::Modern.request(method, params).ask(url)?.message()?;
    ensure!(at(&answer, "/result").is_object(), "{method}: {answer}");
    Ok(at(&answer, "/result").clone())
}

#[test]
fn tasks_go_on_when_the_mcp_server_is_killed_and_another_one_answers_for_them() -> Result<()> {
    let (begun, go) = (Gate::new()?, Gate::new()?);
    let command = format!("gated=sh -c 'echo > {}; cat {}'", begun.path().display(), go.path().display());
    let node = Node::daemon(&["--worker", &command])?;
    let first = Front::of(&node)?;
    let run = json!({ "name": "run_task", "arguments": { "task_type": "gated", "payload": null } });
    let handle = follow(first.http()?, "tools/call", run)?;
    assert_eq!(at(&handle, "/resultType"), "task", "{handle}");
    let id = at(&handle, "/taskId").as_str().context("no id")?.to_owned();
    begun.written()?;
    first.kill()?;
    go.write("done without it")?;

    let second = Front::of(&node)?;
    // A client with a task handle polls like this.
    let task = until("the task does not work any more", || {
        let task = follow(second.http()?, "tasks/get", json!({ "taskId": id }))?;
        Ok((at(&task, "/status") != "working").then_some(task))
    })?;
    let record = at(&task, "/result/structuredContent/task");
    assert_eq!(
        (at(&task, "/status"), at(record, "/result")),
        (&"completed".into(), &"done without it".into()),
        "{task}"
    );
    assert_eq!(at(record, "/attempt"), 1, "it was not done again");

    let wait = json!({ "task_id": id, "timeout_s": 60 });
    let waited = Era::Legacy.call("p2p_taskqueue_wait_task", wait).ask(second.http()?)?.structured()?;
    assert_eq!((at(&waited, "/done"), at(&waited, "/task/result")), (&true.into(), &"done without it".into()));
    Ok(())
}
