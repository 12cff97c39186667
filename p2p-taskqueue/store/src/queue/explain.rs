//! Why tasks that are ready have not been claimed, as far as the writer's memory knows it: pauses and limits.
//!
//! A read asks the writer only about tasks that something may hold back, and about all of them at once. The writer
//! answers from its memory after its turn. A question that finds no room is given up, so that reads never refuse
//! submits.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use taskqueue_api::{TaskRecord, TaskStatus, WaitingFor};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{gates::Gates, store::Core, work::Message, writer::Writer};

/// A task type, and the concurrency key if the tasks have one.
type Kind = (String, Option<String>);

/// A question to the writer.
#[derive(Debug)]
pub(super) struct Question {
    kinds: Vec<Kind>,
    /// The caller holds the other end.
    reply: oneshot::Sender<Vec<Option<WaitingFor>>>,
    /// The question's share of the kinds that may wait for the writer.
    room: OwnedSemaphorePermit,
}

impl Question {
    fn answer(self, gates: &Gates) {
        let Self { kinds, reply, room } = self;
        if reply.is_closed() {
            return;
        }
        let reasons = kinds.iter().map(|(task_type, key)| gates.reason(task_type, key.as_deref())).collect();
        // The room is free again when the caller goes on.
        drop(room);
        drop(reply.send(reasons));
    }
}

impl Core {
    /// Does what [`TaskStore::explain`](crate::TaskStore::explain) describes.
    pub(crate) async fn explain(&self, tasks: &mut [TaskRecord]) {
        let (places, kinds) = self.unexplained(tasks);
        if kinds.is_empty() {
            return;
        }
        let Some(reasons) = self.reasons(kinds).await else { return };
        for (task, number) in places {
            if let (Some(task), Some(reason)) = (tasks.get_mut(task), reasons.get(number)) {
                task.waiting_for.clone_from(reason);
            }
        }
    }

    /// Returns the places of the tasks that a pause or a limit may hold back, each with the number of its kind, and the
    /// kinds.
    fn unexplained(&self, tasks: &[TaskRecord]) -> (Vec<(usize, usize)>, Vec<Kind>) {
        let is_held = self.holds.load(Ordering::Acquire);
        let (mut places, mut kinds, mut numbers) = (Vec::new(), Vec::new(), HashMap::new());
        for (place, task) in tasks.iter().enumerate() {
            let key = task.concurrency_key.as_deref();
            if task.status != TaskStatus::Queued || task.waiting_for.is_some() || !(is_held || key.is_some()) {
                continue;
            }
            let number = *numbers.entry((task.task_type.as_str(), key)).or_insert_with(|| {
                kinds.push((task.task_type.clone(), key.map(str::to_owned)));
                kinds.len() - 1
            });
            places.push((place, number));
        }
        (places, kinds)
    }

    /// Asks the writer. `None` when it has too much to do, or has gone.
    async fn reasons(&self, kinds: Vec<Kind>) -> Option<Vec<Option<WaitingFor>>> {
        let room = Arc::clone(&self.questions).try_acquire_many_owned(u32::try_from(kinds.len()).ok()?).ok()?;
        let (reply, answered) = oneshot::channel();
        self.writer.try_send(Message::Explain(Box::new(Question { kinds, reply, room }))).ok()?;
        let reasons = answered.await.ok()?;
        self.when_seen_is_synced().await;
        Some(reasons)
    }
}

impl Writer {
    /// Answers the questions that have come since the last turn. While the rows are closed after a failure, the memory
    /// may not be what they hold, and nothing is answered.
    pub(super) fn answer_questions(&mut self) {
        let questions = std::mem::take(&mut self.questions);
        if self.rows.is_some() {
            questions.into_iter().for_each(|question| question.answer(&self.memory.gates));
        }
    }

    /// Shows readers whether anything is paused or limited.
    pub(super) fn show_holds(&self) {
        let holds = self.memory.gates.has_holds();
        if self.holds.load(Ordering::Relaxed) != holds {
            self.holds.store(holds, Ordering::Release);
        }
    }
}

/// The most kinds of tasks in all questions that wait for the writer, at some hundred bytes each: four questions of the
/// largest size, or as many as take a quarter of the writer's channel.
pub(super) const KINDS_ASKED_MAX: usize = 4_096;
