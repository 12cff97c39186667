//! Tests of workers over real queues: a local one, and one in the place of a peer's.

mod contact;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use p2p_taskqueue::{
    Caller, ErrorCode, Fence, Json, PeerId, QueueError, Request, Response, TaskId, TaskQueue, TaskQueueExt as _,
    TaskStatus,
    api::{
        Cancel, Get, Renew, Submit, TaskRecord, ToolOffer, Wait,
        limits::{ERROR_BYTES_MAX, JSON_BYTES_MAX},
    },
    store::{LocalQueue, SqliteStore, StoreOptions},
    worker::{AttemptEnd, Contact, Handler, Worker, WorkerConfig},
};
use runtime_bridge::{Runtime, TokioRuntime};
use tempfile::TempDir;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// The time that anything may take. Everything takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// The queues of two nodes, as the first node sees them.
#[derive(Debug)]
struct Mesh {
    here: LocalQueue,
    there: LocalQueue,
    us: PeerId,
    /// The number of reports to the other node that are still to be lost on the way.
    reports_lost: AtomicUsize,
    /// The number of renewals so far, of tasks of either node.
    renewals: watch::Sender<usize>,
    /// Whether the nodes act like a version in which renewals do not wait.
    is_old: AtomicBool,
    /// The fence with which each task was last renewed.
    fences: Mutex<HashMap<TaskId, Fence>>,
    runtime: Arc<dyn Runtime>,
    _folder: TempDir,
}

impl Mesh {
    fn new() -> Result<Arc<Self>, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::new(Handle::current()));
        let queue = |name: &str| -> Result<LocalQueue, Box<dyn std::error::Error>> {
            let owner = PeerId::random();
            let store = SqliteStore::open(&folder.path().join(name), StoreOptions::new(owner))?;
            Ok(LocalQueue::new(Arc::new(store), owner, Arc::clone(&runtime)))
        };
        let (here, there) = (queue("here")?, queue("there")?);
        Ok(Arc::new(Self {
            here,
            there,
            us: PeerId::random(),
            reports_lost: AtomicUsize::new(0),
            renewals: watch::Sender::new(0),
            is_old: AtomicBool::new(false),
            fences: Mutex::default(),
            runtime,
            _folder: folder,
        }))
    }

    fn fence(&self, task: TaskId) -> Option<Fence> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).get(&task).copied()
    }

    fn counted(&self, request: Request) -> Request {
        let Request::Renew(renew) = request else { return request };
        self.renewals.send_modify(|renewals| *renewals += 1);
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).insert(renew.task_id, renew.fence);
        let wait_s = if self.is_old.load(Ordering::SeqCst) { 0.0 } else { renew.wait_s };
        Request::Renew(Renew { wait_s, ..renew })
    }

    /// Starts a worker of the first node that takes tasks from both.
    fn work(self: &Arc<Self>, handler: Arc<dyn Handler>, configure: impl FnOnce(&mut WorkerConfig)) -> Worker {
        let mut config = WorkerConfig::new("w", ["t"], handler);
        configure(&mut config);
        let (_, serving) = watch::channel(vec![PeerId::random()]);
        Worker::start(config, Arc::<Self>::clone(self), serving, &self.runtime)
    }
}

#[async_trait]
impl TaskQueue for Mesh {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        let (is_here, request) = match request {
            Request::At(at) => (false, *at.request),
            request => (true, request),
        };
        let request = self.counted(request);
        if is_here {
            return self.here.call(caller, request).await;
        }
        let is_report = matches!(request, Request::Complete(_) | Request::Fail(_) | Request::Release(_));
        let lose = |lost: usize| lost.checked_sub(1);
        if is_report && self.reports_lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
            return Err(QueueError::new(ErrorCode::Unreachable, "the peer is restarting"));
        }
        self.there.call(&Caller::member(self.us), request).await
    }
}

/// A handler that says when it begins, and ends with the outcome that the test sends.
#[derive(Debug)]
struct Puppet {
    begun: mpsc::Sender<TaskId>,
    ends: tokio::sync::Mutex<mpsc::Receiver<AttemptEnd>>,
}

struct Strings {
    begun: mpsc::Receiver<TaskId>,
    end: mpsc::Sender<AttemptEnd>,
}

fn puppet() -> (Arc<Puppet>, Strings) {
    let (begun, has_begun) = mpsc::channel(8);
    let (end, ends) = mpsc::channel(8);
    (Arc::new(Puppet { begun, ends: tokio::sync::Mutex::new(ends) }), Strings { begun: has_begun, end })
}

impl Strings {
    async fn next_begun(&mut self) -> Option<TaskId> {
        tokio::time::timeout(DEADLINE, self.begun.recv()).await.ok().flatten()
    }
}

#[async_trait]
impl Handler for Puppet {
    async fn run(&self, task: &TaskRecord, mut contact: Contact) -> AttemptEnd {
        self.begun.send(task.task_id).await.ok();
        let mut ends = self.ends.lock().await;
        tokio::select! {
            end = ends.recv() => end.unwrap_or(AttemptEnd::Stopped),
            () = contact.stop_requested() => AttemptEnd::Stopped,
        }
    }
}

async fn submit(queue: &LocalQueue) -> Result<TaskId, QueueError> {
    Ok(queue.submit(&Caller::Local, Submit::new("t", Json::null())).await?.task_id)
}

async fn ended(queue: &LocalQueue, task: TaskId) -> Result<TaskRecord, QueueError> {
    let waited = queue.wait(&Caller::Local, Wait::one(task, DEADLINE.as_secs_f64())).await?;
    waited.task.ok_or_else(|| QueueError::new(ErrorCode::Internal, "no task"))
}

fn result() -> AttemptEnd {
    AttemptEnd::Done(Json::from_text("done"))
}

#[tokio::test]
async fn tasks_of_the_local_queue_and_of_a_peer_are_done() -> TestResult {
    let mesh = Mesh::new()?;
    let (puppet, mut strings) = puppet();
    let worker = mesh.work(puppet, |_| ());
    for queue in [&mesh.here, &mesh.there] {
        let task = submit(queue).await?;
        assert_eq!(strings.next_begun().await, Some(task));
        strings.end.send(result()).await?;
        let ended = ended(queue, task).await?;
        assert_eq!((ended.status, ended.result), (TaskStatus::Completed, Some(Json::from_text("done"))));
        assert_eq!(ended.assigned_worker.as_deref(), Some("w"));
    }
    worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn one_slot_runs_one_task_and_gives_the_other_back_untouched() -> TestResult {
    let mesh = Mesh::new()?;
    let (puppet, mut strings) = puppet();
    let worker = mesh.work(puppet, |_| ());
    let (here, there) = (submit(&mesh.here).await?, submit(&mesh.there).await?);
    let first = strings.next_begun().await.ok_or("nothing has begun")?;
    assert!(strings.begun.try_recv().is_err(), "one slot, one task");
    strings.end.send(result()).await?;
    let second = strings.next_begun().await.ok_or("the other has not begun")?;
    strings.end.send(result()).await?;
    assert!(first != second && [here, there].contains(&first) && [here, there].contains(&second));
    for (queue, task) in [(&mesh.here, here), (&mesh.there, there)] {
        assert_eq!(ended(queue, task).await?.attempt, 1, "an attempt that was given back does not count");
    }
    worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn two_slots_run_two_tasks_of_one_queue_whatever_their_types() -> TestResult {
    let mesh = Mesh::new()?;
    let (puppet, mut strings) = puppet();
    let worker = mesh.work(puppet, |config| {
        config.slots = 2;
        let tool =
            |name: &str| ToolOffer { name: name.to_owned(), description: String::new(), input_schema: Json::null() };
        config.takes = vec![tool("t"), tool("u")];
    });
    let mut tasks = Vec::new();
    for task_type in ["t", "u", "t", "not taken"] {
        tasks.push(mesh.here.submit(&Caller::Local, Submit::new(task_type, Json::null())).await?.task_id);
    }
    let mut begun = Vec::new();
    for _ in 0..2 {
        begun.push(strings.next_begun().await.ok_or("nothing has begun")?);
    }
    assert!(strings.begun.try_recv().is_err(), "two slots, two tasks");
    strings.end.send(result()).await?;
    begun.push(strings.next_begun().await.ok_or("the third has not begun")?);
    strings.end.send(result()).await?;
    strings.end.send(result()).await?;
    let left = tasks.pop().ok_or("no task")?;
    begun.sort_unstable();
    tasks.sort_unstable();
    assert_eq!(begun, tasks);
    for task in tasks {
        let ended = ended(&mesh.here, task).await?;
        assert_eq!((ended.status, ended.attempt), (TaskStatus::Completed, 1));
    }
    worker.shutdown().await;
    let left = mesh.here.get(&Caller::Local, Get { task_id: left }).await?.task;
    assert_eq!((left.status, left.attempt), (TaskStatus::Queued, 0));
    Ok(())
}

#[tokio::test]
async fn a_report_is_repeated_until_the_owner_is_back() -> TestResult {
    let mesh = Mesh::new()?;
    mesh.reports_lost.store(3, Ordering::SeqCst);
    let (puppet, mut strings) = puppet();
    let worker = mesh.work(puppet, |_| ());
    let task = submit(&mesh.there).await?;
    strings.next_begun().await.ok_or("nothing has begun")?;
    strings.end.send(result()).await?;
    assert_eq!(ended(&mesh.there, task).await?.status, TaskStatus::Completed);
    assert_eq!(mesh.reports_lost.load(Ordering::SeqCst), 0);
    worker.shutdown().await;
    Ok(())
}

/// The handler gives the same result each time. If the task did not fail, it would be run again after every lease.
#[tokio::test]
async fn a_result_that_the_owner_does_not_take_fails_the_task() -> TestResult {
    let mesh = Mesh::new()?;
    let (puppet, mut strings) = puppet();
    let worker = mesh.work(puppet, |_| ());
    let unreadable = Json::parse("1e400".to_owned())?;
    let too_large = Json::from_text(&"x".repeat(JSON_BYTES_MAX));
    for (queue, refused) in [(&mesh.here, unreadable), (&mesh.there, too_large)] {
        let submit = Submit { max_attempts: 0, ..Submit::new("t", Json::null()) };
        let task = queue.submit(&Caller::Local, submit).await?.task_id;
        strings.next_begun().await.ok_or("nothing has begun")?;
        strings.end.send(AttemptEnd::Done(refused)).await?;
        let ended = ended(queue, task).await?;
        assert_eq!((ended.status, ended.attempt), (TaskStatus::Failed, 1));
        let error = ended.error.ok_or("no error")?;
        assert!(error.starts_with("the result was refused: result: "), "{error}");
    }
    worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_failure_that_is_told_at_length_is_told() -> TestResult {
    let mesh = Mesh::new()?;
    let (puppet, mut strings) = puppet();
    let worker = mesh.work(puppet, |_| ());
    let task = submit(&mesh.here).await?;
    strings.next_begun().await.ok_or("nothing has begun")?;
    let error = "ü".repeat(ERROR_BYTES_MAX);
    strings.end.send(AttemptEnd::Failed { error: error.clone(), retryable: false }).await?;
    let told = ended(&mesh.here, task).await?.error.ok_or("no error")?;
    assert!(error.starts_with(&told) && told.len() == ERROR_BYTES_MAX, "{} bytes", told.len());
    worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_task_that_is_called_off_while_it_runs_is_stopped_and_cancelled() -> TestResult {
    let mesh = Mesh::new()?;
    let (puppet, mut strings) = puppet();
    let worker = mesh.work(puppet, |config| config.lease = Duration::from_secs(1));
    let task = submit(&mesh.here).await?;
    strings.next_begun().await.ok_or("nothing has begun")?;
    let cancelled = mesh.here.cancel(&Caller::Local, Cancel { task_id: task, reason: "no need".to_owned() }).await?;
    assert!(cancelled.cancel_requested && !cancelled.cancelled);
    assert_eq!(ended(&mesh.here, task).await?.status, TaskStatus::Cancelled);
    worker.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_stops_gives_its_task_back() -> TestResult {
    let mesh = Mesh::new()?;
    let (puppet, mut strings) = puppet();
    let worker = mesh.work(puppet, |_| ());
    let task = submit(&mesh.there).await?;
    strings.next_begun().await.ok_or("nothing has begun")?;
    worker.shutdown().await;
    let task = mesh.there.get(&Caller::Local, Get { task_id: task }).await?.task;
    assert_eq!((task.status, task.attempt), (TaskStatus::Queued, 0));
    Ok(())
}

#[tokio::test]
async fn a_lease_is_renewed_as_long_as_the_work_takes() -> TestResult {
    let mesh = Mesh::new()?;
    let (puppet, mut strings) = puppet();
    let worker = mesh.work(puppet, |config| config.lease = Duration::from_secs(1));
    let task = submit(&mesh.here).await?;
    strings.next_begun().await.ok_or("nothing has begun")?;
    let first = mesh.here.get(&Caller::Local, Get { task_id: task }).await?.task.lease_until.ok_or("no lease")?;
    // This is well past the first lease. A wait with a timeout uses the queue's own clock.
    let waited = mesh.here.wait(&Caller::Local, Wait::one(task, 1.5)).await?;
    let running = waited.task.ok_or("no task")?;
    assert_eq!((running.status, running.attempt), (TaskStatus::Running, 1));
    assert!(running.lease_until.ok_or("no lease")? > first);
    strings.end.send(result()).await?;
    assert_eq!(ended(&mesh.here, task).await?.status, TaskStatus::Completed);
    worker.shutdown().await;
    Ok(())
}
