//! Both sides of HTTP/2: a client, a backend that speaks it, and frames as bytes for whoever breaks the rules.

pub(crate) mod frames;
pub(crate) mod raw;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::PATIENCE;

/// A connection of HTTP/2 to the gateway.
pub(crate) struct H2Client {
    send: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
    authority: String,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct H2Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl H2Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl H2Client {
    /// By prior knowledge.
    pub(crate) async fn connect(address: SocketAddr) -> H2Client {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        H2Client::over(stream, "http", &address.to_string()).await.expect("HTTP/2")
    }

    /// On a stream that is there already.
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        scheme: &str,
        authority: &str,
    ) -> Result<H2Client, h2::Error> {
        let (send, connection) = h2::client::handshake(stream).await?;
        let driver = tokio::spawn(connection);
        Ok(H2Client { send, driver, authority: format!("{scheme}://{authority}") })
    }

    pub(crate) fn request(&self, method: Method, target: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("{}{target}", self.authority))
    }

    pub(crate) async fn get(&mut self, target: &str) -> H2Answer {
        let request = self.request(Method::GET, target);
        self.send(request, b"").await.expect("an answer")
    }

    /// Sends a request with this body, in one frame or several, and waits for the whole answer.
    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
        body: &[u8],
    ) -> Result<H2Answer, h2::Error> {
        let (answer, mut stream) = self.open(request, body.is_empty()).await?;
        if !body.is_empty() {
            let half = body.len() / 2;
            stream.send_data(Bytes::copy_from_slice(&body[..half]), false)?;
            stream.send_data(Bytes::copy_from_slice(&body[half..]), true)?;
        }
        whole(in_time(answer).await?).await
    }

    /// Begins a request whose body and answer are the test's own business.
    pub(crate) async fn open(
        &mut self,
        request: http::request::Builder,
        is_whole: bool,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), h2::Error> {
        let request = request.body(()).expect("a sound request");
        let mut send = in_time(self.send.clone().ready()).await?;
        send.send_request(request, is_whole)
    }

    /// How many requests at a time the gateway lets a client make.
    pub(crate) fn streams_max(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// How the connection ended; waits for that.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        drop(self.send);
        in_time(self.driver).await.expect("the driver does not panic")
    }
}

/// The rest of an answer whose head is there.
pub(crate) async fn whole(answer: Response<RecvStream>) -> Result<H2Answer, h2::Error> {
    let (head, mut stream) = answer.into_parts();
    let (body, trailers) = in_time(read(&mut stream)).await?;
    Ok(H2Answer { status: head.status, headers: head.headers, body, trailers })
}

async fn read(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len())?;
    }
    Ok((body, stream.trailers().await?))
}

pub(crate) async fn in_time<T>(event: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, event).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {PATIENCE:?} in vain"),
    }
}

/// A backend that speaks HTTP/2 by prior knowledge, as a gRPC server does: sends back each piece of the body as it
/// comes, then what it was sent as trailers, with a status of its own.
pub(crate) struct H2Backend {
    address: SocketAddr,
    received: Arc<Mutex<Vec<http::request::Parts>>>,
    accepting: JoinHandle<()>,
}

impl H2Backend {
    pub(crate) async fn start() -> H2Backend {
        H2Backend::start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// On a given address: one that was stopped comes back there.
    pub(crate) async fn start_at(address: SocketAddr) -> H2Backend {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&received)));
        H2Backend { address, received, accepting }
    }

    /// Closes the port and all connections, and returns once the port is free.
    pub(crate) async fn stop(mut self) {
        self.accepting.abort();
        let _aborted = (&mut self.accepting).await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of all requests so far.
    pub(crate) fn received(&self) -> Vec<http::request::Parts> {
        self.received.lock().expect("the list").clone()
    }
}

impl Drop for H2Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, received: Arc<Mutex<Vec<http::request::Parts>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        connections.spawn(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                let (head, body) = request.into_parts();
                received.lock().expect("the list").push(head);
                tokio::spawn(echo(body, respond));
            }
        });
    }
}

async fn echo(mut body: RecvStream, mut respond: h2::server::SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a head");
    let mut answer = respond.send_response(head, false)?;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        answer.send_data(data, false)?;
    }
    let mut trailers = body.trailers().await?.unwrap_or_default();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    answer.send_trailers(trailers)
}
