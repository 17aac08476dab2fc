//! The hot paths of a decision, one at a time: matching a route, building a key, asking the store.
//!
//! `cargo bench --bench hot_paths`. The ten-million-key groups need about 1 GiB and say how many
//! bytes a key takes. The clock stands still throughout, so that reading it is not measured.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use http::{HeaderMap, HeaderValue, Method};
use tollgate::decision::client::{ClientRules, ForwardedHeader};
use tollgate::decision::ipset::IpSet;
use tollgate::decision::key::{Form, KeyHash, KeyHasher, KeyPart, KeySpec, LimitId, Missing, PartTag};
use tollgate::decision::limit::{Limit, Mode, OnStoreError, Rule, Shown, Window, Windows};
use tollgate::decision::path::NormalPath;
use tollgate::decision::route::{
    HostPattern, LetterCase, Methods, PathPattern, RoutePattern, RouteTable, TrailingSlash,
};
use tollgate::decision::tally::Charge;
use tollgate::decision::time::{Span, Timestamp};
use tollgate::store::memory::MemoryStore;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const MANY_KEYS: u64 = 10_000_000;

fn limit(windows: &[(u32, u64)]) -> Limit {
    let list = windows.iter().enumerate().map(|(index, &(max, span_s))| Window {
        label: format!("w{index}").into(),
        max: NonZeroU32::new(max).expect("not zero"),
        span: Span::from_secs(span_s),
    });
    Limit {
        id: LimitId::derive(&["bench"]),
        policy: "bench".into(),
        key: KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Text, missing: Missing::Ip },
        rule: Rule::Windows(Windows::new(list.collect(), NonZeroU32::MIN).expect("sound windows")),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::Quota,
        block: None,
        on_store_error: OnStoreError::Local,
    }
}

/// Spreads consecutive numbers as a keyed hash does, without its cost.
fn key(value: u64) -> KeyHash {
    let high = value.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let low = (high ^ (high >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    KeyHash::from_u128((u128::from(high) << 64) | u128::from(low))
}

fn routing(criterion: &mut Criterion) {
    let pattern = |text: String| RoutePattern {
        host: HostPattern::Any,
        methods: Methods::Only([Method::POST].into_iter().collect()),
        path: PathPattern::parse(&text).expect("a pattern"),
        letter_case: LetterCase::Ignored,
        trailing_slash: TrailingSlash::Ignored,
    };
    let mut patterns: Vec<RoutePattern> =
        (0..50).map(|n| pattern(format!("/api/v{n}/{{id}}/items"))).collect();
    patterns.push(pattern("/api/auth/login".to_owned()));
    patterns.push(pattern("/*".to_owned()));
    let table = RouteTable::new(&patterns).expect("no ties");
    let mut group = criterion.benchmark_group("route");
    group.bench_function("normalise a path", |bench| {
        bench.iter(|| NormalPath::parse(black_box("/api/auth/login")))
    });
    let path = NormalPath::parse("/api/auth/login").expect("a path");
    group.bench_function("literal of 52", |bench| {
        bench.iter(|| table.find(|| "example.com", &Method::POST, black_box(&path)));
    });
    let path = NormalPath::parse("/api/v31/12345/items").expect("a path");
    group.bench_function("parameter of 52", |bench| {
        bench.iter(|| table.find(|| "example.com", &Method::POST, black_box(&path)));
    });
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    let rules =
        ClientRules { trusted: IpSet::default(), header: ForwardedHeader::XForwardedFor, ipv6_prefix: 64 };
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9, 10.0.0.1"));
    let peer = "192.0.2.7".parse().expect("an address");
    group.bench_function("client of an untrusted peer", |bench| {
        bench.iter(|| rules.identify(black_box(peer), &headers))
    });
    let hasher = KeyHasher::new([7; 16]);
    let id = LimitId::derive(&["policy:login", "ip"]);
    let client = rules.identify(peer, &headers);
    group.bench_function("hash an address", |bench| {
        bench.iter(|| {
            let mut writer = hasher.key(black_box(id));
            writer.push(PartTag::Ip, &client.key_bytes());
            writer.finish()
        });
    });
    group.finish();
}

/// One key that is never full: it is charged once a round, far enough apart to stay admitted.
fn decision(criterion: &mut Criterion) {
    let one = limit(&[(10, 60)]);
    let three = limit(&[(2, 60), (3, 3600), (10, 86_400)]);
    let large = limit(&[(100, 60)]);
    for (name, limit) in [("1 window", &one), ("3 windows", &three), ("1 window of buckets", &large)] {
        let mut group = criterion.benchmark_group(format!("decision, {name}"));
        let store = MemoryStore::new(100_000);
        let mut now = NOW;
        group.bench_function("hot, admitted", |bench| {
            bench.iter(|| {
                now = now.plus(Span::from_secs(86_401));
                store.take(black_box(&[Charge { key: key(1), limit }]), now)
            });
        });
        (0..200).for_each(|_| drop(store.take(&[Charge { key: key(2), limit }], now)));
        group.bench_function("hot, refused", |bench| {
            bench.iter(|| store.take(black_box(&[Charge { key: key(2), limit }]), now));
        });
        group.finish();
    }
}

fn many_keys(criterion: &mut Criterion) {
    let one = limit(&[(10, 60)]);
    let three = limit(&[(2, 60), (3, 3600), (10, 86_400)]);
    let before = resident_bytes();
    let store = MemoryStore::new(MANY_KEYS as usize + 1_000_000);
    (0..MANY_KEYS).for_each(|value| drop(store.take(&[Charge { key: key(value), limit: &three }], NOW)));
    let bytes = resident_bytes().saturating_sub(before) / MANY_KEYS;
    println!("3 windows: {bytes} B a key at {MANY_KEYS} keys");
    let mut turn = 0_u64;
    for (name, limit) in [("1 window", &one), ("3 windows", &three)] {
        let mut group = criterion.benchmark_group(format!("decision, {name}"));
        let mut next = || {
            turn = (turn + 7_919_117) % MANY_KEYS;
            key(turn)
        };
        group.bench_function("10 M keys", |bench| {
            bench.iter_batched(
                &mut next,
                |key| store.take(&[Charge { key, limit }], NOW),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<u64>().ok());
    resident.unwrap_or_default() * PAGE_BYTES
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    // First, so that its memory is not what others have given back.
    many_keys(&mut criterion);
    routing(&mut criterion);
    keys(&mut criterion);
    decision(&mut criterion);
    criterion.final_summary();
}
