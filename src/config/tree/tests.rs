use super::*;

fn flaws(text: &str) -> Vec<String> {
    let parsed = parse(FileId(0), text);
    parsed
        .flaws
        .iter()
        .map(|flaw| {
            let fix = flaw.wrong.fix.as_deref().unwrap_or_default();
            format!("{}:{} {}; {fix}", flaw.place.line, flaw.place.column, flaw.wrong.what)
        })
        .collect()
}

fn root(text: &str) -> Node {
    let parsed = parse(FileId(0), text);
    assert!(parsed.flaws.is_empty(), "{:?}", parsed.flaws);
    parsed.root.unwrap()
}

fn entry<'n>(node: &'n Node, key: &str) -> &'n Entry {
    let NodeKind::Map(entries) = &node.kind else { panic!("not a map") };
    entries.iter().find(|entry| &*entry.key == key).unwrap()
}

fn spot(place: Place) -> (u32, u32, u32) {
    (place.line, place.column, place.width)
}

#[test]
fn every_value_knows_its_place_and_its_text() {
    let root = root("a: 0x10\nb:\n  - { c: \"60\" }\n  - |\n    x\n    y\n");
    assert_eq!(spot(entry(&root, "a").value.place), (1, 4, 4));
    assert!(
        matches!(&entry(&root, "a").value.kind, NodeKind::Scalar { text, style: Style::Plain } if &**text == "0x10")
    );
    let NodeKind::Seq(items) = &entry(&root, "b").value.kind else { panic!("not a list") };
    let inner = entry(&items[0], "c");
    assert_eq!((spot(inner.key_place), spot(inner.value.place)), ((3, 7, 1), (3, 10, 4)));
    assert!(matches!(&inner.value.kind, NodeKind::Scalar { style: Style::Quoted, .. }));
    assert!(items[1].last_line > items[1].place.line);
}

#[test]
fn every_duplicate_key_is_told() {
    let flaws = flaws("a: 1\nb: { c: 1, c: 2 }\na: 3\n");
    assert_eq!(
        flaws,
        [
            "2:12 duplicate key `c`; it is already on line 2: keep one of the two",
            "3:1 duplicate key `a`; it is already on line 1: keep one of the two",
        ]
    );
}

#[test]
fn aliases_repeat_a_value() {
    let root = root("a: &x { k: 1 }\nb: *x\n");
    let b = &entry(&root, "b").value;
    assert!(matches!(&b.kind, NodeKind::Map(entries) if &*entries[0].key == "k"));
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = level - 1;
        let aliases = vec![format!("*a{previous}"); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(flaws(&text)[0].contains("the file has more than 200000 values"), "{:?}", flaws(&text));
}

#[test]
fn deep_nesting_is_refused_also_through_aliases() {
    assert!(!flaws(&format!("a: {}{}", "[".repeat(5000), "]".repeat(5000))).is_empty());
    let mut text = String::new();
    for level in 0..10 {
        let inner = if level == 0 { "x".to_owned() } else { format!("*a{}", level - 1) };
        text.push_str(&format!("a{level}: &a{level} {}{inner}{}\n", "[".repeat(20), " ]".repeat(20)));
    }
    assert!(flaws(&text)[0].contains("aliases nest too deep"), "{:?}", flaws(&text));
}

#[test]
fn what_is_no_single_plain_document_is_refused() {
    let check = |text: &str, expected: &str| {
        let flaws = flaws(text);
        assert!(flaws.len() == 1 && flaws[0].contains(expected), "{text:?}: {flaws:?}");
    };
    check("", "the file is empty");
    check("# only a comment\n", "the file is empty");
    check("a: 1\n---\nb: 2\n", "2:1 a second document begins here");
    check("a: 1\n<<: { b: 1 }\n", "2:1 merge keys are not supported");
    check("a: !x 1\n", "1:4 tags (`!…`) are not supported");
    check("a: *x\n", "1:4 this is not YAML");
    check("a: &x [*x]\n", "1:8 an alias cannot stand inside its own anchor");
    check("? [a, b]\n: 1\n", "a key must be a plain word");
    check("a: [1\nb: 2\n", "this is not YAML");
    check("a: { b: ${X} }\n", "must be quoted");
    check("a:\n\tb: 1\n", "indent with spaces");
}
