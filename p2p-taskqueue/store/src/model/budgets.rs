//! Checks that bounded resources are given back: when nothing is in flight any more, every budget is as at the start.

use std::time::Duration;

use super::world::{Violation, World, hold};
use crate::queue::InUse;

impl World {
    /// Ends all waits, and checks that nothing is in use.
    pub(super) fn give_all_back(&mut self) -> Result<(), Violation> {
        let in_use = self.rest()?.in_use;
        let (claims, watches) = (self.waiting.len(), self.watches.len());
        hold!("budget", in_use.parked >= claims, "{in_use:?} while {claims} claims wait");
        hold!("budget", in_use.watches.0 == watches, "{in_use:?} while there are {watches} watches");
        self.waiting.clear();
        self.watches.clear();
        // A caller that has gone away is forgotten at the end of its wait at the latest.
        self.advance_clock(Duration::from_secs(301));
        let in_use = self.rest()?.in_use;
        hold!("budget", in_use == InUse::default(), "left behind: {in_use:?}");
        Ok(())
    }
}
