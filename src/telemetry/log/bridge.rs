//! What the libraries say through the `log` crate, Pingora first of all.

use std::fmt::{self, Write as _};
use std::num::NonZeroU32;

use log::{Level, Log, Metadata, Record};

use crate::clock::Clock;
use crate::telemetry::lines::{LineBudget, cut};

/// Clients that hang up make errors of their own: enough to notice, too few to drown in.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// A message carries what clients sent, bytes.
const MESSAGE_MAX: usize = 1024;

/// Errors of Pingora that are everyday life and that no operator can do anything about, by their target and how they
/// begin. They are shown where debugging is.
const EVERYDAY: [(&str, &str); 6] = [
    // An idle connection to a backend was taken while the one who watched it had not quite let go: another is made, as
    // if there had been none.
    ("pingora_core::connectors", "failed to acquire reusable stream"),
    // The client went away, or said nothing for too long, before its request was there. Of requests that fail on their
    // way to a backend Pingora does not speak here: the edge tells of these itself.
    ("pingora_proxy", "Fail to proxy: Downstream "),
    // The client did not wait for the answer that says what is wrong with its request.
    ("pingora_proxy", "failed to send error response to downstream: "),
    ("pingora_proxy::proxy_trait", "failed to send error response to downstream: "),
    // The client went away before the end of the answer; the access log has the request.
    ("pingora_proxy::proxy_h1", "Error finish sending body to downstream: "),
    ("pingora_proxy::proxy_h2", "Error finish sending body to downstream: "),
];

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
        let is_everyday = is_everyday(record);
        if is_everyday && !tracing::enabled!(tracing::Level::DEBUG) {
            // It must not use up the lines of others.
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
        if is_everyday {
            tracing::debug!(library = record.target(), "{message}");
        } else if record.level() == Level::Error {
            tracing::error!(library = record.target(), "{message}");
        } else {
            tracing::warn!(library = record.target(), "{message}");
        }
    }

    fn flush(&self) {}
}

fn is_everyday(record: &Record<'_>) -> bool {
    EVERYDAY.iter().any(|(target, beginning)| {
        record.target() == *target && begins_with(*record.args(), beginning.as_bytes())
    })
}

/// Whether a message begins like this; no more of it is made than that takes.
fn begins_with(message: fmt::Arguments<'_>, beginning: &[u8]) -> bool {
    let mut expected = Expected(beginning);
    // An error is how the comparison ends early.
    let _ = expected.write_fmt(message);
    expected.0.is_empty()
}

/// What is still to come of a beginning.
struct Expected<'b>(&'b [u8]);

impl fmt::Write for Expected<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let length = part.len().min(self.0.len());
        let (now, later) = self.0.split_at(length);
        if now != &part.as_bytes()[..length] {
            return Err(fmt::Error);
        }
        self.0 = later;
        if later.is_empty() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::time::{Span, Timestamp};
    use crate::telemetry::log::LogFormat;
    use crate::telemetry::log::testing::{captured, captured_from};

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

    #[test]
    fn what_is_everyday_is_not_shown_and_takes_no_line_from_others() {
        let text = captured(LogFormat::Text, || {
            let (clock, hand) = Clock::manual(Timestamp::from_millis(1));
            let bridge = Bridge::new(clock);
            for (target, beginning) in EVERYDAY {
                (0..100).for_each(|_| say(&bridge, target, Level::Error, &format!("{beginning}and so on")));
            }
            hand.advance(Span::from_secs(2));
            say(&bridge, "pingora_core::connectors", Level::Error, "failed to acquire a socket");
        });
        assert!(text.contains("ERROR") && text.contains("failed to acquire a socket"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn what_is_everyday_is_shown_where_debugging_is() {
        let text = captured_from(LogFormat::Text, tracing::Level::DEBUG, || {
            let (clock, _hand) = Clock::manual(Timestamp::from_millis(1));
            let bridge = Bridge::new(clock);
            let (target, message) = EVERYDAY[0];
            (0..100).for_each(|_| say(&bridge, target, Level::Error, message));
        });
        assert!(text.contains("DEBUG") && text.contains("failed to acquire reusable stream"), "{text}");
        assert!(text.lines().count() <= 12, "{text}");
    }

    #[test]
    fn another_target_and_another_beginning_are_heard() {
        for (target, message) in [
            ("pingora_core::protocols", "failed to acquire reusable stream"),
            ("pingora_core::connectors", "failed to acquire"),
            ("pingora_core::connectors", "Crit: failed to acquire reusable stream"),
            ("pingora_core::connectors", ""),
        ] {
            let text = captured(LogFormat::Text, || {
                let (clock, _hand) = Clock::manual(Timestamp::from_millis(1));
                say(&Bridge::new(clock), target, Level::Error, message);
            });
            assert!(text.contains("ERROR"), "{target} {message}: {text}");
        }
    }

    #[test]
    fn a_beginning_is_found_in_whatever_pieces_it_comes() {
        let (end, error) = (9, "Downstream");
        assert!(begins_with(format_args!("Fail to proxy: {error}, {end}"), b"Fail to proxy: "));
        assert!(begins_with(format_args!("{}{error}", "Fail to "), b"Fail to Down"));
        assert!(begins_with(format_args!("Fail"), b"Fail"));
        assert!(!begins_with(format_args!("Fai"), b"Fail"));
        assert!(!begins_with(format_args!("{}", "Failure"), b"Fail to"));
    }
}
