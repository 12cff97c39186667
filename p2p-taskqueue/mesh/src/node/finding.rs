//! Searches that the loop holds back before it gives them to their discovery method.

use taskqueue_api::Method;

use super::limits::SEARCHES_MAX;
use crate::discovery::Search;

/// The message of a search for which there is no room.
pub(super) const TOO_MANY_SEARCHES: &str = "too many searches are open here: try again in a moment";

/// The searches that wait, right after the start, until the peers that could answer are connected.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    searches: Vec<(Method, Search)>,
}

impl Deferred {
    /// Takes a search that is to wait. Returns it if there is no room, so that it is served at once.
    pub(super) fn wait(&mut self, method: Method, search: Search) -> Option<Search> {
        if self.searches.len() >= SEARCHES_MAX {
            return Some(search);
        }
        self.searches.push((method, search));
        None
    }

    /// Takes the searches to which somebody still listens, so that they are tried again.
    pub(super) fn take(&mut self) -> Vec<(Method, Search)> {
        let waiting = std::mem::take(&mut self.searches);
        waiting.into_iter().filter(|(_, search)| !search.is_over()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::search;

    #[test]
    fn a_search_waits_while_there_is_room_and_somebody_listens() {
        let mut deferred = Deferred::default();
        let (searches, mut listening): (Vec<_>, Vec<_>) = (0..SEARCHES_MAX).map(|_| search(None)).unzip();
        for search in searches {
            assert!(deferred.wait(Method::Kademlia, search).is_none());
        }
        let (one_more, _findings) = search(None);
        assert!(deferred.wait(Method::Kademlia, one_more).is_some());
        listening.truncate(1);
        assert_eq!(deferred.take().len(), 1);
        assert_eq!(deferred.take().len(), 0, "each is taken once");
    }
}
