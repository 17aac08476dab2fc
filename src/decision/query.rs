//! Query parameters, and the `name=value` format they share with forms.

use std::borrow::Cow;

use super::escape::{DecodeFault, Plus, decode_lenient, decode_strict};
use super::field::{FieldFault, FieldName, PairFault, Place, Spelling, Wanted};

/// The decoded value of a parameter; `None` if it is not there. `query` is without its `?`.
///
/// Refused where backends would disagree: two values, an array spelling, or a query that does
/// not decode cleanly.
pub fn query_value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, FieldFault> {
    if query.is_empty() {
        return Ok(None);
    }
    let field = || FieldName { place: Place::Query, name: name.into() };
    let wanted = Wanted::new([name].into_iter());
    let mut found: Option<Cow<'a, str>> = None;
    for pair in pairs(query) {
        let (spelled, value) = pair.map_err(FieldFault::Query)?;
        match wanted.spelled_by(&spelled) {
            Spelling::Other => {}
            Spelling::Conflict => return Err(FieldFault::NotOneValue(field())),
            Spelling::Wanted => match &found {
                Some(known) if *known != value => return Err(FieldFault::Repeated(field())),
                Some(_) | None => found = Some(value),
            },
        }
    }
    Ok(found)
}

/// Whether any lenient backend would find the parameter, however it is spelled.
pub fn query_has(query: &str, name: &str) -> bool {
    let wanted = Wanted::new([name].into_iter());
    query.split(['&', ';']).any(|pair| {
        let spelled = decode_lenient(pair.split('=').next().unwrap_or_default(), Plus::Space);
        // C strings end at a NUL.
        let spelled = spelled.split('\0').next().unwrap_or_default();
        !pair.is_empty() && wanted.spelled_by(spelled) != Spelling::Other
    })
}

/// The decoded pairs of an application/x-www-form-urlencoded text; empty pieces are skipped.
pub fn pairs(text: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), PairFault>> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        if pair.contains(';') {
            return Err(PairFault::Semicolon);
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    })
}

fn decode(text: &str) -> Result<Cow<'_, str>, PairFault> {
    decode_strict(text, Plus::Space).map_err(|fault| match fault {
        DecodeFault::Escape => PairFault::Escape,
        DecodeFault::NotUtf8 => PairFault::NotUtf8,
        DecodeFault::Nul => PairFault::Nul,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(query: &str, expected: Option<&str>) {
        assert_eq!(query_value(query, "email").unwrap().as_deref(), expected, "{query}");
    }

    fn refused(query: &str) -> FieldFault {
        query_value(query, "email").expect_err(query)
    }

    #[test]
    fn a_parameter_is_read_as_the_backend_reads_it() {
        check("", None);
        check("a=b", None);
        check("emails=a", None);
        check("email", Some(""));
        check("email=", Some(""));
        check("email=a", Some("a"));
        check("x=1&email=a&y=2", Some("a"));
        check("email=a=b", Some("a=b"));
        check("%65mail=a%40b", Some("a@b"));
        check("email=a+b", Some("a b"));
        check("Email=a", Some("a"));
        check("&&email=a&", Some("a"));
        check("email=a&email=a", Some("a"));
        check("email=%C3%A9", Some("é"));
        check("email=a&x=%25", Some("a"));
    }

    #[test]
    fn what_backends_read_differently_is_refused() {
        for query in
            ["email=a&email=b", "email=a&EMAIL=b", "email=a&%65mail=b", "email=a&email", "email=&email=b"]
        {
            assert!(matches!(refused(query), FieldFault::Repeated(_)), "{query}");
        }
        for query in ["email[]=a", "email[x]=a", "email%5B%5D=a", "email=a&email[]=b", "email.x=1"] {
            assert!(matches!(refused(query), FieldFault::NotOneValue(_)), "{query}");
        }
        for (query, fault) in [
            ("email=a;b", PairFault::Semicolon),
            ("a=b;email=c", PairFault::Semicolon),
            ("email=%4", PairFault::Escape),
            ("%u0065mail=a", PairFault::Escape),
            ("email=a&x=%", PairFault::Escape),
            ("email=%ff", PairFault::NotUtf8),
            ("email=a%00b", PairFault::Nul),
            ("email%00=a", PairFault::Nul),
        ] {
            assert_eq!(refused(query), FieldFault::Query(fault), "{query}");
        }
        let told = refused("email=a&email=b").to_string();
        assert!(told.contains("Query parameter \"email\"") && !told.contains("=b"), "{told}");
    }

    #[test]
    fn any_spelling_some_backend_takes_is_found() {
        for query in [
            "_method=PUT",
            "_METHOD=PUT",
            "a=b&_method",
            "%5fmethod=PUT",
            "a=b;_method=PUT",
            "_method[]=PUT",
            "%u005fmethod=PUT",
            "_method%00x=PUT",
            "+_method=PUT",
            ".method=PUT",
            "_method]=PUT",
        ] {
            assert!(query_has(query, "_method"), "{query}");
        }
        for query in ["", "&", "method=PUT", "x=_method", "%=1", "my_method=1"] {
            assert!(!query_has(query, "_method"), "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in "[a-cE%0-9&=;+\\[\\]. é]{0,48}") {
            if let Ok(Some(_)) = query_value(&query, "e") {
                prop_assert!(query_has(&query, "e"));
            }
        }

        #[test]
        fn an_encoded_value_comes_back(value in "\\PC{1,32}") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let query = format!("a=1&e={encoded}&b");
            prop_assert_eq!(query_value(&query, "e").unwrap().unwrap(), value);
        }
    }
}
