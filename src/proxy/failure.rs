//! What an error of Pingora means: to the client, to metrics, to an attempt.

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};

use super::context::Context;
use crate::decision::tally::Outcome;
use crate::telemetry::UpstreamFailure;

/// What becomes of an attempt whose answer did not tell: its body does, or why there was none.
pub(super) fn outcome_at_end(error: Option<&Error>, ctx: &mut Context) -> Outcome {
    if let (None, Some(answer)) = (error, &mut ctx.answer) {
        // An answer without a body is over without a part of it.
        answer.end();
    }
    let told = ctx.answer.as_ref().zip(ctx.failure_rule()).and_then(|(answer, rule)| answer.outcome(rule));
    match (told, error.map(Error::esource)) {
        (Some(outcome), _) => outcome,
        // Who hangs up before the answer may have seen enough of it, or guess without waiting for it.
        (None, Some(ErrorSource::Downstream)) => Outcome::Failure,
        (None, Some(ErrorSource::Upstream | ErrorSource::Internal | ErrorSource::Unset) | None) => {
            Outcome::Neither
        }
    }
}

/// Whether a connection failed for what this machine lacks, such as file descriptors or ports.
pub(super) fn is_own_fault(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::SocketError | ErrorType::BindError | ErrorType::InternalError)
}

/// What the client is told; nothing if nobody is there to be told.
pub(super) fn failure_status(error: &Error) -> Option<StatusCode> {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => StatusCode::from_u16(*code).ok(),
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout,
        ) => Some(StatusCode::GATEWAY_TIMEOUT),
        (ErrorSource::Upstream, _) => Some(StatusCode::BAD_GATEWAY),
        (
            ErrorSource::Downstream,
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(StatusCode::REQUEST_TIMEOUT),
        (ErrorSource::Downstream, _) => Some(StatusCode::BAD_REQUEST),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// As metrics know it.
pub(super) fn failure_kind(error: &Error) -> UpstreamFailure {
    match error.etype() {
        ErrorType::ConnectTimedout
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::ReadTimedout
        | ErrorType::WriteTimedout => UpstreamFailure::Timeout,
        ErrorType::TLSHandshakeFailure
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => UpstreamFailure::Tls,
        ErrorType::HTTPStatus(_) => UpstreamFailure::NoServer,
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::BindError
        | ErrorType::SocketError => UpstreamFailure::Connect,
        // The rest of Pingora's open list of errors comes after a connection was made.
        _ => UpstreamFailure::Closed,
    }
}
