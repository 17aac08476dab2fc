use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use ring::rand::SystemRandom;
use ring::signature::{self, KeyPair as _};
use ring::{hmac, rand};
use serde_json::{Value, json};

use super::*;
use crate::identity::{UserRules, UserSource};

const NOW_S: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A key pair of the issuer.
enum Issuer {
    Hs256(Vec<u8>),
    Rs256(signature::RsaKeyPair),
    Es256(signature::EcdsaKeyPair),
    EdDsa(signature::Ed25519KeyPair),
}

impl Issuer {
    fn new(algorithm: Algorithm) -> Issuer {
        let rng = SystemRandom::new();
        match algorithm {
            Algorithm::Hs256 => {
                let secret: [u8; 32] = rand::generate(&rng).unwrap().expose();
                Issuer::Hs256(secret.to_vec())
            }
            // ring makes no RSA keys: this one was made for these tests and is used nowhere else.
            Algorithm::Rs256 => {
                let text = include_str!("tests/rsa2048_throwaway.b64").replace('\n', "");
                Issuer::Rs256(signature::RsaKeyPair::from_der(&STANDARD.decode(text).unwrap()).unwrap())
            }
            Algorithm::Es256 => {
                let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let pkcs8 = signature::EcdsaKeyPair::generate_pkcs8(kind, &rng).unwrap();
                Issuer::Es256(signature::EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &rng).unwrap())
            }
            Algorithm::EdDsa => {
                let pkcs8 = signature::Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
                Issuer::EdDsa(signature::Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
            }
        }
    }

    fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = match self {
            Issuer::Hs256(secret) => json!({"kty": "oct", "k": encoded(secret)}),
            Issuer::Rs256(pair) => {
                let public = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": encoded(&public.n), "e": encoded(&public.e)})
            }
            Issuer::Es256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..])})
            }
            Issuer::EdDsa(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key().as_ref())})
            }
        };
        if let Some(kid) = kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match self {
            Issuer::Hs256(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
            Issuer::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &rng, message, &mut signature).unwrap();
                signature
            }
            Issuer::Es256(pair) => pair.sign(&rng, message).unwrap().as_ref().to_vec(),
            Issuer::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header.as_bytes()), encoded(claims.as_bytes()));
        let signature = encoded(&self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwks(keys: &[Value]) -> JwtKeys {
    JwtKeys::Jwks(json!({ "keys": keys }).to_string().into_bytes())
}

fn header_of(algorithm: Algorithm, kid: &str) -> String {
    json!({"alg": algorithm.name(), "typ": "JWT", "kid": kid}).to_string()
}

fn alice() -> String {
    json!({"sub": "alice", "exp": NOW_S + 60}).to_string()
}

fn secret(bytes: &[u8]) -> JwtKeys {
    JwtKeys::Secret(SecretString::from(String::from_utf8(bytes.to_vec()).unwrap()))
}

fn hs256_rules(claim: &str) -> JwtRules {
    JwtRules::new(AUTHORIZATION, vec![Algorithm::Hs256], secret(SECRET), claim).unwrap()
}

fn hs256_token(header: &str, claims: &str) -> String {
    Issuer::Hs256(SECRET.to_vec()).token(header, claims)
}

fn user_in(rules: JwtRules, lines: &[(&HeaderName, &str)], now_s: u64) -> Option<String> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let rules = UserRules::new(UserSource::Jwt(rules));
    let user = rules.identify(&headers, false, Timestamp::from_millis(now_s * 1000))?;
    Some(String::from_utf8(user.as_bytes().to_vec()).unwrap())
}

fn user_of(rules: JwtRules, token: &str) -> Option<String> {
    user_in(rules, &[(&AUTHORIZATION, &format!("Bearer {token}"))], NOW_S)
}

#[test]
fn every_algorithm_verifies_its_own_tokens() {
    for algorithm in Algorithm::ALL {
        let issuer = Issuer::new(algorithm);
        let token = issuer.token(&header_of(algorithm, "k1"), &alice());
        let rules = JwtRules::new(AUTHORIZATION, vec![algorithm], jwks(&[issuer.jwk(Some("k1"))]), "sub");
        assert_eq!(user_of(rules.unwrap(), &token).as_deref(), Some("alice"), "{algorithm}");
    }
}

#[test]
fn one_flipped_bit_anywhere_makes_nobody() {
    for algorithm in Algorithm::ALL {
        let issuer = Issuer::new(algorithm);
        let keys = [issuer.jwk(Some("k1"))];
        let token = issuer.token(&header_of(algorithm, "k1"), &alice());
        for (index, byte) in token.bytes().enumerate().step_by(7) {
            let mut flipped = token.clone().into_bytes();
            flipped[index] = byte ^ 1;
            let flipped = String::from_utf8(flipped).unwrap();
            let rules = JwtRules::new(AUTHORIZATION, vec![algorithm], jwks(&keys), "sub").unwrap();
            assert_eq!(user_of(rules, &flipped), None, "{algorithm} at {index}");
        }
        let last_digits_flipped = {
            let mut bytes = token.clone().into_bytes();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            String::from_utf8(bytes).unwrap()
        };
        let rules = JwtRules::new(AUTHORIZATION, vec![algorithm], jwks(&keys), "sub").unwrap();
        assert_eq!(user_of(rules, &last_digits_flipped), None, "{algorithm}");
    }
}

#[test]
fn the_signature_of_another_key_makes_nobody() {
    for algorithm in [Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa] {
        let (ours, theirs) = (Issuer::new(algorithm), Issuer::new(algorithm));
        let token = theirs.token(&header_of(algorithm, "k1"), &alice());
        let rules = JwtRules::new(AUTHORIZATION, vec![algorithm], jwks(&[ours.jwk(Some("k1"))]), "sub");
        assert_eq!(user_of(rules.unwrap(), &token), None, "{algorithm}");
    }
}

/// RFC 7515, appendices A.1 (HS256) and A.3 (ES256).
#[test]
fn the_examples_of_the_rfc_verify() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let cases = [
        (
            Algorithm::Hs256,
            json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            Algorithm::Es256,
            json!({"kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ];
    for (algorithm, jwk, header, signature) in cases {
        let rules = JwtRules::new(AUTHORIZATION, vec![algorithm], jwks(&[jwk]), "iss").unwrap();
        let line = format!("Bearer {header}.{payload}.{signature}");
        assert_eq!(
            user_in(rules, &[(&AUTHORIZATION, &line)], 1_300_819_379).as_deref(),
            Some("joe"),
            "{algorithm}"
        );
    }
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    let rsa = Issuer::new(Algorithm::Rs256);
    let hmac_issuer = Issuer::new(Algorithm::Hs256);
    let Issuer::Rs256(pair) = &rsa else { unreachable!() };
    let modulus = rsa.jwk(None)["n"].as_str().unwrap().to_owned();
    for forged_secret in [modulus.into_bytes(), pair.public_key().as_ref().to_vec()] {
        let forged = Issuer::Hs256(forged_secret).token(&header_of(Algorithm::Hs256, "k1"), &alice());
        let keys = [rsa.jwk(Some("k1")), hmac_issuer.jwk(Some("k2"))];
        let both = vec![Algorithm::Hs256, Algorithm::Rs256];
        let rules = JwtRules::new(AUTHORIZATION, both, jwks(&keys), "sub").unwrap();
        assert_eq!(user_of(rules, &forged), None);
    }
}

#[test]
fn an_algorithm_outside_the_list_is_refused_whatever_the_header_says() {
    for alg in ["none", "None", "NONE", "", "hs256", "HS384", "RS256", "ES256"] {
        let claims = alice();
        let token = hs256_token(&json!({ "alg": alg }).to_string(), &claims);
        assert_eq!(user_of(hs256_rules("sub"), &token), None, "{alg}");
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert_eq!(user_of(hs256_rules("sub"), &unsigned), None, "{alg}");
    }
    assert_eq!(user_of(hs256_rules("sub"), &hs256_token(r#"{"alg":"HS256"}"#, &alice())).unwrap(), "alice");
}

#[test]
fn the_header_must_say_each_thing_once_and_nothing_critical() {
    for header in [
        r#"{}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"alg":"HS256"} {}"#,
        r#"["HS256"]"#,
        "",
    ] {
        assert_eq!(user_of(hs256_rules("sub"), &hs256_token(header, &alice())), None, "{header}");
    }
}

#[test]
fn the_kid_chooses_the_key() {
    let (first, second) = (Issuer::new(Algorithm::EdDsa), Issuer::new(Algorithm::EdDsa));
    let keys = [first.jwk(Some("k1")), second.jwk(Some("k2"))];
    let user = |issuer: &Issuer, header: &str| {
        let rules = JwtRules::new(AUTHORIZATION, vec![Algorithm::EdDsa], jwks(&keys), "sub").unwrap();
        user_of(rules, &issuer.token(header, &alice()))
    };
    assert_eq!(user(&first, r#"{"alg":"EdDSA","kid":"k1"}"#).as_deref(), Some("alice"));
    assert_eq!(user(&second, r#"{"alg":"EdDSA","kid":"k2"}"#).as_deref(), Some("alice"));
    assert_eq!(user(&first, r#"{"alg":"EdDSA","kid":"k2"}"#), None);
    assert_eq!(user(&first, r#"{"alg":"EdDSA","kid":"k3"}"#), None);
    assert_eq!(user(&first, r#"{"alg":"EdDSA"}"#), None, "ambiguous without a kid");
}

#[test]
fn a_token_without_a_kid_takes_the_only_key_there_is() {
    let issuer = Issuer::new(Algorithm::Es256);
    let token = issuer.token(r#"{"alg":"ES256"}"#, &alice());
    let rules = JwtRules::new(AUTHORIZATION, vec![Algorithm::Es256], jwks(&[issuer.jwk(Some("k1"))]), "sub");
    assert_eq!(user_of(rules.unwrap(), &token).as_deref(), Some("alice"));
}

#[test]
fn a_shared_secret_has_no_kid_to_mismatch() {
    let token = hs256_token(&header_of(Algorithm::Hs256, "whatever"), &alice());
    assert_eq!(user_of(hs256_rules("sub"), &token).as_deref(), Some("alice"));
}

#[test]
fn a_token_holds_from_nbf_until_exp_with_thirty_seconds_of_leeway() {
    let check = |claims: Value, holds: bool| {
        let token = hs256_token(r#"{"alg":"HS256"}"#, &claims.to_string());
        let user = user_of(hs256_rules("sub"), &token);
        assert_eq!(user.is_some(), holds, "{claims}");
    };
    check(json!({"sub": "a", "exp": NOW_S - 29}), true);
    check(json!({"sub": "a", "exp": NOW_S - 30}), false);
    check(json!({"sub": "a", "exp": NOW_S as f64 - 29.5}), true);
    check(json!({"sub": "a", "exp": NOW_S + 60, "nbf": NOW_S + 30}), true);
    check(json!({"sub": "a", "exp": NOW_S + 60, "nbf": NOW_S + 31}), false);
    check(json!({"sub": "a", "exp": 1e300}), true);
    check(json!({"sub": "a", "exp": -1}), false);
    check(json!({"sub": "a"}), false);
    check(json!({"sub": "a", "exp": null}), false);
    check(json!({"sub": "a", "exp": (NOW_S + 60).to_string()}), false);
    check(json!({"sub": "a", "exp": NOW_S + 60, "nbf": "soon"}), false);
    check(json!({"sub": "a", "exp": NOW_S + 60, "nbf": null}), false);
}

#[test]
fn the_claim_is_a_non_empty_string_or_an_integer_once() {
    let exp = NOW_S + 60;
    let check = |claims: String, expected: Option<&str>| {
        let token = hs256_token(r#"{"alg":"HS256"}"#, &claims);
        assert_eq!(user_of(hs256_rules("uid"), &token).as_deref(), expected, "{claims}");
    };
    check(format!(r#"{{"uid":"alice","exp":{exp}}}"#), Some("alice"));
    check(format!(r#"{{"uid":42,"exp":{exp}}}"#), Some("42"));
    check(format!(r#"{{"uid":-42,"exp":{exp}}}"#), Some("-42"));
    check(format!(r#"{{"uid":"\u00e9","exp":{exp},"more":{{"uid":"bob"}}}}"#), Some("\u{e9}"));
    for odd in [r#""""#, "null", "true", "4.2", "[]", r#"["alice"]"#, "{}", "123456789012345678901234567890"]
    {
        check(format!(r#"{{"uid":{odd},"exp":{exp}}}"#), None);
    }
    check(format!(r#"{{"sub":"alice","exp":{exp}}}"#), None);
    check(format!(r#"{{"uid":"alice","uid":"bob","exp":{exp}}}"#), None);
    check(format!(r#"{{"uid":"alice","\u0075id":"bob","exp":{exp}}}"#), None);
    check(format!(r#"{{"uid":"alice","exp":1,"exp":{exp}}}"#), None);
    check(format!(r#"{{"uid":"alice","exp":{exp}}} x"#), None);
    check(format!(r#"["alice",{exp}]"#), None);
}

#[test]
fn the_header_line_must_be_there_once_in_the_right_form() {
    let token = hs256_token(r#"{"alg":"HS256"}"#, &alice());
    let check = |lines: &[&str], found: bool| {
        let lines: Vec<_> = lines.iter().map(|line| (&AUTHORIZATION, *line)).collect();
        assert_eq!(user_in(hs256_rules("sub"), &lines, NOW_S).is_some(), found, "{lines:?}");
    };
    check(&[&format!("Bearer {token}")], true);
    check(&[&format!("bEaReR   {token} ")], true);
    check(&[&token], false);
    check(&[&format!("Basic {token}")], false);
    check(&[&format!("Bearer{token}")], false);
    check(&[&format!("Bearer {token} {token}")], false);
    check(&[&format!("Bearer {token}, Bearer {token}")], false);
    check(&[&format!("Bearer {token}.")], false);
    check(&[&format!("Bearer {token}=")], false);
    check(&[&format!("Bearer .{token}")], false);
    check(&["Bearer ..", "Bearer"], false);
    check(&["Bearer .."], false);
    check(&["Bearer \u{e9}"], false);
    check(&[&format!("Bearer {token}"), &format!("Bearer {token}")], false);
    check(&[], false);
}

#[test]
fn any_other_header_carries_the_bare_token() {
    let name = HeaderName::from_static("x-access-token");
    let token = hs256_token(r#"{"alg":"HS256"}"#, &alice());
    let rules = || JwtRules::new(name.clone(), vec![Algorithm::Hs256], secret(SECRET), "sub").unwrap();
    assert_eq!(user_in(rules(), &[(&name, &token)], NOW_S).as_deref(), Some("alice"));
    assert_eq!(user_in(rules(), &[(&name, &format!("Bearer {token}"))], NOW_S), None);
    assert_eq!(user_in(rules(), &[(&AUTHORIZATION, &format!("Bearer {token}"))], NOW_S), None);
}

#[test]
fn a_token_past_its_size_is_none() {
    let token_with_padding = |padding: usize| {
        let claims = json!({"sub": "alice", "exp": NOW_S + 60, "pad": "x".repeat(padding)});
        hs256_token(r#"{"alg":"HS256"}"#, &claims.to_string())
    };
    assert!(user_of(hs256_rules("sub"), &token_with_padding(5000)).is_some());
    assert!(user_of(hs256_rules("sub"), &token_with_padding(8000)).is_none());
}

#[test]
fn short_secrets_are_told_of() {
    let weak =
        |keys| JwtRules::new(AUTHORIZATION, vec![Algorithm::Hs256], keys, "sub").unwrap().weak_secret();
    assert!(weak(secret(&SECRET[..31])));
    assert!(!weak(secret(SECRET)));
    assert!(weak(jwks(&[Issuer::Hs256(b"short".to_vec()).jwk(None)])));
    assert!(!weak(jwks(&[Issuer::new(Algorithm::Hs256).jwk(None)])));
}

#[test]
fn rules_that_could_never_work_are_refused_at_load() {
    use Algorithm::{EdDsa, Es256, Hs256, Rs256};
    let check = |algorithms: &[Algorithm], keys: JwtKeys, claim: &str, expected: JwtRulesError| {
        let refused = JwtRules::new(AUTHORIZATION, algorithms.to_vec(), keys, claim).map(|_| ());
        assert_eq!(refused, Err(expected));
    };
    check(&[], secret(SECRET), "sub", JwtRulesError::NoAlgorithm);
    check(&[Hs256], secret(b""), "sub", JwtRulesError::EmptySecret);
    check(&[Hs256, Rs256], secret(SECRET), "sub", JwtRulesError::SecretMisfit { algorithm: Rs256 });
    check(&[Hs256], secret(SECRET), "", JwtRulesError::UnfitClaim { claim: String::new() });
    check(&[Hs256], secret(SECRET), "exp", JwtRulesError::UnfitClaim { claim: "exp".into() });

    let ed = Issuer::new(EdDsa);
    check(&[Es256], jwks(&[]), "sub", JwtRulesError::NoKey { algorithm: Es256 });
    check(&[EdDsa, Es256], jwks(&[ed.jwk(None)]), "sub", JwtRulesError::NoKey { algorithm: Es256 });
    let twice = [ed.jwk(Some("k")), Issuer::new(EdDsa).jwk(Some("k"))];
    check(&[EdDsa], jwks(&twice), "sub", JwtRulesError::SameKid { algorithm: EdDsa });

    let mut encryption = ed.jwk(None);
    encryption["use"] = json!("enc");
    check(&[EdDsa], jwks(&[encryption]), "sub", JwtRulesError::NoKey { algorithm: EdDsa });
    let short = json!({"kty": "RSA", "kid": "old", "n": encoded(&[0xff; 128]), "e": "AQAB"});
    let reason = "is not between 2048 and 8192 bits long";
    check(&[Rs256], jwks(&[short]), "sub", JwtRulesError::JwkUnsound { key: "old".into(), reason });
    let long = JwtKeys::Jwks(vec![b' '; KeySet::BYTES_MAX + 1]);
    check(&[Rs256], long, "sub", JwtRulesError::JwksTooLarge);
}

#[test]
fn a_malformed_jwks_is_told_by_place_without_its_contents() {
    let keys = JwtKeys::Jwks(b"{\"keys\": [\n  {\"kty\": \"oct\", \"k\": {\"c2VjcmV0\": 1}}]}".to_vec());
    let told = JwtRules::new(AUTHORIZATION, vec![Algorithm::Hs256], keys, "sub").map(|_| ()).unwrap_err();
    let text = told.to_string();
    assert!(text.contains("line 2"), "{text}");
    assert!(!text.contains("c2VjcmV0"), "{text}");
}

#[test]
fn keys_of_unknown_kinds_are_passed_over() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let keys = [json!({"kty": "AKP", "alg": "ML-DSA-44"}), issuer.jwk(Some("k1"))];
    let rules = JwtRules::new(AUTHORIZATION, vec![Algorithm::EdDsa], jwks(&keys), "sub").unwrap();
    let token = issuer.token(&header_of(Algorithm::EdDsa, "k1"), &alice());
    assert_eq!(user_of(rules, &token).as_deref(), Some("alice"));
}

#[test]
fn nothing_secret_is_printed() {
    let printed = format!("{:?} {:?}", hs256_rules("sub"), secret(SECRET));
    assert!(!printed.contains("0123456789"), "{printed}");
}
