//! What several tests need, not all of them all of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

/// A file of the fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A folder of the unpacked data sets (`POLYGRADE_DATA`, else `~/.cache/polygrade-data`); `None`, and a line that says
/// so, where it is absent.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/polygrade-data"));
    let dir = std::env::var_os("POLYGRADE_DATA").map(PathBuf::from).or_else(home)?.join(name);
    if !dir.is_dir() {
        eprintln!("skipped: {} is absent", dir.display());
        return None;
    }
    Some(dir)
}
