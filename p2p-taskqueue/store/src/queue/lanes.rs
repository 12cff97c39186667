use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::gates::Gates;
use crate::{
    backend::{Fault, LineTable, Place},
    engine::{Claimant, Lane},
};

/// The first tasks of every line of ready tasks.
///
/// A claim looks at the heads of the lines of its own session and of those without a session, type by type. More tasks
/// do not make it cost more; only more distinct demands that the worker cannot meet do. Lines whose concurrency key is
/// used up stand aside.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The lines by the texts of their lanes.
    lines: HashMap<Arc<str>, Line>,
    /// The heads of the lines that do not stand aside, by the session that they ask for.
    sessions: HashMap<Option<String>, Session>,
    /// The lines of each concurrency key.
    keys: HashMap<String, HashSet<Arc<str>>>,
    /// The lines that may hold a task for a waiting claim, since this was last taken.
    readied: HashSet<Arc<str>>,
}

#[derive(Debug)]
struct Line {
    lane: Arc<Lane>,
    /// The first places, in order; never empty.
    window: VecDeque<Place>,
    /// Whether the line has no other places than these.
    is_whole: bool,
    /// Whether the line's concurrency key is used up.
    aside: bool,
}

/// The lines of one session: the heads of the lines of each type, and the first head of each type.
#[derive(Debug, Default)]
struct Session {
    types: HashMap<String, BTreeMap<Place, Named>>,
    firsts: BTreeMap<Place, String>,
}

/// A lane with its text.
type Named = (Arc<str>, Arc<Lane>);

impl Lanes {
    /// Reads the heads, with one look-up for each line. The gates must know what is running.
    pub(super) fn load(rows: &mut dyn LineTable, gates: &Gates) -> Result<Self, Fault> {
        let mut lanes = Self::default();
        let mut behind: Option<String> = None;
        while let Some(text) = rows.next_lane(behind.as_deref())? {
            let window = rows.line(&text, None, 1)?;
            lanes.open(&text, window, false, gates);
            behind = Some(text);
        }
        Ok(lanes)
    }

    /// Returns the number of lines.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn contains(&self, lane: &str) -> bool {
        self.lines.contains_key(lane)
    }

    /// Returns the lane with this text, if a task stands in it.
    pub(super) fn get(&self, lane: &str) -> Option<(&Arc<str>, &Arc<Lane>)> {
        self.lines.get_key_value(lane).map(|(text, line)| (text, &line.lane))
    }

    /// Returns the place of the first task that the worker may take and that nothing holds back, with its line.
    pub(super) fn first_for(&self, claimant: &Claimant, gates: &Gates) -> Option<(Place, Arc<str>)> {
        let own = claimant.session.as_ref().and_then(|_| self.sessions.get(&claimant.session));
        let sessions = [self.sessions.get(&None), own].into_iter().flatten();
        let mut best: Option<(Place, &Arc<str>)> = None;
        for session in sessions {
            for (first, task_type) in &session.firsts {
                if best.is_some_and(|(best, _)| best < *first) {
                    break;
                }
                let is_taken = claimant.types.is_empty() || claimant.types.contains(task_type);
                if !is_taken || gates.closes_type(task_type) {
                    continue;
                }
                let heads = session.types.get(task_type).into_iter().flatten();
                let open = heads.take_while(|(head, _)| best.is_none_or(|(best, _)| **head < best));
                let mut fitting = open.filter(|(_, (_, lane))| lane.admits(claimant));
                if let Some((head, (text, _))) = fitting.next() {
                    best = Some((*head, text));
                }
            }
        }
        best.map(|(place, text)| (place, Arc::clone(text)))
    }

    /// Notes that a task joined its line. The rows have it already.
    pub(super) fn joined(&mut self, text: &str, place: Place, gates: &Gates) {
        let Some((text, line)) = self.lines.get_key_value(text) else {
            return self.open(text, vec![place], true, gates);
        };
        let text = Arc::clone(text);
        let is_in_reach = line.is_whole || line.window.back().is_none_or(|last| place < *last);
        if is_in_reach {
            self.change(&text, |line| {
                let at = line.window.partition_point(|known| *known < place);
                line.window.insert(at, place);
                if line.window.len() > 2 * WINDOW {
                    line.window.truncate(WINDOW);
                    line.is_whole = false;
                }
            });
        }
        self.readied.insert(text);
    }

    /// Notes that a task left its line. The rows no longer have it.
    pub(super) fn left(&mut self, rows: &mut dyn LineTable, text: &str, place: Place) -> Result<(), Fault> {
        let Some((text, line)) = self.lines.get_key_value(text) else { return Ok(()) };
        let Ok(at) = line.window.binary_search(&place) else { return Ok(()) };
        let text = Arc::clone(text);
        let refill =
            if line.window.len() == 1 && !line.is_whole { rows.line(&text, None, WINDOW)? } else { Vec::new() };
        self.change(&text, |line| {
            line.window.remove(at);
            if line.window.is_empty() && !line.is_whole {
                line.is_whole = refill.len() < WINDOW;
                line.window = refill.into();
            }
        });
        Ok(())
    }

    /// Notes that a concurrency key may have been used up, or may have become free again.
    pub(super) fn key_changed(&mut self, key: &str, gates: &Gates) {
        let aside = gates.closes_key(key);
        for text in self.keys.get(key).cloned().unwrap_or_default() {
            self.change(&text, |line| line.aside = aside);
            if !aside {
                self.readied.insert(text);
            }
        }
    }

    /// Marks every line of these types as readied.
    pub(super) fn ready_types(&mut self, task_types: &HashSet<Arc<str>>) {
        let of_types = self.lines.iter().filter(|(_, line)| task_types.contains(line.lane.task_type.as_str()));
        self.readied.extend(of_types.map(|(text, _)| Arc::clone(text)));
    }

    /// Marks every line as readied.
    pub(super) fn ready_all(&mut self) {
        self.readied = self.lines.keys().cloned().collect();
    }

    /// Whether there are lines that may hold a task for a waiting claim.
    pub(super) fn has_readied(&self) -> bool {
        !self.readied.is_empty()
    }

    /// Marks these lines as readied.
    pub(super) fn ready(&mut self, lines: impl IntoIterator<Item = Arc<str>>) {
        self.readied.extend(lines);
    }

    /// Takes the lines that may hold a task for a waiting claim, since the last call.
    pub(super) fn take_readied(&mut self) -> HashSet<Arc<str>> {
        std::mem::take(&mut self.readied)
    }

    fn open(&mut self, text: &str, window: Vec<Place>, is_whole: bool, gates: &Gates) {
        let Some(lane) = Lane::parse(text).map(Arc::new) else {
            // Tasks whose demands cannot be read cannot be given out. A `get` reports them as damaged.
            return tracing::error!(lane = text, "a line of ready tasks has unreadable demands");
        };
        let text: Arc<str> = text.into();
        let aside = lane.concurrency_key.as_ref().is_some_and(|key| {
            self.keys.entry(key.clone()).or_default().insert(Arc::clone(&text));
            gates.closes_key(key)
        });
        let line = Line { lane, window: VecDeque::new(), is_whole, aside };
        self.lines.insert(Arc::clone(&text), line);
        self.change(&text, |line| line.window = window.into());
        self.readied.insert(text);
    }

    /// Changes a line, and brings the heads up to date.
    fn change(&mut self, text: &Arc<str>, change: impl FnOnce(&mut Line)) {
        let Some(line) = self.lines.get_mut(text) else { return };
        let head = |line: &Line| if line.aside { None } else { line.window.front().copied() };
        let before = head(line);
        change(line);
        let (after, lane, is_empty) = (head(line), Arc::clone(&line.lane), line.window.is_empty());
        if before != after {
            let session = self.sessions.entry(lane.session.clone()).or_default();
            session.replace(before, after, text, &lane);
            if session.firsts.is_empty() {
                self.sessions.remove(&lane.session);
            }
        }
        if is_empty {
            self.lines.remove(text);
            if let Some(key) = &lane.concurrency_key
                && let Some(lines) = self.keys.get_mut(key)
            {
                lines.remove(text);
                if lines.is_empty() {
                    self.keys.remove(key);
                }
            }
        }
    }
}

impl Session {
    fn replace(&mut self, before: Option<Place>, after: Option<Place>, text: &Arc<str>, lane: &Arc<Lane>) {
        if !self.types.contains_key(&lane.task_type) {
            self.types.insert(lane.task_type.clone(), BTreeMap::new());
        }
        let Some(heads) = self.types.get_mut(&lane.task_type) else { return };
        let first = |heads: &BTreeMap<Place, _>| heads.first_key_value().map(|(place, _)| *place);
        let first_before = first(heads);
        if let Some(before) = before {
            heads.remove(&before);
        }
        if let Some(after) = after {
            heads.insert(after, (Arc::clone(text), Arc::clone(lane)));
        }
        let first_after = first(heads);
        if heads.is_empty() {
            self.types.remove(&lane.task_type);
        }
        if first_before != first_after {
            if let Some(before) = first_before {
                self.firsts.remove(&before);
            }
            if let Some(after) = first_after {
                self.firsts.insert(after, lane.task_type.clone());
            }
        }
    }
}

/// The number of places of one line that are read at once, at 40 bytes each. The rows are read once for that many
/// claims.
const WINDOW: usize = 32;
