//! The messages between a worker and a supervisor. They travel over a socket, for one command after the other.
//!
//! 1. The worker sends the command's ends of the pipes, and its environment.
//!
//! 2. The supervisor reports that the command runs, and later that it has ended.
//!
//! 3. The worker sends [`END`].
//!
//! 4. The supervisor reports when nothing is left of the command.
//!
//! When the worker's end closes, for whatever reason, the supervisor ends the command, everything that is left of it,
//! and itself.

use std::{
    ffi::OsString,
    io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    cmsg_space,
    io::{FdFlags, fcntl_setfd},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};

/// The command's ends of the pipes: standard input, output and error.
pub(super) type Ends = [OwnedFd; 3];

/// The byte with which the worker asks for the end of the command and of everything that it has left behind.
pub(super) const END: u8 = b'e';

/// Environment variables to set for a command, or to remove (`None`).
pub(super) type Environment = Vec<(String, Option<OsString>)>;

/// What the supervisor reports.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The command runs, in this process group.
    Started(i32),
    /// The command could not be started.
    Refused {
        /// The system's error number, if there is one.
        code: Option<i32>,
        message: String,
    },
    /// The command has ended, with this status of `wait`.
    Ended(i32),
    /// Nothing is left of the command.
    Over,
}

impl Report {
    pub(super) fn refused(error: &io::Error) -> Self {
        Self::Refused { code: error.raw_os_error(), message: error.to_string() }
    }

    pub(super) fn send(&self, mut control: &UnixStream) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        control.write_all(&line)
    }
}

/// Sends the ends of the pipes. The environment follows as a line of JSON.
pub(super) fn send_ends(control: impl AsFd, ends: &Ends) -> io::Result<()> {
    let borrowed = ends.each_ref().map(|end| end.as_fd());
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("no room for three descriptors"));
    }
    // A message that carries descriptors must have at least one byte.
    sendmsg(control, &[IoSlice::new(b"\n")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Receives what a command is started with; `None` when the worker is gone.
pub(super) fn receive(control: &UnixStream) -> io::Result<Option<(Ends, Environment)>> {
    let Some(ends) = receive_ends(control)? else { return Ok(None) };
    let mut line = String::new();
    // The reader cannot read too far: the worker sends nothing more before it has an answer.
    BufReader::new(control).read_line(&mut line)?;
    Ok(Some((ends, serde_json::from_str(&line)?)))
}

fn receive_ends(control: &UnixStream) -> io::Result<Option<Ends>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::empty())?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut ends = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            ends.extend(received);
        }
    }
    for end in &ends {
        // The command gets copies of them under the usual numbers, and must not inherit these as well.
        fcntl_setfd(end, FdFlags::CLOEXEC)?;
    }
    Ends::try_from(ends).map(Some).map_err(|_| io::Error::other("not three descriptors"))
}
