//! The kinds of values that the file knows: each parsed once, into a type that only holds sound ones.

pub(crate) mod address;
pub(crate) mod http;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod otp;
pub(crate) mod pattern;
pub(crate) mod reject;
pub(crate) mod text;
pub(crate) mod time;
