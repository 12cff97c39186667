use taskqueue_api::{Fence, Freed, PeerId, QueueError, Response, TaskId};

use super::{
    finish::chance,
    store::Core,
    turn::{Found, Halt, Turn},
    work::{Demand, Done, Work},
};
use crate::engine::{self, Phase};

impl Core {
    /// Ends the leases that a machine holds now, some at a time. Other commands have their turn in between. A lease is
    /// named by its fence, so what the machine claims meanwhile is not ended, and this comes to an end.
    pub(super) async fn end_leases(&self, machine: PeerId, demand: Demand) -> Result<Response, QueueError> {
        let held = match self.ask(Work::Held(machine), demand).await? {
            Done::Held(held) => held,
            _ => Vec::new(),
        };
        let mut freed = 0;
        for leases in held.chunks(FREED_AT_ONCE) {
            if let Done::Changed { changed, .. } = self.ask(Work::Free(leases.to_vec()), demand).await? {
                freed += changed;
            }
        }
        Ok(Response::Freed(Freed { freed }))
    }
}

/// Ends those of the leases that have not ended yet.
pub(super) fn free(turn: &mut Turn<'_>, leases: &[(TaskId, Fence)]) -> Result<Done, Halt> {
    let (mut changed, mut skipped) = (0, 0);
    for (id, fence) in leases {
        let item = match turn.find_if_any(*id) {
            Ok(Some(Found::Live(item))) => Some(item),
            Ok(_) | Err(Halt::Refused(_)) => None,
            Err(failed) => return Err(failed),
        };
        match item.filter(|item| item.live.phase == Phase::Running && item.live.fence == Some(*fence)) {
            Some(item) => {
                let step = engine::free(item.live.clone(), chance(), turn.now);
                turn.take_step(item, step)?;
                changed += 1;
            }
            None => skipped += 1,
        }
    }
    Ok(Done::Changed { changed, skipped })
}

/// The number of leases that one command ends: a few milliseconds of work.
const FREED_AT_ONCE: usize = 256;
