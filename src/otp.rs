//! One-time codes: what is sent is derived, what is stored reveals nothing, and what was used is used up.
//!
//! ```text
//! send    phone ─► destination ─► limits ─► Desk::open ─► code ─► Dispatcher
//! verify  id or destination ─► limits ─► Desk::guess ─► compare ─► Desk::consume ─► proof
//! ```
//!
//! The store holds a seed and never a code: `code = reject_sample(HMAC-SHA256(key, purpose, id, destination, seed))`. So a resend or
//! another provider sends the same code, and a copy of the store tells nobody any.

pub mod fraud;
pub mod spec;
