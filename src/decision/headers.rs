//! The limit headers of an answer, from the state of its tightest window.
//!
//! `X-RateLimit-*` as GitHub made them common, `RateLimit` and `RateLimit-Policy` in the syntax of
//! draft-ietf-httpapi-ratelimit-headers-11.

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

/// Calls `add` with each header that an answer with this quota carries, and its value.
pub fn write(
    quota: &Quota,
    names: &QuotaNames,
    style: HeaderStyle,
    now: Timestamp,
    mut add: impl FnMut(LimitHeader, &[u8]),
) {
    let delta_s = now.until(quota.resets_at).ceil_secs();
    let reset = match style.legacy {
        LegacyHeaders::Off => None,
        LegacyHeaders::ResetEpoch => Some(quota.resets_at.ceil_secs()),
        LegacyHeaders::ResetDelta => Some(delta_s),
    };
    let mut digits = itoa::Buffer::new();
    if let Some(reset) = reset {
        add(LimitHeader::Limit, digits.format(quota.limit).as_bytes());
        add(LimitHeader::Remaining, digits.format(quota.remaining).as_bytes());
        add(LimitHeader::Reset, digits.format(reset).as_bytes());
    }
    match style.ietf {
        IetfHeaders::Off => {}
        IetfHeaders::On => {
            let mut text: SmallVec<[u8; 96]> = SmallVec::new();
            text.extend_from_slice(names.name(quota.of).as_bytes());
            text.extend_from_slice(b";r=");
            text.extend_from_slice(digits.format(quota.remaining).as_bytes());
            text.extend_from_slice(b";t=");
            text.extend_from_slice(digits.format(delta_s).as_bytes());
            add(LimitHeader::RateLimit, &text);
            if let Some(policy) = &names.policy {
                add(LimitHeader::RateLimitPolicy, policy.as_bytes());
            }
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
