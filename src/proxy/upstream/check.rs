//! Asks servers whether they are well, the way that requests go to them.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Method, StatusCode, Uri, Version};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, ErrorType};
use tokio::time::timeout;

use super::server::Server;
use crate::decision::time::Span;
use crate::decision::upstream::{CheckSpec, Protocol, ServerSpec};

const USER_AGENT_VALUE: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

/// One check of one address; or why it failed.
pub(super) async fn check(
    connector: &Connector,
    server: &Arc<Server>,
    written: &ServerSpec,
    protocol: Protocol,
    rules: &CheckSpec,
) -> Result<(), Box<str>> {
    match timeout(duration(rules.timeout), ask(connector, server, written, protocol, &rules.path)).await {
        Ok(Ok(status)) if status.is_success() || status.is_redirection() => Ok(()),
        Ok(Ok(status)) => Err(format!("it answered {}", status.as_u16()).into()),
        Ok(Err(error)) => Err(error.etype().as_str().into()),
        Err(_) => Err(format!("no answer within {}", rules.timeout).into()),
    }
}

pub(super) fn duration(span: Span) -> Duration {
    Duration::from_millis(span.as_millis())
}

async fn ask(
    connector: &Connector,
    server: &Arc<Server>,
    written: &ServerSpec,
    protocol: Protocol,
    path: &str,
) -> pingora::Result<StatusCode> {
    let mut peer = server.peer();
    // The whole check has a limit of its own.
    peer.options.read_timeout = None;
    peer.options.write_timeout = None;
    // A connection that is kept would not show that nobody can connect any more: this one goes with its session, also
    // where several requests could share it.
    peer.options.max_h2_streams = 1;
    let host = match &written.tls {
        Some(tls) => format!("{}:{}", tls.name, written.port),
        None => written.to_string(),
    };
    let request = request(&host, written.tls.is_some(), protocol, path)?;
    let (mut session, _) = connector.get_http_session(&*peer).await?;
    session.write_request_header(Box::new(request)).await?;
    session.finish_request_body().await?;
    let status = answered(&mut session).await?;
    session.shutdown().await;
    Ok(status)
}

fn request(host: &str, is_tls: bool, protocol: Protocol, path: &str) -> pingora::Result<RequestHeader> {
    let mut request = RequestHeader::build(Method::GET, path.as_bytes(), Some(3))?;
    request.insert_header(USER_AGENT, USER_AGENT_VALUE)?;
    match protocol {
        Protocol::Http1 => {
            request.insert_header(HOST, host)?;
            request.insert_header(CONNECTION, "close")?;
        }
        Protocol::Http2 => {
            let scheme = if is_tls { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
            let malformed =
                |_| Error::explain(ErrorType::InvalidHTTPHeader, "the path or host of a check is malformed");
            request.set_uri(uri.map_err(malformed)?);
            request.set_version(Version::HTTP_2);
        }
    }
    Ok(request)
}

async fn answered(session: &mut HttpSession) -> pingora::Result<StatusCode> {
    loop {
        session.read_response_header().await?;
        let status = session.response_header().map(|head| head.status);
        match status {
            Some(status) if status.is_informational() => {}
            Some(status) => return Ok(status),
            None => return Err(Error::explain(ErrorType::InvalidHTTPHeader, "an answer without a head")),
        }
    }
}
