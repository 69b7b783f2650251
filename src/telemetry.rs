//! Diagnostics: `tracing` to stderr or to a log file, as text or JSON. Never stdout, which belongs to the protocol or to a command's output.

use crate::error::{Error, Result};
use crate::redact::Redactor;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// What holds unless `level` says otherwise: rmcp reports ordinary ends of connections as warnings.
const BASE: &str = "rmcp=error";

/// How diagnostics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One readable line each.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Where diagnostics go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogTarget {
    #[default]
    Stderr,
    /// Appended to; created with mode 0600.
    File(PathBuf),
}

/// What the settings (`log: { level, format, file }`) and `STN_LOG` come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level (`info`), or directives per target (`info,station::store=debug`), as `tracing_subscriber::EnvFilter` reads them.
    pub level: String,
    pub format: LogFormat,
    pub target: LogTarget,
    /// Whether a terminal may be given colours (`NO_COLOR` is unset).
    pub colours: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text, target: LogTarget::Stderr, colours: true }
    }
}

/// Starts diagnostics for the whole process; every line passes `redactor`. A second start is an error.
pub fn start(settings: &LogSettings, redactor: Redactor) -> Result<()> {
    let dispatch = match &settings.target {
        LogTarget::Stderr => {
            let colours = settings.colours && std::io::stderr().is_terminal();
            subscriber(settings, Redacting { redactor, sink: std::io::stderr }, colours)?
        }
        LogTarget::File(path) => subscriber(settings, Redacting { redactor, sink: Arc::new(open(path)?) }, false)?,
    };
    tracing::dispatcher::set_global_default(dispatch)
        .map_err(|cause| Error::internal("diagnostics were started twice").source(cause))
}

fn subscriber<W>(settings: &LogSettings, writer: W, colours: bool) -> Result<tracing::Dispatch>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter(&settings.level)?)
        .with_writer(writer)
        .with_ansi(colours)
        .with_span_events(FmtSpan::NONE);
    Ok(match settings.format {
        LogFormat::Text => tracing::Dispatch::new(base.finish()),
        LogFormat::Json => tracing::Dispatch::new(base.json().finish()),
    })
}

/// A place for lines, behind the redactor.
struct Redacting<M> {
    redactor: Redactor,
    sink: M,
}

/// Takes one event, which comes in one write.
struct RedactingWriter<W> {
    redactor: Redactor,
    sink: W,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Redacting<M> {
    type Writer = RedactingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        RedactingWriter { redactor: self.redactor.clone(), sink: self.sink.make_writer() }
    }
}

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.sink.write_all(&self.redactor.bytes(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Reports panics of the whole process in the log, or on stderr where no log takes them, through `redactor`: what a panic says may hold
/// anything. With a backtrace where `RUST_BACKTRACE` asks for it.
pub fn report_panics(redactor: Redactor) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("<unnamed>");
        let backtrace = std::backtrace::Backtrace::capture();
        let shown = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("thread '{thread}': {panic}\n{backtrace}"),
            _ => format!("thread '{thread}': {panic}"),
        };
        let shown = redactor.text(&shown);
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!("{shown}");
        } else {
            let _nowhere_else = writeln!(io::stderr(), "{shown}");
        }
    }));
}

/// Later directives for a target replace earlier ones, so whoever asks for rmcp's warnings gets them. A bare word has to be a level:
/// `tracing` would take a misspelt one for a target, and nothing would be logged.
fn filter(level: &str) -> Result<EnvFilter> {
    let refused = |why: String| {
        Error::invalid_input(format!("`{level}` is no log level ({why}); it comes from STN_LOG or from `log.level`"))
            .field("log.level")
            .hint("use off, error, warn, info, debug or trace, or directives like `info,station::store=debug`")
            .details(misconfigured())
    };
    let bare = level.split(',').map(str::trim).filter(|directive| !directive.is_empty() && !directive.contains('='));
    for word in bare {
        word.parse::<LevelFilter>().map_err(|_| refused(format!("`{word}` is none")))?;
    }
    EnvFilter::builder().parse(format!("{BASE},{level}")).map_err(|cause| refused(cause.to_string()))
}

/// Exit code 78, `EX_CONFIG` of sysexits.
fn misconfigured() -> serde_json::Value {
    serde_json::json!({ "exit_code": 78 })
}

/// Each event is one write of a file opened for appending, so that processes can share it.
fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map_err(|cause| {
        Error::unavailable(format!("can't open the log file `{}`: {cause}", path.display()))
            .field("log.file")
            .hint("name a file in a directory that exists and that you may write to")
            .details(misconfigured())
            .source(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(settings: &LogSettings, work: impl FnOnce()) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("station.log");
        let file = Arc::new(open(&path).unwrap());
        tracing::dispatcher::with_default(&subscriber(settings, file, false).unwrap(), work);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn rmcp_is_quiet_unless_asked() {
        let work = || {
            tracing::warn!(target: "rmcp::service", "noise");
            tracing::info!("signal");
        };
        let text = logged(&LogSettings::default(), work);
        assert!(text.contains("signal") && !text.contains("noise"), "{text}");
        let asked = LogSettings { level: "info,rmcp=warn".into(), ..LogSettings::default() };
        assert!(logged(&asked, work).contains("noise"));
    }

    #[test]
    fn json_lines_carry_level_message_and_fields() {
        let settings = LogSettings { format: LogFormat::Json, level: "warn".into(), ..LogSettings::default() };
        let text = logged(&settings, || {
            tracing::info!("left out");
            tracing::warn!(run = "r1", "a line\nand a second one");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["fields"]["run"]), (&"WARN".into(), &"r1".into()));
    }

    #[test]
    fn no_line_of_the_log_holds_a_secret() {
        let redactor = Redactor::default();
        redactor.add("development", "KEY", &"sword \"fish\"".into());
        for format in [LogFormat::Text, LogFormat::Json] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("station.log");
            let sink = Redacting { redactor: redactor.clone(), sink: Arc::new(open(&path).unwrap()) };
            let settings = LogSettings { format, ..LogSettings::default() };
            tracing::dispatcher::with_default(&subscriber(&settings, sink, false).unwrap(), || {
                tracing::info!(key = "sword \"fish\"", debugged = ?Some("sword \"fish\""), "it is sword \"fish\"");
            });
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.matches("[redacted:KEY]").count() == 3 && !text.contains("fish"), "{text}");
        }
    }

    #[test]
    fn a_level_that_does_not_exist_is_named() {
        for bad in ["loud=very", "inof", "info,statoin"] {
            let error = filter(bad).unwrap_err();
            assert!(error.message().contains(&format!("`{bad}`")), "{error}");
            assert_eq!(error.field_name(), Some("log.level"));
        }
        for good in ["info", "OFF", "info,station::store=debug", "rmcp=warn", "[span]=info"] {
            assert!(filter(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_log_file_is_appended_to_and_private() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("station.log");
        std::fs::write(&path, "before\n").unwrap();
        std::io::Write::write_all(&mut open(&path).unwrap(), b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
        let fresh = directory.path().join("fresh.log");
        assert_eq!(open(&fresh).unwrap().metadata().unwrap().mode() & 0o777, 0o600);
        assert!(open(&directory.path().join("missing/x.log")).unwrap_err().message().contains("missing/x.log"));
    }
}
