//! The Unix socket: every user who may open its file may ask the node.

use std::{
    fs, io,
    os::unix::{fs::FileTypeExt as _, net::UnixStream},
    path::Path,
};

use anyhow::{Context as _, anyhow};
use rustix::{fs::Mode, process::umask};
use tokio::net::UnixListener;

use super::socket_path::SocketPath;
use crate::failure::Failure;

/// Listens on the socket at `path`. An existing socket is replaced if nobody listens on it, because its node was
/// killed.
pub(super) fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let shown = path.display();
    let reached = SocketPath::of(path).with_context(|| format!("cannot listen on {shown}"))?;
    clear(path, reached.path())?;
    // The folder may be open to other users. The socket must not be, from the moment at which it is made.
    let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = UnixListener::bind(reached.path());
    umask(before);
    Ok(listener.with_context(|| format!("cannot listen on {shown}"))?)
}

fn clear(path: &Path, reached: &Path) -> Result<(), Failure> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(anyhow!(error).context(format!("cannot look at {shown}")).into()),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(anyhow!("{shown} is there and is no socket: name another path").into());
        }
        Ok(_) => {}
    }
    if UnixStream::connect(reached).is_ok() {
        return Err(anyhow!("{shown} is in use by another program: stop that one, or name another path").into());
    }
    Ok(fs::remove_file(path).with_context(|| format!("cannot remove {shown}, whose node is gone"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_taken_over_only_from_the_dead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rpc.sock");
        let held = listen(&path).unwrap();
        let error = listen(&path).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("rpc.sock"), "{error}");
        drop(held);
        assert!(path.exists());
        drop(listen(&path).unwrap());

        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        let error = listen(&file).unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }
}
