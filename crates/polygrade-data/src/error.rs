//! What can go wrong, and whose fault it is.
//!
//! One error type serves the whole workspace, because a person at the command line needs one answer: is it
//! my input ([`Error::Input`], exit code 1), my command ([`Error::Usage`], exit code 2), or the program
//! ([`Error::Internal`], exit code 3)? Faults in data carry a file, a line and a way to mend them, and come
//! in one [`Problems`] list rather than one at a time.

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How many problems are kept in full before only the count goes on.
pub const DEFAULT_PROBLEM_LIMIT: usize = 20;

/// A place in an input file. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The file.
    pub path: PathBuf,
    /// The line in it, where one can be named.
    pub line: Option<u64>,
}

impl At {
    /// A line of a file.
    pub fn line(path: &Path, line: u64) -> Self {
        At { path: path.to_owned(), line: Some(line) }
    }

    /// A file as a whole.
    pub fn file(path: &Path) -> Self {
        At { path: path.to_owned(), line: None }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

/// One fault in the input: where, what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub at: At,
    /// What is wrong, with the offending value.
    pub what: String,
    /// What the reader of the message can do about it.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    to mend it: {}", self.at, self.what, self.fix)
    }
}

/// A list of problems: the first few in full, the rest as a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    kept: Vec<Problem>,
    total: u64,
    limit: usize,
}

impl Default for Problems {
    fn default() -> Self {
        Problems::with_limit(DEFAULT_PROBLEM_LIMIT)
    }
}

impl Problems {
    /// An empty list that keeps `limit` problems in full.
    pub fn with_limit(limit: usize) -> Self {
        Problems { kept: Vec::new(), total: 0, limit }
    }

    /// Adds a problem.
    pub fn push(&mut self, at: At, what: impl Into<String>, fix: impl Into<String>) {
        self.total += 1;
        if self.kept.len() < self.limit {
            self.kept.push(Problem { at, what: what.into(), fix: fix.into() });
        }
    }

    /// Adds another list after this one.
    pub fn append(&mut self, other: Problems) {
        self.total += other.total;
        let room = self.limit.saturating_sub(self.kept.len());
        self.kept.extend(other.kept.into_iter().take(room));
    }

    /// How many problems there were, kept or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The problems kept in full.
    pub fn kept(&self) -> &[Problem] {
        &self.kept
    }

    /// `Err` with the list when it holds anything.
    pub fn into_result(self) -> Result<()> {
        if self.total == 0 { Ok(()) } else { Err(Error::Input(self)) }
    }
}

/// Something that collects problems while it is fed.
pub trait Report {
    /// The list to add to.
    fn problems(&mut self) -> &mut Problems;
}

impl Report for Problems {
    fn problems(&mut self) -> &mut Problems {
        self
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, p) in self.kept.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{p}")?;
        }
        let rest = self.total - self.kept.len() as u64;
        if rest > 0 {
            write!(f, "\n… and {rest} more ({} in all)", self.total)?;
        }
        Ok(())
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is at fault: mend the named places and run again.
    #[error("{0}")]
    Input(Problems),
    /// The command or the call is at fault: change the arguments.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read or written; the message names it.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A fault of this program: please report it.
    #[error("internal error: {0}; please report it with the command that led here")]
    Internal(String),
}

impl Error {
    /// One problem in one place.
    pub fn input(at: At, what: impl Into<String>, fix: impl Into<String>) -> Self {
        let mut problems = Problems::default();
        problems.push(at, what, fix);
        Error::Input(problems)
    }

    /// A failed file operation.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.to_owned(), source }
    }

    /// The program's exit code for this error: 1 input, 2 usage, 3 internal.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Input(_) | Error::Io { .. } => 1,
            Error::Usage(_) => 2,
            Error::Internal(_) => 3,
        }
    }
}
