//! A mail server (RFC 5321) on this machine, unencrypted: takes letters, and misbehaves where it is told to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) const USER: &str = "ada@example.com";
pub(crate) const PASSWORD: &str = "p:a/s";
pub(crate) const QUEUED: &str = "4Yk2Xz1Q2w";

/// Where in a conversation the server can be told to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Greeting,
    Hello,
    Authentication,
    Sender,
    Recipient,
    Data,
    /// After the last line of a letter.
    Text,
    Noop,
}

/// What it does there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    Says(&'static str),
    Stalls,
    HangsUp,
    Garbage,
}

/// A letter that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// Which connection brought it, counted from 1.
    pub(crate) connection: usize,
    pub(crate) from: String,
    pub(crate) to: String,
    /// With its headers, dots unstuffed.
    pub(crate) text: String,
}

#[derive(Default)]
struct State {
    manners: HashMap<Place, Manner>,
    letters: Vec<Letter>,
    connections: usize,
}

/// Gone, with its connections, when dropped.
pub(crate) struct FakeSmtp {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl FakeSmtp {
    pub(crate) async fn start() -> FakeSmtp {
        FakeSmtp::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(addr: &str) -> FakeSmtp {
        let listener = TcpListener::bind(addr).await.expect("a port for the mail server");
        let addr = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            // Owned here, so that the connections end with the task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let connection = {
                    let mut state = shared.lock().unwrap();
                    state.connections += 1;
                    state.connections
                };
                let mut conversation =
                    Conversation { wire: BufReader::new(stream), state: Arc::clone(&shared), connection };
                connections.spawn(async move { conversation.hold().await });
            }
        });
        FakeSmtp { addr, state, accepting }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn behaves(&self, place: Place, manner: Manner) {
        self.state.lock().unwrap().manners.insert(place, manner);
    }

    pub(crate) fn behaves_again(&self) {
        self.state.lock().unwrap().manners.clear();
    }

    pub(crate) fn letters(&self) -> Vec<Letter> {
        self.state.lock().unwrap().letters.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

impl Drop for FakeSmtp {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Conversation {
    wire: BufReader<TcpStream>,
    state: Arc<Mutex<State>>,
    connection: usize,
}

impl Conversation {
    /// Until either side ends it; nothing more where this side does.
    async fn hold(&mut self) -> Option<()> {
        self.say(Place::Greeting, "220 fake.example ESMTP").await?;
        let (mut from, mut to) = (None, None);
        loop {
            let line = self.line().await?;
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    self.say(Place::Hello, "250-fake.example\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN").await?
                }
                "AUTH" => {
                    let pair = BASE64.encode(format!("\0{USER}\0{PASSWORD}"));
                    let reply = match line == format!("AUTH PLAIN {pair}") {
                        true => "235 2.7.0 Authentication successful",
                        false => "535 5.7.8 Authentication credentials invalid",
                    };
                    self.say(Place::Authentication, reply).await?;
                }
                "MAIL" => {
                    from = line
                        .strip_prefix("MAIL FROM:<")
                        .and_then(|rest| rest.strip_suffix('>'))
                        .map(str::to_owned);
                    to = None;
                    self.answer(Place::Sender, from.is_some(), "250 2.1.0 Ok").await?;
                }
                "RCPT" => {
                    to = line
                        .strip_prefix("RCPT TO:<")
                        .and_then(|rest| rest.strip_suffix('>'))
                        .map(str::to_owned);
                    self.answer(Place::Recipient, from.is_some() && to.is_some(), "250 2.1.5 Ok").await?;
                }
                "DATA" => {
                    let (Some(from), Some(to)) = (from.take(), to.take()) else {
                        self.write("503 5.5.1 no sender, or no recipient").await?;
                        continue;
                    };
                    self.say(Place::Data, "354 End data with <CR><LF>.<CR><LF>").await?;
                    let text = self.text().await?;
                    self.say(Place::Text, &format!("250 2.0.0 Ok: queued as {QUEUED}")).await?;
                    let letter = Letter { connection: self.connection, from, to, text };
                    self.state.lock().unwrap().letters.push(letter);
                }
                "NOOP" => self.say(Place::Noop, "250 2.0.0 Ok").await?,
                "QUIT" => return self.write("221 2.0.0 Bye").await,
                _ => self.write("500 5.5.2 what?").await?,
            }
        }
    }

    async fn answer(&mut self, place: Place, is_right: bool, yes: &str) -> Option<()> {
        self.say(place, if is_right { yes } else { "501 5.5.4 syntax" }).await
    }

    /// What is usual here, or what it was told to do.
    async fn say(&mut self, place: Place, usual: &str) -> Option<()> {
        let manner = self.state.lock().unwrap().manners.get(&place).copied();
        match manner {
            None => self.write(usual).await,
            Some(Manner::Says(reply)) => self.write(reply).await,
            Some(Manner::HangsUp) => None,
            Some(Manner::Garbage) => {
                self.wire.get_mut().write_all(b"\x00\xff\xfe no reply\r\n").await.ok()?;
                Some(())
            }
            Some(Manner::Stalls) => {
                // Until the other side gives up.
                while self.wire.get_mut().read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
                None
            }
        }
    }

    async fn write(&mut self, reply: &str) -> Option<()> {
        self.wire.get_mut().write_all(format!("{reply}\r\n").as_bytes()).await.ok()
    }

    /// Without its end.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.wire.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let bare = line.strip_suffix("\r\n").expect("lines end with CR LF");
        assert!(bare.len() <= 998 && bare.is_ascii(), "no line for mail: {bare}");
        Some(bare.to_owned())
    }

    async fn text(&mut self) -> Option<String> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            if line == "." {
                return Some(text);
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push_str("\r\n");
        }
    }
}
