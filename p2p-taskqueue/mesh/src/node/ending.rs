use std::time::Instant;

use tokio::sync::oneshot;

use super::limits::DRAIN_DEADLINE;

/// The shutdown of the node. Work under way may go on until a deadline. Then everybody who asked for the shutdown is
/// told that it is over.
#[derive(Debug, Default)]
pub(super) struct Ending {
    deadline: Option<Instant>,
    /// The callers that asked for the shutdown hold the receivers.
    replies: Vec<oneshot::Sender<()>>,
}

impl Ending {
    /// Takes a request for the shutdown. Returns whether the shutdown begins with it.
    pub(super) fn begin(&mut self, reply: oneshot::Sender<()>, now: Instant) -> bool {
        self.replies.push(reply);
        let is_first = self.deadline.is_none();
        self.deadline.get_or_insert(now + DRAIN_DEADLINE);
        is_first
    }

    /// Returns when the node ends at the latest, or `None` if the shutdown has not begun.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.deadline.is_some()
    }

    /// Returns whether the node ends now: it is shutting down, and has no connections left or has reached the deadline.
    pub(super) fn is_over(&self, has_connections: bool, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| !has_connections || deadline <= now)
    }

    /// Tells everybody who asked that the node has ended.
    pub(super) fn tell(self) {
        for reply in self.replies {
            let _gone = reply.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_node_ends_when_nothing_stands_or_at_the_deadline_of_whoever_asked_first() {
        let (mut ending, now) = (Ending::default(), Instant::now());
        assert!(!ending.has_begun() && !ending.is_over(false, now));
        let ((first, mut first_answer), (second, mut second_answer)) = (oneshot::channel(), oneshot::channel());
        assert!(ending.begin(first, now));
        assert!(!ending.begin(second, now + Duration::from_millis(500)), "it has begun already");
        assert_eq!(ending.deadline(), Some(now + DRAIN_DEADLINE));
        assert!(ending.is_over(false, now) && !ending.is_over(true, now));
        assert!(ending.is_over(true, now + DRAIN_DEADLINE));
        assert!(first_answer.try_recv().is_err(), "it has yet to end");
        ending.tell();
        assert_eq!((first_answer.try_recv(), second_answer.try_recv()), (Ok(()), Ok(())));
    }
}
