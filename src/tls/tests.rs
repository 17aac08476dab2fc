use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519, SanType};

use super::*;

struct Made {
    chain: String,
    key: SecretString,
}

fn made(names: &[&str], common: &[&str]) -> Made {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for name in common {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    Made { chain, key: key.serialize_pem().into() }
}

fn certificate(made: &Made) -> Certificate {
    Certificate::new(Chain::parse(&made.chain).unwrap(), &made.key).unwrap()
}

fn fault(chain: &str, key: &SecretString) -> String {
    match Chain::parse(chain) {
        Err(fault) => fault.to_string(),
        Ok(chain) => match Certificate::new(chain, key) {
            Err(fault) => fault.to_string(),
            Ok(_) => panic!("it is sound"),
        },
    }
}

#[test]
fn certificates_are_chosen_by_name() {
    let all = [
        made(&["a.example", "www.a.example"], &[]),
        made(&["*.b.example", "b.example"], &[]),
        made(&["x.b.example", "a.example"], &[]),
    ];
    let certificates: Vec<Certificate> = all.iter().map(certificate).collect();
    let keys: Vec<Arc<CertifiedKey>> = certificates.iter().map(|one| Arc::clone(&one.key)).collect();
    let by_name = ByName::new(certificates).unwrap();
    for (name, expected) in [
        ("a.example", Some(0)),
        ("WWW.A.example", Some(0)),
        ("b.example", Some(1)),
        ("y.b.example", Some(1)),
        ("x.b.example", Some(2)),
        ("y.z.b.example", None),
        ("c.example", None),
        ("*", None),
        ("localhost", None),
    ] {
        let found =
            by_name.find(name).map(|found| keys.iter().position(|key| Arc::ptr_eq(key, found)).unwrap());
        assert_eq!(found, expected, "{name}");
    }
    assert!(Arc::ptr_eq(&by_name.otherwise, &keys[0]));
}

#[test]
fn the_first_end_of_a_certificate_is_known() {
    let one = made(&["a.example"], &[]);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let sooner = Made { chain, key: key.serialize_pem().into() };
    let tls = ServerTls::new(vec![certificate(&one), certificate(&sooner)], None).unwrap();
    assert_eq!(tls.ends_at_s(), 2_208_988_800);
}

#[test]
fn what_is_wrong_is_told_without_the_key() {
    let one = made(&["a.example"], &[]);
    let other = made(&["a.example"], &[]);
    let text = one.key.expose_secret();
    let cut: SecretString = text[..text.len() / 2].to_owned().into();
    let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let odd: SecretString =
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned().into();
    for (chain, key, expected) in [
        ("", &one.key, "there is no certificate in PEM form in it"),
        (text, &one.key, "there is no certificate in PEM form in it"),
        (rubbish, &one.key, "certificate 1 in it is malformed"),
        (
            &one.chain,
            &"".to_owned().into(),
            "there is no private key in PEM form in it, or only an encrypted one",
        ),
        (&one.chain, &cut, "it is not sound PEM"),
        (
            &one.chain,
            &odd,
            "the private key in it is of a kind that is not supported: RSA, ECDSA and Ed25519 are",
        ),
        (&one.chain, &other.key, "the private key in it belongs to another certificate"),
    ] {
        assert_eq!(fault(chain, key), expected);
    }
    assert!(fault(&one.chain[..60], &one.key).starts_with("it is not sound PEM"));
    assert!(fault(&format!("{}{rubbish}", one.chain), &one.key).contains("certificate 2"));
}

#[test]
fn a_subject_is_the_one_common_name_or_an_alternative() {
    let long = "x".repeat(300);
    for (names, common, expected) in [
        (&["a.example"][..], &["svc-a"][..], Some("svc-a")),
        (&["a.example"], &[], Some("a.example")),
        (&[], &["svc-a", "svc-b"], Some("svc-b")),
        (&[], &[], None),
        (&["a.example"], &[&long], None),
        (&[], &["tab\there"], None),
    ] {
        let chain = Chain::parse(&made(names, common).chain).unwrap();
        // The maker keeps the last of several common names only.
        assert_eq!(subject(&chain.0[0]).as_deref(), expected, "{names:?} {common:?}");
    }
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI("spiffe://a/b".try_into().unwrap())];
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let own = params.self_signed(&key).unwrap();
    assert_eq!(subject(own.der()).as_deref(), Some("spiffe://a/b"));
    assert_eq!(subject(&CertificateDer::from(vec![1, 2, 3])), None);
}
