use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use taskqueue_api::{
    Json, PeerId, QueueError,
    limits::{INPUTS_MAX, MESSAGE_BYTES_MAX},
};
use tokio::sync::{Notify, oneshot, watch};

/// A handler's contact with the owner of its task: what it tells, what it asks, and when it is to stop.
#[derive(Debug, Clone)]
pub struct Contact {
    /// The attempt holds the sender; a sender that is gone means stop, too.
    stopped: watch::Receiver<bool>,
    /// The attempt tells the owner what is here.
    told: Arc<Told>,
    source: Source,
}

/// Where a task comes from, for whoever renews its lease besides the worker.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// The peer that keeps it; none is the local node.
    pub owner: Option<PeerId>,
    /// How long its lease runs without a renewal.
    pub lease: Duration,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The work is to stop.
    #[error("the task was called off, or its worker stops")]
    Stopped,
    /// The owner takes no such question.
    #[error("the question was refused: {0}")]
    Refused(QueueError),
}

impl Contact {
    /// A contact, the sender that tells it to stop, and what it tells.
    pub(super) fn new(source: Source) -> (watch::Sender<bool>, Self, Arc<Told>) {
        let (sender, stopped) = watch::channel(false);
        let told = Arc::new(Told::default());
        (sender, Self { stopped, told: Arc::clone(&told), source }, told)
    }

    /// Where the task comes from.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Completes when the work is to stop: the task was called off, its lease was lost, or the node stops.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn stop_requested(&mut self) {
        // An error means that the sender is gone, which is a stop as well.
        drop(self.stopped.wait_for(|stopped| *stopped).await);
    }

    /// Whether the work is to stop.
    #[must_use]
    pub fn is_stop_requested(&self) -> bool {
        *self.stopped.borrow() || self.stopped.has_changed().is_err()
    }

    /// Says how far the work is, 0 to 1, and in a sentence. The owner is told soon; of what is said in between, the last.
    pub fn progress(&self, fraction: f64, message: Option<&str>) {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        let message = message.map(|message| clipped(message, MESSAGE_BYTES_MAX).to_owned());
        let mut state = self.told.lock();
        let before = state.progress.take().and_then(|(_, before)| before);
        state.progress = Some((fraction, message.or(before)));
        drop(state);
        self.told.progressed.notify_one();
    }

    /// Asks whoever waits for the task, and waits for the answer. A key is for one question in the life of the task: if an
    /// earlier attempt asked it, it is answered as then.
    ///
    /// # Errors
    ///
    /// [`AskError`]
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait; the question stays open until the attempt ends, and its answer is kept.
    pub async fn ask(&self, key: impl Into<String>, request: Json) -> Result<Json, AskError> {
        let mut question = self.told.ask(key.into(), request)?;
        let mut stop = self.clone();
        tokio::select! {
            answer = &mut question.answer => answer.map_err(|_| AskError::Stopped)?,
            () = stop.stop_requested() => Err(AskError::Stopped),
        }
    }
}

/// What a handler has told, for the attempt to pass on.
#[derive(Debug, Default)]
pub(super) struct Told {
    state: Mutex<State>,
    progressed: Notify,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What the owner has not been told yet.
    progress: Option<Progress>,
    /// Questions that somebody waits for; at most [`INPUTS_MAX`].
    questions: BTreeMap<String, Asked>,
}

pub(super) type Progress = (f64, Option<String>);

#[derive(Debug)]
struct Asked {
    request: Json,
    /// Those that wait hold the receivers.
    answers: Vec<oneshot::Sender<Result<Json, AskError>>>,
}

impl Told {
    fn ask(self: &Arc<Self>, key: String, request: Json) -> Result<Question, AskError> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.questions.len() >= INPUTS_MAX && !state.questions.contains_key(&key) {
            let error = QueueError::over_limit("input_requests", INPUTS_MAX + 1, INPUTS_MAX, "keys");
            return Err(AskError::Refused(error));
        }
        let asked = state.questions.entry(key.clone()).or_insert(Asked { request, answers: Vec::new() });
        asked.answers.push(sender);
        drop(state);
        self.asked.notify_one();
        Ok(Question { key, answer, told: Arc::clone(self) })
    }

    /// Waits for progress that has not been passed on, and takes it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn progress(&self) -> Progress {
        loop {
            if let Some(progress) = self.lock().progress.take() {
                return progress;
            }
            self.progressed.notified().await;
        }
    }

    /// Takes back progress that could not be passed on, unless there is newer.
    pub(super) fn keep(&self, progress: Progress) {
        self.lock().progress.get_or_insert(progress);
    }

    /// The questions that somebody waits for.
    pub(super) fn questions(&self) -> BTreeMap<String, Json> {
        let state = self.lock();
        state.questions.iter().map(|(key, asked)| (key.clone(), asked.request.clone())).collect()
    }

    /// Waits for a question that is not among these.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn asks_more(&self, known: &BTreeMap<String, Json>) {
        while self.lock().questions.keys().all(|key| known.contains_key(key)) {
            self.asked.notified().await;
        }
    }

    /// Hands answers to whoever waits for them.
    pub(super) fn answered(&self, answers: BTreeMap<String, Json>) {
        for (key, answer) in answers {
            self.settle(&key, &Ok(answer));
        }
    }

    /// Tells those who wait for this question that the owner refuses it.
    pub(super) fn refused(&self, key: &str, error: &QueueError) {
        self.settle(key, &Err(AskError::Refused(error.clone())));
    }

    fn settle(&self, key: &str, answer: &Result<Json, AskError>) {
        let asked = self.lock().questions.remove(key);
        for waiting in asked.into_iter().flat_map(|asked| asked.answers) {
            drop(waiting.send(answer.clone()));
        }
    }

    // A panic while one of these short locks was held would be a defect here; the data is valid at every point.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody's wait for an answer. Dropping it ends the wait.
struct Question {
    key: String,
    answer: oneshot::Receiver<Result<Json, AskError>>,
    told: Arc<Told>,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.answer.close();
        let mut state = self.told.lock();
        if let Some(asked) = state.questions.get_mut(&self.key) {
            asked.answers.retain(|waiting| !waiting.is_closed());
            if asked.answers.is_empty() {
                state.questions.remove(&self.key);
            }
        }
    }
}

/// The beginning of a text.
pub(super) fn clipped(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}
