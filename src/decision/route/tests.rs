use super::*;

fn pattern(text: &str) -> RoutePattern {
    RoutePattern {
        host: HostPattern::Any,
        methods: Methods::Any,
        path: PathPattern::parse(text).unwrap(),
        letter_case: LetterCase::Ignored,
        trailing_slash: TrailingSlash::Ignored,
    }
}

fn only(methods: &[Method], text: &str) -> RoutePattern {
    RoutePattern { methods: Methods::Only(methods.iter().cloned().collect()), ..pattern(text) }
}

fn find(table: &RouteTable, host: &str, method: Method, path: &str) -> Option<usize> {
    table.find(|| host, &method, &NormalPath::parse(path).unwrap()).map(|index| index.0)
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let texts =
        ["/*", "/api/*", "/api/{id}", "/api/login", "/api/{id}/x", "/api/login/*", "/a/{b}/c", "/a/b/*"];
    for rotation in 0..texts.len() {
        let mut order: Vec<&str> = texts.to_vec();
        order.rotate_left(rotation);
        let table = RouteTable::new(&order.iter().map(|text| pattern(text)).collect::<Vec<_>>()).unwrap();
        let check = |path: &str, expected: &str| {
            let found = find(&table, "h", Method::GET, path).map(|index| order[index]);
            assert_eq!(found, Some(expected), "{path}");
        };
        check("/", "/*");
        check("/other/x", "/*");
        check("/api", "/api/*");
        check("/api/", "/api/*");
        check("/api/7", "/api/{id}");
        check("/api/LOGIN/", "/api/login");
        check("/api/login", "/api/login");
        check("/api/7/x", "/api/{id}/x");
        check("/api/login/x", "/api/login/*");
        check("/api/7/y/z", "/api/*");
        check("/a/b/c", "/a/b/*");
        check("/a/z/c", "/a/{b}/c");
    }
}

#[test]
fn a_route_that_refuses_the_method_lets_the_next_one_have_it() {
    let table =
        RouteTable::new(&[only(&[Method::POST], "/login"), only(&[Method::GET], "/{page}"), pattern("/*")])
            .unwrap();
    assert_eq!(find(&table, "h", Method::POST, "/login"), Some(0));
    assert_eq!(find(&table, "h", Method::GET, "/login"), Some(1));
    assert_eq!(find(&table, "h", Method::HEAD, "/login"), Some(1));
    assert_eq!(find(&table, "h", Method::PUT, "/login"), Some(2));
}

#[test]
fn a_head_that_has_its_own_route_takes_it() {
    let table = RouteTable::new(&[only(&[Method::GET], "/x"), only(&[Method::HEAD], "/x")]).unwrap();
    assert_eq!(find(&table, "h", Method::HEAD, "/x"), Some(1));
    assert_eq!(find(&table, "h", Method::GET, "/x"), Some(0));
}

#[test]
fn hosts_are_told_apart_before_paths() {
    let host = |host, text| RoutePattern { host, ..pattern(text) };
    let table = RouteTable::new(&[
        host(HostPattern::Any, "/login"),
        host(HostPattern::Exact("api.example.com".into()), "/*"),
        host(HostPattern::Suffix(".example.com".into()), "/login"),
        host(HostPattern::Suffix(".eu.example.com".into()), "/login"),
    ])
    .unwrap();
    assert_eq!(find(&table, "API.example.com:8080", Method::GET, "/login"), Some(1));
    assert_eq!(find(&table, "api.example.com.", Method::GET, "/login"), Some(1));
    assert_eq!(find(&table, "www.example.com", Method::GET, "/login"), Some(2));
    assert_eq!(find(&table, "www.eu.example.com", Method::GET, "/login"), Some(3));
    assert_eq!(find(&table, "example.com", Method::GET, "/login"), Some(0));
    assert_eq!(find(&table, "[::1]:8080", Method::GET, "/login"), Some(0));
    assert_eq!(find(&table, "www.example.com", Method::GET, "/other"), None);
}

#[test]
fn strict_routes_take_one_spelling_alone() {
    let strict_case = RoutePattern { letter_case: LetterCase::Strict, ..pattern("/Login") };
    let strict_slash = RoutePattern { trailing_slash: TrailingSlash::Strict, ..pattern("/out/") };
    let strict_below = RoutePattern { trailing_slash: TrailingSlash::Strict, ..pattern("/below/*") };
    let table = RouteTable::new(&[strict_case, strict_slash, strict_below]).unwrap();
    assert_eq!(find(&table, "h", Method::GET, "/Login"), Some(0));
    assert_eq!(find(&table, "h", Method::GET, "/%4Cogin"), Some(0));
    assert_eq!(find(&table, "h", Method::GET, "/login"), None);
    assert_eq!(find(&table, "h", Method::GET, "/out/"), Some(1));
    assert_eq!(find(&table, "h", Method::GET, "/out"), None);
    assert_eq!(find(&table, "h", Method::GET, "/below"), None);
    assert_eq!(find(&table, "h", Method::GET, "/below/"), Some(2));
    assert_eq!(find(&table, "h", Method::GET, "/below/x"), Some(2));
}

#[test]
fn what_could_go_either_way_is_a_tie() {
    let tie = |a: RoutePattern, b: RoutePattern| RouteTable::new(&[a, b]).is_err();
    let strict = |text| RoutePattern { letter_case: LetterCase::Strict, ..pattern(text) };
    let slash = |text| RoutePattern { trailing_slash: TrailingSlash::Strict, ..pattern(text) };
    assert!(tie(pattern("/a/{x}"), pattern("/A/{y}")));
    assert!(tie(pattern("/a"), pattern("/a/")));
    assert!(tie(only(&[Method::GET, Method::POST], "/a"), only(&[Method::POST], "/a")));
    assert!(tie(strict("/Login"), pattern("/login")));
    assert!(!tie(only(&[Method::GET], "/a"), only(&[Method::POST], "/a")));
    assert!(!tie(only(&[Method::GET], "/a"), pattern("/a")));
    assert!(!tie(strict("/Login"), strict("/login")));
    assert!(!tie(slash("/a"), slash("/a/")));
    assert!(!tie(pattern("/a/*"), pattern("/a")));
}

#[test]
fn parameters_are_read_decoded() {
    let pattern = PathPattern::parse("/u/{id}/{name}").unwrap();
    let path = NormalPath::parse("/u/7/a%40b").unwrap();
    assert_eq!(pattern.param("id", &path).as_deref(), Some("7"));
    assert_eq!(pattern.param("name", &path).as_deref(), Some("a@b"));
    assert_eq!(pattern.param("other", &path), None);
    assert_eq!(pattern.params().collect::<Vec<_>>(), ["id", "name"]);
}

#[test]
fn impossible_patterns_say_why() {
    let error = |text: &str| PathPattern::parse(text).unwrap_err();
    assert_eq!(error("login"), PatternError::NoLeadingSlash);
    assert_eq!(error("/a*"), PatternError::StarInside);
    assert_eq!(error("/*/b"), PatternError::StarInside);
    assert_eq!(error("/x{id}"), PatternError::BadParam);
    assert_eq!(error("/{}"), PatternError::BadParam);
    assert_eq!(error("/{a}/{a}"), PatternError::SameParam("a".into()));
    assert_eq!(error(&"/a".repeat(33)), PatternError::TooDeep);
    assert!(matches!(error("/a b"), PatternError::NotNormal(_)));
    assert!(matches!(error("/a/../b"), PatternError::NotNormal(_)));
}
