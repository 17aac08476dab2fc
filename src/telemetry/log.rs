//! The log on standard output, JSON or text, one event a line.

mod bridge;
mod sanitize;

use std::io;

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Level, dispatcher};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::clock::Clock;
use bridge::Bridge;
pub(super) use sanitize::Sanitized;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Error)]
pub enum LogInitError {
    #[error("the log has been set up already in this process")]
    AlreadySet,
}

/// Sets up the log of the process: our own events from `level` on, those of the libraries from
/// warnings on, few a second.
pub fn init(format: LogFormat, level: Level) -> Result<(), LogInitError> {
    dispatcher::set_global_default(dispatch(format, level, || Sanitized::new(io::stdout())))
        .map_err(|_| LogInitError::AlreadySet)?;
    log::set_boxed_logger(Box::new(Bridge::new(Clock::system()))).map_err(|_| LogInitError::AlreadySet)?;
    log::set_max_level(log::LevelFilter::Warn);
    Ok(())
}

fn dispatch<W: io::Write>(
    format: LogFormat,
    level: Level,
    make_writer: impl Fn() -> Sanitized<W> + Send + Sync + 'static,
) -> Dispatch {
    let targets = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level).with_default(LevelFilter::WARN);
    // A standard error that is closed must not make the report of a failed write panic.
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(make_writer).log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(targets);
    match format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            Dispatch::new(registry.with(lines))
        }
        LogFormat::Text => Dispatch::new(registry.with(lines)),
    }
}

#[cfg(test)]
pub(in crate::telemetry) mod testing {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// All that `work` logs, as it would be written.
    pub(in crate::telemetry) fn captured(format: LogFormat, work: impl FnOnce()) -> String {
        captured_from(format, Level::INFO, work)
    }

    /// The same, our own events from `level` on.
    pub(in crate::telemetry) fn captured_from(
        format: LogFormat,
        level: Level,
        work: impl FnOnce(),
    ) -> String {
        let written = Shared::default();
        let sink = written.clone();
        let dispatch = dispatch(format, level, move || Sanitized::new(sink.clone()));
        dispatcher::with_default(&dispatch, work);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::captured;
    use super::*;

    #[test]
    fn our_events_are_shown_from_the_level_on_and_foreign_ones_from_warnings_on() {
        let text = captured(LogFormat::Text, || {
            tracing::info!("ours");
            tracing::debug!("ours in detail");
            tracing::warn!(target: "h2::proto", "theirs");
            tracing::info!(target: "h2::proto", "theirs in detail");
        });
        assert!(text.contains("ours") && text.contains("theirs"), "{text}");
        assert!(!text.contains("detail"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn a_message_cannot_start_a_line_of_its_own() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let text = captured(format, || tracing::info!("one\nINFO two\u{1b}[31m"));
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
    }
}
