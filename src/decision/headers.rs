//! The limit headers of an answer, from the state of its tightest window.
//!
//! `X-RateLimit-*` as GitHub made them common, `RateLimit` and `RateLimit-Policy` in the syntax of
//! draft-ietf-httpapi-ratelimit-headers-11.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::answer::{HeaderStyle, IetfHeaders, LegacyHeaders};
use super::limit::{Limit, Mode, Rule, Shown};
use super::time::Timestamp;

/// A limit header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitHeader {
    Limit,
    Remaining,
    Reset,
    RateLimit,
    RateLimitPolicy,
}

impl LimitHeader {
    pub fn name(self) -> HeaderName {
        // As constants they are parsed when this is compiled, not at every answer.
        const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
        const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
        const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
        const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
        const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
        match self {
            LimitHeader::Limit => LIMIT,
            LimitHeader::Remaining => REMAINING,
            LimitHeader::Reset => RESET,
            LimitHeader::RateLimit => RATELIMIT,
            LimitHeader::RateLimitPolicy => RATELIMIT_POLICY,
        }
    }
}

/// One window of one limit of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowIndex {
    pub limit: u8,
    pub window: u8,
}

/// What a client is told of its tightest window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub of: WindowIndex,
    pub limit: u32,
    pub remaining: u32,
    /// When more becomes available; on a refusal, when a request is admitted again.
    pub resets_at: Timestamp,
}

/// How the windows of a route are called in `RateLimit`, and its `RateLimit-Policy`.
#[derive(Clone, Debug)]
pub struct QuotaNames {
    policy: Option<HeaderValue>,
    /// By limit and window, quoted.
    names: Box<[Box<[Box<str>]>]>,
}

impl QuotaNames {
    pub fn of(limits: &[Limit]) -> QuotaNames {
        let shown = || limits.iter().filter(|limit| limit.is_shown());
        let labels: Vec<&str> = shown().flat_map(Limit::labels).collect();
        let is_unique = |label: &str| labels.iter().filter(|known| **known == label).count() < 2;
        let name = |limit: &Limit, label: &str| {
            if is_unique(label) { quote(label) } else { quote(&format!("{}-{label}", limit.key)) }
        };
        let names = limits.iter().map(|limit| limit.labels().map(|label| name(limit, label)).collect());
        let items = shown().flat_map(|limit| {
            let sizes = limit.labels().zip(limit.sizes());
            sizes.map(|(label, (max, span_s))| format!("{};q={max};w={span_s}", name(limit, label)))
        });
        let policy = items.collect::<Vec<String>>().join(", ");
        QuotaNames {
            names: names.collect(),
            policy: if policy.is_empty() { None } else { HeaderValue::try_from(policy).ok() },
        }
    }

    fn name(&self, of: WindowIndex) -> &str {
        let limit = self.names.get(usize::from(of.limit));
        limit.and_then(|windows| windows.get(usize::from(of.window))).map_or("\"default\"", |name| name)
    }
}

impl Limit {
    fn is_shown(&self) -> bool {
        self.shown == Shown::Quota && self.mode == Mode::Enforce
    }

    /// The labels of the windows; a smooth limit has one, a backoff none.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let (windows, smooth) = match &self.rule {
            Rule::Windows(windows) | Rule::Failures(windows) => (windows.list(), None),
            Rule::Smooth(_) => (&[][..], Some("smooth")),
            Rule::Backoff(_) => (&[][..], None),
        };
        windows.iter().map(|window| &*window.label).chain(smooth)
    }

    /// How many in how many seconds, window by window.
    fn sizes(&self) -> impl Iterator<Item = (u32, u64)> {
        let (windows, smooth) = match &self.rule {
            Rule::Windows(windows) => (windows.list(), None),
            Rule::Smooth(smooth) => (&[][..], Some((smooth.burst.get(), smooth.refill().ceil_secs()))),
            // A count of failures is no quota of requests.
            Rule::Failures(_) | Rule::Backoff(_) => (&[][..], None),
        };
        windows.iter().map(|window| (window.max.get(), window.span.ceil_secs())).chain(smooth)
    }
}

/// Calls `add` with each header that an answer with this quota carries.
pub fn write(
    quota: &Quota,
    names: &QuotaNames,
    style: HeaderStyle,
    now: Timestamp,
    mut add: impl FnMut(LimitHeader, HeaderValue),
) {
    let delta_s = now.until(quota.resets_at).ceil_secs();
    let reset = match style.legacy {
        LegacyHeaders::Off => None,
        LegacyHeaders::ResetEpoch => Some(quota.resets_at.ceil_secs()),
        LegacyHeaders::ResetDelta => Some(delta_s),
    };
    let mut values = Values::new();
    if let Some(reset) = reset {
        values.add(LimitHeader::Limit, |text| text.number(quota.limit));
        values.add(LimitHeader::Remaining, |text| text.number(quota.remaining));
        values.add(LimitHeader::Reset, |text| text.number(reset));
    }
    let policy = match style.ietf {
        IetfHeaders::Off => None,
        IetfHeaders::On => {
            values.add(LimitHeader::RateLimit, |text| {
                text.put(names.name(quota.of)).put(";r=").number(quota.remaining).put(";t=").number(delta_s)
            });
            names.policy.as_ref()
        }
    };
    values.each(&mut add);
    if let Some(policy) = policy {
        add(LimitHeader::RateLimitPolicy, policy.clone());
    }
}

/// Header values that share the memory they are written to: two allocations each would be most of what
/// they cost.
struct Values {
    text: Text,
    /// Where in the text each of them ends.
    ends: SmallVec<[(LimitHeader, usize); 4]>,
}

struct Text(Vec<u8>);

impl Text {
    fn put(&mut self, part: &str) -> &mut Text {
        self.0.extend_from_slice(part.as_bytes());
        self
    }

    fn number(&mut self, number: impl itoa::Integer) -> &mut Text {
        self.put(itoa::Buffer::new().format(number))
    }
}

impl Values {
    fn new() -> Values {
        // As many bytes as nearly all of them take.
        Values { text: Text(Vec::with_capacity(64)), ends: SmallVec::new() }
    }

    fn add(&mut self, header: LimitHeader, write: impl FnOnce(&mut Text) -> &mut Text) {
        let end = write(&mut self.text).0.len();
        self.ends.push((header, end));
    }

    fn each(self, mut add: impl FnMut(LimitHeader, HeaderValue)) {
        let text = Bytes::from(self.text.0);
        let mut start = 0;
        for (header, end) in self.ends {
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(start..end)) {
                add(header, value);
            }
            start = end;
        }
    }
}

/// A string of RFC 9651 §3.3.3; what it cannot hold becomes an underscore.
fn quote(label: &str) -> Box<str> {
    let plain = label.chars().map(|c| match c {
        '"' | '\\' => '_',
        ' '..='~' => c,
        _ => '_',
    });
    format!("\"{}\"", plain.collect::<String>()).into_boxed_str()
}

#[cfg(test)]
mod tests;
