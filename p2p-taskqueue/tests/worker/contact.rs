//! Tests of what a handler reports and asks while it works, and how soon it learns of a cancel.

use std::{sync::atomic::Ordering, time::Instant};

use p2p_taskqueue::{
    api::{Answer, Complete, limits::INPUTS_BYTES_MAX},
    worker::AskError,
};

use super::*;

/// A lease so long that it neither expires nor needs a renewal during a test.
const LONG_LEASE: Duration = Duration::from_secs(3_000);

/// A handler that gives its contact to the test, and ends when the test tells it to.
#[derive(Debug)]
struct Lender(mpsc::Sender<(TaskId, Contact, mpsc::Sender<AttemptEnd>)>);

#[async_trait]
impl Handler for Lender {
    async fn run(&self, task: &TaskRecord, mut contact: Contact) -> AttemptEnd {
        let (end, mut ends) = mpsc::channel(1);
        self.0.send((task.task_id, contact.clone(), end)).await.ok();
        tokio::select! {
            end = ends.recv() => end.unwrap_or(AttemptEnd::Stopped),
            () = contact.stop_requested() => AttemptEnd::Stopped,
        }
    }
}

struct Lent {
    mesh: Arc<Mesh>,
    worker: Worker,
    begun: mpsc::Receiver<(TaskId, Contact, mpsc::Sender<AttemptEnd>)>,
}

impl Lent {
    fn new(lease: Duration) -> Result<Self, Box<dyn std::error::Error>> {
        let (mesh, (lender, begun)) = (Mesh::new()?, mpsc::channel(8));
        let worker = mesh.work(Arc::new(Lender(lender)), |config| config.lease = lease);
        Ok(Self { mesh, worker, begun })
    }

    async fn next(&mut self) -> Result<(TaskId, Contact, mpsc::Sender<AttemptEnd>), Box<dyn std::error::Error>> {
        Ok(soon(self.begun.recv()).await.ok_or("nothing has begun")?)
    }
}

#[expect(clippy::expect_used, reason = "what does not come fails the test")]
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it comes in time")
}

/// Reads the record until it is like this.
async fn until(
    queue: &LocalQueue,
    task_id: TaskId,
    is_so: impl Fn(&TaskRecord) -> bool,
) -> Result<TaskRecord, QueueError> {
    soon(async {
        loop {
            let task = queue.get(&Caller::Local, Get { task_id }).await?.task;
            if is_so(&task) {
                return Ok(task);
            }
        }
    })
    .await
}

fn answer(task_id: TaskId, key: &str, text: &str) -> Answer {
    Answer { task_id, input_responses: [(key.to_owned(), Json::from_text(text))].into() }
}

#[tokio::test]
async fn a_cancel_stops_the_work_at_once_wherever_the_task_is_kept() -> TestResult {
    let mut lent = Lent::new(LONG_LEASE)?;
    let mesh = Arc::clone(&lent.mesh);
    for queue in [&mesh.here, &mesh.there] {
        let renewals = *mesh.renewals.borrow();
        let task = submit(queue).await?;
        lent.next().await?;
        // Once a renewal has come, it waits at the owner. The cancel must end that wait.
        soon(mesh.renewals.subscribe().wait_for(|now| *now > renewals)).await?;
        let called_off = Instant::now();
        queue.cancel(&Caller::Local, Cancel { task_id: task, reason: "enough".to_owned() }).await?;
        assert_eq!(ended(queue, task).await?.status, TaskStatus::Cancelled);
        println!("stopped after {:?}", called_off.elapsed());
    }
    lent.worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn progress_reaches_the_record_and_the_last_word_stays() -> TestResult {
    let mut lent = Lent::new(LONG_LEASE)?;
    let task = submit(&lent.mesh.there).await?;
    let (_, contact, end) = lent.next().await?;
    for step in 0..=1_000_u32 {
        contact.progress(f64::from(step) / 1_000.0, Some(&format!("step {step}")));
    }
    let record = until(&lent.mesh.there, task, |task| task.progress == Some(1.0)).await?;
    assert_eq!(record.status_message.as_deref(), Some("step 1000"));
    assert!(*lent.mesh.renewals.borrow() < 20, "each word was told by itself");
    // Values that no owner would take are adjusted.
    contact.progress(f64::NAN, Some(&"\u{e4}".repeat(4_000)));
    let record = until(&lent.mesh.there, task, |task| task.progress == Some(0.0)).await?;
    assert_eq!(record.status_message.map(|message| message.len()), Some(4_096));
    end.send(result()).await?;
    ended(&lent.mesh.there, task).await?;
    lent.worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn an_answer_reaches_the_work_at_once_and_a_later_attempt_as_well() -> TestResult {
    let mut lent = Lent::new(LONG_LEASE)?;
    for queue in [&lent.mesh.here, &lent.mesh.there] {
        let task =
            queue.submit(&Caller::Local, Submit { backoff_s: 0.0, ..Submit::new("t", Json::null()) }).await?.task_id;
        let (_, contact, end) = soon(lent.begun.recv()).await.ok_or("nothing has begun")?;
        let (asked, other) = (contact.ask("q", Json::from_text("?")), contact.ask("q", Json::from_text("again?")));
        let answered = async {
            until(queue, task, |task| task.input_requests.contains_key("q")).await?;
            queue.answer(&Caller::Local, answer(task, "q", "yes")).await
        };
        let (asked, other, answered) = soon(async { tokio::join!(asked, other, answered) }).await;
        assert_eq!((asked?, other?, answered?.accepted), (Json::from_text("yes"), Json::from_text("yes"), 1));
        end.send(AttemptEnd::Failed { error: "once more".to_owned(), retryable: true }).await?;
        let (_, contact, end) = soon(lent.begun.recv()).await.ok_or("no second attempt")?;
        assert_eq!(soon(contact.ask("q", Json::from_text("?"))).await?, Json::from_text("yes"));
        end.send(result()).await?;
        ended(queue, task).await?;
    }
    lent.worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_question_that_is_refused_costs_the_others_nothing() -> TestResult {
    let mut lent = Lent::new(LONG_LEASE)?;
    let task = submit(&lent.mesh.here).await?;
    let (_, contact, _end) = lent.next().await?;
    let long = || Json::from_text(&"x".repeat(INPUTS_BYTES_MAX - 100));
    let queue = &lent.mesh.here;
    let meanwhile = async {
        until(queue, task, |task| task.input_requests.contains_key("first")).await?;
        let refused = contact.ask("too much", Json::from_text(&"y".repeat(200))).await;
        assert!(
            matches!(&refused, Err(AskError::Refused(error)) if error.code == ErrorCode::LimitExceeded),
            "{refused:?}"
        );
        queue.answer(&Caller::Local, answer(task, "first", "fine")).await
    };
    let (asked, answered) = soon(async { tokio::join!(contact.ask("first", long()), meanwhile) }).await;
    assert_eq!((asked?, answered?.accepted), (Json::from_text("fine"), 1));
    // A question that nobody answers ends when the work is called off.
    let called_off = async {
        until(queue, task, |task| task.input_requests.contains_key("open")).await?;
        queue.cancel(&Caller::Local, Cancel { task_id: task, reason: String::new() }).await
    };
    let (asked, called_off) = soon(async { tokio::join!(contact.ask("open", Json::null()), called_off) }).await;
    called_off?;
    assert_eq!(asked, Err(AskError::Stopped));
    lent.worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn an_owner_whose_renewals_do_not_wait_is_not_asked_without_pause() -> TestResult {
    let lease = Duration::from_millis(1_200);
    let mut lent = Lent::new(lease)?;
    lent.mesh.is_old.store(true, Ordering::SeqCst);
    let task = submit(&lent.mesh.there).await?;
    let begun = Instant::now();
    let (_, _contact, end) = lent.next().await?;
    let mesh = Arc::clone(&lent.mesh);
    soon(mesh.renewals.subscribe().wait_for(|renewals| *renewals >= 4)).await?;
    assert!(begun.elapsed() >= lease, "four renewals in {:?}", begun.elapsed());
    end.send(result()).await?;
    assert_eq!(ended(&mesh.there, task).await?.attempt, 1);
    lent.worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn another_renewal_of_the_same_lease_disturbs_nothing() -> TestResult {
    let mut lent = Lent::new(Duration::from_secs(1))?;
    let task = submit(&lent.mesh.here).await?;
    let (_, contact, _end) = lent.next().await?;
    let queue = &lent.mesh.here;
    contact.progress(0.25, Some("from within"));
    until(queue, task, |task| task.progress == Some(0.25)).await?;
    // A command that the handler runs may renew like this, since it has the fence in its environment.
    let fence = lent.mesh.fence(task).ok_or("no fence")?;
    let other = Renew { progress: Some(0.75), ..Renew::new(task, fence, 1.0) };
    queue.renew(&Caller::Local, other).await?;
    let until_then = queue.wait(&Caller::Local, Wait::one(task, 1.5)).await?.task.ok_or("no task")?;
    assert_eq!((until_then.status, until_then.attempt, until_then.progress), (TaskStatus::Running, 1, Some(0.75)));
    queue.complete(&Caller::Local, Complete::new(task, fence, None)).await?;
    soon(contact.clone().stop_requested()).await;
    lent.worker.shutdown().await;
    Ok(())
}
