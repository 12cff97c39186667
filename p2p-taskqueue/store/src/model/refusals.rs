//! Checks that a refused command changes nothing: neither a row nor the writer's memory.

use std::cell::RefCell;

use taskqueue_api::{Outcome, QueueError, Response};

use super::world::{Violation, World, hold};

/// The refusals that have changed something.
#[derive(Debug, Default)]
pub(super) struct Refusals(RefCell<Vec<String>>);

impl World {
    /// From here on, compares the rows and the writer's memory before and after every refusal.
    pub(super) fn watching_refusals(mut self) -> Self {
        self.refusals = Some(Refusals::default());
        self
    }

    /// Returns the state of the store; `None` when refusals are not checked, or when something is due that is still to
    /// be done.
    pub(super) fn before_refusal(&self) -> Option<String> {
        let is_asked_for = self.refusals.is_some() && !self.is_due.get();
        is_asked_for.then(|| self.picture())
    }

    pub(super) fn after_refusal(&self, before: Option<String>, answer: &Result<Response, QueueError>) {
        if let (Some(refusals), Some(before), Err(error)) = (&self.refusals, before, answer)
            && error.outcome == Outcome::NotApplied
        {
            let after = self.picture();
            let is_other = |one: &&str| !before.lines().any(|line| line == *one);
            if let Some(line) = after.lines().find(is_other) {
                refusals.0.borrow_mut().push(format!("{error:?} has made it {line}"));
            } else if before != after {
                refusals.0.borrow_mut().push(format!("{error:?} has removed something"));
            }
        }
    }

    pub(super) fn look_at_refusals(&self) -> Result<(), Violation> {
        let changed = self.refusals.as_ref().map(|refusals| refusals.0.borrow().clone()).unwrap_or_default();
        hold!("refusal", changed.is_empty(), "{changed:?}");
        Ok(())
    }

    fn picture(&self) -> String {
        let memory = self.store().vitals(true).memory;
        format!("{memory}\n{}", self.rows())
    }
}
