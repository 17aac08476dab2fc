//! Looks at a whole request body before anything is sent to the backend.
//!
//! Pingora keeps what was read and replays it to the backend byte for byte, as long as it fits a
//! buffer of 64 KiB. 48 KiB leave room for the chunk that passes the limit, so nothing that is
//! admitted was ever dropped from that buffer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::proxy::Session;

use crate::gateway::BodyUnread;

/// The largest body that is looked at, bytes.
pub const BODY_MAX: usize = 48 * 1024;
/// How long all of it may take.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn peek(session: &mut Session) -> Result<Bytes, BodyUnread> {
    if declared_length(session).is_some_and(|length| length > BODY_MAX) {
        return Err(BodyUnread::TooLarge);
    }
    session.as_downstream_mut().enable_retry_buffering();
    match tokio::time::timeout(BODY_DEADLINE, read_all(session)).await {
        Ok(read) => read,
        Err(_) => Err(BodyUnread::TimedOut),
    }
}

fn declared_length(session: &Session) -> Option<usize> {
    session.req_header().headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

async fn read_all(session: &mut Session) -> Result<Bytes, BodyUnread> {
    invite(session).await?;
    let downstream = session.as_downstream_mut();
    let mut body = BytesMut::new();
    // An empty chunk is not the end: chunked bodies send them in between.
    while !downstream.is_body_done() {
        match downstream.read_request_body().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, "a request body broke off");
                // Nobody knows where it ends: what follows must not be taken for a request.
                downstream.set_keepalive(None);
                return Err(BodyUnread::ClientGone);
            }
        }
        if body.len() > BODY_MAX || downstream.retry_buffer_truncated() {
            return Err(BodyUnread::TooLarge);
        }
    }
    Ok(body.freeze())
}

/// Answers `Expect: 100-continue`: the client waits for it before it sends the body.
async fn invite(session: &mut Session) -> Result<(), BodyUnread> {
    let expects = session.req_header().headers.get(EXPECT);
    if !expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    session.req_header_mut().remove_header(&EXPECT);
    let downstream = session.as_downstream_mut();
    // Else the interim answer would announce that the connection closes.
    downstream.set_close_on_response_before_downstream_finish(false);
    let invited = downstream.write_continue_response().await;
    downstream.set_close_on_response_before_downstream_finish(true);
    invited.map_err(|error| {
        tracing::debug!(%error, "a client left before it sent its body");
        BodyUnread::ClientGone
    })
}
