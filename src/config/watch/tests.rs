use std::fs;

use super::*;

struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        Folder { root: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn watch(&self, names: &[&str]) -> Watch {
        Watch::new(names.iter().map(|name| WatchedFile::about_to_be_read(&self.path(name))).collect())
    }

    /// Looks after `ms` more of imagined time.
    fn look_after(&self, watch: &mut Watch, ms: u64) -> Look {
        let stamps = watch.files.iter().map(|file| Stamp::of(&file.path)).collect();
        watch.look(stamps, Duration::from_millis(ms))
    }
}

#[test]
fn a_change_is_told_once_after_it_has_been_quiet() {
    let folder = Folder::new();
    folder.write("a.yaml", "one");
    let mut watch = folder.watch(&["a.yaml"]);
    assert_eq!(folder.look_after(&mut watch, 200), Look::Unchanged);
    folder.write("a.yaml", "three");
    assert_eq!(folder.look_after(&mut watch, 200), Look::Settling);
    assert_eq!(folder.look_after(&mut watch, 99), Look::Settling);
    assert_eq!(folder.look_after(&mut watch, 1), Look::Changed);
    assert_eq!(folder.look_after(&mut watch, 200), Look::Unchanged);
}

#[test]
fn each_further_write_starts_the_wait_anew() {
    let folder = Folder::new();
    folder.write("a.yaml", "");
    let mut watch = folder.watch(&["a.yaml"]);
    for size in 1..10 {
        folder.write("a.yaml", &"x".repeat(size));
        assert_eq!(folder.look_after(&mut watch, 90), Look::Settling);
    }
    assert_eq!(folder.look_after(&mut watch, 100), Look::Changed);
}

#[test]
fn a_rename_over_the_file_is_a_change_even_with_the_same_size() {
    let folder = Folder::new();
    folder.write("a.yaml", "one");
    let mut watch = folder.watch(&["a.yaml"]);
    folder.write("a.yaml.tmp", "two");
    fs::rename(folder.path("a.yaml.tmp"), folder.path("a.yaml")).unwrap();
    assert_eq!(folder.look_after(&mut watch, 200), Look::Settling);
    assert_eq!(folder.look_after(&mut watch, 100), Look::Changed);
}

#[test]
fn the_symlink_swap_of_a_config_map_is_a_change() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    for version in ["..v1", "..v2"] {
        fs::create_dir(folder.path(version)).unwrap();
        folder.write(&format!("{version}/a.yaml"), "same");
    }
    symlink("..v1", folder.path("..data")).unwrap();
    symlink("..data/a.yaml", folder.path("a.yaml")).unwrap();
    let mut watch = folder.watch(&["a.yaml"]);
    assert_eq!(folder.look_after(&mut watch, 200), Look::Unchanged);
    symlink("..v2", folder.path("..data_tmp")).unwrap();
    fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    assert_eq!(folder.look_after(&mut watch, 200), Look::Settling);
    assert_eq!(folder.look_after(&mut watch, 100), Look::Changed);
}

#[test]
fn a_file_gone_for_a_moment_is_waited_for() {
    let folder = Folder::new();
    folder.write("a.yaml", "one");
    let mut watch = folder.watch(&["a.yaml"]);
    fs::remove_file(folder.path("a.yaml")).unwrap();
    assert_eq!(folder.look_after(&mut watch, 200), Look::Settling);
    assert_eq!(folder.look_after(&mut watch, 400), Look::Settling);
    folder.write("a.yaml", "three");
    assert_eq!(folder.look_after(&mut watch, 50), Look::Settling);
    assert_eq!(folder.look_after(&mut watch, 100), Look::Changed);
}

#[test]
fn a_file_gone_for_good_is_told_once() {
    let folder = Folder::new();
    folder.write("a.yaml", "one");
    let mut watch = folder.watch(&["a.yaml"]);
    fs::remove_file(folder.path("a.yaml")).unwrap();
    assert_eq!(folder.look_after(&mut watch, 200), Look::Settling);
    assert_eq!(folder.look_after(&mut watch, 500), Look::Changed);
    assert_eq!(folder.look_after(&mut watch, 200), Look::Unchanged);
}

#[test]
fn a_file_that_was_missing_is_a_change_once_it_is_there() {
    let folder = Folder::new();
    let mut watch = folder.watch(&["list.txt"]);
    assert_eq!(folder.look_after(&mut watch, 200), Look::Unchanged);
    folder.write("list.txt", "192.0.2.1");
    assert_eq!(folder.look_after(&mut watch, 200), Look::Settling);
    assert_eq!(folder.look_after(&mut watch, 100), Look::Changed);
}

#[test]
fn what_changes_while_it_is_read_is_not_missed() {
    let folder = Folder::new();
    folder.write("a.yaml", "one");
    let read = WatchedFile::about_to_be_read(&folder.path("a.yaml"));
    folder.write("a.yaml", "three");
    let mut watch = Watch::new(vec![]);
    watch.follow(vec![read]);
    assert_eq!(folder.look_after(&mut watch, 200), Look::Settling);
}

#[test]
fn a_file_touched_since_it_was_read_is_not_as_it_was_read() {
    let folder = Folder::new();
    folder.write("a.yaml", "");
    let read = WatchedFile::about_to_be_read(&folder.path("a.yaml"));
    assert!(read.is_as_read());
    folder.write("a.yaml", "the rest");
    assert!(!read.is_as_read());
    let missing = WatchedFile::about_to_be_read(&folder.path("list.txt"));
    assert!(missing.is_as_read());
    folder.write("list.txt", "192.0.2.1");
    assert!(!missing.is_as_read());
}

#[tokio::test]
async fn a_real_change_is_noticed_within_a_second() {
    let folder = Folder::new();
    folder.write("a.yaml", "one");
    let mut watch = folder.watch(&["a.yaml"]);
    folder.write("a.yaml", "three");
    tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap();
}
