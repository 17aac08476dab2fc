//! Redis and Valkey: one node (found by name or by Sentinel), or a cluster.
//!
//! The client library gives us the protocol over one connection. What is a connection's place,
//! when it is made anew and who waits for that is ours (`link`): a library that reconnects by
//! itself backs off for longer than an outage may be noticed, and keeps connections that are
//! half open.

mod advice;
mod cluster;
mod error;
mod link;
mod node;
mod script;
mod sentinel;
mod server;
mod slot;
mod url;
mod wire;

#[cfg(test)]
mod tests;

pub(super) use self::cluster::RedisCluster;
pub(super) use self::node::RedisNode;
pub use self::url::{RedisUrl, RedisUrlFault};
