//! `key: user`: who proves to be somebody is counted as that, and all others by address.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use crate::harness::backend::Backend;
use crate::harness::client::Client;
use crate::harness::gateway::{Gateway, seconds};

const SECRET: &str = "a secret that is at least 32 bytes long";
/// The hand-turned clock's start, seconds.
const NOW: u64 = 1_800_000_000;

const ROUTES: &str = r#"
routes:
  - { name: all, match: { path: /* }, upstream: app, limits: [{ key: user, windows: { each: 2/min } }] }
"#;

fn signed(header: &Value, claims: &Value, secret: &str) -> String {
    let encoded = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = encoded.join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
    format!("{text}.{signature}")
}

fn token(claims: &Value) -> String {
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), claims, SECRET)
}

fn bearer(sub: &str) -> String {
    format!("Bearer {}", token(&json!({ "sub": sub, "exp": NOW + 3600 })))
}

async fn status(gateway: &Gateway, last: u8, headers: &[(&str, &str)]) -> u16 {
    let mut client = Client::connect_from([127, 0, 0, last].into(), gateway.address).await;
    let mut request = client.request("GET", "/");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await.status
}

fn jwt(more: &str) -> String {
    format!("user: {{ jwt: {{ secret: \"{SECRET}\"{more} }} }}\n{ROUTES}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bearer_of_a_token_is_its_subject_wherever_they_come_from() {
    let backend = Backend::ok().await;
    let (gateway, clock) = Gateway::with_clock(&backend, &jwt("")).await;
    let [ann, bob] = [bearer("ann"), bearer("bob")];
    for (last, authorization, expected) in
        [(1, &ann, 200), (2, &ann, 200), (3, &ann, 429), (1, &bob, 200), (1, &bob, 200), (1, &bob, 429)]
    {
        let headers = [("authorization", authorization.as_str())];
        assert_eq!(status(&gateway, last, &headers).await, expected, "127.0.0.{last}");
    }
    // Another token of the same user, and another spelling of the scheme, are the same user.
    let other = token(&json!({ "sub": "ann", "exp": NOW + 7200, "jti": 7 }));
    for spelled in [format!("bearer {other}"), format!("BEARER  {other}")] {
        assert_eq!(status(&gateway, 9, &[("authorization", &spelled)]).await, 429, "{spelled}");
    }
    // A user called by an address is not that address.
    assert_eq!(status(&gateway, 1, &[("authorization", &bearer("127.0.0.1"))]).await, 200);
    for expected in [200, 200, 429] {
        assert_eq!(status(&gateway, 1, &[]).await, expected);
    }
    // The token reaches the backend as it came.
    assert_eq!(backend.received()[0].headers.get("authorization"), Some(ann.as_str()));

    clock.advance(seconds(3600));
    // An hour later it has expired, but for what two clocks may be apart.
    assert_eq!(status(&gateway, 20, &[("authorization", &ann)]).await, 200);
    assert_eq!(status(&gateway, 21, &[("authorization", &ann)]).await, 200);
    assert_eq!(status(&gateway, 22, &[("authorization", &ann)]).await, 429);
    clock.advance(seconds(30));
    assert_eq!(status(&gateway, 22, &[("authorization", &ann)]).await, 200, "by address now");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_is_counted_by_address() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, &jwt("")).await;
    for expected in [200, 200] {
        assert_eq!(status(&gateway, 1, &[]).await, expected);
    }
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let claims = json!({ "sub": "ann", "exp": NOW + 3600 });
    let good = token(&claims);
    let (signed_part, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = signed_part.split_once('.').unwrap();
    let swapped = URL_SAFE_NO_PAD.encode(json!({ "sub": "bob", "exp": NOW + 3600 }).to_string());
    for (told, forged) in [
        ("another secret", signed(&header, &claims, "another secret that is long enough too")),
        ("other claims", format!("{head}.{swapped}.{signature}")),
        ("no signature", format!("{signed_part}.")),
        ("two parts", signed_part.to_owned()),
        ("a cut signature", good[..good.len() - 2].to_owned()),
        (
            "alg none",
            format!("{}.", signed(&json!({ "alg": "none" }), &claims, SECRET).rsplit_once('.').unwrap().0),
        ),
        ("alg none, signed", signed(&json!({ "alg": "none" }), &claims, SECRET)),
        ("alg HS512", signed(&json!({ "alg": "HS512" }), &claims, SECRET)),
        ("alg RS256", signed(&json!({ "alg": "RS256" }), &claims, SECRET)),
        ("no alg", signed(&json!({ "typ": "JWT" }), &claims, SECRET)),
        ("critical", signed(&json!({ "alg": "HS256", "crit": ["x"], "x": 1 }), &claims, SECRET)),
        ("expired", token(&json!({ "sub": "ann", "exp": NOW - 31 }))),
        ("without an end", token(&json!({ "sub": "ann" }))),
        ("not yet", token(&json!({ "sub": "ann", "exp": NOW + 3600, "nbf": NOW + 31 }))),
        ("no subject", token(&json!({ "exp": NOW + 3600 }))),
        ("an empty subject", token(&json!({ "sub": "", "exp": NOW + 3600 }))),
        ("a list of subjects", token(&json!({ "sub": ["ann"], "exp": NOW + 3600 }))),
        ("not a token", "x".to_owned()),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("long", "a".repeat(20_000)),
    ] {
        let authorization = format!("Bearer {forged}");
        assert_eq!(status(&gateway, 1, &[("authorization", &authorization)]).await, 429, "{told}");
    }
    let [ann, bob] = [bearer("ann"), bearer("bob")];
    for headers in [
        &[("authorization", "Basic YW5uOmJvYg==")][..],
        &[("authorization", ann.as_str()), ("authorization", bob.as_str())],
        &[("authorization", &format!("Basic {good}"))],
        &[("x-authorization", ann.as_str())],
        &[("cookie", &format!("authorization={good}"))],
    ] {
        assert_eq!(status(&gateway, 1, headers).await, 429, "{headers:?}");
    }
    assert_eq!(status(&gateway, 1, &[("authorization", &ann)]).await, 200, "ann has used nothing");
    assert_eq!(backend.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_and_its_claim_stand_where_the_file_says() {
    let backend = Backend::ok().await;
    let rules = jwt(", header: x-token, claim: uid");
    let (gateway, _clock) = Gateway::with_clock(&backend, &rules).await;
    let seven = token(&json!({ "sub": "ann", "uid": 7, "exp": NOW + 60 }));
    let eight = token(&json!({ "sub": "ann", "uid": 8, "exp": NOW + 60 }));
    for (name, value, expected) in [
        ("x-token", &seven, 200),
        ("x-token", &seven, 200),
        ("x-token", &seven, 429),
        ("x-token", &eight, 200),
        ("authorization", &eight, 200),
        ("authorization", &seven, 200),
        ("authorization", &eight, 429),
    ] {
        assert_eq!(status(&gateway, 1, &[(name, value)]).await, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_header_is_believed_from_trusted_proxies_alone() {
    let backend = Backend::ok().await;
    let rules =
        format!("client_ip: {{ trusted_proxies: [127.0.0.1] }}\nuser: {{ header: x-user-id }}\n{ROUTES}");
    let (gateway, _clock) = Gateway::with_clock(&backend, &rules).await;
    for (last, headers, expected) in [
        (1, &[("x-user-id", "ann"), ("x-forwarded-for", "192.0.2.1")][..], 200),
        (1, &[("x-user-id", "ann"), ("x-forwarded-for", "192.0.2.2")], 200),
        (1, &[("x-user-id", "ann"), ("x-forwarded-for", "192.0.2.3")], 429),
        (1, &[("x-user-id", "bob")], 200),
        // Strangers are their address, whoever they say they are.
        (2, &[("x-user-id", "ann")], 200),
        (2, &[("x-user-id", "bob")], 200),
        (2, &[("x-user-id", "eve")], 429),
        // Two names are none.
        (1, &[("x-user-id", "eve"), ("x-user-id", "mal"), ("x-forwarded-for", "127.0.0.2")], 429),
    ] {
        assert_eq!(status(&gateway, last, headers).await, expected, "{headers:?} by 127.0.0.{last}");
    }
    // The backend may believe the header, since it comes from the proxy or not at all.
    let seen: Vec<Option<String>> =
        backend.received().iter().map(|got| got.headers.get("x-user-id").map(str::to_owned)).collect();
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(seen, [some("ann"), some("ann"), some("bob"), None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_stands_for_its_user() {
    let backend = Backend::ok().await;
    let (gateway, _clock) =
        Gateway::with_clock(&backend, &format!("user: {{ cookie: sid }}\n{ROUTES}")).await;
    for (last, cookie, expected) in [
        (1, "sid=one", 200),
        (2, "a=1; sid=one", 200),
        (3, "sid=\"one\"", 429),
        (3, "sid=%6Fne", 429),
        (1, "sid=two", 200),
        // No cookie, an empty one, several: the address.
        (9, "other=1", 200),
        (9, "sid=", 200),
        (9, "sid=one; sid=three", 429),
        (9, "SID=three", 429),
    ] {
        assert_eq!(status(&gateway, last, &[("cookie", cookie)]).await, expected, "{cookie}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_to_prove_it_everybody_is_their_address() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, ROUTES).await;
    let ann = bearer("ann");
    for expected in [200, 200, 429] {
        let headers = [("authorization", ann.as_str()), ("x-user-id", "ann"), ("cookie", "sid=ann")];
        assert_eq!(status(&gateway, 1, &headers).await, expected);
    }
    assert_eq!(status(&gateway, 2, &[("authorization", &ann)]).await, 200);
}
