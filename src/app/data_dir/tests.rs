use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::telemetry::Metrics;

fn metrics() -> Metrics {
    Metrics::new().unwrap()
}

fn opened(folder: &Path) -> Result<DataDir, StartError> {
    DataDir::open(folder, &metrics().data_dir())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_folder_keeps_its_secrets_and_shows_them_to_nobody_else() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/data");
    let first = opened(&folder).unwrap();
    assert_eq!(first.folder.as_deref(), Some(&*folder));
    assert_eq!((mode(&folder), mode(&folder.join("secret"))), (0o700, 0o600));
    let hash_secret = first.hash_secret;
    drop(first);
    let second = opened(&folder).unwrap();
    assert_eq!(second.hash_secret, hash_secret);
    let elsewhere = opened(&parent.path().join("b")).unwrap();
    assert_ne!(elsewhere.hash_secret, hash_secret);
}

#[test]
fn what_is_derived_is_the_same_in_every_version() {
    // Another derivation would lose all counters, and all values that were sealed.
    let secret: [u8; 32] = std::array::from_fn(|index| index as u8);
    assert_ne!(derived::<16>("a", &secret), derived::<16>("b", &secret));
    assert_ne!(derived::<16>("a", &secret), derived::<16>("a", &secret[1..]));
    let data = DataDir::without_folder(&secret);
    assert_eq!(u128::from_be_bytes(data.hash_secret), 0xfa92_b7ad_1c3f_237d_9dcd_754f_6c53_60c9);
    assert_eq!(data.seal_key[..4], [0x37, 0xd0, 0xc7, 0x01]);
}

#[test]
fn two_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(folder.path()).unwrap();
    let error = opened(folder.path()).err().unwrap().to_string();
    let expected = format!(
        "another gateway is running on the folder {}: stop it, or write another `store.data_dir`, one for each gateway",
        folder.path().display()
    );
    assert_eq!(error, expected);
    drop(first);
    assert!(opened(folder.path()).is_ok());
}

#[test]
fn a_secret_of_another_length_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    for length in [0, 31, 33] {
        fs::write(&path, vec![7; length]).unwrap();
        let error = opened(folder.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("secret has {length} bytes")), "{error}");
        assert!(error.contains("restore the file, or remove it"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), vec![7; length]);
    }
}

#[test]
fn a_folder_that_cannot_be_is_told_and_nothing_is_kept() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let metrics = metrics();
    let data = DataDir::open(&file, &metrics.data_dir()).unwrap();
    assert_eq!(data.folder, None);
    assert!(metrics.render().contains("tollgate_data_dir_up 0"));
    assert_ne!(data.hash_secret, opened(&file).unwrap().hash_secret);
    // Where the secret cannot be read or written it is no better.
    fs::create_dir_all(parent.path().join("odd/secret")).unwrap();
    assert!(opened(&parent.path().join("odd")).is_err_and(|error| error.to_string().contains("secret has")));
    opened(&parent.path().join("good")).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"no folder");
}
