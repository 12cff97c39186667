//! Checks that what may happen does happen: the store comes to rest, and whatever is left then can be explained.

use taskqueue_api::Claim;

use super::{
    step::Who,
    world::{Violation, World, broken, hold},
};
use crate::queue::{CLAIM_BYTES, Vitals};

impl World {
    /// Lets the store do what is due, turn by turn. Fails when it does not come to rest.
    pub(super) fn rest(&self) -> Result<Vitals, Violation> {
        self.is_due.set(false);
        for _ in 0..TURNS_MAX {
            let vitals = self.store().vitals(false);
            if vitals.next_due.is_none_or(|due| due > vitals.now) {
                let in_use = &vitals.in_use;
                // The bytes match exactly, whatever a waiting claim came with: the completions of histories are small.
                hold!("budget", in_use.command_bytes == in_use.parked * CLAIM_BYTES, "{in_use:?}");
                return Ok(vitals);
            }
        }
        broken("liveness", format!("the writer has something to do after {TURNS_MAX} turns"))
    }

    /// Gives every claimable task to a claim that waits, and then checks that nothing is due.
    pub(super) fn give_all_out(&mut self) -> Result<(), Violation> {
        for who in [Who::Owner, Who::Other] {
            for session in [None, Some("s"), Some("t")] {
                let labels = vec!["gpu".to_owned()];
                let session = session.map(str::to_owned);
                let claim = Claim { labels, session, wait_s: 300.0, lease_s: 86_400.0, ..Claim::new("last") };
                while self.claims(who, &claim)? {}
            }
        }
        let left = self.queue.tasks.iter().find(|task| self.queue.is_open(task));
        hold!("liveness", left.is_none(), "nobody was given {left:?}");
        self.rest().map(drop)
    }

    /// Returns whether a claim was given a task; otherwise the claim waits.
    fn claims(&mut self, who: Who, claim: &Claim) -> Result<bool, Violation> {
        let before = self.fences.len();
        self.claim(who, claim)?;
        self.serve()?;
        Ok(self.fences.len() > before)
    }
}

/// The most turns: far more than the steps of one history need.
const TURNS_MAX: usize = 1_000;
