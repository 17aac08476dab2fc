mod otp;

use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::config::{Environment, Frozen, Loaded, load};
use crate::decision::limit::{OnStoreError, Rule, Shown};
use crate::store::spec::StoreKind;

const HEAD: &str = "
version: 1
listen: [{ address: 127.0.0.1:8080 }]
upstreams: { app: { servers: [127.0.0.1:8000] } }
";

fn loaded(text: &str) -> Loaded {
    try_load(text).unwrap_or_else(|brief| panic!("{}", brief.join("\n")))
}

fn try_load(text: &str) -> Result<Loaded, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, text).unwrap();
    let mut loaded =
        load(&path, &Environment::empty()).map_err(|refused| refused.problems.brief().collect::<Vec<_>>())?;
    // The folder is another one each time, which is no difference between two files.
    let store = Arc::make_mut(&mut loaded.config.store);
    if let Ok(data_dir) = store.data_dir.strip_prefix(folder.path()) {
        store.data_dir = data_dir.to_owned();
    }
    Ok(loaded)
}

fn with_limits(limits: &str) -> Loaded {
    loaded(&format!(
        "{HEAD}routes: [{{ name: all, match: {{ path: \"/{{id}}\" }}, upstream: app, limits: {limits} }}]"
    ))
}

#[test]
fn the_shipped_configuration_is_sound() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml");
    let environment =
        Environment::empty().with("JWT_SECRET", "x".repeat(32)).with("OTP_TOKEN_SECRET", "y".repeat(32));
    let loaded = load(&path, &environment).unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.rules.routes().len(), 10);
    assert_eq!(loaded.config.upstreams[0].servers[0].to_string(), "127.0.0.1:8000");
}

#[test]
fn the_configuration_beside_the_compose_file_is_sound() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("compose/gateway.yaml");
    let password = "known-to-everybody-for-the-demo-alone";
    let environment =
        Environment::empty().with("JWT_SECRET", "x".repeat(32)).with("REDIS_PASSWORD", password);
    let environment = environment.with("TOLLGATE_ADMIN_TOKEN", password);
    let loaded = load(&path, &environment).unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.store.to_string(), "Redis, prefix tg:, 10ms");
}

#[test]
fn rules_come_out_as_they_were_written() {
    let loaded = with_limits(
        "[{ key: body.email, windows: { a: 2/min, b: 3/hour } }, { key: ip, smooth: { rate: 50/s, burst: 100 } }]",
    );
    let limits = loaded.config.rules.routes()[0].limits();
    let Rule::Windows(windows) = &limits[0].rule else { panic!() };
    assert_eq!(windows.list().len(), 2);
    assert_eq!(limits[0].shown, Shown::RetryAfter);
    let Rule::Smooth(smooth) = &limits[1].rule else { panic!() };
    assert_eq!((smooth.burst.get(), smooth.replenish_one_ns), (100, 20_000_000));
    assert_eq!(limits[1].shown, Shown::Quota);
}

#[test]
fn a_limit_keeps_its_identity_while_its_numbers_change() {
    let ids = |limits: &str| -> Vec<_> {
        with_limits(limits).config.rules.routes()[0].limits().iter().map(|limit| limit.id).collect()
    };
    let before = ids("[{ key: ip, windows: { a: 2/min } }, { key: path.id, windows: { a: 2/min } }]");
    let after = ids(
        "[{ key: path.id, windows: { b: 9/day }, mode: shadow }, { key: ip, windows: { a: 5/min, c: 7/h } }]",
    );
    assert_eq!(before, [after[1], after[0]]);
    assert_ne!(
        before,
        ids(
            "[{ key: ip, smooth: { rate: 2/min, burst: 2 } }, { key: path.id, as: exact, windows: { a: 2/min } }]"
        )
    );
    let twice = ids("[{ key: ip, windows: { a: 2/min } }, { key: ip, windows: { a: 2/min } }]");
    assert_ne!(twice[0], twice[1]);
    assert_eq!(twice[0], before[0]);
}

#[test]
fn mistakes_of_every_stage_are_told_in_one_run() {
    let told = try_load(
        "version: 1
listen: [{ address: 8080 }]
upstreams: { app: { servers: [127.0.0.1:8000], balnce: round_robin } }
policies:
  otp: [{ key: ip, windows: { burst: 5/fortnight } }, { key: ip }]
routes:
  - { name: a, match: { method: post, path: /a }, upstream: ap, policies: [otpp] }
  - { name: a, match: { path: b }, upstream: app, limits: [{ key: path.id, windows: { w: 1/min }, cost: 2 }] }
responses: { limited: { body: '{{ retry }}' } }
",
    )
    .unwrap_err();
    let places: Vec<&str> = told.iter().map(|line| line.split("gateway.yaml:").nth(1).unwrap()).collect();
    let expected = [
        "2:21: listen[0].address",
        "3:48: upstreams.app.balnce",
        "5:38: policies.otp[0].windows.burst",
        "5:55: policies.otp[1]",
        "7:33: routes[0].match.method",
        "7:61: routes[0].upstream",
        "7:76: routes[0].policies[0]",
        "8:13: routes[1].name",
        "8:31: routes[1].match.path",
        "8:105: routes[1].limits[0].cost",
        "9:31: responses.limited.body",
    ];
    for (place, expected) in places.iter().zip(expected) {
        assert!(place.starts_with(expected), "{expected} is not where {place} is:\n{}", told.join("\n"));
    }
    assert_eq!(places.len(), expected.len(), "{}", told.join("\n"));
}

#[test]
fn what_cannot_change_live_is_named() {
    let load = |listen: u16, admin: u16, workers: u8| {
        loaded(&format!(
            "{}admin: {{ address: 127.0.0.1:{admin} }}\nserver: {{ workers: {workers} }}\n\
             routes: [{{ name: all, match: {{ path: /* }}, upstream: app }}]",
            HEAD.replace("8080", &listen.to_string()),
        ))
        .config
    };
    assert_eq!(Frozen::of(&load(1, 2, 3)).differences(&load(1, 2, 3)), Vec::<&str>::new());
    assert_eq!(
        Frozen::of(&load(1, 2, 3)).differences(&load(4, 5, 6)),
        ["listen", "admin.address", "server.workers"]
    );
}

#[test]
fn every_file_is_watched_also_those_of_a_refused_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let routes = "routes: [{ name: all, match: { path: /* }, upstream: app }]";
    std::fs::write(&path, format!("{HEAD}access: {{ deny: [\"file:deny.txt\"] }}\n{routes}")).unwrap();
    let refused = load(&path, &Environment::empty()).unwrap_err();
    let watched = |files: &[crate::config::watch::WatchedFile]| -> Vec<_> {
        files.iter().map(|file| file.path().file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(watched(&refused.files), ["gateway.yaml", "deny.txt"]);
    std::fs::write(folder.path().join("deny.txt"), "# bad people\n192.0.2.0/24 # a network\n\n").unwrap();
    let loaded = load(&path, &Environment::empty()).unwrap();
    assert_eq!(watched(&loaded.files), ["gateway.yaml", "deny.txt"]);
    assert!(loaded.config.rules.access.deny.contains("192.0.2.9".parse().unwrap()));
}

#[test]
fn doubtful_choices_are_warned_of() {
    let warnings = |rest: &str| -> Vec<String> {
        loaded(&format!("{HEAD}{rest}")).warnings.iter().map(|warning| warning.brief()).collect()
    };
    let all = "routes: [{ name: all, match: { path: /* }, upstream: app, policies: [p] }]\n";
    let check = |rest: &str, expected: &str| {
        let warnings = warnings(rest);
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{expected}: {warnings:?}");
    };
    check(
        &format!("{all}policies: {{ p: [{{ key: user, windows: {{ a: 1/s }} }}] }}"),
        "`user` counts by address",
    );
    check(
        &format!("{all}policies: {{ p: [{{ key: ip, windows: {{ a: 9/min, b: 5/h }} }}] }}"),
        "window `a` never matters: `b` allows 5 in 1h",
    );
    check(
        &format!(
            "{all}policies: {{ p: [{{ key: ip, windows: {{ a: 1/s }} }}], q: [{{ key: ip, windows: {{ a: 1/s }} }}] }}"
        ),
        "policy `q` is used by no route",
    );
    check(&format!("{all}policies: {{ p: [] }}"), "policy `p` has no limit");
    check(
        &format!("{all}policies: {{ p: [{{ key: global, windows: {{ a: 1/s }}, block: 1m }}] }}"),
        "everybody is blocked",
    );
    let rest = "routes: [{ name: all, match: { path: /* }, upstream: app }]\n";
    check(&format!("{rest}user: {{ jwt: {{ secret: \"\" }} }}"), "the secret is empty");
    check(&format!("{rest}user: {{ jwt: {{ secret: short }} }}"), "shorter than 32 bytes");
    check(&format!("{rest}user: {{ header: x-user }}"), "nobody's header is believed");
}

const ALL: &str = "routes: [{ name: all, match: { path: /* }, upstream: app }]\n";
const CLOSED: &str = "routes: [{ name: all, match: { path: /* }, upstream: app, \
                      limits: [{ key: ip, windows: { a: 1/s }, on_store_error: closed }] }]\n";

fn with_store(store: &str) -> Loaded {
    loaded(&format!("{HEAD}{ALL}store: {store}\n"))
}

#[test]
fn the_data_is_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    for (written, expected) in [
        ("{}", folder.path().join("data")),
        ("{ data_dir: ./x/y }", folder.path().join("x/y")),
        ("{ data_dir: ../x }", folder.path().join("../x")),
        ("{ data_dir: /var/lib/tollgate/ }", "/var/lib/tollgate".into()),
    ] {
        std::fs::write(&path, format!("{HEAD}{ALL}store: {written}\n")).unwrap();
        let loaded = load(&path, &Environment::empty()).unwrap_or_else(|refused| panic!("{refused}"));
        assert_eq!(loaded.config.store.data_dir, expected, "{written}");
    }
}

#[test]
fn stores_come_out_as_they_were_written() {
    let check =
        |store: &str, told: &str| assert_eq!(with_store(store).config.store.to_string(), told, "{store}");
    check("{}", "memory, 1000000 keys");
    check("{ kind: memory, max_keys: 5000, on_error: local }", "memory, 5000 keys");
    check("{ kind: redis, url: 'redis://127.0.0.1:6379/3' }", "Redis, prefix tg:, 10ms");
    check("{ kind: redis, url: 'rediss://a:b@c', prefix: 'x{y}', timeout: 2s }", "Redis, prefix x{y}, 2s");
    check("{ kind: redis, url: ['redis://a'] }", "Redis cluster by 1 node, prefix tg:, 10ms");
    check("{ kind: redis, url: ['redis://a', 'redis://b'] }", "Redis cluster by 2 nodes, prefix tg:, 10ms");
    check(
        "{ kind: redis, sentinel: { master: m, urls: ['redis://a'] } }",
        "Redis `m` by 1 sentinel, prefix tg:, 10ms",
    );
    check(
        "{ kind: redis, url: 'redis://:p@x/2', sentinel: { master: m, urls: ['redis://a', 'redis://b'] } }",
        "Redis `m` by 2 sentinels, prefix tg:, 10ms",
    );
    check("{ kind: upstash, url: 'https://a.upstash.io', token: t }", "Upstash, prefix tg:, 150ms");
}

#[test]
fn a_limit_without_a_word_of_its_own_does_what_the_store_says() {
    let check = |store: &str, own: &str, expected: OnStoreError| {
        let limit = format!("{{ key: ip, windows: {{ a: 1/s }}{own} }}");
        let config = loaded(&format!(
            "{HEAD}store: {store}\npolicies: {{ p: [{limit}] }}\n\
             routes: [{{ name: all, match: {{ path: /* }}, upstream: app, policies: [p], limits: [{limit}] }}]"
        ))
        .config;
        for limit in config.rules.routes()[0].limits() {
            assert_eq!(limit.on_store_error, expected, "{store} {own}");
        }
    };
    check("{}", "", OnStoreError::Local);
    check("{ kind: redis, url: 'redis://a' }", "", OnStoreError::Local);
    check("{ kind: redis, url: 'redis://a', on_error: closed }", "", OnStoreError::Closed);
    check(
        "{ kind: redis, url: 'redis://a', on_error: closed }",
        ", on_store_error: local",
        OnStoreError::Local,
    );
    check("{ kind: redis, url: 'redis://a' }", ", on_store_error: open", OnStoreError::Open);
    check("{}", ", on_store_error: closed", OnStoreError::Closed);
}

#[test]
fn keys_are_hashed_under_the_secret_or_what_opens_the_store() {
    let check = |store: &str, expected: Option<&str>| {
        let config = with_store(store).config;
        let StoreKind::Shared(shared) = &config.store.kind else { panic!("{store}") };
        let secret = shared.hashing_secret();
        assert_eq!(secret.as_ref().map(ExposeSecret::expose_secret), expected, "{store}");
    };
    check("{ kind: redis, url: 'redis://a' }", None);
    check("{ kind: redis, url: 'redis://:p@a' }", Some("p"));
    check("{ kind: redis, url: ['redis://a', 'redis://:q@b'] }", Some("q"));
    check("{ kind: redis, url: 'redis://:p@a', secret: '0123456789abcdef' }", Some("0123456789abcdef"));
    check("{ kind: redis, sentinel: { master: m, urls: ['redis://:s@a'] } }", None);
    check("{ kind: redis, url: 'redis://:p@x', sentinel: { master: m, urls: ['redis://:s@a'] } }", Some("p"));
    check("{ kind: upstash, url: 'https://a.upstash.io', token: t }", Some("t"));
}

#[test]
fn doubtful_stores_are_warned_of() {
    let check = |rest: &str, expected: &[&str]| {
        let warnings = loaded(&format!("{HEAD}{rest}")).warnings;
        let told: Vec<String> = warnings.iter().map(|warning| warning.brief()).collect();
        assert_eq!(told.len(), expected.len(), "{rest}: {told:?}");
        told.iter()
            .zip(expected)
            .for_each(|(told, expected)| assert!(told.contains(expected), "{rest}: {told}"));
    };
    let store = |store: &str| format!("{ALL}store: {store}");
    check(
        &store("{ kind: redis, url: 'redis://a' }"),
        &["store.url: whoever can read the store can test guesses"],
    );
    check(
        &store("{ kind: redis, sentinel: { master: m, urls: ['redis://:long-enough-to-hash@a'] } }"),
        &["store.sentinel: whoever can read the store"],
    );
    check(&store("{ kind: redis, url: 'redis://:short@a' }"), &["shorter than 16 bytes; set store.secret"]);
    check(&store("{ kind: redis, url: 'redis://:0123456789abcdef@a' }"), &[]);
    check(&store("{ kind: redis, url: 'redis://a', secret: 0123456789abcdef }"), &[]);
    check(CLOSED, &["`on_store_error: closed` never applies: a store in memory is never away"]);
    let redis = "store: { kind: redis, url: 'redis://a', secret: 0123456789abcdef, on_error: closed }\n";
    let ready = "admin: { ready_needs_store: true }\n";
    let shadow = CLOSED.replace("key: ip", "key: ip, mode: shadow");
    check(&format!("{ready}{redis}{CLOSED}"), &[]);
    check(&format!("{ready}{ALL}"), &["admin.ready_needs_store: `ready_needs_store` never applies"]);
    check(&format!("{ready}{redis}{ALL}"), &["`ready_needs_store` never applies"]);
    check(&format!("{ready}{redis}{shadow}"), &["`ready_needs_store` never applies"]);
}

#[test]
fn what_of_a_store_cannot_change_live_is_named_without_its_value() {
    let check = |before: &str, after: &str, expected: &[&str]| {
        let frozen = Frozen::of(&with_store(before).config);
        assert_eq!(frozen.differences(&with_store(after).config), expected, "{before} {after}");
        let shown = format!("{frozen:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("a-secret-of-the-test"), "{shown}");
    };
    let redis = "{ kind: redis, url: 'redis://:hunter2@a', secret: a-secret-of-the-test }";
    check(redis, redis, &[]);
    check(redis, &redis.replace(" }", ", on_error: open }"), &[]);
    check(redis, &redis.replace(" }", ", prefix: 'tg:', timeout: 10ms }"), &[]);
    check(redis, &redis.replace("hunter2", "hunter3"), &["store.url"]);
    check(redis, &redis.replace("@a", "@b"), &["store.url"]);
    check(redis, &redis.replace("'redis://:hunter2@a'", "['redis://:hunter2@a']"), &["store.url"]);
    check(redis, &redis.replace("of-the-test", "of-another"), &["store.secret"]);
    check(redis, &redis.replace(", secret: a-secret-of-the-test", ""), &["store.secret"]);
    check(
        redis,
        &redis.replace(" }", ", max_keys: 5000, data_dir: /x, prefix: 'x:', timeout: 20ms }"),
        &["store.max_keys", "store.data_dir", "store.prefix", "store.timeout"],
    );
    let sentinel = redis.replace(" }", ", sentinel: { master: m, urls: ['redis://s'] } }");
    check(redis, &sentinel, &["store.sentinel"]);
    check(&sentinel, &sentinel.replace("//s", "//t"), &["store.sentinel"]);
    let upstash = "{ kind: upstash, url: 'https://a.upstash.io', token: hunter2 }";
    check(upstash, &upstash.replace("hunter2", "hunter3"), &["store.token"]);
    check(upstash, &upstash.replace("//a", "//b"), &["store.url"]);
    for (before, after) in [("{}", redis), (redis, "{}"), (redis, upstash), (upstash, redis)] {
        check(before, after, &["store.kind"]);
    }
}
