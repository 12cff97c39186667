use taskqueue_api::{QueueError, Stats, TaskStatus, TypeStats, limits::STATS_TYPES_MAX};

use super::{gates::count_of, readers::Length, store::Core};
use crate::{
    backend::{Reads, TypeRow},
    paging::EXAMINED_AT_ONCE,
};

impl Core {
    /// Returns the numbers of the whole queue and of each type.
    pub(super) async fn stats(&self) -> Result<Stats, QueueError> {
        let now = self.setup.now().elapsed;
        let types = self.read_pieces(Length::Short, Vec::new(), types_on).await?;
        let oldest = self.read(|reads| reads.oldest_ready()).await?;
        let oldest_queued_s = oldest.map(|at| at.until(now).as_secs_f64());
        let mut stats = Stats { oldest_queued_s, ..Stats::default() };
        for status in TaskStatus::ALL {
            let total = types.iter().map(|(_, row)| count_of(row, status)).sum();
            stats.totals.insert(status.as_str().to_owned(), total);
        }
        for (name, row) in types {
            if name.is_empty() {
                (stats.paused, stats.draining) = (row.paused, row.draining);
            } else if stats.by_type.len() < STATS_TYPES_MAX {
                let [queued, running, completed, failed, cancelled] = row.counts;
                let (paused, draining, running_max) = (row.paused, row.draining, row.running_max);
                let of_type =
                    TypeStats { queued, running, completed, failed, cancelled, paused, draining, running_max };
                stats.by_type.insert(name, of_type);
            }
        }
        Ok(stats)
    }
}

/// Reads the next types.
fn types_on(reads: &mut dyn Reads, types: &mut Vec<(String, TypeRow)>) -> Result<bool, QueueError> {
    let behind = types.last().map(|(name, _)| name.as_str());
    let more = reads.types(behind, EXAMINED_AT_ONCE)?;
    let is_last = more.len() < EXAMINED_AT_ONCE;
    types.extend(more);
    Ok(is_last)
}
