use std::{borrow::Borrow, cmp::Ordering, collections::BTreeMap, fmt, iter, ops::Bound};

use taskqueue_api::{Json, PeerId, TaskId, TaskStatus};

use crate::{
    CacheRow, Due, KeyRow, Meta, Place, Seq, TaskRow, TypeRow,
    engine::{Elapsed, Ended, Live, Standing},
};

/// The list of all tables.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $value:ty,)*) => {
        /// The committed rows.
        #[derive(Default)]
        pub(super) struct Tables {
            $($(#[$doc])* $name: BTreeMap<$key, $value>,)*
        }

        /// The changes of an open transaction: the new rows, and `None` for each removed row.
        #[derive(Default)]
        pub(super) struct Draft {
            $(pub(super) $name: BTreeMap<$key, Option<$value>>,)*
        }

        /// The rows as a transaction sees them.
        pub(super) struct Seen<'a> {
            $($(#[$doc])* pub(super) $name: View<'a, $key, $value>,)*
        }

        impl Tables {
            /// Applies the changes of a transaction.
            pub(super) fn apply(&mut self, draft: Draft) {
                $(apply(&mut self.$name, draft.$name);)*
            }

            /// Returns the tables with the changes of a transaction over them.
            pub(super) fn seen<'a>(&'a self, draft: &'a Draft) -> Seen<'a> {
                Seen { $($name: View { base: &self.$name, draft: &draft.$name },)* }
            }
        }

        #[cfg(test)]
        impl Tables {
            /// Returns the content of all tables as a text.
            pub(super) fn picture(&self) -> String {
                [$(format!("{} {:?}", stringify!($name), self.$name)),*].join("\n")
            }
        }

        impl fmt::Debug for Tables {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("Tables")$(.field(stringify!($name), &self.$name.len()))*.finish()
            }
        }

        impl fmt::Debug for Draft {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("Draft")$(.field(stringify!($name), &self.$name.len()))*.finish()
            }
        }
    };
}

tables! {
    /// A single row, once it has been saved.
    meta: () => Meta,
    ids: TaskId => Seq,
    tasks: Seq => TaskRow,
    lives: Seq => Live,
    ends: Seq => (TaskId, Ended, Option<Json>),
    /// The tasks of each state, in the order of acceptance.
    states: (&'static str, Seq) => (),
    lines: (String, Place) => (),
    timers: (Due, Seq) => (),
    /// Edges from parents to the children that wait for them.
    edges: (Seq, Seq) => (),
    keys: (String, String) => KeyRow,
    /// Keys by the time at which they expire.
    key_ends: (Elapsed, String, String) => (),
    types: String => TypeRow,
    key_limits: String => u32,
    routes: TaskId => (i64, PeerId),
    /// Routes by the order in which they were noted.
    route_order: i64 => TaskId,
    /// A single row: the number of the last route.
    route_number: () => i64,
    cache: String => CacheRow,
    /// Cached values by their last use.
    cache_uses: (Elapsed, String) => (),
    /// Cached values by the time at which they expire.
    cache_ends: (Elapsed, String) => (),
    /// A single row, once there has been a value.
    cache_bytes: () => u64,
}

impl Seen<'_> {
    /// Returns how a task stands; `None` when it does not exist.
    pub(super) fn standing(&self, seq: Seq) -> Option<Standing> {
        if let Some((_, ended, _)) = self.ends.get(&seq) {
            return Some(Standing::Ended(ended.clone()));
        }
        let live = self.lives.get(&seq).cloned();
        live.or_else(|| self.tasks.get(&seq).map(TaskRow::fresh)).map(Standing::Live)
    }

    /// Returns the state of a task; `None` when it does not exist.
    pub(super) fn status(&self, seq: Seq) -> Option<TaskStatus> {
        self.tasks.get(&seq)?;
        let ended = self.ends.get(&seq).map(|(_, ended, _)| ended.status);
        ended.or_else(|| self.lives.get(&seq).map(Live::status)).or(Some(TaskStatus::Queued))
    }
}

/// One table with the changes of a transaction over it.
#[derive(Debug)]
pub(super) struct View<'a, K, V> {
    base: &'a BTreeMap<K, V>,
    draft: &'a BTreeMap<K, Option<V>>,
}

impl<'a, K: Ord, V> View<'a, K, V> {
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&'a V>
    where
        K: Borrow<Q>,
    {
        self.draft.get(key).map_or_else(|| self.base.get(key), Option::as_ref)
    }

    /// Returns the rows from a key on, in order.
    pub(super) fn from(&self, first: Bound<&K>) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let range = (first, Bound::Unbounded);
        merged(self.base.range(range), self.draft.range(range), K::cmp)
    }

    /// Returns the rows up to a key, the last one first.
    pub(super) fn back_from(&self, last: Bound<&K>) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let range = (Bound::Unbounded, last);
        merged(self.base.range(range).rev(), self.draft.range(range).rev(), |a, b| b.cmp(a))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        self.from(Bound::Unbounded)
    }
}

/// Merges the rows of two maps in one order. Where both have a key, the draft's row counts.
fn merged<'a, K: 'a, V: 'a>(
    base: impl Iterator<Item = (&'a K, &'a V)>,
    draft: impl Iterator<Item = (&'a K, &'a Option<V>)>,
    compare: impl Fn(&K, &K) -> Ordering,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let (mut base, mut draft) = (base.peekable(), draft.peekable());
    iter::from_fn(move || {
        loop {
            let Some(&(drafted, _)) = draft.peek() else { return base.next() };
            if let Some(row) = base.next_if(|(key, _)| compare(key, drafted).is_lt()) {
                return Some(row);
            }
            base.next_if(|(key, _)| compare(key, drafted).is_eq());
            if let Some((key, Some(row))) = draft.next() {
                return Some((key, row));
            }
        }
    })
}

fn apply<K: Ord, V>(table: &mut BTreeMap<K, V>, draft: BTreeMap<K, Option<V>>) {
    for (key, row) in draft {
        match row {
            Some(row) => table.insert(key, row),
            None => table.remove(&key),
        };
    }
}
