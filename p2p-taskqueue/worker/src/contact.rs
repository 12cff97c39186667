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

/// A handler's contact with the owner of its task: it reports progress, asks questions, and learns when to stop.
#[derive(Debug, Clone)]
pub struct Contact {
    /// The attempt holds the sender. A dropped sender means stop, too.
    stopped: watch::Receiver<bool>,
    /// Progress and questions, which the attempt passes on to the owner.
    told: Arc<Told>,
    source: Source,
}

/// The source of a task, for code other than the worker that also renews its lease.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// The peer that keeps the task; `None` for the local node.
    pub owner: Option<PeerId>,
    /// The length of the lease: it expires after this time without a renewal.
    pub lease: Duration,
}

/// The reason why a question has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The work has to stop.
    #[error("the task was called off, or its worker stops")]
    Stopped,
    /// The owner refuses the question.
    #[error("the question was refused: {0}")]
    Refused(QueueError),
}

impl Contact {
    /// Creates a contact, the sender that tells it to stop, and the store of what the handler tells and asks.
    pub(super) fn new(source: Source) -> (watch::Sender<bool>, Self, Arc<Told>) {
        let (sender, stopped) = watch::channel(false);
        let told = Arc::new(Told::default());
        (sender, Self { stopped, told: Arc::clone(&told), source }, told)
    }

    /// Returns the source of the task.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Completes when the work has to stop: the task was cancelled, its lease was lost, or the node stops.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn stop_requested(&mut self) {
        // An error means that the sender was dropped, which is a stop as well.
        drop(self.stopped.wait_for(|stopped| *stopped).await);
    }

    /// Returns whether the work has to stop.
    #[must_use]
    pub fn is_stop_requested(&self) -> bool {
        *self.stopped.borrow() || self.stopped.has_changed().is_err()
    }

    /// Reports the progress of the work: a fraction from 0 to 1, and a sentence. The owner is told soon. If several
    /// reports come in between, only the last one is passed on.
    pub fn progress(&self, fraction: f64, message: Option<&str>) {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        let message = message.map(|message| clipped(message, MESSAGE_BYTES_MAX).to_owned());
        let mut state = self.told.lock();
        let before = state.progress.take().and_then(|(_, before)| before);
        state.progress = Some((fraction, message.or(before)));
        drop(state);
        self.told.progressed.notify_one();
    }

    /// Asks a question of those who wait for the task, and waits for the answer. A key stands for one question in the
    /// life of the task: if an earlier attempt has asked it, the earlier answer is returned.
    ///
    /// # Errors
    ///
    /// [`AskError`]
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait. The question stays open until the attempt ends, and an answer to it is kept.
    pub async fn ask(&self, key: impl Into<String>, request: Json) -> Result<Json, AskError> {
        let mut question = self.told.ask(key.into(), request)?;
        let mut stop = self.clone();
        tokio::select! {
            answer = &mut question.answer => answer.map_err(|_| AskError::Stopped)?,
            () = stop.stop_requested() => Err(AskError::Stopped),
        }
    }
}

/// What a handler has reported and asked, for the attempt to pass on.
#[derive(Debug, Default)]
pub(super) struct Told {
    state: Mutex<State>,
    progressed: Notify,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Progress that has not been passed on yet.
    progress: Option<Progress>,
    /// Questions whose answers are awaited, by key; at most [`INPUTS_MAX`].
    questions: BTreeMap<String, Asked>,
}

pub(super) type Progress = (f64, Option<String>);

#[derive(Debug)]
struct Asked {
    request: Json,
    /// The callers that wait hold the receivers.
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

    /// Takes back progress that could not be passed on, unless there is newer progress.
    pub(super) fn keep(&self, progress: Progress) {
        self.lock().progress.get_or_insert(progress);
    }

    /// Returns the questions whose answers are awaited.
    pub(super) fn questions(&self) -> BTreeMap<String, Json> {
        let state = self.lock();
        state.questions.iter().map(|(key, asked)| (key.clone(), asked.request.clone())).collect()
    }

    /// Waits for a question that is not in `known`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn asks_more(&self, known: &BTreeMap<String, Json>) {
        while self.lock().questions.keys().all(|key| known.contains_key(key)) {
            self.asked.notified().await;
        }
    }

    /// Hands answers to the callers that wait for them.
    pub(super) fn answered(&self, answers: BTreeMap<String, Json>) {
        for (key, answer) in answers {
            self.settle(&key, &Ok(answer));
        }
    }

    /// Tells the callers that wait for this question that the owner refuses it.
    pub(super) fn refused(&self, key: &str, error: &QueueError) {
        self.settle(key, &Err(AskError::Refused(error.clone())));
    }

    fn settle(&self, key: &str, answer: &Result<Json, AskError>) {
        let asked = self.lock().questions.remove(key);
        for waiting in asked.into_iter().flat_map(|asked| asked.answers) {
            drop(waiting.send(answer.clone()));
        }
    }

    // Only a defect in this file could panic while one of these short locks is held. The data is valid at every point.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's wait for an answer. Dropping it ends the wait.
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

/// Returns the beginning of a text, up to this number of bytes and without a cut character.
pub(super) fn clipped(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}
