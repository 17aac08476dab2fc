//! What the libraries say through the `log` crate, Pingora first of all.

use std::num::NonZeroU32;

use log::{Level, Log, Metadata, Record};

use crate::clock::Clock;
use crate::telemetry::lines::{LineBudget, cut};

/// Clients that hang up make errors of their own: enough to notice, too few to drown in.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// A message carries what clients sent, bytes.
const MESSAGE_MAX: usize = 1024;

/// Takes the records of other crates: errors of Pingora, warnings and errors of the others.
pub(super) struct Bridge {
    clock: Clock,
    budget: LineBudget,
}

impl Bridge {
    pub(super) fn new(clock: Clock) -> Bridge {
        Bridge { clock, budget: LineBudget::new(LINES_PER_SECOND) }
    }
}

impl Log for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let least = if metadata.target().starts_with("pingora") { Level::Error } else { Level::Warn };
        metadata.level() <= least
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = self.clock.now();
        if let Some(count) = self.budget.take_suppressed(now) {
            tracing::warn!(count = count.get(), "suppressed {count} lines of libraries");
        }
        if !self.budget.admit(now) {
            return;
        }
        let message = record.args().to_string();
        let message = cut(&message, MESSAGE_MAX);
        if record.level() == Level::Error {
            tracing::error!(library = record.target(), "{message}");
        } else {
            tracing::warn!(library = record.target(), "{message}");
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::time::{Span, Timestamp};
    use crate::telemetry::log::LogFormat;
    use crate::telemetry::log::testing::captured;

    fn say(bridge: &Bridge, target: &str, level: Level, message: &str) {
        bridge.log(&Record::builder().target(target).level(level).args(format_args!("{message}")).build());
    }

    #[test]
    fn pingora_is_heard_from_errors_on_and_others_from_warnings_on() {
        let text = captured(LogFormat::Text, || {
            let (clock, _hand) = Clock::manual(Timestamp::from_millis(1));
            let bridge = Bridge::new(clock);
            say(&bridge, "pingora_proxy", Level::Warn, "unheard");
            say(&bridge, "pingora_core::connectors", Level::Info, "unheard");
            say(&bridge, "pingora_core", Level::Error, "heard one\n");
            say(&bridge, "rustls::client", Level::Warn, "heard two");
            say(&bridge, "rustls::client", Level::Info, "unheard");
        });
        assert!(text.contains("ERROR") && text.contains("heard one\\u000a"), "{text}");
        assert!(text.contains(r#"library="rustls::client""#) && text.contains("heard two"), "{text}");
        assert!(!text.contains("unheard"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn a_library_that_shouts_is_cut_short() {
        let text = captured(LogFormat::Text, || {
            let (clock, hand) = Clock::manual(Timestamp::from_millis(1));
            let bridge = Bridge::new(clock);
            (0..1000).for_each(|_| say(&bridge, "pingora_proxy", Level::Error, "downstream closed"));
            hand.advance(Span::from_secs(2));
            say(&bridge, "pingora_proxy", Level::Error, &"long".repeat(1000));
        });
        assert!(text.lines().count() <= 12, "{text}");
        assert!(text.contains("suppressed 9"), "{text}");
        assert!(text.lines().all(|line| line.len() < MESSAGE_MAX + 200), "{text}");
    }
}
