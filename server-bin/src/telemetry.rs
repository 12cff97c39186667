//! Logging. Logs go to standard error, so that standard output holds only the answer.

use std::{
    fmt::{self, Debug},
    io::IsTerminal as _,
};

use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{
        FormatFields,
        format::{Writer, debug_fn},
    },
};

use crate::foreign::Foreign;

/// Starts logging. A node logs what it does, a client command only problems. `-v` shows more, `-vv` everything of this
/// project. When `RUST_LOG` is set, it alone decides.
pub(crate) fn start(is_node: bool, verbose: u8) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives(is_node, verbose)));
    let is_terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    logs.with_ansi(is_terminal).fmt_fields(fields()).init();
}

fn directives(is_node: bool, verbose: u8) -> String {
    let (others, own) = match verbose {
        0 if !is_node => return "warn".to_owned(),
        0 => ("warn", "info"),
        // rmcp logs something for every request.
        1 => ("info,rmcp=warn", "debug"),
        _ => ("debug", "trace"),
    };
    let own: Vec<_> = OWN_CRATES.iter().map(|name| format!("{name}={own}")).collect();
    format!("{others},{}", own.join(","))
}

/// The beginnings of the names of this project's crates.
const OWN_CRATES: [&str; 5] = ["server_bin", "p2p_taskqueue", "taskqueue_", "mcp_core", "runtime_bridge"];

/// Formats each event as one line, whatever its values contain: some are texts that others wrote.
fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    let write = |writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| -> fmt::Result {
        let shown = Foreign(format_args!("{value:?}"));
        if field.name() == "message" { write!(writer, "{shown}") } else { write!(writer, "{}={shown}", field.name()) }
    };
    debug_fn(write).delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// A writer that keeps what is logged.
    #[derive(Debug, Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_node_logs_what_each_crate_of_the_project_does() {
        let manifest = include_str!("../../Cargo.toml");
        let members = manifest.lines().filter_map(|line| line.split_once("path = ")).map(|(before, _)| before);
        let crates: Vec<_> =
            members.filter_map(|before| before.split(' ').next()).map(|name| name.replace('-', "_")).collect();
        assert!(crates.len() > 4, "{crates:?}");
        for name in crates {
            assert!(OWN_CRATES.iter().any(|own| name.starts_with(own)), "{name}");
        }
        assert_eq!(directives(false, 0), "warn");
        assert!(directives(true, 0).contains("taskqueue_=info"));
    }

    #[test]
    fn a_log_line_stays_one_and_has_nothing_that_a_terminal_obeys() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
        let hostile = "\u{1b}[2J\u{9b}1m\r\n2026 INFO all is well\u{202e}\u{2028}";
        tracing::subscriber::with_default(subscriber.fmt_fields(fields()).finish(), || {
            let _within = tracing::info_span!("task", name = %hostile, quoted = hostile).entered();
            tracing::info!(error = %hostile, debugged = ?hostile, plain = hostile, "it said {hostile}");
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let shown = "\\x1b[2J\\x9b1m\\r\\n2026 INFO all is well\\u{202e}\\u{2028}";
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.contains(&format!("it said {shown}")) && text.contains(&format!("error={shown}")), "{text}");
        assert!(text.contains(&format!("name={shown}")), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\r', '\u{202e}', '\u{2028}']), "{text:?}");
    }
}
