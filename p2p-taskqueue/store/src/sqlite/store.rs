use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use taskqueue_api::{
    Caller, PeerId, QueueError, Request, Response, RouteBook, StoreStatus, TaskId, TaskQueue, TaskRecord,
};

use super::{OpenFile, RepairReport, ScrubReport, SqliteBackend, readings::Readings, repair, scrub::look_over};
use crate::{StoreError, StoreOptions, TaskStore, Watch, queue::Core};

/// A store in one SQLite file, which this object owns as long as it is open.
///
/// Calls may come from any runtime, or from none. The store's own threads do the work; a call only sends it to them and
/// waits for the answer.
#[derive(Debug)]
pub struct SqliteStore {
    core: Core,
    path: PathBuf,
    scrub: Option<Scrub>,
}

impl SqliteStore {
    /// Opens or creates the store in this file, and starts its threads. Tasks that were running keep their lease for
    /// one more length of it. If the store was not closed in order, a thread checks it in the background: see
    /// [`scrub_report`](Self::scrub_report).
    ///
    /// # Errors
    ///
    /// [`StoreError`], which says what to do: the file is newer, foreign, damaged or in use, its last commits are
    /// missing, or the system answered an error.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let OpenFile { backend, rows, clean } = SqliteBackend::open(path)?;
        let durability = options.durability;
        let readings = backend.readings();
        let core = Core::start(Box::new(backend), rows, options, durability)?;
        let scrub = if clean { None } else { Some(Scrub::start(path, readings).map_err(StoreError::Threads)?) };
        Ok(Self { core, path: path.to_owned(), scrub })
    }

    /// Builds a sound store from what is intact in this file. Nobody may have the file open. The old file is kept
    /// beside the new one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read at all, is not a store or is a newer one, or is in use, when the
    /// disk has no room for two more copies of it, or when the system refuses. The file is then as it was, and no new
    /// files are beside it.
    pub fn repair(path: &Path) -> Result<RepairReport, StoreError> {
        repair::repair(path)
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the findings of the check after a store was not closed in order; `None` when there was no check or it is
    /// still running.
    #[must_use]
    pub fn scrub_report(&self) -> Option<&ScrubReport> {
        self.scrub.as_ref().and_then(|scrub| scrub.report.get())
    }
}

#[cfg(test)]
impl SqliteStore {
    /// Waits for the end of the check, if there is one, and returns its findings.
    pub(super) fn when_scrubbed(&self) -> Option<&ScrubReport> {
        self.scrub.as_ref()?.join();
        self.scrub_report()
    }
}

/// A check of the store on a thread of its own.
#[derive(Debug)]
struct Scrub {
    stop: Arc<AtomicBool>,
    report: Arc<OnceLock<ScrubReport>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Scrub {
    fn start(path: &Path, readings: Readings) -> std::io::Result<Self> {
        let (stop, report) = (Arc::default(), Arc::new(OnceLock::new()));
        let (path, stopped, found) = (path.to_owned(), Arc::clone(&stop), Arc::clone(&report));
        let thread = thread::Builder::new().name("store-scrub".to_owned()).spawn(move || {
            match Self::run(&readings, &stopped) {
                Ok(report) => {
                    tell(&path, &report);
                    drop(found.set(report));
                }
                Err(error) => tracing::error!(%error, "the store could not be looked over"),
            }
        })?;
        Ok(Self { stop, report, thread: Mutex::new(Some(thread)) })
    }

    fn run(readings: &Readings, stop: &Arc<AtomicBool>) -> rusqlite::Result<ScrubReport> {
        loop {
            let (stop, others) = (Arc::clone(stop), readings.clone());
            let told = Arc::clone(&stop);
            let stopped = move || told.load(Ordering::Relaxed) || others.are_closing();
            let report = readings.open()?.with(|connection| look_over(connection, stopped))??;
            if report.completed || stop.load(Ordering::Relaxed) {
                return Ok(report);
            }
            // All connections had to be closed, so the check starts again.
        }
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.join();
    }

    fn join(&self) {
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::error!("the look over the store had panicked");
        }
    }
}

fn tell(path: &Path, report: &ScrubReport) {
    let path = path.display();
    for problem in &report.problems {
        tracing::error!(%path, problem, "the store is damaged");
    }
    if report.is_sound() {
        tracing::info!(%path, tasks = report.tasks, completed = report.completed, "the store was looked over");
    } else {
        let problems = report.problem_count;
        tracing::error!(%path, problems, "stop the node and run `taskmesh repair`, or restore a backup");
    }
}

#[async_trait]
impl TaskQueue for SqliteStore {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        self.core.call(caller, request).await
    }
}

#[async_trait]
impl TaskStore for SqliteStore {
    fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError> {
        self.core.watch(ids)
    }

    async fn explain(&self, tasks: &mut [TaskRecord]) {
        self.core.explain(tasks).await;
    }

    fn state(&self) -> StoreStatus {
        self.core.state("sqlite", self.scrub_report().map(|report| report.problem_count))
    }

    fn close(&self) {
        // The check ends first, because the whole log can be copied only when nobody reads it.
        self.scrub.iter().for_each(Scrub::end);
        self.core.close();
    }

    #[cfg(test)]
    fn vitals(&self, with_memory: bool) -> crate::queue::Vitals {
        self.core.vitals(with_memory)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl RouteBook for SqliteStore {
    async fn remember(&self, task: TaskId, owner: PeerId) -> Result<(), QueueError> {
        self.core.remember(task, owner).await
    }

    async fn owner_of(&self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        self.core.owner_of(task).await
    }
}
