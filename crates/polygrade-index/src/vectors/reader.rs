//! Reading files of vectors, block by block.

use super::ids_path;
use polygrade_data::io::Lines;
use polygrade_data::{At, Error, Problems, Result};
use polygrade_nn::Matrix;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const AGAIN: &str = "write it again: polygrade encode MODEL TEXTS.jsonl --out FILE";

/// A file of vectors, as [`VectorWriter`](super::VectorWriter), numpy or pyarrow write it. Nothing of it is held: each
/// call reads the file from its start.
pub struct VectorReader {
    path: PathBuf,
    kind: Kind,
    dim: usize,
    rows: u64,
}

enum Kind {
    Npy(Npy),
    #[cfg(feature = "parquet")]
    Parquet(super::parquet_reader::Columns),
}

impl VectorReader {
    /// Opens a file: parquet where its name ends in `.parquet`, else `.npy` of versions 1.0 to 3.0, with 32-bit or 16-bit
    /// floats, little-endian, row after row.
    ///
    /// # Errors
    /// The file cannot be read, is of another kind, or is shorter or longer than its header says.
    pub fn open(path: &Path) -> Result<Self> {
        let (kind, dim, rows) = if path.extension().is_some_and(|e| e == "parquet") {
            #[cfg(feature = "parquet")]
            {
                let (columns, dim, rows) = super::parquet_reader::Columns::open(path)?;
                (Kind::Parquet(columns), dim, rows)
            }
            #[cfg(not(feature = "parquet"))]
            return Err(Error::Usage("this polygrade was built without parquet; give a .npy file".into()));
        } else {
            let (npy, dim, rows) = Npy::open(path)?;
            (Kind::Npy(npy), dim, rows)
        };
        Ok(VectorReader { path: path.to_owned(), kind, dim, rows })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Width of the vectors; 0 for a parquet file without rows.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of vectors.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Calls `each` with every id, in the order of the rows. One block of ids is in memory at a time.
    ///
    /// # Errors
    /// The ids cannot be read, or there are not as many as rows.
    pub fn ids(&self, each: &mut dyn FnMut(&str)) -> Result<()> {
        match &self.kind {
            Kind::Npy(_) => npy_ids(&self.path, self.rows, each),
            #[cfg(feature = "parquet")]
            Kind::Parquet(columns) => {
                let rows = columns.ids(&self.path, each)?;
                if rows == self.rows { Ok(()) } else { Err(self.uneven(rows)) }
            }
        }
    }

    /// Calls `each` with `rows` vectors at a time, fewer in the last block. One block is in memory at a time.
    ///
    /// # Errors
    /// The file cannot be read, a value is no finite number, or what `each` gives.
    pub fn blocks(&self, rows: usize, each: &mut dyn FnMut(&Matrix) -> Result<()>) -> Result<()> {
        let mut row = 0u64;
        let mut checked = |block: &Matrix| {
            if let Some(i) = block.data.iter().position(|v| !v.is_finite()) {
                let (at, value) = (row + (i / block.cols) as u64 + 1, block.data[i]);
                let what = format!("has the value {value} in row {at}");
                let fix = "see what is wrong with this text or the model (an overflow?), and encode again";
                return Err(Error::input(At::file(&self.path), what, fix));
            }
            row += block.rows() as u64;
            if row > self.rows {
                return Err(self.uneven(row));
            }
            each(block)
        };
        match &self.kind {
            Kind::Npy(npy) => npy.blocks(&self.path, (self.rows, self.dim), rows, &mut checked),
            #[cfg(feature = "parquet")]
            Kind::Parquet(columns) => columns.blocks(&self.path, self.dim, rows, &mut checked),
        }?;
        if row == self.rows { Ok(()) } else { Err(self.uneven(row)) }
    }

    /// A column of parquet has other rows than the file's head says.
    fn uneven(&self, rows: u64) -> Error {
        let what = format!("says that it has {} rows, and a column has {rows} or more", self.rows);
        Error::input(At::file(&self.path), what, AGAIN)
    }
}

/// Widest vectors read, so that a damaged header cannot ask for all memory.
pub(super) const MAX_DIM: u64 = 1_000_000;

/// Where the values of a `.npy` file begin, and of how many bytes each is.
struct Npy {
    start: u64,
    size: usize,
}

/// Longest header read. numpy itself refuses more than 10,000 bytes.
const MAX_HEADER: usize = 1 << 16;

impl Npy {
    /// (the layout, width, rows)
    fn open(path: &Path) -> Result<(Self, usize, u64)> {
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
        let fault = |what: String, fix: &str| Error::input(At::file(path), what, fix);
        let mut take = |n: usize| -> Result<Vec<u8>> {
            let mut bytes = vec![0; n];
            file.read_exact(&mut bytes).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => fault("ends inside its header".into(), AGAIN),
                _ => Error::io(path, e),
            })?;
            Ok(bytes)
        };
        let magic = take(8)?;
        if !magic.starts_with(b"\x93NUMPY") {
            return Err(fault("is neither a .npy file nor named .parquet".into(), AGAIN));
        }
        let lengths = match magic[6] {
            1 => 2,
            2 | 3 => 4,
            v => return Err(fault(format!("is of the .npy version {v}; 1 to 3 are known"), AGAIN)),
        };
        let header = take(lengths)?.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
        if header > MAX_HEADER {
            return Err(fault(format!("says that its header has {header} bytes"), AGAIN));
        }
        let start = (8 + lengths + header) as u64;
        let text = String::from_utf8_lossy(&take(header)?).into_owned();
        let value = |key: &str| {
            let at = [format!("'{key}':"), format!("\"{key}\":")]
                .iter()
                .find_map(|key| text.find(key.as_str()).map(|at| at + key.len()));
            at.map(|at| text[at..].trim_start())
        };
        let size = match value("descr") {
            Some(d) if d.starts_with("'<f4'") || d.starts_with("\"<f4\"") => 4,
            Some(d) if d.starts_with("'<f2'") || d.starts_with("\"<f2\"") => 2,
            Some(d) => {
                let kind: String = d.chars().take_while(|c| *c != ',').take(40).collect();
                let what = format!("holds values of the kind {kind}; expected '<f4' or '<f2'");
                return Err(fault(
                    what,
                    "save them as 32-bit floats: np.save(FILE, vectors.astype(\"<f4\"))",
                ));
            }
            None => return Err(fault("has a header without descr".into(), AGAIN)),
        };
        if !value("fortran_order").is_some_and(|v| v.starts_with("False")) {
            let fix = "save it row after row: np.save(FILE, np.ascontiguousarray(vectors))";
            return Err(fault("holds its values column after column".into(), fix));
        }
        let shape = value("shape").and_then(|v| v.strip_prefix('(')?.split_once(')')).map(|(s, _)| s);
        let sizes: Option<Vec<u64>> = shape.and_then(|shape| {
            shape.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect()
        });
        let Some(&[rows, cols @ 1..=MAX_DIM]) = sizes.as_deref() else {
            let what = format!("is of the shape ({}); expected (rows, width)", shape.unwrap_or("?"));
            return Err(fault(what, "save one vector a row"));
        };
        let expected = rows.checked_mul(cols * size as u64).and_then(|n| n.checked_add(start));
        if expected != Some(length) {
            let what = format!("has {length} bytes; {rows} rows of width {cols} need another number");
            return Err(fault(what, "the file may be cut short: copy it again, or encode again"));
        }
        Ok((Npy { start, size }, cols as usize, rows))
    }

    fn blocks(
        &self,
        path: &Path,
        (rows, dim): (u64, usize),
        at_once: usize,
        each: &mut dyn FnMut(&Matrix) -> Result<()>,
    ) -> Result<()> {
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let skip = std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(self.start));
        skip.map_err(|e| Error::io(path, e))?;
        let (mut left, mut bytes, mut block) = (rows, Vec::new(), Matrix::new(dim, Vec::new()));
        while left > 0 {
            let now = left.min(at_once as u64);
            bytes.resize(now as usize * dim * self.size, 0);
            file.read_exact(&mut bytes).map_err(|e| Error::io(path, e))?;
            block.data.clear();
            if self.size == 4 {
                block.data.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)));
            } else {
                block.data.extend(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()));
            }
            each(&block)?;
            left -= now;
        }
        Ok(())
    }
}

/// The lines of the file beside a `.npy` file.
fn npy_ids(path: &Path, rows: u64, each: &mut dyn FnMut(&str)) -> Result<()> {
    let ids = ids_path(path);
    if !ids.exists() {
        let what = format!("is not there, but {} needs it", path.display());
        let fix = "write the id of each row there, one a line; polygrade encode writes both";
        return Err(Error::input(At::file(&ids), what, fix));
    }
    let mut lines = Lines::open(&ids)?;
    let (mut problems, mut count) = (Problems::default(), 0u64);
    while let Some((_, id)) = lines.next_line(&mut problems) {
        count += 1;
        each(id);
    }
    problems.into_result()?;
    if count != rows {
        let what = format!("has {count} ids, but {} has {rows} rows", path.display());
        let fix = "write one id a line, in the order of the rows; polygrade encode writes both";
        return Err(Error::input(At::file(&ids), what, fix));
    }
    Ok(())
}
