//! Mail servers: SMTP by lettre, over connections that are kept for the next letter.
//!
//! The commands are given one by one, so that it is known how far a letter came: until its text is handed over nothing
//! was sent, whatever happens; afterwards only the server's answer tells.

mod url;

pub use url::{SmtpUrl, SmtpUrlFault};

use std::error::Error as _;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Noop, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use self::url::Security;
use super::{AUTO_GENERATED, AUTO_SUBMITTED, Address, CHANNELS, Letter, MailFault, Sender, replies};
use crate::decision::time::{Span, Timestamp};
use crate::sms::spec::SmtpSpec;
use crate::sms::{
    Accepted, Channel, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest, Refused, Report,
    SmsSender, api,
};

/// Connections that wait for the next letter.
const IDLE_MAX: usize = 4;
/// Servers close an idle connection after five minutes (RFC 5321 §4.5.3.2.7), some much earlier.
const IDLE_FOR: Span = Span::from_secs(60);

/// One mail server.
pub(in crate::sms) struct Smtp {
    name: Box<str>,
    server: SmtpUrl,
    from: Sender,
    /// Read when it is first needed: the system's roots are many.
    tls: OnceLock<Result<TlsParameters, Box<str>>>,
    /// With the time of the last letter, the latest last.
    idle: Mutex<Vec<(Timestamp, AsyncSmtpConnection)>>,
}

/// How far a letter came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Who we are, and whom it is from.
    Opening,
    /// Whom it is for.
    Recipient,
    /// What it says.
    Text,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Smtp({})", self.name)
    }
}

impl Smtp {
    pub(in crate::sms) fn new(name: &str, spec: &SmtpSpec) -> Result<Smtp, MailFault> {
        Ok(Smtp {
            name: name.into(),
            server: SmtpUrl::parse(&spec.url).map_err(MailFault::Url)?,
            from: Sender::new(&spec.from)?,
            tls: OnceLock::new(),
            idle: Mutex::default(),
        })
    }

    async fn deliver(
        &self,
        letter: &Letter<'_>,
        now: Timestamp,
        within: Duration,
        is_handed_over: &AtomicBool,
    ) -> Result<Response, Refused> {
        let from = envelope(&self.from.address)?;
        let to = envelope(&letter.to)?;
        let bytes = self.written(letter, now)?;
        let mut connection = self.connection(now, within).await?;
        let opening = connection.command(Mail::new(Some(from), Vec::new())).await;
        opening.map_err(|error| told(&error, Stage::Opening))?;
        let recipient = connection.command(Rcpt::new(to, Vec::new())).await;
        recipient.map_err(|error| told(&error, Stage::Recipient))?;
        connection.command(Data).await.map_err(|error| told(&error, Stage::Recipient))?;
        is_handed_over.store(true, Ordering::Relaxed);
        let reply = connection.message(&bytes).await.map_err(|error| told(&error, Stage::Text))?;
        self.keep(connection, now);
        Ok(reply)
    }

    /// The letter as it travels, in ASCII. Its own name is our reference, so that a bounce can be told from others.
    fn written(&self, letter: &Letter<'_>, now: Timestamp) -> Result<Vec<u8>, Refused> {
        const AUTO: HeaderName = HeaderName::new_from_ascii_str(AUTO_SUBMITTED);
        let mailbox = |address: &Address, name: Option<&str>| {
            Ok::<_, Refused>(Mailbox::new(name.map(str::to_owned), envelope(address)?))
        };
        let id = format!("<{}@{}>", letter.reference, self.from.address.domain());
        let message = lettre::Message::builder()
            .from(mailbox(&self.from.address, self.from.name.as_deref())?)
            .to(mailbox(&letter.to, None)?)
            .subject(letter.subject)
            .date(SystemTime::UNIX_EPOCH + Duration::from_micros(now.as_micros()))
            .message_id(Some(id))
            .raw_header(HeaderValue::new(AUTO, AUTO_GENERATED.to_owned()))
            .header(ContentType::TEXT_PLAIN)
            .body(letter.text.to_owned());
        message.map(|message| message.formatted()).map_err(|_| Refused::new(Fault::Request, "letter"))
    }

    /// One that was kept and still answers, or a new one.
    async fn connection(&self, now: Timestamp, within: Duration) -> Result<AsyncSmtpConnection, Refused> {
        loop {
            let Some((used_at, mut connection)) = self.idle.lock().pop() else { break };
            if used_at.until(now) > IDLE_FOR {
                continue;
            }
            // A server that went away in silence must not take all the time there is.
            if timeout(within / 4, connection.command(Noop)).await.is_ok_and(|answer| answer.is_ok()) {
                return Ok(connection);
            }
        }
        self.connect(within).await.map_err(|fault| match fault {
            Unconnected::Told(error) => told(&error, Stage::Opening),
            Unconnected::Plaintext => Refused::new(Fault::Provider, "no_starttls"),
            Unconnected::NoTls => Refused::new(Fault::Transient, "tls"),
        })
    }

    async fn connect(&self, within: Duration) -> Result<AsyncSmtpConnection, Unconnected> {
        let hello = ClientId::default();
        let tls = match self.server.security() {
            Security::None => None,
            Security::StartTls | Security::Tls => Some(self.tls()?.clone()),
        };
        let (at_once, later) = match self.server.security() {
            Security::None | Security::StartTls => (None, tls),
            Security::Tls => (tls, None),
        };
        let address = (self.server.host(), self.server.port());
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(within), &hello, at_once, None).await?;
        if let Some(tls) = later {
            // Somebody between us and the server could have taken the offer out.
            if !connection.can_starttls() {
                return Err(Unconnected::Plaintext);
            }
            connection.starttls(tls, &hello).await?;
        }
        if let Some((user, password)) = self.server.credentials() {
            let credentials = Credentials::new(user.to_owned(), password.expose_secret().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }

    fn tls(&self) -> Result<&TlsParameters, Unconnected> {
        let made = self.tls.get_or_init(|| {
            TlsParameters::new(self.server.host().to_owned()).map_err(|error| error.to_string().into())
        });
        made.as_ref().map_err(|_| Unconnected::NoTls)
    }

    fn keep(&self, connection: AsyncSmtpConnection, now: Timestamp) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push((now, connection));
        }
    }
}

/// Why there is no connection.
enum Unconnected {
    Told(Error),
    /// The server does not offer to encrypt.
    Plaintext,
    /// There is no encryption on this side.
    NoTls,
}

impl From<Error> for Unconnected {
    fn from(error: Error) -> Unconnected {
        Unconnected::Told(error)
    }
}

fn envelope(address: &Address) -> Result<lettre::Address, Refused> {
    lettre::Address::new(address.local(), address.domain())
        .map_err(|_| Refused::new(Fault::Request, "address"))
}

/// What an error means, by how far the letter came.
fn told(error: &Error, stage: Stage) -> Refused {
    let Some(code) = error.status() else {
        return match stage {
            Stage::Text => Refused::new(Fault::Ambiguous, "broken_off"),
            // No way to say who we are that both sides know.
            Stage::Opening if error.is_client() => Refused::new(Fault::Provider, "authentication"),
            Stage::Opening | Stage::Recipient if error.is_tls() => Refused::new(Fault::Transient, "tls"),
            Stage::Opening | Stage::Recipient => Refused::new(Fault::Transient, "unreachable"),
        };
    };
    let text = error.source().map(ToString::to_string).unwrap_or_default();
    let enhanced = replies::enhanced(&text);
    let code = u16::from(code);
    let fault = match (stage, code) {
        // Whatever it has against us, it is not the recipient.
        (Stage::Opening, 500..) => Fault::Provider,
        (Stage::Opening | Stage::Recipient | Stage::Text, _) => replies::fault(code, enhanced),
    };
    match enhanced {
        Some((subject, detail)) => Refused::new(fault, &format!("{code}-{}.{subject}.{detail}", code / 100)),
        None => Refused::new(fault, &code.to_string()),
    }
}

/// The server's own name for a letter, in one of the two ways in which most of them tell it: `… queued as NAME`, `… id=NAME`.
fn queue_id(reply: &Response) -> Box<str> {
    let text: Vec<&str> = reply.message().collect();
    let text = text.join(" ");
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let queued_as = words.windows(3).find_map(|three| match three {
        [queued, as_, name] if queued.eq_ignore_ascii_case("queued") && *as_ == "as" => Some(*name),
        _ => None,
    });
    let name = queued_as.or_else(|| words.iter().find_map(|word| word.strip_prefix("id=")));
    name.map(|name| name.trim_end_matches('.')).filter(|name| api::is_id(name)).unwrap_or_default().into()
}

#[async_trait]
impl SmsSender for Smtp {
    fn channels(&self) -> &[Channel] {
        CHANNELS
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let letter = match Letter::of(message) {
            Ok(letter) => letter,
            Err(outcome) => return outcome,
        };
        let is_handed_over = AtomicBool::new(false);
        match timeout(within, self.deliver(&letter, message.now, within, &is_handed_over)).await {
            Ok(Ok(reply)) => {
                Outcome::Accepted(Accepted { message_id: queue_id(&reply), ..Accepted::default() })
            }
            Ok(Err(refused)) => Outcome::Refused(refused),
            Err(_elapsed) => {
                let fault = match is_handed_over.load(Ordering::Relaxed) {
                    true => Fault::Ambiguous,
                    false => Fault::Transient,
                };
                Outcome::Refused(Refused::new(fault, "timeout"))
            }
        }
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
