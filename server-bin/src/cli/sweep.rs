//! Operations on many ended tasks, asked for in parts so that the node has time for other work between them.

use std::time::Instant;

use p2p_taskqueue::{
    Operation, TaskId, TaskStatus,
    api::{
        Purge, Purged, QueueError, Retried, Retry, Selection,
        limits::{SPAN_S_MAX, WAIT_IDS_MAX},
    },
};
use serde::Serialize;

use crate::client::Client;

/// An operation that takes a selection of tasks.
pub(super) trait Sweep: Operation<Answer: Send> + Send + 'static {
    /// The answer for all parts together.
    type Total: Serialize;
    /// A word for what was done with the tasks.
    const DONE: &'static str;
    /// Returns the operation on these tasks.
    fn of(selection: Selection) -> Self;
    /// Reads the answer to one part.
    fn swept(answer: Self::Answer) -> Swept;
    fn total(swept: Swept) -> Self::Total;
}

/// The number of tasks that were changed, the number of named tasks that were not, and whether tasks that pass the
/// filter are left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Swept {
    changed: u64,
    skipped: u64,
    more: bool,
}

/// The tasks that a sweep is for.
#[derive(Debug)]
pub(super) enum What {
    Named(Vec<TaskId>),
    Ended(Filter),
}

/// Tasks that ended in this state and pass all other conditions.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) status: TaskStatus,
    pub(super) task_types: Vec<String>,
    pub(super) label: Option<String>,
    pub(super) session: Option<String>,
    pub(super) older_than_s: f64,
    /// The most tasks to change; `None` is all.
    pub(super) limit: Option<u64>,
}

impl Sweep for Retry {
    type Total = Retried;
    const DONE: &'static str = "queued again";

    fn of(selection: Selection) -> Self {
        Self { selection }
    }

    fn swept(answer: Retried) -> Swept {
        Swept { changed: answer.retried, skipped: answer.skipped, more: answer.more }
    }

    fn total(swept: Swept) -> Retried {
        Retried { retried: swept.changed, skipped: swept.skipped, more: swept.more }
    }
}

impl Sweep for Purge {
    type Total = Purged;
    const DONE: &'static str = "removed";

    fn of(selection: Selection) -> Self {
        Self { selection }
    }

    fn swept(answer: Purged) -> Swept {
        Swept { changed: answer.purged, skipped: answer.skipped, more: answer.more }
    }

    fn total(swept: Swept) -> Purged {
        Purged { purged: swept.changed, skipped: swept.skipped, more: swept.more }
    }
}

impl Swept {
    /// Returns a text for a person. `done` is the word for what was done with the tasks.
    pub(super) fn text(self, done: &str) -> String {
        let mut text = format!("{} {done}", self.changed);
        if self.skipped > 0 {
            text += &format!(", {} skipped: not there, in another state, or after a task that failed", self.skipped);
        }
        if self.more {
            text += ", more are left";
        }
        text
    }

    fn add(&mut self, part: Self) {
        *self = Self { changed: self.changed + part.changed, skipped: self.skipped + part.skipped, more: part.more };
    }
}

/// Asks for the operation part by part, until no tasks are left or the limit is reached.
pub(super) async fn sweep<S: Sweep>(client: &Client, what: What) -> Result<Swept, QueueError> {
    match what {
        What::Named(task_ids) => sweep_named::<S>(client, &task_ids).await,
        What::Ended(filter) => sweep_ended::<S>(client, &filter).await,
    }
}

async fn sweep_named<S: Sweep>(client: &Client, task_ids: &[TaskId]) -> Result<Swept, QueueError> {
    let mut total = Swept::default();
    for part in task_ids.chunks(WAIT_IDS_MAX) {
        total.add(ask::<S>(client, Selection::ids(part.to_vec()), total).await?);
    }
    Ok(total)
}

async fn sweep_ended<S: Sweep>(client: &Client, filter: &Filter) -> Result<Swept, QueueError> {
    let started = Instant::now();
    let mut total = Swept::default();
    loop {
        let left = filter.limit.map_or(u64::MAX, |limit| limit.saturating_sub(total.changed));
        let selection = Selection {
            task_types: filter.task_types.clone(),
            label: filter.label.clone(),
            session: filter.session.clone(),
            // Tasks that end after the start are left out. Otherwise tasks that fail at once would be retried for ever.
            older_than_s: (filter.older_than_s + started.elapsed().as_secs_f64()).min(SPAN_S_MAX),
            limit: u32::try_from(left).unwrap_or(PART).min(PART),
            ..Selection::ended(filter.status)
        };
        let part = ask::<S>(client, selection, total).await?;
        total.add(part);
        if !part.more || part.changed == 0 || filter.limit.is_some_and(|limit| total.changed >= limit) {
            return Ok(total);
        }
    }
}

/// Asks for one part. The message of an error also says what the parts before have done.
async fn ask<S: Sweep>(client: &Client, selection: Selection, before: Swept) -> Result<Swept, QueueError> {
    client.ask(S::of(selection)).await.map(S::swept).map_err(|mut error| {
        if before.changed > 0 {
            error.message += &format!("; {} {} before", before.changed, S::DONE);
        }
        error
    })
}

/// The most tasks of one request: some hundredths of a second, in which the node's writer does nothing else.
const PART: u32 = 1_000;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use p2p_taskqueue::{Caller, ErrorCode, Request, Response, TaskQueue};

    use super::*;

    /// A queue with `left` failed tasks, which notes what it was asked and refuses the request number `fails_at`.
    #[derive(Debug)]
    struct Failed {
        left: Mutex<u64>,
        asked: Mutex<Vec<Selection>>,
        fails_at: usize,
    }

    #[async_trait::async_trait]
    impl TaskQueue for Failed {
        async fn call(&self, _: &Caller, request: Request) -> Result<Response, QueueError> {
            let Request::Retry(Retry { selection }) = request else { panic!("not a retry") };
            let mut asked = self.asked.lock().unwrap();
            asked.push(selection.clone());
            if asked.len() == self.fails_at {
                return Err(QueueError::new(ErrorCode::Overloaded, "too much"));
            }
            let mut left = self.left.lock().unwrap();
            let retried = (*left).min(u64::from(selection.limit));
            *left -= retried;
            Ok(Response::Retried(Retried { retried, skipped: selection.task_ids.len() as u64, more: *left > 0 }))
        }
    }

    fn failed(left: u64, fails_at: usize) -> (Arc<Failed>, Client) {
        let queue = Arc::new(Failed { left: Mutex::new(left), asked: Mutex::default(), fails_at });
        (Arc::clone(&queue), Client::over(queue))
    }

    fn all(limit: Option<u64>) -> What {
        let status = TaskStatus::Failed;
        let (task_types, label, session) = (vec!["t".to_owned()], Some("l".to_owned()), None);
        What::Ended(Filter { status, task_types, label, session, older_than_s: 60.0, limit })
    }

    #[tokio::test]
    async fn it_goes_on_while_there_are_more_and_sums_up() {
        let (queue, client) = failed(2_500, 0);
        let swept = sweep::<Retry>(&client, all(None)).await.unwrap();
        assert_eq!(swept, Swept { changed: 2_500, skipped: 0, more: false });
        let asked = queue.asked.lock().unwrap();
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(|one| one.label.as_deref() == Some("l") && one.task_types == ["t"]));
        // Only tasks that had ended when the sweep began are asked for.
        assert!(asked.windows(2).all(|two| two[0].older_than_s < two[1].older_than_s) && asked[0].older_than_s >= 60.0);
    }

    #[tokio::test]
    async fn the_longest_age_stays_within_its_bound_however_long_it_takes() {
        let (queue, client) = failed(2_500, 0);
        let What::Ended(filter) = all(None) else { panic!("named") };
        sweep::<Retry>(&client, What::Ended(Filter { older_than_s: SPAN_S_MAX, ..filter })).await.unwrap();
        assert!(queue.asked.lock().unwrap().iter().all(|one| one.older_than_s == SPAN_S_MAX));
    }

    #[tokio::test]
    async fn it_stops_at_the_limit_and_says_that_more_are_left() {
        let (queue, client) = failed(2_500, 0);
        let swept = sweep::<Retry>(&client, all(Some(1_200))).await.unwrap();
        assert_eq!(swept, Swept { changed: 1_200, skipped: 0, more: true });
        assert_eq!(queue.asked.lock().unwrap().iter().map(|one| one.limit).collect::<Vec<_>>(), [1_000, 200]);
        assert_eq!(swept.text(Retry::DONE), "1200 queued again, more are left");
    }

    #[tokio::test]
    async fn an_error_says_what_was_done_before_it() {
        let (_, client) = failed(2_500, 2);
        let error = sweep::<Retry>(&client, all(None)).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::Overloaded, "too much; 1000 queued again before"));
    }

    #[tokio::test]
    async fn named_tasks_are_asked_for_in_parts() {
        let (queue, client) = failed(0, 0);
        let ids = (0..1_001).map(|_| TaskId::random().unwrap()).collect();
        let swept = sweep::<Retry>(&client, What::Named(ids)).await.unwrap();
        assert_eq!((swept.skipped, queue.asked.lock().unwrap().len()), (1_001, 2));
    }
}
