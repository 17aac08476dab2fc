//! A client that sends exactly what a test says, and hands over exactly what came back.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::wire::{AnswerHead, Wire, in_chunks};
use super::{Headers, PATIENCE};

/// The last answer to a request, with what came before it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    /// The content, chunk framing taken off.
    pub(crate) body: Vec<u8>,
    /// Status line and headers as they came, closing empty line included.
    pub(crate) raw_head: Vec<u8>,
    /// The statuses of the informational answers before this one.
    pub(crate) interim: Vec<u16>,
    /// The answer announced the end of the connection, and the end came.
    pub(crate) connection_closed: bool,
}

impl Answer {
    /// The body as text; panics where it is not UTF-8.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// The value of a header that holds one number; panics where it is missing or no number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let value = self.headers.get(name);
        match value.and_then(|value| value.parse().ok()) {
            Some(number) => number,
            None => panic!("no number in {name}: {value:?} of {}", String::from_utf8_lossy(&self.raw_head)),
        }
    }

    /// The body as JSON; panics where it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {}", String::from_utf8_lossy(&self.body)),
        }
    }
}

/// One `GET` on a connection of its own.
pub(crate) async fn get(addr: SocketAddr, target: &str) -> Answer {
    Client::connect(addr).await.request("GET", target).send().await
}

/// A connection that is kept from request to request.
pub(crate) struct Client {
    wire: Wire,
    authority: String,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Client {
        Client::connect_from(addr.ip(), addr).await
    }

    /// Connects from this local address: each of 127.0.0.0/8 is another client to the gateway.
    pub(crate) async fn connect_from(local: IpAddr, addr: SocketAddr) -> Client {
        match Client::try_connect_from(local, addr).await {
            Ok(client) => client,
            Err(error) => panic!("no connection from {local} to {addr}: {error}"),
        }
    }

    /// Where nobody may be listening.
    pub(crate) async fn try_connect(addr: SocketAddr) -> io::Result<Client> {
        Client::try_connect_from(addr.ip(), addr).await
    }

    async fn try_connect_from(local: IpAddr, addr: SocketAddr) -> io::Result<Client> {
        let connecting = async {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind((local, 0).into())?;
            socket.connect(addr).await
        };
        let stream = in_time("a connection", connecting).await?;
        Ok(Client { wire: Wire::new(stream), authority: addr.to_string() })
    }

    /// Writes these bytes and nothing else. A peer that no longer reads is left for the answer to show.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        let _written = in_time("writing", self.wire.write(bytes)).await;
    }

    /// The next answer on the connection, to a request of this method.
    pub(crate) async fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let mut interim = Vec::new();
        loop {
            let answer = self.one_answer(method).await?;
            // 101 is the last word in HTTP on this connection.
            if !matches!(answer.status, 100..200) || answer.status == 101 {
                return Ok(Answer { interim, ..answer });
            }
            interim.push(answer.status);
        }
    }

    pub(crate) fn request(&mut self, method: &str, target: &str) -> Request<'_> {
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: Vec::new(),
            payload: Payload::None,
            client: self,
        }
    }

    /// Waits for the peer to close; panics at anything else that it sends.
    pub(crate) async fn closed(&mut self) {
        if let Err(error) = in_time("the end of the connection", self.wire.end()).await {
            // A reset is an end as well.
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        }
    }

    async fn one_answer(&mut self, method: &str) -> io::Result<Answer> {
        let Some(raw_head) = in_time("an answer", self.wire.head()).await? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let head = AnswerHead::parse(&raw_head)?;
        let framing = head.framing(method)?;
        let body = in_time("the body of an answer", self.wire.body(framing)).await?;
        let closing = head.headers.get("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if closing {
            self.closed().await;
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.content,
            raw_head,
            interim: Vec::new(),
            connection_closed: closing,
        })
    }
}

/// A request being put together. Host and the body's framing are added unless a header of that name is given.
pub(crate) struct Request<'c> {
    client: &'c mut Client,
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    payload: Payload,
}

enum Payload {
    None,
    Sized(Vec<u8>),
    Chunked { body: Vec<u8>, chunk_bytes: usize },
}

impl Request<'_> {
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sends this body under a Content-Length.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.payload = Payload::Sized(body.as_ref().to_vec());
        self
    }

    /// Sends this body as JSON.
    pub(crate) fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Sends this body in chunks of this many bytes.
    pub(crate) fn chunked(mut self, body: impl AsRef<[u8]>, chunk_bytes: usize) -> Self {
        self.payload = Payload::Chunked { body: body.as_ref().to_vec(), chunk_bytes };
        self
    }

    /// Sends the request and waits for its answer; panics where none comes.
    pub(crate) async fn send(self) -> Answer {
        let line = format!("{} {}", self.method, self.target);
        match self.try_send().await {
            Ok(answer) => answer,
            Err(error) => panic!("no answer to {line}: {error}"),
        }
    }

    /// Sends the request and waits for its answer; an error where the peer gives none.
    ///
    /// With `Expect: 100-continue` the body waits for the 100, and stays here where another answer comes.
    pub(crate) async fn try_send(self) -> io::Result<Answer> {
        let Request { client, method, fields, payload, target } = self;
        let waits = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("expect"));
        let (framing, body) = match payload {
            Payload::None => (None, Vec::new()),
            Payload::Sized(body) => (Some(("content-length", body.len().to_string())), body),
            Payload::Chunked { body, chunk_bytes } => {
                (Some(("transfer-encoding", "chunked".to_owned())), in_chunks(&body, chunk_bytes))
            }
        };
        let mut message = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        let host = Some(("host", client.authority.clone()));
        let given = |name: &str| fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        for (name, value) in [host, framing].into_iter().flatten().filter(|(name, _)| !given(name)) {
            message.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        for (name, value) in &fields {
            message.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        message.extend_from_slice(b"\r\n");

        if !waits {
            message.extend_from_slice(&body);
            client.send_raw(&message).await;
            return client.answer_to(&method).await;
        }
        client.send_raw(&message).await;
        let first = client.one_answer(&method).await?;
        if first.status != 100 {
            return Ok(first);
        }
        client.send_raw(&body).await;
        let mut last = client.answer_to(&method).await?;
        last.interim.insert(0, first.status);
        Ok(last)
    }
}

async fn in_time<T>(what: &str, event: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, event).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {PATIENCE:?} for {what} in vain"),
    }
}
