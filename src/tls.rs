//! TLS towards clients: which certificate is shown for which name, and who has to show one in return.
//!
//! All of it is made from the texts of files, so that a broken file is found where the configuration is read.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Sessions that clients may go on with, a listener.
const SESSIONS_MAX: usize = 4096;
/// A subject that is longer names nobody, bytes.
const SUBJECT_MAX: usize = 256;

/// What a listener shows and asks for. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    ends_at_s: u64,
}

/// A certificate with its chain and its key.
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// What it is for, in lower case; `*.` stands for one label.
    names: Vec<Box<str>>,
    /// Nobody trusts it any more then, seconds since the epoch.
    ends_at_s: u64,
}

/// Who may connect.
pub struct ClientAuth {
    pub roots: ClientRoots,
    pub demand: Demand,
}

/// The authorities that clients' certificates come from.
pub struct ClientRoots(RootCertStore);

/// Whether a client without a certificate is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    Required,
    Optional,
}

/// What is wrong with a file of certificates.
#[derive(Debug, Error)]
pub enum ChainFault {
    #[error("there is no certificate in PEM form in it")]
    None,
    #[error("it is not sound PEM: {0}")]
    Pem(pem::Error),
    #[error("certificate {number} in it is malformed")]
    Malformed { number: usize },
}

/// What is wrong with a key, or with it and its certificate.
#[derive(Debug, Error)]
pub enum KeyFault {
    #[error("there is no private key in PEM form in it, or only an encrypted one")]
    None,
    #[error("it is not sound PEM")]
    Pem,
    #[error("the private key in it is of a kind that is not supported: RSA, ECDSA and Ed25519 are")]
    Unsupported,
    #[error("the private key in it belongs to another certificate")]
    Mismatch,
}

/// A setup that the library does not take.
#[derive(Debug, Error)]
#[error("TLS cannot be set up: {0}")]
pub struct SetupFault(Box<str>);

/// A chain of certificates, the server's own first.
pub struct Chain(Vec<CertificateDer<'static>>);

impl Chain {
    /// From the text of a PEM file.
    pub fn parse(text: &str) -> Result<Chain, ChainFault> {
        let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let list = read.map_err(ChainFault::Pem)?;
        for (index, certificate) in list.iter().enumerate() {
            if X509Certificate::from_der(certificate).map_or(true, |(rest, _)| !rest.is_empty()) {
                return Err(ChainFault::Malformed { number: index + 1 });
            }
        }
        if list.is_empty() { Err(ChainFault::None) } else { Ok(Chain(list)) }
    }

    /// As authorities that clients are to be vouched for by.
    pub fn into_roots(self) -> Result<ClientRoots, ChainFault> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in self.0.into_iter().enumerate() {
            roots.add(certificate).map_err(|_| ChainFault::Malformed { number: index + 1 })?;
        }
        Ok(ClientRoots(roots))
    }

    /// As authorities that servers are to be vouched for by (DER).
    pub fn authorities(self) -> Result<Box<[Box<[u8]>]>, ChainFault> {
        let mut roots = RootCertStore::empty();
        let list = self.0.into_iter().enumerate().map(|(index, certificate)| {
            let der: Box<[u8]> = certificate.as_ref().into();
            roots.add(certificate).map_err(|_| ChainFault::Malformed { number: index + 1 })?;
            Ok(der)
        });
        list.collect()
    }
}

impl Certificate {
    /// `key` is the text of a PEM file.
    pub fn new(chain: Chain, key: &SecretString) -> Result<Certificate, KeyFault> {
        let der =
            PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes()).map_err(|error| match error {
                pem::Error::NoItemsFound => KeyFault::None,
                // What else is wrong would be told with a part of the key.
                _ => KeyFault::Pem,
            })?;
        let signing = ring::sign::any_supported_type(&der).map_err(|_| KeyFault::Unsupported)?;
        let (names, ends_at_s) = chain.0.first().map(about).unwrap_or_default();
        let key = CertifiedKey::new(chain.0, signing);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(KeyFault::Mismatch),
        }
        Ok(Certificate { key: Arc::new(key), names, ends_at_s })
    }
}

impl ServerTls {
    /// The first certificate is shown to whoever asks for no name, or for one that none of them has.
    pub fn new(certificates: Vec<Certificate>, clients: Option<ClientAuth>) -> Result<ServerTls, SetupFault> {
        let ends_at_s =
            certificates.iter().map(|certificate| certificate.ends_at_s).min().unwrap_or_default();
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(clients, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SetupFault(error.to_string().into()))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ByName::new(certificates)?));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(ServerTls { config: Arc::new(config), ends_at_s })
    }

    /// When the first of its certificates ends, seconds since the epoch.
    pub fn ends_at_s(&self) -> u64 {
        self.ends_at_s
    }

    /// For the library.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn verifier(
    clients: Option<ClientAuth>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, SetupFault> {
    let Some(ClientAuth { roots, demand }) = clients else { return Ok(Arc::new(NoClientAuth)) };
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.0), Arc::clone(provider));
    let builder = match demand {
        Demand::Required => builder,
        Demand::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| SetupFault(error.to_string().into()))
}

/// The configuration holds keys.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

/// Chooses a certificate by the name that a client asks for.
struct ByName {
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
    otherwise: Arc<CertifiedKey>,
}

impl ByName {
    fn new(certificates: Vec<Certificate>) -> Result<ByName, SetupFault> {
        let first = certificates.first().map(|certificate| Arc::clone(&certificate.key));
        let otherwise = first.ok_or_else(|| SetupFault("there is no certificate".into()))?;
        let mut by_name = HashMap::new();
        for Certificate { key, names, ends_at_s: _ } in certificates {
            for name in names {
                // Of two for one name the one that comes first in the file.
                by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
        }
        Ok(ByName { by_name, otherwise })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let by_wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(format!("*.{parent}").as_str())
        };
        self.by_name.get(name.as_str()).or_else(by_wildcard)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| self.find(name));
        Some(Arc::clone(found.unwrap_or(&self.otherwise)))
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByName").field("names", &self.by_name.keys()).finish()
    }
}

/// The DNS names that a certificate is for, and when it ends, seconds since the epoch.
fn about(certificate: &CertificateDer<'_>) -> (Vec<Box<str>>, u64) {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return (Vec::new(), 0) };
    let ends_at_s = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let Ok(Some(alternatives)) = parsed.subject_alternative_name() else { return (Vec::new(), ends_at_s) };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into_boxed_str()),
        // The rest of the library's list names no host.
        _ => None,
    };
    (alternatives.value.general_names.iter().filter_map(dns).collect(), ends_at_s)
}

/// Whom a client's certificate names: its common name if it has exactly one, else the first e-mail address, DNS name
/// or URI among its alternative names. To be asked of verified certificates only.
pub fn subject(certificate: &CertificateDer<'_>) -> Option<Box<str>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut common = parsed.subject().iter_common_name();
    let name = match (common.next(), common.next()) {
        (Some(name), None) => Some(name.as_str().ok()?.to_owned()),
        (Some(_), Some(_)) => None,
        (None, _) => alternative(&parsed),
    };
    let is_fit =
        |name: &String| !name.is_empty() && name.len() <= SUBJECT_MAX && !name.chars().any(char::is_control);
    name.filter(is_fit).map(String::into_boxed_str)
}

fn alternative(parsed: &X509Certificate<'_>) -> Option<String> {
    let alternatives = parsed.subject_alternative_name().ok()??;
    alternatives.value.general_names.iter().find_map(|name| match name {
        GeneralName::RFC822Name(name) | GeneralName::DNSName(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        // The rest of the library's list is no text.
        _ => None,
    })
}

#[cfg(test)]
mod tests;
