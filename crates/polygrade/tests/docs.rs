//! The commands in README.md and docs/ run: all ```sh blocks of a file, in order, in one fresh folder in which
//! `polygrade` is on the PATH and `collections/mini` is there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The ```sh blocks of a page as one script.
fn script(page: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line.trim_end() {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                out.push_str(line);
                out.push('\n');
            }
            _ => {}
        }
    }
    out
}

#[test]
fn the_commands_of_the_docs_run() {
    let mut pages: Vec<PathBuf> =
        fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path()).collect();
    pages.push(root().join("README.md"));
    pages.retain(|p| p.extension().is_some_and(|e| e == "md"));
    pages.sort();
    let bin = Path::new(env!("CARGO_BIN_EXE_polygrade")).parent().unwrap().to_owned();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut ran = 0;
    for page in pages {
        let script = script(&fs::read_to_string(&page).unwrap());
        if script.trim().is_empty() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root().join("collections"), dir.path().join("collections")).unwrap();
        let out =
            Command::new("bash").args(["-euc", &script]).current_dir(dir.path()).env("PATH", &path).output();
        let out = out.unwrap();
        let said =
            format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{}:\n{script}\n{said}", page.display());
        ran += 1;
    }
    assert!(ran >= 5, "only {ran} pages have commands");
}

/// The headings of a page as GitHub names them in links.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(page).unwrap();
    let outside = text.split("```").step_by(2).flat_map(str::lines);
    let headings = outside.filter(|l| l.starts_with('#')).map(|l| l.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|h| h.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages =
        vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("CONTRIBUTING.md")];
    pages.extend(fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path()));
    for page in pages.into_iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(to.exists(), "{} links to {target}", page.display());
            if !anchor.is_empty() && to.extension().is_some_and(|e| e == "md") {
                assert!(anchors(&to).contains(anchor), "{} links to {target}", page.display());
            }
        }
    }
}
