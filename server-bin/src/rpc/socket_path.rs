use std::{
    io,
    os::{fd::OwnedFd, unix::net::SocketAddr},
    path::{Path, PathBuf},
};

/// A socket's path in a form that the system accepts. The address of a socket holds about a hundred bytes, but a path
/// may have four thousand.
#[derive(Debug)]
pub(super) struct SocketPath {
    path: PathBuf,
    /// The open folder that a short form leads through. It stays open as long as the form is used.
    _folder: Option<OwnedFd>,
}

impl SocketPath {
    /// Returns the path itself if it is short enough, otherwise, on Linux, a short path to the same file.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no short form, or the error of opening the folder.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        if SocketAddr::from_pathname(path).is_ok() {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        through_folder(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns a path through this process's open folder. No other process can put something in its place, and nothing is
/// left behind.
#[cfg(target_os = "linux")]
fn through_folder(path: &Path) -> io::Result<SocketPath> {
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{Mode, OFlags, open};

    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(too_long(path)) };
    let folder = open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    if SocketAddr::from_pathname(short.join(name)).is_err() || !short.exists() {
        return Err(too_long(path));
    }
    Ok(SocketPath { path: short.join(name), _folder: Some(folder) })
}

#[cfg(not(target_os = "linux"))]
fn through_folder(path: &Path) -> io::Result<SocketPath> {
    Err(too_long(path))
}

fn too_long(path: &Path) -> io::Error {
    let bytes = path.as_os_str().len();
    let problem = format!(
        "its path has {bytes} bytes, and this system takes no socket of more than about 100: choose a shorter data folder \
         (--data-dir), or name a shorter socket (`taskmesh daemon --rpc unix:PATH`)"
    );
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    #[test]
    fn a_short_path_is_taken_as_it_is() {
        let path = Path::new("/run/taskmesh/rpc.sock");
        assert_eq!(SocketPath::of(path).unwrap().path(), path);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_under_a_long_path_is_made_there_and_found_there() {
        let folder = tempfile::Builder::new().prefix(&"d".repeat(200)).tempdir().unwrap();
        let path = folder.path().join("taskmesh.sock");
        assert!(UnixListener::bind(&path).is_err(), "too long for the system");
        let listener = UnixListener::bind(SocketPath::of(&path).unwrap().path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(fs::symlink_metadata(&path).is_ok());
        UnixStream::connect(SocketPath::of(&path).unwrap().path()).unwrap();
        drop(listener.accept().unwrap());
    }

    #[test]
    fn what_has_no_short_form_says_what_else_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = SocketPath::of(&folder.path().join("s".repeat(200))).unwrap_err().to_string();
        assert!(error.contains("--data-dir") && error.contains("--rpc unix:PATH"), "{error}");
    }
}
