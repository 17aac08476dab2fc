//! One small file a mistake: each is refused with exactly the message in its first line.

use std::fs;
use std::path::{Path, PathBuf};

use tollgate::config::{self, Environment};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

fn environment() -> Environment {
    Environment::empty().with("SECRET", SECRET).with("WORD", "swordfish")
}

/// Every mistake of a file on one line, without the folder.
fn mistakes(path: &Path) -> Vec<String> {
    let refused = match config::load(path, &environment()) {
        Ok(_) => return Vec::new(),
        Err(refused) => refused,
    };
    let shown = refused.to_string();
    assert!(!shown.contains("hunter2") && !shown.contains("swordfish"), "a variable leaks: {shown}");
    let own = format!("{}:", path.display());
    refused.problems.brief().map(|brief| brief.strip_prefix(&own).unwrap_or(&brief).to_owned()).collect()
}

#[test]
fn each_mistake_has_its_message() {
    let mut failures = Vec::new();
    let mut count = 0;
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
        count += 1;
        let text = fs::read_to_string(path).unwrap();
        let expected =
            text.lines().next().and_then(|line| line.strip_prefix("# expect: ")).unwrap_or_default();
        let found = mistakes(path);
        if found != [expected] {
            let name = path.file_name().unwrap().to_string_lossy();
            failures
                .push(format!("{name}\n  expected {expected}\n  found    {}", found.join("\n           ")));
        }
    }
    assert!(count >= 100, "only {count} files");
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_file_that_is_too_large_missing_or_not_text_is_refused_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    assert!(mistakes(&path)[0].contains("cannot read the configuration"), "{:?}", mistakes(&path));
    fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert_eq!(mistakes(&path), [" cannot read the configuration: it is larger than 1024 KiB"]);
    fs::write(&path, b"version: 1\nname: \xff\n").unwrap();
    assert_eq!(mistakes(&path), [" the configuration is not UTF-8 text: see line 2; save it as UTF-8"]);
}
