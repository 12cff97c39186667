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

/// Supervises commands, one after the other: starts each of them, and later ends it with everything that it has left
/// behind.
///
/// The end comes as soon as the worker asks for it, or when the worker is gone for whatever reason.
///
/// Call this in a process of its own. A worker starts that process with [`SUPERVISE`](super::SUPERVISE) as its first
/// argument ([`supervised_by`](super::CommandHandler::supervised_by)); `words` are the arguments after it. The process
/// should do nothing else, and should ignore the signals that ask it to end.
///
/// On Linux it also finds processes that a command has started in other sessions and groups.
///
/// # Errors
///
/// An error when standard input is not the worker's socket, or when the system refuses something that is needed.
pub fn supervise(words: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let words: Vec<_> = words.into_iter().collect();
    let (program, arguments) = words.split_first().ok_or_else(|| io::Error::other("no command"))?;
    // This comes before the first command, so that no orphan is missed.
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
        // The report comes first. Until the worker knows the group, it cannot end the group when this process is
        // killed.
        Report::Started(group.as_raw_nonzero().get()).send(&control).ok();
        let left = Left::of(group, &control, adopts)?;
        if !left.see_through(&control) {
            return Ok(());
        }
        Report::Over.send(&control)?;
    }
    Ok(())
}

/// Starts the command. When this returns, this process holds no end of the pipes any more, so a closed pipe means that
/// the output is complete.
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

/// The events for which a supervisor waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The command has ended, with this status.
    Ended(i32),
    /// No child is left.
    Childless,
    /// The worker asks for the end of the command.
    Told,
    /// The worker is gone.
    Closed,
}

fn hear(mut control: UnixStream, happens: &SyncSender<Event>) {
    let mut byte = [0];
    let told = control.read(&mut byte).is_ok_and(|count| count == 1) && byte == [END];
    happens.send(if told { Event::Told } else { Event::Closed }).ok();
}

/// Waits for the command, and all the time for the children that it has left behind: a long-running command may leave
/// many.
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

/// The command and everything that it leaves behind.
struct Left {
    group: Pid,
    /// Whether every process that the command starts, directly or not, stays a descendant of this process as long as it
    /// lives.
    adopts: bool,
    events: Receiver<Event>,
    /// The watching threads have copies of this. With this copy the channel stays open, so a wait takes its full time
    /// even when the threads have ended.
    _happens: SyncSender<Event>,
}

impl Left {
    /// Starts to watch a command that is running.
    fn of(group: Pid, control: &UnixStream, adopts: bool) -> io::Result<Self> {
        let (happens, events) = sync_channel(EVENTS_MAX);
        let watch = || {
            let (control, heard, reaped) = (control.try_clone()?, happens.clone(), happens.clone());
            thread::Builder::new().spawn(move || hear(control, &heard))?;
            thread::Builder::new().spawn(move || reap(group, &reaped))
        };
        // The command must not go on unwatched.
        if let Err(error) = watch() {
            kill_process_group(group, Signal::KILL).ok();
            return Err(error);
        }
        Ok(Self { group, adopts, events, _happens: happens })
    }

    /// Reports the command's end, and ends all that is left when the worker asks for it or is gone. Answers whether the
    /// worker is still there and nothing is left of the command.
    fn see_through(&self, control: &UnixStream) -> bool {
        let mut is_over = false;
        loop {
            match self.events.recv() {
                // If the worker is gone, the report is lost, and that does no harm.
                Ok(Event::Ended(status)) => drop(Report::Ended(status).send(control)),
                // A process that has another parent now may still be in the group.
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

    /// Ends everything that is left. Answers whether nothing is left.
    fn end(&self) -> bool {
        self.signal_until(Signal::TERM, TERMINATION_GRACE) || self.signal_until(Signal::KILL, KILL_WAIT)
    }

    /// Sends the signal to all that is left, and to processes that appear meanwhile, until none is left or the time is
    /// over. Answers whether none is left.
    fn signal_until(&self, signal: Signal, time: Duration) -> bool {
        let since = Instant::now();
        let mut told = HashSet::new();
        while since.elapsed() < time {
            let left = Descendants::of_this_process();
            // Where the system shows no processes, only the group is known.
            if (left.is_empty() || left.has_group(self.group)) && told.insert(self.group) {
                kill_process_group(self.group, signal).ok();
            }
            for process in left.outside(self.group).filter(|process| told.insert(*process)) {
                kill_process(process, signal).ok();
            }
            if signal == Signal::KILL {
                // A process may have started others before the signal reached it.
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

/// The number of events that can happen with one command.
const EVENTS_MAX: usize = 3;

/// The pause between two checks. A process that ends on a signal does so within milliseconds.
const ROUND: Duration = Duration::from_millis(10);
