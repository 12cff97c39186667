use std::{cmp::Reverse, ops::Bound};

use taskqueue_api::{TaskId, TaskStatus};

use super::tables::Seen;
use crate::{Due, Place, Seq, Timer, engine::Elapsed};

/// Returns the first places of a line, or the first places behind `behind`.
pub(super) fn line(seen: &Seen<'_>, lane: &str, behind: Option<&Place>, count_max: usize) -> Vec<Place> {
    let first = match behind {
        Some(place) => Bound::Excluded((lane.to_owned(), *place)),
        None => Bound::Included((lane.to_owned(), FIRST)),
    };
    let places = seen.lines.from(first.as_ref()).map(|(place, ())| place);
    places.take_while(|(line, _)| line == lane).map(|(_, place)| *place).take(count_max).collect()
}

/// Returns the first lane that has a line, or the next one behind `behind`.
pub(super) fn next_lane(seen: &Seen<'_>, behind: Option<&str>) -> Option<String> {
    let first = behind.map_or(Bound::Unbounded, |lane| Bound::Excluded((lane.to_owned(), LAST)));
    seen.lines.from(first.as_ref()).next().map(|((lane, _), ())| lane.clone())
}

/// Returns the time since when the oldest ready task has been ready. The first place of each priority in each line is
/// the oldest of its run. Up to [`RUNS_MAX`] of them are looked at, which is exact for any usual number of lines.
pub(super) fn oldest_ready(seen: &Seen<'_>) -> Option<Elapsed> {
    let (mut oldest, mut first) = (None, Bound::Unbounded);
    for _ in 0..RUNS_MAX {
        let Some(((lane, place), ())) = seen.lines.from(first.as_ref()).next() else { break };
        oldest = Some(oldest.map_or(place.ready_at, |oldest: Elapsed| oldest.min(place.ready_at)));
        first = Bound::Excluded((lane.clone(), Place { priority: place.priority, ..LAST }));
    }
    oldest
}

/// Returns the timers of a kind, the earliest first.
pub(super) fn timers(seen: &Seen<'_>, timer: Timer) -> impl Iterator<Item = (Due, Seq)> {
    let first = (timer.at(i64::MIN), Seq::MIN);
    let timers = seen.timers.from(Bound::Included(&first)).map(|(timer, ())| *timer);
    timers.take_while(move |(due, _)| due.timer() == timer)
}

/// Returns the tasks that wait for the end of a task.
pub(super) fn children(seen: &Seen<'_>, parent: Seq) -> impl Iterator<Item = Seq> {
    let edges = seen.edges.from(Bound::Included(&(parent, Seq::MIN))).map(|(edge, ())| *edge);
    edges.take_while(move |(from, _)| *from == parent).map(|(_, child)| child)
}

/// Returns the ended tasks whose children have not all been told.
pub(super) fn unsettled(seen: &Seen<'_>) -> Vec<Seq> {
    let mut parents: Vec<_> = seen.edges.all().map(|((parent, _), ())| *parent).collect();
    parents.dedup();
    parents.retain(|parent| seen.ends.get(parent).is_some());
    parents
}

/// Returns the tasks in a state that come after `after` in the order of acceptance.
pub(super) fn of_state(seen: &Seen<'_>, status: TaskStatus, after: Seq) -> impl Iterator<Item = Seq> {
    let states = seen.states.from(Bound::Excluded(&(status.as_str(), after))).map(|(state, ())| *state);
    states.take_while(move |(name, _)| *name == status.as_str()).map(|(_, seq)| seq)
}

/// The most runs (priorities of lines) that are looked at for the oldest task: under a millisecond.
const RUNS_MAX: usize = 1_000;

/// A place before every place of a line.
const FIRST: Place = Place {
    priority: Reverse(u8::MAX),
    ready_at: Elapsed::from_micros(i64::MIN),
    id: TaskId::from_bytes([u8::MIN; 16]),
    seq: Seq::MIN,
};

/// A place behind every place of a line.
const LAST: Place = Place {
    priority: Reverse(u8::MIN),
    ready_at: Elapsed::from_micros(i64::MAX),
    id: TaskId::from_bytes([u8::MAX; 16]),
    seq: Seq::MAX,
};
