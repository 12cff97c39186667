use std::{future::pending, io, os::fd::AsFd};

use rustix::io::ioctl_fionread;
use taskqueue_api::limits::JSON_BYTES_MAX;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{ChildStderr, ChildStdin, ChildStdout},
};

/// This side's ends of a command's pipes, and what was read from them so far.
#[derive(Debug)]
pub(super) struct Talk {
    /// `None` when the whole input is written, or will not be written.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: ChildStderr,
    heard: Heard,
}

/// The output that was read from a command.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) output: Vec<u8>,
    /// The end of its standard error.
    errors: Vec<u8>,
}

/// The reason why a command's output was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum TalkError {
    #[error("it wrote more than {JSON_BYTES_MAX} bytes, the limit of a result")]
    TooLong,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Talk {
    pub(super) fn new(stdin: ChildStdin, stdout: ChildStdout, stderr: ChildStderr) -> Self {
        Self { stdin: Some(stdin), stdout, stderr, heard: Heard::default() }
    }

    /// Gives the command its input and reads its output. Completes only when that cannot go on.
    pub(super) async fn hold(&mut self, input: &[u8]) -> TalkError {
        let stdin = self.stdin.take();
        let write = async {
            // A command may end without reading its input. That is not an error.
            if let Some(mut stdin) = stdin
                && let Err(error) = stdin.write_all(input).await
            {
                tracing::debug!(%error, "the command did not read its whole input");
            }
            Ok(())
        };
        match tokio::try_join!(write, self.listen()) {
            Ok(_) => pending().await,
            Err(error) => error,
        }
    }

    /// Reads on until the processes that the command left behind have closed the pipes, or until `grace` is over.
    ///
    /// In any case it reads everything that the command itself has written before it ended.
    pub(super) async fn finish(&mut self, grace: impl Future<Output = ()>) -> Result<(), TalkError> {
        tokio::select! {
            closed = self.listen() => return closed,
            () = grace => {}
        }
        let Heard { output, errors } = &mut self.heard;
        // A pipe keeps its order, so everything that the command has written is among the bytes that are there now.
        let there = ioctl_fionread(self.stdout.as_fd()).map_err(io::Error::from)?;
        hear_output((&mut self.stdout).take(there), output).await?;
        let there = ioctl_fionread(self.stderr.as_fd()).map_err(io::Error::from)?;
        hear_errors((&mut self.stderr).take(there), errors).await
    }

    pub(super) fn into_heard(self) -> Heard {
        self.heard
    }

    /// Reads until both pipes are closed. If this is dropped, the output that was read so far is kept.
    async fn listen(&mut self) -> Result<(), TalkError> {
        let Heard { output, errors } = &mut self.heard;
        tokio::try_join!(hear_output(&mut self.stdout, output), hear_errors(&mut self.stderr, errors))?;
        Ok(())
    }
}

impl Heard {
    pub(super) fn error_tail(&self) -> String {
        String::from_utf8_lossy(&self.errors).trim().to_owned()
    }
}

/// Reads to the end, which must come within the size limit of a result.
async fn hear_output(mut reader: impl AsyncRead + Unpin, output: &mut Vec<u8>) -> Result<(), TalkError> {
    loop {
        output.reserve(READ_BYTES);
        if reader.read_buf(output).await? == 0 {
            return Ok(());
        }
        if output.len() > JSON_BYTES_MAX {
            return Err(TalkError::TooLong);
        }
    }
}

/// Reads to the end and keeps only the last bytes.
async fn hear_errors(mut reader: impl AsyncRead + Unpin, tail: &mut Vec<u8>) -> Result<(), TalkError> {
    let mut chunk = [0; ERROR_TAIL_BYTES];
    loop {
        let count = reader.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        tail.extend(chunk.iter().take(count));
        let excess = tail.len().saturating_sub(ERROR_TAIL_BYTES);
        tail.drain(..excess);
    }
}

/// The bytes of a command's standard error that are kept, counted from its end.
pub(super) const ERROR_TAIL_BYTES: usize = 4 * 1024;

/// The bytes that are read at once. Most results are shorter.
const READ_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        io::Write as _,
        process::{ChildStderr as StdErr, ChildStdin as StdIn, ChildStdout as StdOut},
    };

    use rustix::pipe::fcntl_setpipe_size;

    use super::*;

    #[tokio::test]
    async fn without_any_grace_all_that_the_pipes_hold_is_heard() {
        const BYTES: usize = 1 << 20;
        let ((out, mut to_out), (err, mut to_err), (_input, stdin)) =
            (io::pipe().unwrap(), io::pipe().unwrap(), io::pipe().unwrap());
        for end in [&to_out, &to_err] {
            assert!(fcntl_setpipe_size(end, BYTES).unwrap() >= BYTES);
        }
        to_out.write_all(&[b'x'; BYTES]).unwrap();
        to_err.write_all(&[b'y'; BYTES - 3]).unwrap();
        to_err.write_all(b"end").unwrap();
        let mut talk = Talk::new(
            ChildStdin::from_std(StdIn::from(std::os::fd::OwnedFd::from(stdin))).unwrap(),
            ChildStdout::from_std(StdOut::from(std::os::fd::OwnedFd::from(out))).unwrap(),
            ChildStderr::from_std(StdErr::from(std::os::fd::OwnedFd::from(err))).unwrap(),
        );
        talk.finish(ready(())).await.unwrap();
        // The other ends stay open to the last, as when a process that was left behind holds them.
        drop((to_out, to_err));
        let heard = talk.into_heard();
        assert_eq!(heard.output, vec![b'x'; BYTES]);
        assert!(heard.error_tail().ends_with("yyend") && heard.error_tail().len() == ERROR_TAIL_BYTES);
    }
}
