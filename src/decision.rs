//! The pure core: what a request may do, decided from values alone.
//!
//! Nothing here performs I/O, reads a clock or awaits: time is an argument. That is what makes
//! the limiter testable to the millisecond.

pub mod answer;
pub mod block;
pub mod body;
pub mod bytes;
pub mod client;
pub mod cookie;
pub mod counter;
mod escape;
pub mod failure;
pub mod field;
mod fold;
pub mod headers;
pub mod ipset;
pub mod key;
pub mod limit;
pub mod listener;
pub mod otp;
pub mod path;
pub mod plan;
pub mod policy;
pub mod query;
pub mod recent;
pub mod refusal;
pub mod reject;
pub mod rfc3339;
pub mod rolling;
pub mod route;
pub mod suspicion;
pub mod tally;
pub mod time;
pub mod trace;
pub mod upstream;
pub mod value;
pub mod verdict;
pub mod words;
