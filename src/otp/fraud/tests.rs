use super::*;

const CLIENT: &str = "192.0.2.1";

fn at(minutes: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + minutes * 60_000)
}

/// Somebody at this address asks for a number of this country.
struct Asker {
    client: IpAddr,
    country: &'static str,
    number: String,
}

fn asker(client: &str, country: &'static str, number: u64) -> Asker {
    Asker { client: client.parse().unwrap(), country, number: format!("+{number}") }
}

impl Asker {
    fn signs(&self) -> Signs<'_> {
        let prefix = &self.number[..self.number.len() - 4];
        Signs { client: self.client, country: Some(self.country), number: &self.number, prefix }
    }

    fn kinds(&self, fraud: &Fraud, now: Timestamp) -> Vec<FindingKind> {
        fraud.asked(&self.signs(), now).into_iter().map(|finding| finding.kind).collect()
    }

    fn sent(&self, fraud: &Fraud, now: Timestamp) {
        fraud.sent(&self.signs(), now);
    }

    fn verified(&self, fraud: &Fraud, now: Timestamp) {
        fraud.verified(&self.signs(), now);
    }
}

/// How many codes are sent, each by what `asker` says, before this finding is made for the next one; what is in order before it
/// is none of this kind.
fn sends_until(kind: FindingKind, fraud: &Fraud, now: Timestamp, asker: impl Fn(u64) -> Asker) -> u64 {
    for n in 0..100_000 {
        let asker = asker(n);
        if asker.kinds(fraud, now).contains(&kind) {
            return n;
        }
        asker.sent(fraud, now);
    }
    panic!("no {kind:?}");
}

/// Another address and another prefix for each.
fn stranger(country: &'static str, n: u64) -> Asker {
    asker(&format!("10.{}.{}.1", n / 256, n % 256), country, 4_900_000_000_000 + n * 10_000)
}

#[test]
fn the_sixth_number_of_a_thousand_is_a_run() {
    let next = |n| Asker { client: stranger("DE", n).client, ..asker(CLIENT, "DE", 491_700_001_000 + n * 7) };
    let fraud = Fraud::new();
    assert_eq!(sends_until(FindingKind::NumberRun, &fraud, at(0), next), 5);
    assert!(!next(0).kinds(&fraud, at(0)).contains(&FindingKind::NumberRun), "it is one of the five");
    assert!(!next(9).kinds(&fraud, at(60)).contains(&FindingKind::NumberRun), "an hour later");
    next(3).verified(&fraud, at(1));
    assert!(!next(9).kinds(&fraud, at(1)).contains(&FindingKind::NumberRun), "one of them came back");
}

#[test]
fn the_eleventh_number_of_ten_thousand_is_a_run() {
    // Two of each thousand at most.
    let next = |n: u64| asker(CLIENT, "DE", 491_700_000_000 + n % 10 * 1000 + n);
    assert_eq!(sends_until(FindingKind::NumberRun, &Fraud::new(), at(0), next), 10);
}

#[test]
fn asking_for_one_number_again_is_no_run() {
    let fraud = Fraud::new();
    let again = asker(CLIENT, "DE", 491_700_001_000);
    for _ in 0..20 {
        again.sent(&fraud, at(0));
    }
    assert!(!again.kinds(&fraud, at(0)).contains(&FindingKind::NumberRun));
    let neighbour = asker(CLIENT, "DE", 491_700_001_001);
    assert!(!neighbour.kinds(&fraud, at(0)).contains(&FindingKind::NumberRun));
}

#[test]
fn the_fourth_country_from_one_address_is_too_many() {
    const COUNTRIES: [&str; 5] = ["DE", "FR", "BR", "ID", "PK"];
    let next = |n: u64| Asker { client: CLIENT.parse().unwrap(), ..stranger(COUNTRIES[n as usize], n) };
    let fraud = Fraud::new();
    assert_eq!(sends_until(FindingKind::ClientCountries, &fraud, at(0), next), 3);
    let fourth = next(3);
    assert!(next(2).kinds(&fraud, at(0)).is_empty(), "the third is none too many");
    assert!(fourth.kinds(&fraud, at(24 * 60)).is_empty(), "a day later");
    next(1).verified(&fraud, at(1));
    assert!(fourth.kinds(&fraud, at(1)).is_empty(), "one came back");
}

#[test]
fn addresses_of_one_site_are_one() {
    let from = |client: &str, n, country| Asker { client: client.parse().unwrap(), ..stranger(country, n) };
    let fraud = Fraud::new();
    from("2001:db8::1", 0, "DE").sent(&fraud, at(0));
    from("2001:db8::2", 1, "FR").sent(&fraud, at(0));
    from("2001:db8::3:4", 2, "BR").sent(&fraud, at(0));
    assert_eq!(from("2001:db8::5", 3, "ID").kinds(&fraud, at(0)), [FindingKind::ClientCountries]);
    assert!(from("2001:db8:0:1::5", 3, "ID").kinds(&fraud, at(0)).is_empty());
}

#[test]
fn a_prefix_whose_codes_do_not_come_back_is_found_at_ten() {
    let next = |n: u64| asker(&format!("10.0.{n}.1"), "DE", 491_700_000_000 + n * 500);
    let fraud = Fraud::new();
    for n in 0..10 {
        assert!(!next(n).kinds(&fraud, at(n)).contains(&FindingKind::PrefixConversion), "{n}");
        next(n).sent(&fraud, at(n));
        if n < 3 {
            next(n).verified(&fraud, at(n));
        }
    }
    assert!(next(10).kinds(&fraud, at(10)).contains(&FindingKind::PrefixConversion), "3 of 10");
    next(9).verified(&fraud, at(10));
    assert!(!next(10).kinds(&fraud, at(10)).contains(&FindingKind::PrefixConversion), "4 of 10");
}

#[test]
fn few_codes_of_a_country_may_stay_out() {
    // 3 ⅓ an hour, 20 a day.
    let next = |n| stranger("BR", n);
    assert_eq!(sends_until(FindingKind::CountryHour, &Fraud::new(), at(0), next), 3);
    assert_eq!(sends_until(FindingKind::CountryDay, &Fraud::new(), at(0), next), 20);
}

#[test]
fn a_fifth_of_what_comes_back_may_stay_out() {
    let busy = || {
        let fraud = Fraud::new();
        for n in 0..200 {
            let owner = stranger("BR", 1000 + n);
            owner.sent(&fraud, at(0));
            owner.verified(&fraud, at(0));
        }
        fraud
    };
    let next = |n| stranger("BR", n);
    // In the same hour: a fifth of 200 for either.
    assert_eq!(sends_until(FindingKind::CountryHour, &busy(), at(0), next), 40);
    assert_eq!(sends_until(FindingKind::CountryDay, &busy(), at(0), next), 40);
    // Hours later the hour has a sixth of what the day has.
    assert_eq!(sends_until(FindingKind::CountryHour, &busy(), at(600), next), 6);
    // Days later the best of fourteen days still counts.
    assert_eq!(sends_until(FindingKind::CountryDay, &busy(), at(13 * 24 * 60), next), 40);
    assert_eq!(sends_until(FindingKind::CountryDay, &busy(), at(16 * 24 * 60), next), 20);
}

#[test]
fn few_codes_from_one_address_may_stay_out() {
    // Another country each, so that nothing else is meant.
    let next = |n| Asker { client: CLIENT.parse().unwrap(), ..stranger("DE", n) };
    assert_eq!(sends_until(FindingKind::ClientHour, &Fraud::new(), at(0), next), 5);
    assert_eq!(sends_until(FindingKind::ClientDay, &Fraud::new(), at(0), next), 10);
    let office = || {
        let fraud = Fraud::new();
        for n in 0..300 {
            next(1000 + n).sent(&fraud, at(0));
            next(1000 + n).verified(&fraud, at(0));
        }
        fraud
    };
    assert_eq!(sends_until(FindingKind::ClientHour, &office(), at(0), next), 10, "a sixth of a fifth of 300");
    assert_eq!(sends_until(FindingKind::ClientDay, &office(), at(0), next), 60, "a fifth of 300");
}

#[test]
fn details_hold_no_number() {
    let fraud = Fraud::new();
    for n in 0..30 {
        asker(CLIENT, "DE", 491_700_001_000 + n).sent(&fraud, at(0));
    }
    for (n, country) in ["FR", "BR", "ID"].into_iter().enumerate() {
        Asker { client: CLIENT.parse().unwrap(), ..stranger(country, n as u64) }.sent(&fraud, at(0));
    }
    let last = asker(CLIENT, "DE", 491_700_001_099);
    let findings = fraud.asked(&last.signs(), at(0));
    assert_eq!(findings.len(), FindingKind::ALL.len(), "{findings:?}");
    for finding in findings {
        assert!(!finding.detail.contains("4917") && !finding.detail.contains("1099"), "{}", finding.detail);
    }
    assert!(!format!("{:?}", last.signs()).contains("4917"));
}

#[test]
fn a_flood_of_addresses_and_prefixes_is_bounded_and_washes_nobody_out() {
    let fraud = Fraud::new();
    let watched = |n: u64| asker(CLIENT, "DE", 491_700_001_000 + n);
    for n in 0..5 {
        watched(n).sent(&fraud, at(0));
    }
    for n in 0..3 * HALF as u64 {
        stranger("US", n).sent(&fraud, at(0));
        if n % 1000 == 0 {
            assert!(watched(9).kinds(&fraud, at(0)).contains(&FindingKind::NumberRun));
        }
    }
    let tables = fraud.0.lock();
    assert!(tables.clients.len() <= 2 * HALF && tables.prefixes.len() <= 2 * HALF);
}
