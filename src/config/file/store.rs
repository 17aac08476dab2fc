//! Where the counters live, as it is written.

use secrecy::SecretString;
use serde_json::{Value as Json, json};

use crate::config::place::{Located, shortened};
use crate::config::problem::Wrong;
use crate::config::reader::{Definitions, NonEmpty, Privacy, Reader, Scalar, Value};
use crate::config::section::{section, words};
use crate::config::tree::{Node, NodeKind};
use crate::config::value::text::{FolderPath, Secret, Text, Whole};
use crate::decision::limit::OnStoreError;
use crate::decision::time::Span;

section! {
    /// Where the counters live.
    Store "store" {
        /// memory: in this process. redis (or Valkey) and upstash: shared by several gateways.
        default("memory") "kind" kind: Located<StoreKind>;
        /// The bound of the node's table; past it new keys are counted conservatively, never let through uncounted.
        default("1000000") "max_keys" max_keys: Whole<1000, 100_000_000>;
        /// The folder of what outlives the process, beside this file: counters, blocks, and the secret they are kept under. One gateway a folder.
        default("./data") "data_dir" data_dir: FolderPath;
        /// redis://[user:password@]host[:port][/database], or rediss:// for TLS; a list is a cluster. Of Upstash, https://….
        optional "url" url: Located<StoreUrls>;
        /// Sentinels that name the Redis to use.
        optional "sentinel" sentinel: Located<Sentinel>;
        /// What the names of all keys begin with. Unset: tg:
        optional "prefix" prefix: Located<Prefix>;
        /// How long one call may take, from 1ms to 5s. Unset: 10ms for redis, 150ms for upstash.
        optional "timeout" timeout: Located<Span>;
        /// The token of Upstash's REST interface.
        optional "token" token: Located<Secret>;
        /// What keys are hashed under: at least 16 bytes, the same on every gateway. Unset: it is derived from the password or token.
        optional "secret" secret: Located<Secret>;
        /// What limits do while the store is away. local: go on in this node. closed: 503. open: let through.
        default("local") "on_error" on_error: Located<OnStoreError>;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Memory,
    Redis,
    Upstash,
}

words! { StoreKind, "a store that is supported", {
    StoreKind::Memory => "memory",
    StoreKind::Redis => "redis",
    StoreKind::Upstash => "upstash",
} }

words! { OnStoreError, "what a limit can do without its store", {
    OnStoreError::Local => "local",
    OnStoreError::Closed => "closed",
    OnStoreError::Open => "open",
} }

section! {
    /// A Redis that Sentinel watches over.
    Sentinel "sentinel" {
        /// The name by which the sentinels know it.
        required "master" master: Located<Text>;
        /// The sentinels themselves: redis://10.0.0.1:26379.
        required "urls" urls: NonEmpty<Located<StoreUrl>>;
    }
}

/// Where a store is. It may hold a password, so no message ever shows it.
#[derive(Clone, Debug)]
pub(crate) struct StoreUrl(pub(crate) SecretString);

impl Scalar for StoreUrl {
    const EXPECTED: &'static str = "the URL of a store such as redis://127.0.0.1:6379/0";
    const PRIVACY: Privacy = Privacy::Secret;

    fn parse(text: &str) -> Result<StoreUrl, Wrong> {
        const BYTES_MAX: usize = 4096;
        if text.len() > BYTES_MAX {
            return Err(Wrong::new(format!("the URL is longer than {BYTES_MAX} bytes")));
        }
        Ok(StoreUrl(SecretString::from(text.to_owned())))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "examples": ["redis://127.0.0.1:6379/0", "${REDIS_URL}"] })
    }
}

/// One server, or some nodes of a cluster.
#[derive(Clone, Debug)]
pub(crate) enum StoreUrls {
    One(Located<StoreUrl>),
    Cluster(Vec<Located<StoreUrl>>),
}

impl Value for StoreUrls {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<StoreUrls> {
        match &node.kind {
            NodeKind::Seq(_) => NonEmpty::read(node, reader).map(|NonEmpty(urls)| StoreUrls::Cluster(urls)),
            NodeKind::Scalar { .. } | NodeKind::Map(_) => Located::read(node, reader).map(StoreUrls::One),
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        let many = NonEmpty::<StoreUrl>::schema(definitions);
        json!({ "anyOf": [StoreUrl::schema(definitions), many] })
    }
}

/// What key names begin with: nothing in it means anything to a shell, to `SCAN` or to an access
/// list, but for one `{tag}` by which a cluster keeps all keys in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix(pub(crate) Box<str>);

impl Scalar for Prefix {
    const EXPECTED: &'static str = "a prefix such as `tg:`";

    fn parse(text: &str) -> Result<Prefix, Wrong> {
        const BYTES_MAX: usize = 64;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":._-/".contains(&byte);
        let outside_of_tag = match text.split_once('{') {
            None => Some((text, "", "")),
            Some((before, rest)) => rest.split_once('}').map(|(tag, after)| (before, tag, after)),
        };
        let sound = outside_of_tag.is_some_and(|(before, tag, after)| {
            let whole = text.contains('{') != tag.is_empty();
            whole && [before, tag, after].iter().all(|part| part.bytes().all(plain))
        });
        if sound && !text.is_empty() && text.len() <= BYTES_MAX {
            return Ok(Prefix(text.into()));
        }
        let wrong = Wrong::new(format!("`{}` is not {}", shortened(text), Prefix::EXPECTED));
        Err(wrong
            .write(format!("use at most {BYTES_MAX} letters, digits and `:._-/`, and one {{tag}} at most")))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^(?=.{1,64}$)[A-Za-z0-9:._/-]*(\\{[A-Za-z0-9:._/-]+\\}[A-Za-z0-9:._/-]*)?$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_plain_and_holds_one_whole_tag_at_most() {
        for text in ["tg:", "a", "prod/eu-1.tg_:", "{tg}:", "a{b}c", &"x".repeat(64)] {
            assert_eq!(Prefix::parse(text), Ok(Prefix(text.into())), "{text}");
        }
        let long = "x".repeat(65);
        for text in
            ["", "a b", "tg*", "{}", "{}:", "{a", "a}", "{a}{b}", "{a{b}}", "}{", "ü", "a\n", "{a}}", &long]
        {
            assert!(Prefix::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_never_shows_itself() {
        let url = StoreUrl::parse("redis://:hunter2@127.0.0.1").unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
