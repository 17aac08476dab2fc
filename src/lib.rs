//! Tollgate: a rate-limiting reverse proxy that stands in front of logins.
//!
//! The road of a request, and the modules in the order it meets them:
//!
//! ```text
//! listener   proxy/listener    accepts connections
//!   → facts  proxy/doorstep    method, normalised path, headers, client; proxy/request where Pingora reads
//!   → route  decision/route    the most specific match; one snapshot for the whole request
//!   → gate   gateway           access lists, exhausted keys that need no body: the cheap no
//!   → body   proxy/body        only where a key needs a field: peek, then forward unchanged
//!   → take   store             ONE atomic call for all charges of the request
//!   → verdict decision         tallies → Permit | Refusal
//!   → answer proxy/respond     the only writer of refusals and limit headers
//!   or       proxy/courier     to a server of proxy/upstream, which takes a Permit by type: nothing is proxied without one
//! ```
//!
//! `decision` is pure: no I/O, no clock, no async. Imports run one way, and a test holds the arrows.
#![forbid(unsafe_code)]

pub mod admin;
pub mod alert;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decision;
pub mod demo;
pub mod gateway;
pub mod http_client;
pub mod identity;
pub mod journal;
pub mod otp;
pub mod proxy;
pub mod sms;
pub mod store;
pub mod telemetry;
pub mod tls;
