//! One connection to one server.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisError,
    ServerError, Value,
};
use secrecy::ExposeSecret as _;

use super::super::remote::StoreError;
use super::error::{of_library, of_server, plain};
use super::url::RedisUrl;

/// How long a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For TCP, TLS and login together.
    pub(super) open: Duration,
    /// For one answer. Whoever asks gives up earlier: this is for the case that nobody does.
    pub(super) answer: Duration,
}

/// For TCP, TLS and login together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

impl Patience {
    /// For callers who wait this long for an answer.
    pub(super) fn beyond(timeout: Duration) -> Patience {
        Patience { open: OPEN_TIMEOUT, answer: timeout.saturating_add(OPEN_TIMEOUT) }
    }
}

/// A connection that many calls use at once. Clones are the same connection, which ends when the
/// last is dropped.
///
/// A call may be dropped while it waits. The library then keeps its place in the row of those
/// who wait for answers and throws away the answer that comes for it (`PipelineSink::send_result`
/// of redis 1.8), so later calls get their own; a call that was not yet written is never sent.
#[derive(Clone)]
pub(super) struct Wire {
    connection: MultiplexedConnection,
    ended: Arc<AtomicBool>,
}

/// Why a command has no result.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The server's own words.
    Said(ServerError),
    Failed(StoreError),
}

impl Trouble {
    pub(super) fn garbage(what: &str) -> Trouble {
        Trouble::Failed(StoreError::Garbage(what.into()))
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> StoreError {
        match trouble {
            Trouble::Said(said) => of_server(&said),
            Trouble::Failed(error) => error,
        }
    }
}

impl Wire {
    /// Connects and logs in. RESP3 if the server knows it.
    pub(super) async fn open(url: &RedisUrl, patience: Patience) -> Result<Wire, StoreError> {
        let opened = match open_with(url, ProtocolVersion::RESP3, patience).await {
            Err(error) if speaks_resp2_only(&error) => open_with(url, ProtocolVersion::RESP2, patience).await,
            opened => opened,
        };
        opened.map_err(|error| told_of(url, error))
    }

    /// Whether the server closed it, as far as is known. With RESP2 nobody tells, and the next
    /// command fails.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn is(&self, other: &Wire) -> bool {
        Arc::ptr_eq(&self.ended, &other.ended)
    }

    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, Trouble> {
        let answered = self.connection.clone().send_packed_command(command).await;
        accept(answered.map_err(|error| Trouble::Failed(of_library(error)))?)
    }

    /// Sends the commands with nobody else's between them. As many results as commands.
    pub(super) async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        let answered = self.connection.clone().send_packed_commands(commands, 0, commands.len()).await;
        answered.map_err(|error| Trouble::Failed(of_library(error)))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("ended", &self.has_ended()).finish()
    }
}

/// What a server said, if that is no error.
pub(super) fn accept(value: Value) -> Result<Value, Trouble> {
    match value {
        Value::ServerError(said) => Err(Trouble::Said(said)),
        value => Ok(value),
    }
}

async fn open_with(
    url: &RedisUrl,
    protocol: ProtocolVersion,
    patience: Patience,
) -> Result<Wire, RedisError> {
    let ended = Arc::new(AtomicBool::new(false));
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience.open))
        .set_response_timeout(Some(patience.answer));
    if protocol == ProtocolVersion::RESP3 {
        let ended = Arc::clone(&ended);
        config = config.set_push_sender(move |push: PushInfo| -> Result<(), ()> {
            if push.kind == PushKind::Disconnection {
                ended.store(true, Ordering::Release);
            }
            Ok(())
        });
    }
    let client = Client::open(url.connection_info(protocol)?)?;
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    Ok(Wire { connection, ended })
}

fn speaks_resp2_only(error: &RedisError) -> bool {
    error.kind() == ErrorKind::RESP3NotSupported
        || error.code() == Some("NOPROTO")
        || error.detail().is_some_and(|text| text.to_ascii_lowercase().contains("unknown command"))
}

/// An error of connecting, with the place. Servers may repeat a command that they refuse, and
/// the first one holds the password.
fn told_of(url: &RedisUrl, error: RedisError) -> StoreError {
    let text = error.to_string();
    if url.password().is_some_and(|password| text.contains(password.expose_secret())) {
        return StoreError::Refused("the login is not understood".into());
    }
    match of_library(error) {
        StoreError::Disconnected(why) => {
            StoreError::Disconnected(plain(&format!("{}: {why}", url.host_and_port())))
        }
        error => error,
    }
}
