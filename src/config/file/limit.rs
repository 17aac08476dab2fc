//! Limits as they are written.

use serde_json::{Value as Json, json};

use crate::config::place::Located;
use crate::config::problem::Wrong;
use crate::config::reader::{Definitions, Named, OneOrMany, Reader, Scalar, Value};
use crate::config::section::{section, words};
use crate::config::tree::{Node, NodeKind};
use crate::config::value::text::{Factor, Whole};
use crate::config::value::time::Rate;
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyPart, Missing};
use crate::decision::limit::{Mode, OnStoreError};
use crate::decision::time::Span;

section! {
    /// How often something may happen: one of windows, smooth and backoff.
    Limit "a limit" {
        /// What is counted by; a list is one composite key.
        required "key" key: Located<OneOrMany<Located<KeyPart>>>;
        /// How the value is brought to one spelling: text (trim, NFKC, lower case), exact, email or phone.
        default("text") "as" form: Located<Form>;
        /// What a request without the value is counted by.
        default("ip") "missing" missing: Located<Missing>;
        /// requests, or failures: what the backend's answer says was a failed attempt (a route's `failure`).
        default("requests") "count" count: Located<Counted>;
        /// Rates, each held in every rolling window of its length. The labels are yours.
        optional "windows" windows: Located<Named<Label, Located<Rate>>>;
        /// An even pace: at most `burst` at once, then `rate`.
        optional "smooth" smooth: Located<Smooth>;
        /// After each failure in a row a longer wait, one attempt at a time; for `count: failures`.
        optional "backoff" backoff: Located<Backoff>;
        /// What one request costs.
        default("1") "cost" cost: Located<Whole<1, 1_000_000>>;
        /// shadow: decided, counted and logged, never refused.
        default("enforce") "mode" mode: Mode;
        /// Addresses this limit does not count.
        default("[]") "exempt" exempt: IpSet;
        /// Whether clients see the quota. Unset: they do, unless the value may be somebody else's.
        optional "headers" headers: Located<bool>;
        /// For how long a key is blocked once it exceeds this limit.
        optional "block" block: Located<BlockForm>;
        /// What this limit does while the shared store is away. Unset: as store.on_error says.
        optional "on_store_error" on_store_error: Located<OnStoreError>;
    }
}

section! {
    /// Pacing by GCRA: never more than burst + rate · t in any time t.
    Smooth "smooth" {
        /// The even pace.
        required "rate" rate: Located<Rate>;
        /// How many may come at once.
        required "burst" burst: Located<Whole<1, 1_000_000>>;
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Requests,
    Failures,
}

words! { Counted, "what can be counted", {
    Counted::Requests => "requests",
    Counted::Failures => "failures",
} }

section! {
    /// Waits that grow with each failure in a row.
    Backoff "backoff" {
        /// The wait after the first failure.
        default("1s") "base" base: Located<Span>;
        /// Each further wait is so many times longer.
        default("2") "factor" factor: Factor;
        /// No wait is longer.
        default("2h") "max" max: Located<Span>;
        /// So long after the end of a wait without a failure, the next one is a first again.
        default("15m") "forget" forget: Located<Span>;
    }
}

section! {
    /// A block that grows each time.
    Block "block" {
        /// The first block.
        required "for" span: Located<Span>;
        /// Each further block is so many times longer.
        default("2") "factor" factor: Factor;
        /// No block is longer.
        default("24h") "max" max: Located<Span>;
        /// After so long without a block the first length applies again.
        default("24h") "forget" forget: Located<Span>;
        /// Whether a request of a blocked key makes its block last the whole length anew.
        default("false") "prolong" prolong: bool;
    }
}

/// A block of one length, or one that grows.
#[derive(Clone, Debug)]
pub(crate) enum BlockForm {
    Fixed(Span),
    Growing(Block),
}

impl Value for BlockForm {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<BlockForm> {
        match &node.kind {
            NodeKind::Map(_) => Block::read(node, reader).map(BlockForm::Growing),
            NodeKind::Scalar { .. } | NodeKind::Seq(_) => Span::read(node, reader).map(BlockForm::Fixed),
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        let fixed = <Span as Value>::schema(definitions);
        json!({ "anyOf": [fixed, Block::schema(definitions)] })
    }
}

/// The name of a window, as it shows in `RateLimit-Policy` and in metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) Box<str>);

impl Scalar for Label {
    const EXPECTED: &'static str = "a label of letters, digits, `-` and `_`";

    fn parse(text: &str) -> Result<Label, Wrong> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if text.is_empty() || text.len() > 32 || !text.bytes().all(sound) {
            let shown = crate::config::place::shortened(text);
            return Err(
                Wrong::new(format!("`{shown}` is not {}", Label::EXPECTED)).write("use at most 32 of them")
            );
        }
        Ok(Label(text.into()))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,32}$" })
    }
}
