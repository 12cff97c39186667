use std::{pin::pin, time::Duration};

use rmcp::{
    RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
    service::RequestContext,
};
use taskqueue_api::{Get, QueueError, Target, TaskRecord, TaskStatus, Wait, Waited};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{call::Asker, tools::queued};

/// Waits for the end of a task. A client that asks for progress is meanwhile told how far the task is.
///
/// One wait lasts until the end, so that the end is noticed at once and the call keeps its place among the calls that
/// wait. The record is read beside it.
pub(super) async fn wait(
    asker: Asker<'_>,
    target: Target,
    wait: Wait,
    context: &RequestContext<RoleServer>,
) -> Result<Waited, QueueError> {
    let task_id = wait.task_id;
    let mut end = pin!(asker.ask(target.clone(), wait));
    let (Some(token), Some(task_id)) = (context.meta.get_progress_token(), task_id) else { return end.await };
    let mut told = Told::new(token);
    let mut looks = tokio::time::interval_at(Instant::now() + LOOKS_EVERY, LOOKS_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let look = async {
            looks.tick().await;
            asker.ask(target.clone(), Get { task_id }).await
        };
        let looked = tokio::select! {
            biased;
            waited = &mut end => return waited,
            looked = look => looked,
        };
        // An error is left to the wait, which reports it.
        let Some(news) = looked.ok().and_then(|got| told.news(&got.task)) else { continue };
        // The notification is sent to its end before the answer, because nothing may come after the answer.
        let telling = context.peer.notify_progress(news);
        if tokio::time::timeout(TELLING_MAX, telling).await.is_err() {
            return end.await;
        }
    }
}

/// What the client has been told.
#[derive(Debug)]
struct Told {
    token: ProgressToken,
    progress: Option<f64>,
    message: Option<String>,
    /// The number of the last notification: each must be larger than the one before.
    last: Option<f64>,
}

impl Told {
    const fn new(token: ProgressToken) -> Self {
        Self { token, progress: None, message: None, last: None }
    }

    /// Returns what has changed since the last notification, or `None` when nothing has.
    fn news(&mut self, task: &TaskRecord) -> Option<ProgressNotificationParam> {
        // Where nothing is said any more, the state takes the place of what was said last.
        let message = said(task).or_else(|| self.message.is_some().then(|| task.status.to_string()));
        if (task.progress, &message) == (self.progress, &self.message) {
            return None;
        }
        (self.progress, self.message) = (task.progress, message);
        let progress = task.progress.unwrap_or_default();
        let progress = self.last.map_or(progress, |last| progress.max(last + STEP));
        self.last = Some(progress);
        let news = ProgressNotificationParam::new(self.token.clone(), progress).with_total(1.0);
        Some(match &self.message {
            Some(message) => news.with_message(message),
            None => news,
        })
    }
}

/// Returns what there is to say of the task: why it waits, or what its worker says.
fn said(task: &TaskRecord) -> Option<String> {
    let waiting_for = task.waiting_for.as_ref().filter(|_| task.status == TaskStatus::Queued);
    waiting_for.map(queued).or_else(|| task.status_message.clone())
}

/// How often the record is read: as often as a person who watches wants to see a change.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// How long a client may take to read a notification. A slower client gets no more of them, because its wait holds a
/// place that others need.
const TELLING_MAX: Duration = Duration::from_secs(10);

/// What a notification adds to the last number when only the message has changed, or when the work has begun again. It
/// is more than rounding loses and less than anybody sees.
const STEP: f64 = 1e-6;
