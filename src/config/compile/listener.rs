//! Where the gateway listens for clients, and how they get in.

use std::net::SocketAddr;

use secrecy::SecretString;

use super::network::collide;
use super::upstream::timeout;
use crate::config::file::File;
use crate::config::file::server::{CertificateFiles, Http2, Listener, Tls};
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::{Optional, Reader};
use crate::config::runtime::ListenerSpec;
use crate::config::value::text::FilePath;
use crate::decision::listener::{ClientLimits, Http2Limits};
use crate::tls::{Certificate, Chain, ChainFault, ClientAuth, ClientRoots, Demand, KeyFault, ServerTls};

/// No file of certificates is larger.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

pub(super) fn listeners(file: &File, reader: &mut Reader<'_>) -> Option<Vec<ListenerSpec>> {
    let listeners = &file.listen.as_ref()?.0;
    let addresses: Vec<&Located<SocketAddr>> =
        listeners.iter().filter_map(|listener| listener.address.as_ref()).collect();
    for (index, later) in addresses.iter().enumerate() {
        let earlier = addresses[..index].iter().find(|earlier| collide(earlier.value, later.value));
        if let Some(earlier) = earlier {
            let wrong = Wrong::new(format!("`{}` is listened on twice", later.told()));
            reader.findings.problem(&later.at, wrong.write(format!("see line {}", earlier.at.place.line)));
        }
    }
    let specs: Vec<Option<ListenerSpec>> = listeners.iter().map(|one| listener(one, reader)).collect();
    specs.into_iter().collect()
}

fn listener(listener: &Listener, reader: &mut Reader<'_>) -> Option<ListenerSpec> {
    refuse_contradictions(listener, &mut reader.findings);
    let limits = client_limits(listener, &mut reader.findings);
    let http2 = listener.http2.as_ref().and_then(|section| http2_limits(section, &mut reader.findings));
    let tls = match &listener.tls {
        Optional::Given(section) => Some(tls(section, reader)?),
        Optional::Absent => None,
        Optional::Faulty => return None,
    };
    Some(ListenerSpec {
        address: listener.address.as_ref()?.value,
        tls,
        h2c: listener.h2c?,
        proxy_protocol: listener.proxy_protocol.given().cloned().unwrap_or_default(),
        redirect_to_https: listener
            .redirect_to_https
            .given()
            .and_then(|port| u16::try_from(port.value.0).ok()),
        hsts: listener.hsts.given().map(|span| span.value),
        limits: limits?,
        http2: http2?,
    })
}

fn client_limits(listener: &Listener, findings: &mut Findings) -> Option<ClientLimits> {
    let header_timeout = timeout(listener.header_timeout.as_ref(), findings);
    let idle_timeout = timeout(listener.idle_timeout.as_ref(), findings);
    Some(ClientLimits {
        connections: listener.max_connections?.0,
        connections_per_ip: listener.max_connections_per_ip?.0,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        body_rate: listener.min_body_rate?.0,
        header_fields: listener.max_headers?.0,
        header_bytes: listener.max_header_bytes?.0,
        uri_bytes: listener.max_uri_bytes?.0,
    })
}

fn http2_limits(section: &Http2, findings: &mut Findings) -> Option<Http2Limits> {
    let (stream, connection) =
        (section.initial_window_size.as_ref()?, section.connection_window_size.as_ref()?);
    if stream.value.0 > connection.value.0 {
        let wrong = Wrong::new("one body may be sent further ahead than all of them together");
        let advice = "write an `initial_window_size` of at most `connection_window_size`";
        findings.problem(&stream.at, wrong.write(advice));
        return None;
    }
    Some(Http2Limits {
        concurrent_streams: section.max_concurrent_streams?.0,
        stream_window: stream.value.0,
        connection_window: connection.value.0,
        send_buffer: section.max_send_buffer_size?.0,
        unseen_resets: section.max_unseen_resets?.0,
        error_resets: section.max_error_resets?.0,
        resets: section.max_resets?.0,
        control_frames: section.max_control_frames?.0,
    })
}

/// What belongs to TLS on a listener without it, and the other way round.
fn refuse_contradictions(listener: &Listener, findings: &mut Findings) {
    if let (Optional::Given(_), Optional::Given(redirect)) = (&listener.tls, &listener.redirect_to_https) {
        let wrong = Wrong::new("a listener that speaks https sends nobody on to it");
        findings.problem(&redirect.at, wrong.write("redirect on the plain listener, or remove `tls`"));
    }
    if let (Optional::Absent, Optional::Given(hsts)) = (&listener.tls, &listener.hsts) {
        let wrong = Wrong::new("browsers heed `hsts` over https alone, and this listener has no `tls`");
        findings.problem(&hsts.at, wrong.write("move it to the listener with `tls`"));
    }
}

fn tls(section: &Located<Tls>, reader: &mut Reader<'_>) -> Option<ServerTls> {
    let Tls { cert, key, certificates, client_ca, client_auth } = &section.value;
    let pairs: Vec<Option<Certificate>> = match (cert, key, certificates) {
        (Optional::Given(cert), Optional::Given(key), Optional::Absent) => {
            vec![certificate(cert, key, reader)]
        }
        (Optional::Absent, Optional::Absent, Optional::Given(list)) => {
            list.0.iter().map(|files| listed(files, reader)).collect()
        }
        (Optional::Faulty, _, _) | (_, Optional::Faulty, _) | (_, _, Optional::Faulty) => return None,
        (_, _, Optional::Given(_)) => {
            let wrong = Wrong::new("certificates are either one or a list");
            reader.findings.problem(&section.at, wrong.write("keep `cert` and `key`, or `certificates`"));
            return None;
        }
        (_, _, Optional::Absent) => {
            let wrong = Wrong::new("TLS needs a certificate and its key");
            reader.findings.problem(&section.at, wrong.write("add `cert` and `key`, or `certificates`"));
            return None;
        }
    };
    let clients = match client_ca {
        Optional::Given(path) => {
            Some(ClientAuth { roots: roots(path, reader)?, demand: client_auth.as_ref()?.value })
        }
        Optional::Faulty => return None,
        Optional::Absent => {
            refuse_idle_demand(client_auth.as_ref()?, &mut reader.findings);
            None
        }
    };
    let pairs = pairs.into_iter().collect::<Option<Vec<Certificate>>>()?;
    match ServerTls::new(pairs, clients) {
        Ok(tls) => Some(tls),
        Err(fault) => {
            reader.findings.problem(&section.at, Wrong::new(fault.to_string()));
            None
        }
    }
}

/// `required` is what it is anyway.
fn refuse_idle_demand(demand: &Located<Demand>, findings: &mut Findings) {
    match demand.value {
        Demand::Required => {}
        Demand::Optional => {
            let wrong = Wrong::new("nobody vouches for the certificates of clients");
            findings.problem(&demand.at, wrong.write("add `client_ca`, or remove `client_auth`"));
        }
    }
}

fn listed(files: &CertificateFiles, reader: &mut Reader<'_>) -> Option<Certificate> {
    certificate(files.cert.as_ref()?, files.key.as_ref()?, reader)
}

fn certificate(
    cert: &Located<FilePath>,
    key: &Located<FilePath>,
    reader: &mut Reader<'_>,
) -> Option<Certificate> {
    let chain = chain(cert, reader);
    let text = pem(key, reader).map(SecretString::from)?;
    match Certificate::new(chain?, &text) {
        Ok(certificate) => Some(certificate),
        Err(fault) => {
            let of_the_pair = format!("{fault} than `{}`", cert.told());
            let what = match fault {
                KeyFault::Mismatch => of_the_pair,
                KeyFault::None | KeyFault::Pem | KeyFault::Unsupported => fault.to_string(),
            };
            reader.findings.problem(&key.at, Wrong::new(format!("the file `{}`: {what}", key.told())));
            None
        }
    }
}

pub(super) fn chain(path: &Located<FilePath>, reader: &mut Reader<'_>) -> Option<Chain> {
    let text = pem(path, reader)?;
    sound(Chain::parse(&text), path, reader)
}

fn roots(path: &Located<FilePath>, reader: &mut Reader<'_>) -> Option<ClientRoots> {
    let chain = chain(path, reader)?;
    sound(chain.into_roots(), path, reader)
}

pub(super) fn sound<T>(
    parsed: Result<T, ChainFault>,
    path: &Located<FilePath>,
    reader: &mut Reader<'_>,
) -> Option<T> {
    match parsed {
        Ok(value) => Some(value),
        Err(fault) => {
            reader.findings.problem(&path.at, Wrong::new(format!("the file `{}`: {fault}", path.told())));
            None
        }
    }
}

fn pem(path: &Located<FilePath>, reader: &mut Reader<'_>) -> Option<String> {
    match reader.file(&path.value.0, PEM_BYTES_MAX) {
        Ok(text) => Some(text),
        Err(wrong) => {
            reader.findings.problem(&path.at, wrong);
            None
        }
    }
}
