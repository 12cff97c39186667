//! The units in `server-bin/systemd`, and the messages of the program to a service manager.

use std::{fs, os::unix::net::UnixDatagram, path::Path, process::Command};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::harness::{DEADLINE, Process, skipped, taskmesh_command};

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../server-bin/systemd");

#[test]
fn the_units_are_understood_by_systemd() -> Result<()> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skipped("there is no systemd-analyze");
        return Ok(());
    }
    // systemd-analyze looks for the program at the path in the unit. Here the program is where cargo has put it.
    let folder = tempfile::tempdir()?;
    let mut units = Vec::new();
    for entry in fs::read_dir(UNITS)? {
        let path = entry?.path();
        let name = path.file_name().context("no name")?.to_owned();
        let text = fs::read_to_string(&path)?;
        let unit = text.replace("/usr/local/bin/taskmesh ", concat!(env!("CARGO_BIN_EXE_taskmesh-under-test"), " "));
        assert_ne!(unit, text, "{} starts something else", path.display());
        fs::write(folder.path().join(&name), unit)?;
        units.push(name);
    }
    assert_eq!(units.len(), 3, "{units:?}");
    let verified = Command::new("systemd-analyze").arg("verify").args(&units).current_dir(folder.path()).output()?;
    let said = String::from_utf8_lossy(&verified.stderr);
    // Other units of this machine may cause remarks of their own.
    let about_ours: Vec<_> = said.lines().filter(|line| line.contains("taskmesh")).collect();
    assert!(about_ours.is_empty(), "{about_ours:#?}");
    Ok(())
}

#[test]
fn a_service_manager_hears_when_it_is_ready_and_when_it_stops() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&socket)?;
    manager.set_read_timeout(Some(DEADLINE))?;
    for verb in [&["daemon"][..], &["serve", "--http", "127.0.0.1:0"]] {
        let process = start(folder.path(), verb, &socket)?;
        assert_eq!(heard(&manager)?, "READY=1\n");
        let (status, _, stderr) = process.stop(Signal::TERM)?;
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert_eq!(heard(&manager)?, "STOPPING=1\n");
    }
    Ok(())
}

fn start(folder: &Path, verb: &[&str], socket: &Path) -> Result<Process> {
    let mut command = taskmesh_command(folder);
    command.args(verb).args(["--json", "--p2p-listen", "/ip4/127.0.0.1/tcp/0"]).env("NOTIFY_SOCKET", socket);
    Process::start(&mut command)
}

fn heard(manager: &UnixDatagram) -> Result<String> {
    let mut text = [0; 256];
    let length = manager.recv(&mut text)?;
    Ok(String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned())
}
