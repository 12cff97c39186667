use std::{
    collections::HashSet,
    ffi::OsString,
    io::{self, Read as _},
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::Command,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process_group, wait},
};

use super::{
    KILL_WAIT, TERMINATION_GRACE,
    descendants::{self, Descendants},
    messages::{END, Ends, Environment, Report, receive},
};

/// Supervises commands, one after the other: starts each, and ends it with everything that it has left behind as soon as the
/// worker that asked for it wants so or is gone, however that came about. To be called by a process of its own, which a worker
/// starts with [`SUPERVISE`](super::SUPERVISE) as its first argument
/// ([`supervised_by`](super::CommandHandler::supervised_by)); `words` are the arguments after that. The process should do
/// nothing else, and take no notice of signals that ask it to end.
///
/// On Linux it also finds what a command has started in sessions and groups of their own.
///
/// # Errors
///
/// When standard input is not the worker's socket, or the system refuses what is needed.
pub fn supervise(words: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let words: Vec<_> = words.into_iter().collect();
    let (program, arguments) = words.split_first().ok_or_else(|| io::Error::other("no command"))?;
    // Before there is anybody to adopt.
    let adopts = descendants::adopt();
    while let Some((ends, environment)) = receive(&control)? {
        let mut command = Command::new(program);
        command.args(arguments);
        let group = match start(command, ends, environment) {
            Ok(group) => group,
            Err(error) => {
                Report::refused(&error).send(&control)?;
                continue;
            }
        };
        // Before all else: until the worker knows the group, it cannot end it when this process is killed.
        Report::Started(group.as_raw_nonzero().get()).send(&control).ok();
        let left = Left::of(group, &control, adopts)?;
        if !left.see_through(&control) {
            return Ok(());
        }
        Report::Over.send(&control)?;
    }
    Ok(())
}

/// When this returns nobody here holds the ends of the pipes any more: that they are closed tells that all is said.
fn start(mut command: Command, [stdin, stdout, stderr]: Ends, environment: Environment) -> io::Result<Pid> {
    set(&mut command, environment);
    let child = command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0).spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))
}

/// Sets a command's environment.
pub(super) fn set(command: &mut Command, environment: Environment) {
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// What a supervisor waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The command has ended, with this status.
    Ended(i32),
    /// There is no child left.
    Childless,
    /// The worker wants the end.
    Told,
    /// The worker is gone.
    Closed,
}

fn hear(mut control: UnixStream, happens: &SyncSender<Event>) {
    let mut byte = [0];
    let told = control.read(&mut byte).is_ok_and(|count| count == 1) && byte == [END];
    happens.send(if told { Event::Told } else { Event::Closed }).ok();
}

/// Waits for the command and for the children that it has left behind, all the time: a long-running one may leave many.
fn reap(command: Pid, happens: &SyncSender<Event>) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((child, status))) if child == command => happens.send(Event::Ended(status.as_raw())).ok(),
            Ok(_) | Err(Errno::INTR) => None,
            Err(_) => break,
        };
    }
    happens.send(Event::Childless).ok();
}

/// The command, and what it leaves behind.
struct Left {
    group: Pid,
    /// Whether every process that comes of the command is a descendant of this one as long as it lives.
    adopts: bool,
    events: Receiver<Event>,
    /// Those who wait for events have copies; with this one a wait has its time also when they have ended.
    _happens: SyncSender<Event>,
}

impl Left {
    /// Begins to watch a command that was started.
    fn of(group: Pid, control: &UnixStream, adopts: bool) -> io::Result<Self> {
        let (happens, events) = sync_channel(EVENTS_MAX);
        let watch = || {
            let (control, heard, reaped) = (control.try_clone()?, happens.clone(), happens.clone());
            thread::Builder::new().spawn(move || hear(control, &heard))?;
            thread::Builder::new().spawn(move || reap(group, &reaped))
        };
        // Without a watch it must not go on.
        if let Err(error) = watch() {
            kill_process_group(group, Signal::KILL).ok();
            return Err(error);
        }
        Ok(Self { group, adopts, events, _happens: happens })
    }

    /// Reports the command's end, and ends all that is left when the worker wants it or is gone. Answers whether the worker is
    /// there and nothing is left.
    fn see_through(&self, control: &UnixStream) -> bool {
        let mut is_over = false;
        loop {
            match self.events.recv() {
                // A worker that is gone does not hear it.
                Ok(Event::Ended(status)) => drop(Report::Ended(status).send(control)),
                // What has changed its parent may be in the group still.
                Ok(Event::Childless) => is_over = self.adopts,
                Ok(Event::Told) => return is_over || self.end(),
                Ok(Event::Closed) | Err(_) => {
                    if !is_over {
                        self.end();
                    }
                    return false;
                }
            }
        }
    }

    /// Answers whether nothing is left.
    fn end(&self) -> bool {
        self.signal_until(Signal::TERM, TERMINATION_GRACE) || self.signal_until(Signal::KILL, KILL_WAIT)
    }

    /// Sends the signal to all that is left, also to what appears meanwhile, until nothing is or the time is over; answers
    /// which it was.
    fn signal_until(&self, signal: Signal, time: Duration) -> bool {
        let since = Instant::now();
        let mut told = HashSet::new();
        while since.elapsed() < time {
            let left = Descendants::of_this_process();
            // Where no process is shown, the group is all that is known of them.
            if (left.is_empty() || left.has_group(self.group)) && told.insert(self.group) {
                kill_process_group(self.group, signal).ok();
            }
            for process in left.outside(self.group).filter(|process| told.insert(*process)) {
                kill_process(process, signal).ok();
            }
            if signal == Signal::KILL {
                // Some may have started others before it reached them.
                told.clear();
            }
            match self.events.recv_timeout(ROUND) {
                Ok(Event::Childless) if self.adopts => return true,
                Ok(_) | Err(_) => {}
            }
            if !self.adopts && test_kill_process_group(self.group).is_err() {
                return true;
            }
        }
        false
    }
}

/// All that ever happen with one command.
const EVENTS_MAX: usize = 3;

/// What ends on a signal does so within milliseconds.
const ROUND: Duration = Duration::from_millis(10);
