//! Announce files: this node writes its peer id and addresses there, and reads those of other nodes of this machine.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use etcetera::BaseStrategy as _;

use crate::{config::AnnounceSetting, data_dir::DataDir, failure::Failure};

/// The largest announce file that is read. An announcement is a peer id and an address, so a larger file is something
/// else.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The most files that are read for one search.
const FILES_MAX: usize = 16;

/// The place of this node's announce file in the user's cache folder. It is the same for all nodes of one user, so that
/// they find each other.
const OWN_PLACE: &str = "taskmesh/announce.json";

/// The places where services of ipfs_accelerate_py announce themselves in the user's cache folder.
const OTHER_PLACES: [&str; 2] =
    ["ipfs_accelerate_py/task_p2p_announce.json", "ipfs_datasets_py/task_p2p_announce.json"];
const OTHER_MACHINE_PLACE: &str = "/var/cache/ipfs-accelerate/task_p2p_announce.json";

/// The announce files that this node writes and reads; none when announcing is off.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnnounceFiles {
    written: Vec<PathBuf>,
    read: Vec<PathBuf>,
}

impl AnnounceFiles {
    /// Returns the files for `setting`: the node writes the usual file, or the named one, and also one in the data
    /// folder.
    pub(crate) fn of(setting: &AnnounceSetting, data_dir: &DataDir) -> Result<Self, Failure> {
        let cache = etcetera::choose_base_strategy().map(|folders| folders.cache_dir()).ok();
        let usual = cache.as_ref().map(|cache| cache.join(OWN_PLACE));
        let chosen = match (setting, usual.clone()) {
            (AnnounceSetting::Off, _) => return Ok(Self::default()),
            (AnnounceSetting::At(path), _) => path.clone(),
            (AnnounceSetting::On, Some(usual)) => usual,
            (AnnounceSetting::On, None) => {
                return Err(Failure::argument("announce_file", "this user has no home folder: name a file"));
            }
        };
        let mut read = vec![chosen.clone()];
        read.extend(usual.filter(|usual| *usual != chosen));
        read.extend(cache.iter().flat_map(|cache| OTHER_PLACES.map(|place| cache.join(place))));
        read.push(OTHER_MACHINE_PLACE.into());
        Ok(Self { written: vec![data_dir.path().join("announce.json"), chosen], read })
    }

    /// Replaces every file as a whole. All files are tried, and the first failure is returned.
    pub(crate) fn write(&self, announcement: &str) -> io::Result<()> {
        self.written.iter().map(|path| replace(path, announcement)).fold(Ok(()), Result::and)
    }

    /// Reads the files that exist, and returns their paths and texts, the newest first. A file that cannot be read is
    /// left out.
    pub(crate) fn read(&self) -> Vec<(String, String)> {
        let mut found: Vec<_> = self.read.iter().take(FILES_MAX).filter_map(|path| read(path)).collect();
        found.sort_by_key(|(written_at, ..)| std::cmp::Reverse(*written_at));
        found.into_iter().map(|(_, place, text)| (place, text)).collect()
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(folder).map_err(named)?;
    // The new file is made in the same folder, so that it can replace the old one by a rename. It is readable for all,
    // because programs of other users read it, too.
    let mut new = tempfile::Builder::new().prefix(".announce").tempfile_in(folder).map_err(named)?;
    new.write_all(text.as_bytes()).map_err(named)?;
    new.as_file().set_permissions(readable()).map_err(named)?;
    new.as_file().sync_all().map_err(named)?;
    new.persist(path).map(drop).map_err(|error| named(error.error))
}

fn readable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o644)
}

/// Returns the time at which the file was written, its path, and its text; `None` when it is missing or cannot be read.
fn read(path: &Path) -> Option<(SystemTime, String, String)> {
    let place = path.display().to_string();
    let read = || -> io::Result<(SystemTime, String)> {
        // Reading something else, such as a named pipe, could block the node.
        let described = fs::metadata(path)?;
        if !described.is_file() || described.len() > FILE_BYTES_MAX {
            return Err(io::Error::other("not a file of at most 64 KiB"));
        }
        let mut text = String::new();
        File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok((described.modified()?, text))
    };
    match read() {
        Ok((written_at, text)) => Some((written_at, place, text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::debug!(%place, %error, "an announce file cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn files(folder: &Path, names: &[&str]) -> AnnounceFiles {
        let read = names.iter().map(|name| folder.join(name)).collect();
        AnnounceFiles { written: vec![folder.join("made").join("own.json")], read }
    }

    #[test]
    fn what_is_written_is_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), &["made/own.json"]);
        files.write("first, and longer").unwrap();
        files.write("second").unwrap();
        let texts: Vec<_> = files.read().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["second"]);
        assert_eq!(fs::read_dir(folder.path().join("made")).unwrap().count(), 1);
    }

    #[test]
    fn the_newest_comes_first_and_what_is_missing_or_too_large_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let hour = Duration::from_secs(3_600);
        for (name, age) in [("old", hour), ("new", Duration::ZERO), ("older", 2 * hour)] {
            fs::write(folder.path().join(name), name).unwrap();
            let file = File::options().write(true).open(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        fs::write(folder.path().join("large"), vec![b' '; 65 * 1024]).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let files = files(folder.path(), &["old", "missing", "large", "folder", "older", "new"]);
        let texts: Vec<_> = files.read().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["new", "old", "older"]);
    }

    #[test]
    fn a_node_that_was_not_told_to_announces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::locate(Some(folder.path())).unwrap();
        let files = AnnounceFiles::of(&AnnounceSetting::Off, &data_dir).unwrap();
        files.write("here").unwrap();
        assert!(files.read().is_empty() && fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
