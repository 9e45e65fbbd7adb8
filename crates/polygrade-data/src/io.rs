//! Files in and out: transparent decompression, numbered lines, atomic writes.
//!
//! Readers stream: one line is in memory at a time. Compression is told by the file's first bytes, not by
//! its name, so a renamed file still opens. Writers never leave half a file: the text goes to a temporary
//! file beside the target, which is renamed over it when all of it is on disk.

use crate::error::{At, Error, Problems, Result};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Longest line accepted, so that a binary file cannot fill the memory.
const MAX_LINE: usize = 64 << 20;

/// Opens `path` for reading; gzip and zstd are unpacked on the way.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    if file.metadata().map_err(|e| Error::io(path, e))?.is_dir() {
        return Err(Error::io(path, io::Error::other("is a folder, expected a file")));
    }
    let mut raw = BufReader::with_capacity(1 << 16, file);
    let head = raw.fill_buf().map_err(|e| Error::io(path, e))?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(raw)))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(|e| Error::io(path, e))?;
        Box::new(BufReader::with_capacity(1 << 16, decoder))
    } else {
        Box::new(raw)
    })
}

/// Opens a text file; a byte-order mark at its start is dropped.
pub fn open_text(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let mut reader = open(path)?;
    let head = reader.fill_buf().map_err(|e| Error::io(path, e))?;
    if head.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(reader)
}

/// Reads a whole (small) text file, unpacked, as UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes);
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        let (what, fix) = not_utf8(e.as_bytes());
        Error::input(At::line(path, line as u64), what, fix)
    })
}

/// `dir/name`, or the same with `.gz` or `.zst`, whichever exists.
pub fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    ["", ".gz", ".zst"].iter().map(|ext| dir.join(format!("{name}{ext}"))).find(|p| p.is_file())
}

/// The file name without a trailing `.gz` or `.zst`.
pub fn plain_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")) {
        Some(plain) => plain.to_owned(),
        None => name,
    }
}

/// The files of a folder, sorted by name, so that a run does not depend on the file system's order.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if path.is_file() {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

fn not_utf8(bytes: &[u8]) -> (String, String) {
    let what = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        "the text is UTF-16".to_owned()
    } else {
        let at = std::str::from_utf8(bytes).err().map_or(0, |e| e.valid_up_to());
        format!("the text is not UTF-8 (byte {at} is 0x{:02x})", bytes.get(at).copied().unwrap_or(0))
    };
    (what, "convert the file: iconv -f ENCODING -t UTF-8 FILE > NEW".into())
}

/// The lines of a text file, numbered from 1, without their ends. Lines that are not UTF-8 are reported and
/// skipped; a byte-order mark at the start is dropped.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    line: u64,
    done: bool,
}

impl Lines {
    /// Opens `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Lines { path: path.to_owned(), reader: open(path)?, buffer: Vec::new(), line: 0, done: false })
    }

    fn at(&self) -> At {
        At::line(&self.path, self.line)
    }

    /// The next line with anything in it but white space, and its number; `None` at the end. Faults go to
    /// `problems`.
    pub fn next_line(&mut self, problems: &mut Problems) -> Option<(u64, &str)> {
        while !self.done {
            self.buffer.clear();
            self.line += 1;
            let read = (&mut self.reader).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut self.buffer);
            match read {
                Ok(0) => self.done = true,
                Ok(n) if n > MAX_LINE => {
                    problems.push(
                        self.at(),
                        "the line is longer than 64 MiB",
                        "check that this is a text file",
                    );
                    self.done = true;
                }
                Ok(_) => {
                    if self.line == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
                        self.buffer.drain(..3);
                    }
                    while matches!(self.buffer.last(), Some(b'\n' | b'\r')) {
                        self.buffer.pop();
                    }
                    if self.buffer.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    if std::str::from_utf8(&self.buffer).is_err() {
                        let (what, fix) = not_utf8(&self.buffer);
                        problems.push(self.at(), what, fix);
                        continue;
                    }
                    // Checked just above; a second check costs less than unsafe code would.
                    return std::str::from_utf8(&self.buffer).ok().map(|text| (self.line, text));
                }
                Err(e) => {
                    problems.push(
                        self.at(),
                        format!("cannot be read on: {e}"),
                        "the file may be cut short or damaged: fetch it again",
                    );
                    self.done = true;
                }
            }
        }
        None
    }
}

/// A file that appears under its name only when [`AtomicFile::commit`] is called.
pub struct AtomicFile {
    target: PathBuf,
    temp: BufWriter<tempfile::NamedTempFile>,
}

impl AtomicFile {
    /// Starts writing; the folder is made if it is missing.
    pub fn create(target: &Path) -> Result<Self> {
        let dir = parent(target);
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let temp = tempfile::Builder::new().prefix(".polygrade-").suffix(".tmp").tempfile_in(dir);
        let temp = temp.map_err(|e| Error::io(dir, e))?;
        Ok(AtomicFile { target: target.to_owned(), temp: BufWriter::with_capacity(1 << 16, temp) })
    }

    /// Writes `bytes` over the beginning of what was written so far, for headers that count what follows.
    pub fn rewrite_start(&mut self, bytes: &[u8]) -> Result<()> {
        let done = self.temp.seek(io::SeekFrom::Start(0)).and_then(|_| self.temp.write_all(bytes));
        done.and_then(|()| self.temp.seek(io::SeekFrom::End(0)).map(|_| ()))
            .map_err(|e| Error::io(&self.target, e))
    }

    /// Puts the file under its name.
    pub fn commit(self) -> Result<()> {
        let target = self.target;
        let file = self.temp.into_inner().map_err(|e| Error::io(&target, e.into_error()))?;
        file.as_file().sync_all().map_err(|e| Error::io(&target, e))?;
        make_readable(file.path(), 0o644).map_err(|e| Error::io(&target, e))?;
        file.persist(&target).map_err(|e| Error::io(&target, e.error))?;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.temp.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.temp.flush()
    }
}

/// Temporary files are private to the user; what is left for others to read should not be.
#[cfg(unix)]
fn make_readable(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn make_readable(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Writes `bytes` to `path` atomically.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(|e| Error::io(path, e))?;
    file.commit()
}

/// A folder that appears under its name, whole, only when [`AtomicDir::commit`] is called.
pub struct AtomicDir {
    target: PathBuf,
    temp: tempfile::TempDir,
}

impl AtomicDir {
    /// Starts a folder. A target that exists and is not empty is refused: nothing written is ever lost.
    pub fn create(target: &Path) -> Result<Self> {
        if target.symlink_metadata().is_ok() {
            let empty =
                target.is_dir() && fs::read_dir(target).map_err(|e| Error::io(target, e))?.next().is_none();
            if !empty {
                return Err(Error::Usage(format!(
                    "{} exists and is not empty; choose another --out or remove it first",
                    target.display()
                )));
            }
        }
        let dir = parent(target);
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let temp = tempfile::Builder::new().prefix(".polygrade-").suffix(".tmp").tempdir_in(dir);
        Ok(AtomicDir { target: target.to_owned(), temp: temp.map_err(|e| Error::io(dir, e))? })
    }

    /// Where to write until then.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Puts the folder under its name.
    pub fn commit(self) -> Result<()> {
        if self.target.is_dir() {
            fs::remove_dir(&self.target).map_err(|e| Error::io(&self.target, e))?;
        }
        make_readable(self.path(), 0o755).map_err(|e| Error::io(&self.target, e))?;
        fs::rename(self.path(), &self.target).map_err(|e| Error::io(&self.target, e))?;
        // It has gone to its place: nothing is left to clean up.
        let _ = self.temp.keep();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(bytes: &[u8]) -> (Vec<(u64, String)>, Problems) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, bytes).unwrap();
        let (mut problems, mut out) = (Problems::default(), Vec::new());
        let mut lines = Lines::open(&path).unwrap();
        while let Some((n, l)) = lines.next_line(&mut problems) {
            out.push((n, l.to_owned()));
        }
        (out, problems)
    }

    #[test]
    fn lines_are_numbered_and_bad_ones_reported() {
        let (lines, problems) = lines_of(b"\xef\xbb\xbfa\r\n\n\xff\xfe\nb");
        assert_eq!(lines, [(1, "a".to_owned()), (4, "b".to_owned())]);
        assert_eq!(problems.total(), 1);
        assert_eq!(problems.kept()[0].at.line, Some(3));
    }

    #[test]
    fn compressed_files_read_the_same() {
        let text = "one\ntwo\n".repeat(5000);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        let plain = lines_of(text.as_bytes()).0;
        assert_eq!(lines_of(&gz.finish().unwrap()).0, plain);
        assert_eq!(lines_of(&zstd::encode_all(text.as_bytes(), 1).unwrap()).0, plain);
    }

    #[test]
    fn a_cut_archive_is_a_problem_not_a_panic() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all("some text\n".repeat(9000).as_bytes()).unwrap();
        let bytes = gz.finish().unwrap();
        assert_eq!(lines_of(&bytes[..bytes.len() / 2]).1.total(), 1);
    }

    #[test]
    fn atomic_dir_refuses_to_overwrite() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let new = AtomicDir::create(&target).unwrap();
        fs::write(new.path().join("f"), "x").unwrap();
        assert!(!target.exists());
        new.commit().unwrap();
        assert!(target.join("f").is_file());
        assert!(matches!(AtomicDir::create(&target), Err(Error::Usage(_))));
    }
}
