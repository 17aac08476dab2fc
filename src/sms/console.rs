//! For trying things out: a message is a line in the gateway's own log, and goes nowhere else.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret as _;

use super::{
    Accepted, Channel, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest, Report, SmsSender,
};
use crate::decision::time::Timestamp;

const DIGITS_SHOWN: usize = 4;

/// Takes everything. Text messages alone: a code that somebody waits for in his mailbox must not end in a log
/// because nobody set up mail.
#[derive(Debug)]
pub(super) struct Console;

impl Console {
    pub(super) fn new(_name: &str) -> Console {
        Console
    }
}

#[async_trait]
impl SmsSender for Console {
    fn channels(&self) -> &[Channel] {
        &[Channel::Sms]
    }

    async fn send(&self, message: &Outbound<'_>, _within: Duration) -> Outcome {
        tracing::info!(
            target: "tollgate::console",
            to = %masked(message.to),
            text = message.text.expose_secret(),
            "a message that goes nowhere"
        );
        Outcome::Accepted(Accepted { message_id: message.reference.into(), ..Accepted::default() })
    }

    async fn look_up(
        &self,
        _message_id: &str,
        _within: Duration,
        _now: Timestamp,
    ) -> Result<Report, LookUpFault> {
        Err(LookUpFault::None)
    }

    fn receipts(&self, _request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        Err(ReceiptFault::None)
    }
}

/// `***0123`
fn masked(to: &str) -> String {
    let digits: Vec<char> = to.chars().filter(char::is_ascii_digit).collect();
    let shown = &digits[digits.len().saturating_sub(DIGITS_SHOWN)..];
    format!("***{}", shown.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use secrecy::SecretString;

    use super::*;

    /// What a log wrote.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_message_is_a_line_that_hides_the_number() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let (text, code): (SecretString, SecretString) = ("123456 is your code".into(), "123456".into());
        let message = Outbound {
            channel: Channel::Sms,
            to: "+14155550123",
            text: &text,
            subject: "",
            code: &code,
            locale: "en",
            expires_in: Duration::from_secs(600),
            attempt: 1,
            reference: "ref-1",
            receipt_url: None,
            now: Timestamp::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = tracing::subscriber::with_default(log, || {
            runtime.block_on(Console::new("console").send(&message, Duration::ZERO))
        });
        let accepted = Accepted { message_id: "ref-1".into(), ..Accepted::default() };
        assert_eq!(outcome, Outcome::Accepted(accepted));
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(lines.contains("tollgate::console") && lines.contains("123456 is your code"), "{lines}");
        assert!(lines.contains("***0123") && !lines.contains("5550123"), "{lines}");
        assert_eq!(lines.lines().count(), 1);
    }

    #[test]
    fn nothing_is_heard_of_it_again() {
        let headers = ::http::HeaderMap::new();
        let request = ReceiptRequest {
            method: &::http::Method::POST,
            url: "https://gw.example.com/x",
            query: "",
            headers: &headers,
            body: &bytes::Bytes::new(),
            now: Timestamp::default(),
        };
        assert_eq!(Console::new("console").receipts(&request), Err(ReceiptFault::None));
        assert_eq!(masked("+12"), "***12");
    }
}
