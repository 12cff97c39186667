use std::time::Instant;

use tokio::sync::oneshot;

use super::limits::DRAIN_DEADLINE;

/// The end of the node: what is under way may end until a deadline, and whoever asked for the end hears of it.
#[derive(Debug, Default)]
pub(super) struct Ending {
    deadline: Option<Instant>,
    /// Those who asked hold the other ends.
    replies: Vec<oneshot::Sender<()>>,
}

impl Ending {
    /// Somebody asks for the end. Says whether it begins now.
    pub(super) fn begin(&mut self, reply: oneshot::Sender<()>, now: Instant) -> bool {
        self.replies.push(reply);
        let is_first = self.deadline.is_none();
        self.deadline.get_or_insert(now + DRAIN_DEADLINE);
        is_first
    }

    /// When the node ends at the latest, once its end has begun.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.deadline.is_some()
    }

    /// Whether the node ends now.
    pub(super) fn is_over(&self, has_connections: bool, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| !has_connections || deadline <= now)
    }

    /// The node has ended.
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
