//! What the server writes: its log to standard error, and single lines for people. All of it is best effort.
//! Threads of their own write, so that a reader who is gone, slow or stuck, or a full disk, stops nothing else;
//! what cannot be written is dropped and counted.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    panic::{self, PanicHookInfo},
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Lines that wait to be written; more are dropped. Some 2 MiB: the burst of a busy second.
const QUEUED_LINES: usize = 8 * 1024;
/// How long the end of the process waits for its last lines.
const FLUSH: Duration = Duration::from_secs(1);
/// How often lost lines are reported at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The same for a report for which there was no room.
const REPORT_RETRY: Duration = Duration::from_millis(20);

/// The log of this process.
#[must_use]
pub(crate) struct Log(WorkerGuard);

impl Log {
    /// Logs to standard error from now on, panics included.
    pub(crate) fn start(format: LogFormat, filter: EnvFilter) -> Self {
        let dropped = Arc::new(OnceLock::new());
        let writer = Writer::new(io::stderr(), dropped.clone());
        let builder = NonBlockingBuilder::default().lossy(true).thread_name("log");
        let (lines, guard) = builder.buffered_lines_limit(QUEUED_LINES).finish(writer);
        // It is set nowhere else.
        let _ = dropped.set(lines.error_counter());
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
        // Otherwise a failed write is reported by `eprintln!`, which panics if it fails as well.
        let log = log.log_internal_errors(false);
        match format {
            LogFormat::Text => log.with_ansi(false).init(),
            LogFormat::Json => log.json().init(),
        }
        // The default hook writes to standard error itself, and waits for a stuck reader.
        panic::set_hook(Box::new(log_panic));
        Self(guard)
    }

    /// Writes the lines that still wait, for a limited time.
    pub(crate) fn end(self) {
        wait(in_background(move || drop(self.0)));
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    let backtrace = backtrace.as_ref().map(tracing::field::display);
    tracing::error!(error = text.unwrap_or("no text"), place, backtrace, "a panic");
}

/// Writes one line without waiting for it.
pub(crate) fn say(to: impl Write + Send + 'static, line: String) {
    // Nobody waits for it.
    let _ = write_line(to, line);
}

/// Writes the last text of this process, for a limited time.
pub(crate) fn say_last(to: impl Write + Send + 'static, text: String) {
    wait(write_line(to, text));
}

fn write_line(mut to: impl Write + Send + 'static, mut line: String) -> Receiver<()> {
    line.push('\n');
    in_background(move || {
        let _ = to.write_all(line.as_bytes()).and_then(|()| to.flush());
    })
}

/// The receiver is disconnected when the work is done, or no thread can be had for it.
fn in_background(work: impl FnOnce() + Send + 'static) -> Receiver<()> {
    let (done, wait) = mpsc::sync_channel::<()>(0);
    let thread = thread::Builder::new().name("output".to_owned());
    let _ = thread.spawn(move || {
        work();
        drop(done);
    });
    wait
}

fn wait(done: Receiver<()>) {
    // Nothing is ever sent.
    let _ = done.recv_timeout(FLUSH);
}

/// Writes the log's lines, in the log's own thread, and reports how many were lost as soon as one can be
/// written again.
struct Writer<W> {
    to: W,
    /// Lines for which the queue had no room.
    dropped: Arc<OnceLock<ErrorCounter>>,
    /// Lines that could not be written.
    failed: u64,
    /// How many of both were reported.
    reported: u64,
    report_after: Option<Instant>,
}

impl<W: Write> Writer<W> {
    fn new(to: W, dropped: Arc<OnceLock<ErrorCounter>>) -> Self {
        Self { to, dropped, failed: 0, reported: 0, report_after: None }
    }

    /// Lines for which the queue had no room.
    fn dropped(&self) -> u64 {
        self.dropped.get().map_or(0, ErrorCounter::dropped_lines) as u64
    }

    /// The total, where there are lines that were not reported yet.
    fn to_report(&self, now: Instant) -> Option<u64> {
        let lost = self.failed.saturating_add(self.dropped());
        let due = self.report_after.is_none_or(|after| now >= after);
        (due && lost != self.reported).then_some(lost)
    }

    fn report(&mut self, lost: u64, now: Instant) {
        let before = self.dropped();
        tracing::warn!(
            lost,
            "log lines could not be written; lost is their number since the start"
        );
        // The report has to go through the queue as well, which may be full.
        let dropped = self.dropped() > before;
        if !dropped {
            self.reported = lost;
        }
        self.report_after = Some(now + if dropped { REPORT_RETRY } else { REPORT_INTERVAL });
    }
}

impl<W: Write> Write for Writer<W> {
    /// Always takes the whole line, written or not.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.to.write_all(line).is_err() {
            self.failed += 1;
        } else {
            let now = Instant::now();
            if let Some(lost) = self.to_report(now) {
                self.report(lost, now);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // What fails here was counted as written; it is standard error, which keeps nothing back.
        let _ = self.to.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as long as it is told to.
    struct Disk {
        full: bool,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.full {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => self.written.write(bytes),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lost_lines_are_counted_and_reported_once() {
        let disk = Disk { full: true, written: Vec::new() };
        let mut writer = Writer::new(disk, Arc::default());
        for line in ["one\n", "two\n"] {
            assert!(writer.write_all(line.as_bytes()).is_ok());
        }
        let now = Instant::now();
        assert_eq!(writer.to_report(now), Some(2));
        writer.report(2, now);
        assert_eq!(writer.to_report(now + REPORT_INTERVAL), None);
        assert!(writer.write_all(b"three\n").is_ok());
        assert_eq!(writer.to_report(now), None, "not more often than once in the interval");
        assert_eq!(writer.to_report(now + REPORT_INTERVAL), Some(3));
        writer.to.full = false;
        assert!(writer.write_all(b"four\n").is_ok());
        assert_eq!(writer.to.written, b"four\n");
    }

    #[test]
    fn nobody_waits_long_for_a_writer_that_is_stuck() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    thread::park();
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let start = Instant::now();
        say(Stuck, "a line".to_owned());
        assert!(start.elapsed() < FLUSH);
        say_last(Stuck, "a line".to_owned());
        assert!(start.elapsed() < FLUSH * 5);
    }
}
