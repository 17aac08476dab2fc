//! Certificates of our own, and clients of TLS that believe in them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::h2::in_time;

/// Who vouches for certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Authority { issuer: Issuer::new(params, key), certificate: der, pem }
    }

    /// The authority's own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn issue(&self, names: &[&str], common: &str) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("sound names");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { cert, key: key.serialize_pem() }
    }
}

impl Issued {
    /// As `{name}.pem` and `{name}.key` in this folder.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), &self.cert).expect("a file");
        std::fs::write(folder.join(format!("{name}.key")), &self.key).expect("a file");
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate")
    }
}

/// How a client connects.
pub(crate) struct TlsClient<'a> {
    authority: &'a Authority,
    own: Option<Issued>,
    alpn: Vec<Vec<u8>>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl<'a> TlsClient<'a> {
    /// Believes this authority; shows nothing, asks for no protocol.
    pub(crate) fn of(authority: &'a Authority) -> TlsClient<'a> {
        TlsClient { authority, own: None, alpn: Vec::new(), versions: rustls::ALL_VERSIONS }
    }

    pub(crate) fn showing(self, own: &Issued) -> TlsClient<'a> {
        TlsClient { own: Some(own.clone()), ..self }
    }

    pub(crate) fn asking_for(self, protocols: &[&str]) -> TlsClient<'a> {
        TlsClient { alpn: protocols.iter().map(|name| name.as_bytes().to_vec()).collect(), ..self }
    }

    pub(crate) fn speaking(self, versions: &'static [&'static SupportedProtocolVersion]) -> TlsClient<'a> {
        TlsClient { versions, ..self }
    }

    pub(crate) async fn connect(&self, address: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = in_time(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        self.over(stream, name).await
    }

    /// On a connection that is there already.
    pub(crate) async fn over(&self, stream: TcpStream, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        in_time(TlsConnector::from(Arc::new(self.config())).connect(name, stream)).await
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match &self.own {
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![own.der()], key).expect("a certificate of its own")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        config
    }
}

/// One request of HTTP/1.1, and all that comes back until the end of the connection.
pub(crate) async fn ask(stream: &mut TlsStream<TcpStream>, target: &str) -> io::Result<String> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    match in_time(stream.read_to_end(&mut answer)).await {
        Ok(_) => {}
        // Some servers leave without a word; ours does not, but a reset may overtake it.
        Err(error) if !answer.is_empty() => drop(error),
        Err(error) => return Err(error),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// TLS in front of a backend that speaks none; gone, with its connections, when dropped.
pub(crate) struct TlsFront {
    addr: SocketAddr,
    names: Arc<Mutex<Vec<Option<String>>>>,
    accepting: JoinHandle<()>,
}

impl TlsFront {
    /// Shows this certificate, and speaks these protocols if it is asked for one.
    pub(crate) async fn start(backend: SocketAddr, issued: &Issued, protocols: &[&str]) -> TlsFront {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![issued.der()], key)
                .expect("a certificate");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let names = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, asked) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&names));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
                connections.spawn(async move {
                    // Who does not like the certificate goes.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let name = stream.get_ref().1.server_name().map(str::to_owned);
                    asked.lock().expect("the names").push(name);
                    let mut plain = TcpStream::connect(backend).await.expect("the backend");
                    // Either side may break off.
                    let _ended = copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
        TlsFront { addr, names, accepting }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The names that it was asked for, one a connection that was made.
    pub(crate) fn names(&self) -> Vec<Option<String>> {
        self.names.lock().expect("the names").clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
