//! rmcp's own client against the built program: two machines in both eras, and the Tasks extension over restarts.

use anyhow::{Context as _, Result, bail};
use rmcp::{
    model::{ClientCapabilities, ErrorCode, Task, TaskPayload},
    service::ServiceError,
};
use serde_json::{Value, json};

use crate::harness::{Era, LICENCE, McpClient, Node, at, licence_words};

const CLAIM: &str = "p2p_taskqueue_claim_next";
const COMPLETE: &str = "p2p_taskqueue_complete_task";
const FAIL: &str = "p2p_taskqueue_fail_task";
const GET: &str = "p2p_taskqueue_get_task";
const RENEW: &str = "p2p_taskqueue_renew_task";
const SUBMIT: &str = "p2p_taskqueue_submit";
const WAIT: &str = "p2p_taskqueue_wait_task";

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_both_eras_hand_work_to_another_machine_and_do_some_themselves() -> Result<()> {
    let (here, there) = (Node::start(&[])?, Node::start(&["--worker", "wordcount=wc -w"])?);
    there.join(&here)?;
    for era in Era::BOTH {
        let agent = McpClient::connect_as(here.http()?, era, ClientCapabilities::default()).await?;
        let peers = agent.ask("list_peers", json!({})).await?;
        assert!(peers.to_string().contains(&there.peer_id()?), "{peers}");

        let task = json!({ "task_type": "wordcount", "payload": LICENCE, "remote_peer_id": there.peer_id()? });
        let submitted = agent.ask(SUBMIT, task).await?;
        assert_eq!(submitted["peer_id"], there.peer_id()?);
        let waited = agent.ask(WAIT, json!({ "task_id": submitted["task_id"], "timeout_s": 60 })).await?;
        assert_eq!((&waited["done"], at(&waited, "/task/result")), (&json!(true), &json!(licence_words())), "{waited}");
        let ran = agent.ask("run_task", json!({ "task_type": "wordcount", "payload": "a b" })).await?;
        assert_eq!(at(&ran, "/task/result"), 2, "{ran}");

        let submitted = agent.ask(SUBMIT, json!({ "task_type": "by hand", "payload": { "n": 1.50 } })).await?;
        let held = claim(&agent, "by hand").await?;
        assert_eq!(held.id, submitted["task_id"]);
        agent.ask(COMPLETE, held.with(json!({ "result": [1, 2] }))).await?;
        let got = agent.ask(GET, json!({ "task_id": held.id })).await?;
        assert_eq!(at(&got, "/task/result"), &json!([1, 2]), "{got}");
        let late = agent.call(COMPLETE, held.with(json!({ "result": "another" }))).await?;
        assert_eq!(at(&late, "/error/code"), "already_finished", "{late}");
        let stranger = agent.call(GET, json!({ "task_id": "0".repeat(32) })).await?;
        assert_eq!(at(&stranger, "/error/code"), "not_found", "{stranger}");
    }
    Ok(())
}

/// A task that an agent has claimed.
struct Held {
    id: Value,
    fence: Value,
}

impl Held {
    /// Adds the task's id and fence to the arguments of a call.
    fn with(&self, mut arguments: Value) -> Value {
        if let Some(arguments) = arguments.as_object_mut() {
            arguments.insert("task_id".to_owned(), self.id.clone());
            arguments.insert("fence".to_owned(), self.fence.clone());
        }
        arguments
    }
}

async fn claim(agent: &McpClient, task_type: &str) -> Result<Held> {
    let arguments = json!({ "worker_id": "agent", "supported_task_types": [task_type], "wait_s": 60 });
    let claimed = agent.ask(CLAIM, arguments).await?;
    let field =
        |name| claimed.pointer(&format!("/task/{name}")).cloned().with_context(|| format!("no {name}: {claimed}"));
    Ok(Held { id: field("task_id")?, fence: field("fence")? })
}

fn follows_tasks() -> ClientCapabilities {
    ClientCapabilities::builder().enable_tasks().enable_elicitation().build()
}

async fn follower(node: &Node) -> Result<McpClient> {
    McpClient::connect_as(node.http()?, Era::Modern, follows_tasks()).await
}

/// Returns the status message of a task at work, as its client sees it.
async fn doing(follower: &McpClient, task: &Task) -> Result<String> {
    let state = follower.state(task).await?;
    match state.payload {
        TaskPayload::Working => Ok(state.task.status_message.unwrap_or_default()),
        other => bail!("not at work: {other:?}"),
    }
}

async fn result(follower: &McpClient, task: &Task) -> Result<Value> {
    match follower.state(task).await?.payload {
        TaskPayload::Completed { result } => Ok(result.into()),
        other => bail!("not completed: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_is_followed_through_questions_and_restarts_to_its_end() -> Result<()> {
    let mut node = Node::start(&[])?;
    let task = follower(&node).await?.handle("run_task", json!({ "task_type": "report", "payload": 1 })).await?;
    let queued = doing(&follower(&node).await?, &task).await?;
    assert!(queued.starts_with("queued: no machine takes 'report'"), "{queued}");
    let held = claim(&McpClient::connect(node.http()?).await?, "report").await?;
    assert_eq!(held.id, task.task_id.as_str());

    node.kill()?;
    node.start_again()?;
    let (agent, client) = (McpClient::connect(node.http()?).await?, follower(&node).await?);
    let half = held.with(json!({ "progress": 0.5, "status_message": "reading" }));
    agent.ask(RENEW, half).await?;
    let doing = doing(&client, &task).await?;
    assert!(doing.contains("reading") && doing.contains("50"), "{doing}");

    let question = json!({ "method": "elicitation/create", "params": {
        "message": "Print it?",
        "requestedSchema": { "type": "object", "properties": { "go": { "type": "boolean" } }, "required": ["go"] },
    } });
    let asking = held.with(json!({ "input_requests": { "print": question } }));
    let asked = agent.ask(RENEW, asking.clone()).await?;
    assert_eq!(at(&asked, "/input_responses/print"), &Value::Null, "{asked}");
    let TaskPayload::InputRequired { input_requests } = client.state(&task).await?.payload else {
        bail!("it asks for nothing")
    };
    assert_eq!(serde_json::to_value(&input_requests["print"])?["params"]["message"], "Print it?");
    let yes = json!({ "action": "accept", "content": { "go": true } });
    client.answer(&task, [("print".to_owned(), yes.clone()), ("unasked".to_owned(), yes.clone())].into()).await?;

    // The answer outlives the server that accepted it.
    node.kill()?;
    node.start_again()?;
    let (agent, client) = (McpClient::connect(node.http()?).await?, follower(&node).await?);
    let answered = agent.ask(RENEW, asking).await?;
    assert_eq!(at(&answered, "/input_responses/print"), &yes, "{answered}");
    agent.ask(COMPLETE, held.with(json!({ "result": { "pages": 3 } }))).await?;
    let ended = result(&client, &task).await?;
    assert_eq!(at(&ended, "/structuredContent/task/result"), &json!({ "pages": 3 }), "{ended}");
    assert_eq!((at(&ended, "/structuredContent/done"), at(&ended, "/isError")), (&json!(true), &json!(false)));

    node.kill()?;
    node.start_again()?;
    let client = follower(&node).await?;
    assert_eq!(result(&client, &task).await?, ended);
    client.cancel(&task).await?;
    assert_eq!(result(&client, &task).await?, ended, "what has ended stays as it is");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_says_how_its_task_ended() -> Result<()> {
    let node = Node::start(&["--worker", "wordcount=wc -w"])?;
    let (agent, client) = (McpClient::connect(node.http()?).await?, follower(&node).await?);
    let run = async |arguments: Value| client.handle("run_task", arguments).await;

    // The record is the same as in the answer of a plain call.
    let counted = run(json!({ "task_type": "wordcount", "payload": "a b c" })).await?;
    let waited = agent.ask(WAIT, json!({ "task_id": counted.task_id })).await?;
    assert_eq!(at(&result(&client, &counted).await?, "/structuredContent/task"), &waited["task"]);

    let broken = run(json!({ "task_type": "by hand", "payload": 1 })).await?;
    let held = claim(&agent, "by hand").await?;
    agent.ask(FAIL, held.with(json!({ "error": "no paper", "retryable": false }))).await?;
    let failed = result(&client, &broken).await?;
    assert_eq!(failed["isError"], true, "{failed}");
    assert!(failed.to_string().contains("no paper"), "{failed}");

    let late = run(json!({ "task_type": "nobody", "payload": 1, "deadline_s": 0.05 })).await?;
    agent.ask(WAIT, json!({ "task_id": late.task_id })).await?;
    let TaskPayload::Failed { error } = client.state(&late).await?.payload else {
        bail!("the queue has not given it up")
    };
    assert_eq!(error["code"], -32603, "{error:?}");

    let unwanted = run(json!({ "task_type": "nobody", "payload": 1 })).await?;
    client.cancel(&unwanted).await?;
    assert_eq!(client.state(&unwanted).await?.payload, TaskPayload::Cancelled);
    client.cancel(&unwanted).await?;

    let mut unknown = unwanted;
    unknown.task_id = "0".repeat(32);
    let Err(ServiceError::McpError(error)) = client.state(&unknown).await else { bail!("it is known") };
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cannot_follow_a_task_is_given_none() -> Result<()> {
    let node = Node::start(&["--worker", "wordcount=wc -w"])?;
    // The Tasks extension belongs to revision 2026-07-28. Whatever an older client declares, it would not understand a
    // task handle.
    for (era, capabilities) in [(Era::Legacy, follows_tasks()), (Era::Modern, ClientCapabilities::default())] {
        let client = McpClient::connect_as(node.http()?, era, capabilities).await?;
        let ran = client.ask("run_task", json!({ "task_type": "wordcount", "payload": "a b" })).await?;
        assert_eq!((&ran["done"], at(&ran, "/task/result")), (&json!(true), &json!(2)), "{ran}");
    }
    Ok(())
}
