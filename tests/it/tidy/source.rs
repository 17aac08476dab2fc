//! Just enough of Rust's grammar to ask questions about a file without being fooled by its comments, texts and
//! tests.

/// The code of a file with everything blanked that is no code: comments, and what stands in text and character
/// literals. Lines stay where they were.
pub(super) fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let literal = literal_length(rest, code.chars().next_back());
        let length = literal.unwrap_or(first.len_utf8());
        let (token, after) = rest.split_at(length);
        match literal {
            Some(_) => code.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
            None => code.push_str(token),
        }
        rest = after;
    }
    code
}

/// The length of the comment or literal that `rest` begins with.
fn literal_length(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_length(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted_length(rest, '"'));
    }
    let starts_word = !before.is_some_and(is_word);
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| starts_word && rest.starts_with(prefix));
    if let Some(length) = prefix.and_then(|prefix| raw_length(rest, prefix.len())) {
        return Some(length);
    }
    // A quote that closes after one character (or an escape) is a character; else it names a lifetime.
    let mut characters = rest.strip_prefix('\'')?.chars();
    match (characters.next()?, characters.next()?) {
        ('\\', _) => Some(quoted_length(rest, '\'')),
        (c, '\'') => Some(2 + c.len_utf8()),
        _ => None,
    }
}

fn block_comment_length(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

fn raw_length(rest: &str, prefix: usize) -> Option<usize> {
    let hashes = rest[prefix..].chars().take_while(|&c| c == '#').count();
    let inside = rest[prefix + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = prefix + hashes + 1;
    Some(inside.find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// The same code with every item under `#[cfg(test)]` blanked.
pub(super) fn without_tests(code: &str) -> String {
    let mut kept = code.to_owned();
    while let Some(start) = kept.find("#[cfg(test)]") {
        let end = item_end(&kept, start);
        let blank: String = kept[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        kept.replace_range(start..end, &blank);
    }
    kept
}

/// Where the item ends that starts at `start`, attributes included.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[start..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth -= 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return start + at + 1;
                }
            }
            ';' if depth == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// A function, and how many lines it takes from `fn` to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// All functions with a body.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let starts = code.match_indices("fn ").filter(|(at, _)| !code[..*at].ends_with(is_word));
    let found = starts.filter_map(|(at, _)| {
        let name: String = code[at + 3..].chars().take_while(|&c| is_word(c)).collect();
        let end = item_end(code, at);
        let has_body = !name.is_empty() && code[at..end].ends_with('}');
        let line = code[..at].lines().count().max(1);
        has_body.then(|| Function { name, line, lines: code[at..end].lines().count() })
    });
    found.collect()
}

/// Every path of two segments or more that the code names, with the trees of `use` spelled out, and its line.
pub(super) fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        if !is_word(c) {
            at += c.len_utf8();
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let mut whole = Vec::new();
        at += tree(&code[at..], "", &mut whole);
        found.extend(whole.into_iter().filter(|path| path.contains("::")).map(|path| (line, path)));
    }
    found
}

/// Adds the path, or all paths of the tree, that the code begins with; returns how much of the code it takes.
fn tree(code: &str, prefix: &str, found: &mut Vec<String>) -> usize {
    let name: String = code.chars().take_while(|&c| is_word(c)).collect();
    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}::{name}") };
    let rest = code[name.len()..].trim_start();
    let Some(after) = rest.strip_prefix("::").map(str::trim_start) else {
        found.push(path);
        return name.len();
    };
    let mut at = code.len() - after.len();
    if after.starts_with(is_word) {
        return at + tree(after, &path, found);
    }
    if !after.starts_with('{') {
        found.push(path);
        return at;
    }
    at += 1;
    while let Some(c) = code[at..].chars().next() {
        if let Some(alias) = code[at..].strip_prefix("as ") {
            at += 3 + alias.len() - alias.trim_start_matches(is_word).len();
        } else if is_word(c) {
            at += tree(&code[at..], &path, found);
        } else {
            at += c.len_utf8();
        }
        if c == '}' {
            break;
        }
    }
    at
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn comments_and_literals_are_no_code() {
    let check = |source: &str, code: &str| assert_eq!(code_of(source), code, "{source}");
    check("a // b\nc", "a     \nc");
    check("a /* b /* c */ */ d", "a                 d");
    check(r#"f("x \" y") + 1"#, "f(        ) + 1");
    check(r##"f(r#"a"b"#, 'x', '\'', '"')"##, "f(        ,    ,     ,    )");
    check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
    check("for x in y", "for x in y");
    check("b\"{\" // }", "b        ");
}

#[test]
fn tests_are_left_out() {
    let code =
        "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { x[0]; }\n}\nfn c() {}\n#[cfg(test)]\nmod tests;\n";
    let kept = without_tests(code);
    assert_eq!(functions(&kept).iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert!(!kept.contains("mod tests"), "{kept}");
    assert_eq!(kept.lines().count(), code.lines().count());
}

#[test]
fn functions_are_measured_from_their_name_to_their_brace() {
    let code = "trait T {\n  fn a(&self);\n  fn b(&self) -> [u8; 2] {\n    x\n  }\n}\n";
    assert_eq!(functions(code), [Function { name: "b".to_owned(), line: 3, lines: 3 }]);
}

#[test]
fn every_path_is_found() {
    let named = |code: &str| paths(code).into_iter().map(|(_, path)| path).collect::<Vec<_>>();
    assert_eq!(named("use a::b;"), ["a::b"]);
    assert_eq!(named("use a::{b, c::{self, d as e}, f::*};"), ["a::b", "a::c::self", "a::c::d", "a::f"]);
    assert_eq!(named("use a::{b::{c}, d}; e::<f::g>();"), ["a::b::c", "a::d", "f::g"]);
    assert_eq!(
        named("pub(in crate::telemetry) fn f() { std::time::Instant::now() }"),
        ["crate::telemetry", "std::time::Instant::now"]
    );
    assert_eq!(paths("\n\nuse a::\n  b;"), [(3, "a::b".to_owned())]);
}
