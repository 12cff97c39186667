//! Finds the descendants of this process, as far as the operating system shows them.

#[cfg(target_os = "linux")]
use std::{collections::BTreeMap, fs};

use rustix::process::Pid;

/// Makes this process the parent of every descendant whose own parent has ended. Answers whether that worked.
#[cfg(target_os = "linux")]
pub(super) fn adopt() -> bool {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok()
}

/// Other systems cannot do this.
#[cfg(not(target_os = "linux"))]
pub(super) fn adopt() -> bool {
    false
}

/// The descendants of this process that had not been waited for.
#[derive(Debug, Default)]
pub(super) struct Descendants(Vec<Process>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    id: i32,
    parent: i32,
    group: i32,
}

impl Descendants {
    /// The list is empty where the system does not show its processes.
    #[cfg(target_os = "linux")]
    pub(super) fn of_this_process() -> Self {
        let this = rustix::process::getpid().as_raw_nonzero().get();
        let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<i32>().ok());
        let stat = |id| Process::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{id}/stat")).ok()?));
        Self::among(this, ids.filter_map(stat))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of_this_process() -> Self {
        Self::default()
    }

    #[cfg(any(target_os = "linux", test))]
    fn among(ancestor: i32, processes: impl Iterator<Item = Process>) -> Self {
        let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
        for process in processes {
            children.entry(process.parent).or_default().push(process);
        }
        let mut found = children.remove(&ancestor).unwrap_or_default();
        let mut next = 0;
        while let Some(process) = found.get(next) {
            let more = children.remove(&process.id).unwrap_or_default();
            found.extend(more);
            next += 1;
        }
        Self(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has_group(&self, group: Pid) -> bool {
        self.0.iter().any(|process| process.group == group.as_raw_nonzero().get())
    }

    /// The processes that are in another group than this one.
    pub(super) fn outside(&self, group: Pid) -> impl Iterator<Item = Pid> {
        let outside = self.0.iter().filter(move |process| process.group != group.as_raw_nonzero().get());
        outside.filter_map(|process| Pid::from_raw(process.id))
    }
}

impl Process {
    /// Parses the line that the system has about a process. The process chooses its own name, so the name may hold
    /// anything.
    #[cfg(any(target_os = "linux", test))]
    fn parse(stat: &str) -> Option<Self> {
        let (before, after) = stat.rsplit_once(')')?;
        let id = before.split(' ').next()?.parse().ok()?;
        let mut fields = after.split_ascii_whitespace().skip(1);
        Some(Self { id, parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn process(id: i32, parent: i32, group: i32) -> Process {
        Process { id, parent, group }
    }

    #[test]
    fn a_name_can_look_like_the_fields_after_it() {
        assert_eq!(Process::parse("12 (a) S 1 1 (b) R 7 8 9 0 -1"), Some(process(12, 7, 8)));
        assert_eq!(Process::parse("12 (cat"), None);
    }

    #[test]
    fn children_of_children_are_found_and_others_are_not() {
        let all = [process(5, 4, 4), process(2, 1, 2), process(4, 2, 4), process(3, 2, 2), process(9, 8, 2)];
        let found = Descendants::among(2, all.into_iter());
        assert_eq!(found.0, [process(4, 2, 4), process(3, 2, 2), process(5, 4, 4)]);
        let group = Pid::from_raw(4).unwrap();
        assert!(found.has_group(group) && !found.is_empty());
        assert_eq!(found.outside(group).collect::<Vec<_>>(), [Pid::from_raw(3).unwrap()]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_child_of_this_process_is_found() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let found = Descendants::of_this_process();
        assert!(found.0.iter().any(|process| u32::try_from(process.id) == Ok(child.id())), "{found:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
