use std::collections::BTreeMap;

use taskqueue_api::{
    Answer, Answered,
    limits::{INPUTS_BYTES_MAX, INPUTS_MAX},
};

use super::*;

fn texts(of: &[(&str, &str)]) -> BTreeMap<String, Json> {
    of.iter().map(|(key, text)| ((*key).to_owned(), Json::from_text(text))).collect()
}

fn asks(leased: &TaskRecord, questions: &[(&str, &str)]) -> Renew {
    Renew { input_requests: texts(questions), ..renew(leased, 60.0) }
}

fn answers(task_id: TaskId, responses: &[(&str, &str)]) -> Answer {
    Answer { task_id, input_responses: texts(responses) }
}

pub(crate) async fn a_question_is_answered_and_its_worker_is_told(rig: Rig) -> TestResult {
    let task = rig.submit("echo").await?;
    assert_eq!(soon(rig.store.answer(&ME, answers(task, &[("q", "early")]))).await?.accepted, 0);
    let leased = rig.claim_now().await?;
    let renewed = soon(rig.store.renew(&ME, asks(&leased, &[("q", "who?"), ("r", "when?")]))).await?;
    assert!(renewed.input_responses.is_empty());
    // A key keeps its first question.
    soon(rig.store.renew(&ME, asks(&leased, &[("q", "another?")]))).await?;
    let rig = rig.reopened();
    assert_eq!(rig.get(task).await?.input_requests, texts(&[("q", "who?"), ("r", "when?")]));
    let answered = soon(rig.store.answer(&ME, answers(task, &[("q", "me"), ("x", "nobody asked")]))).await?;
    assert_eq!(answered, Answered { accepted: 1, open: 1, status: TaskStatus::Running });
    let again = soon(rig.store.answer(&ME, answers(task, &[("q", "somebody else")]))).await?;
    assert_eq!((again.accepted, again.open), (0, 1));
    let rig = rig.reopened();
    assert_eq!(rig.get(task).await?.input_requests, texts(&[("r", "when?")]));
    // A renewal is told only the answers to the questions that it asks.
    assert!(soon(rig.store.renew(&ME, asks(&leased, &[("r", "when?")]))).await?.input_responses.is_empty());
    let renewed = soon(rig.store.renew(&ME, asks(&leased, &[("q", "who?"), ("r", "when?")]))).await?;
    assert_eq!(renewed.input_responses, texts(&[("q", "me")]));
    rig.store.complete(&ME, complete(&leased, "r")).await?;
    assert!(rig.get(task).await?.input_requests.is_empty());
    assert_eq!(code(rig.store.answer(&ME, answers(task, &[("r", "now")])).await), ErrorCode::AlreadyFinished);
    let unknown = TaskId::from_bytes([1; 16]);
    assert_eq!(code(rig.store.answer(&ME, answers(unknown, &[("r", "now")])).await), ErrorCode::NotFound);
    Ok(())
}

pub(crate) async fn an_answer_outlives_the_attempt_and_a_question_does_not(rig: Rig) -> TestResult {
    let submit = Submit { max_attempts: 0, backoff_s: 0.0, ..Submit::new("echo", Json::null()) };
    let task = rig.submit_as(submit).await?.task_id;
    for end in 0..3 {
        let leased = rig.claim_now().await?;
        let open = format!("open at {end}");
        let renewed = soon(rig.store.renew(&ME, asks(&leased, &[("q", "who?"), (&open, "?")]))).await?;
        if end == 0 {
            assert_eq!(rig.store.answer(&ME, answers(task, &[("q", "me")])).await?.accepted, 1);
        } else {
            assert_eq!(renewed.input_responses, texts(&[("q", "me")]), "after end {}", end - 1);
        }
        assert_eq!(rig.get(task).await?.input_requests, texts(&[(&open, "?")]));
        match end {
            0 => _ = rig.store.fail(&ME, fail(&leased)).await?,
            1 => _ = rig.store.release(&ME, release(&leased, 0.0)).await?,
            _ => rig.pass(61.0).await,
        }
        assert!(rig.get(task).await?.input_requests.is_empty(), "end {end}");
        let late = rig.store.answer(&ME, answers(task, &[(&open, "late")])).await?;
        assert_eq!((late.accepted, late.status), (0, TaskStatus::Queued));
    }
    Ok(())
}

pub(crate) async fn what_a_task_asks_in_all_is_bounded(rig: Rig) -> TestResult {
    let task = rig.submit("echo").await?;
    let leased = rig.claim_now().await?;
    let keys: Vec<String> = (0..INPUTS_MAX).map(|number| format!("k{number}")).collect();
    let questions: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "?")).collect();
    soon(rig.store.renew(&ME, asks(&leased, &questions))).await?;
    let before = rig.get(task).await?;
    let error = rig.store.renew(&ME, asks(&leased, &[("one more", "?")])).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::LimitExceeded, Some("input_requests")));
    assert_eq!(rig.get(task).await?, before);
    // Answers and questions share one bound.
    let long = "x".repeat(INPUTS_BYTES_MAX - 100);
    let error = rig.store.answer(&ME, answers(task, &[("k0", &long)])).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::LimitExceeded, Some("input_responses")));
    assert_eq!(rig.get(task).await?, before);
    let half = "x".repeat(INPUTS_BYTES_MAX / 2);
    assert_eq!(rig.store.answer(&ME, answers(task, &[("k0", &half)])).await?.accepted, 1);
    assert_eq!(code(rig.store.answer(&ME, answers(task, &[("k1", &half)])).await), ErrorCode::LimitExceeded);
    Ok(())
}
