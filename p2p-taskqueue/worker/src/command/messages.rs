//! What a worker and a supervisor say to each other over a socket, for one command after the other: the worker hands over the
//! command's ends of the pipes and its environment, the supervisor reports that it runs and then that it has ended, the worker
//! says [`END`], and the supervisor reports when nothing is left. When the worker's end closes, for whatever reason, the
//! supervisor ends the command, all that is left of it, and itself.

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

/// The command's ends: standard input, output and error.
pub(super) type Ends = [OwnedFd; 3];

/// What the worker says when the command and what it has left behind is to end.
pub(super) const END: u8 = b'e';

/// Variables to set for a command, or to take away.
pub(super) type Environment = Vec<(String, Option<OsString>)>;

/// What the supervisor reports.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The command runs, in this process group.
    Started(i32),
    /// It could not be started.
    Refused {
        /// The system's number of the error, if it has one.
        code: Option<i32>,
        message: String,
    },
    /// It has ended, with this status of `wait`.
    Ended(i32),
    /// Nothing is left of it.
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

/// What follows is the environment, as a line of JSON.
pub(super) fn send_ends(control: impl AsFd, ends: &Ends) -> io::Result<()> {
    let borrowed = ends.each_ref().map(|end| end.as_fd());
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("no room for three descriptors"));
    }
    // Descriptors do not travel without a byte.
    sendmsg(control, &[IoSlice::new(b"\n")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// What a command is started with; none when the worker is gone.
pub(super) fn receive(control: &UnixStream) -> io::Result<Option<(Ends, Environment)>> {
    let Some(ends) = receive_ends(control)? else { return Ok(None) };
    let mut line = String::new();
    // Nothing is sent after it before this is answered.
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
        // The command gets copies of them under their usual numbers, and must not have these beside.
        fcntl_setfd(end, FdFlags::CLOEXEC)?;
    }
    Ends::try_from(ends).map(Some).map_err(|_| io::Error::other("not three descriptors"))
}
