//! Running the program as users do.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses some of it")]

use std::fmt::Debug;
use std::path::Path;
use std::process::{Command, Output};

/// The program with arguments.
pub(crate) fn command<S: AsRef<str>>(args: &[S]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_polygrade"));
    c.args(args.iter().map(AsRef::as_ref));
    c
}

/// What a command gives.
pub(crate) fn run<S: AsRef<str>>(args: &[S]) -> Output {
    command(args).output().unwrap()
}

/// Standard output of a command that succeeds.
pub(crate) fn ok<S: AsRef<str> + Debug>(args: &[S]) -> String {
    let out = run(args);
    assert!(out.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A command that fails with this exit code and says these words.
pub(crate) fn fails<S: AsRef<str> + Debug>(args: &[S], code: i32, words: &[&str]) {
    let out = run(args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{args:?}\n{text}");
    words.iter().for_each(|w| assert!(text.contains(w), "{args:?} should say {w:?}:\n{text}"));
}

/// A path as an argument.
pub(crate) fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}
