//! Columns `id` and `vector` of a parquet file, as any writer of lists makes them.

use super::reader::MAX_DIM;
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use polygrade_data::{At, Error, Result};
use polygrade_nn::Matrix;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Ids read at once.
const IDS: usize = 4096;

/// The places of the two columns, and the definition levels at which their values are there.
pub(super) struct Columns {
    id: usize,
    id_defined: i16,
    vector: usize,
    vector_defined: i16,
}

fn fault(path: &Path, what: impl Into<String>) -> Error {
    let fix = "expected columns id (text) and vector (a list of floats in each row, all as long); polygrade encode \
               writes them";
    Error::input(At::file(path), what, fix)
}

/// What reading gives; the parquet crate panics on some damaged files, which are input at fault like any other.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    let broken =
        |what: String| Error::input(At::file(path), what, "the file may be damaged: copy or encode it again");
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(e)) => Err(broken(format!("is not readable parquet: {e}"))),
        Err(_) => Err(broken("is not readable parquet".into())),
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    guarded(path, || SerializedFileReader::new(file))
}

impl Columns {
    /// (the columns, width, rows)
    pub(super) fn open(path: &Path) -> Result<(Self, usize, u64)> {
        let reader = open(path)?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let leaf = |name: &str| {
            let root = |i: &usize| schema.column(*i).path().parts().first().is_some_and(|p| p == name);
            let mut leaves = (0..schema.num_columns()).filter(root);
            match (leaves.next(), leaves.next()) {
                (Some(i), None) => Ok(i),
                (None, _) => Err(fault(path, format!("has no column {name}"))),
                _ => Err(fault(path, format!("has several values in the column {name}"))),
            }
        };
        let (id, vector) = (leaf("id")?, leaf("vector")?);
        let (ids, vectors) = (schema.column(id), schema.column(vector));
        if ids.physical_type() != Type::BYTE_ARRAY || ids.max_rep_level() != 0 {
            return Err(fault(path, format!("has {} in the column id", ids.physical_type())));
        }
        if !matches!(vectors.physical_type(), Type::FLOAT | Type::DOUBLE) || vectors.max_rep_level() != 1 {
            let what = format!("has {} in the column vector, or no list of it", vectors.physical_type());
            return Err(fault(path, what));
        }
        let groups = reader.metadata().row_groups();
        let sum = |of: &dyn Fn(usize) -> i64| -> u64 {
            (0..groups.len()).fold(0, |sum: u64, g| sum.saturating_add(of(g).max(0) as u64))
        };
        let rows = sum(&|g| groups[g].num_rows());
        let values = sum(&|g| groups[g].column(vector).num_values());
        if rows > 0 && (values == 0 || !values.is_multiple_of(rows)) {
            return Err(fault(
                path,
                format!("has {values} values in {rows} vectors, which are not all as long"),
            ));
        }
        let dim = values.checked_div(rows).unwrap_or(0);
        if dim > MAX_DIM {
            return Err(fault(path, format!("has vectors of {dim} values")));
        }
        let columns =
            Columns { id, id_defined: ids.max_def_level(), vector, vector_defined: vectors.max_def_level() };
        Ok((columns, dim as usize, rows))
    }

    /// Calls `each` with a column of each group of rows.
    fn columns(path: &Path, column: usize, each: &mut dyn FnMut(ColumnReader) -> Result<()>) -> Result<()> {
        let reader = open(path)?;
        for group in 0..reader.num_row_groups() {
            each(guarded(path, || reader.get_row_group(group)?.get_column_reader(column))?)?;
        }
        Ok(())
    }

    /// The number of ids.
    pub(super) fn ids(&self, path: &Path, each: &mut dyn FnMut(&str)) -> Result<u64> {
        let mut row = 0u64;
        Self::columns(path, self.id, &mut |column| {
            let ColumnReader::ByteArrayColumnReader(mut column) = column else {
                return Err(fault(path, "has no text in the column id"));
            };
            let (mut defined, mut ids) = (Vec::new(), Vec::new());
            loop {
                defined.clear();
                ids.clear();
                let read = || column.read_records(IDS, Some(&mut defined), None, &mut ids);
                let (records, ..) = guarded(path, read)?;
                if records == 0 {
                    return Ok(());
                }
                if ids.len() != records || defined.iter().any(|d| *d != self.id_defined) {
                    return Err(fault(path, format!("has no id in a row from {} on", row + 1)));
                }
                for id in &ids {
                    row += 1;
                    let no_text = |_| fault(path, format!("has an id in row {row} that is not UTF-8"));
                    each(id.as_utf8().map_err(no_text)?);
                }
            }
        })?;
        Ok(row)
    }

    pub(super) fn blocks(
        &self,
        path: &Path,
        dim: usize,
        at_once: usize,
        each: &mut dyn FnMut(&Matrix) -> Result<()>,
    ) -> Result<()> {
        // Not Matrix::new: a file without rows has no width.
        let mut block = Matrix { cols: dim, data: Vec::new() };
        let mut done = 0;
        Self::columns(path, self.vector, &mut |column| match column {
            ColumnReader::FloatColumnReader(column) => {
                self.group(path, column, (at_once, &mut done), &mut block, each, |v: f32| v)
            }
            ColumnReader::DoubleColumnReader(column) => {
                self.group(path, column, (at_once, &mut done), &mut block, each, |v: f64| v as f32)
            }
            _ => Err(fault(path, "has no floats in the column vector")),
        })?;
        if block.data.is_empty() { Ok(()) } else { each(&block) }
    }

    /// Adds the vectors of a group of rows to the block, which goes to `each` whenever it is full.
    fn group<D: DataType>(
        &self,
        path: &Path,
        mut column: ColumnReaderImpl<D>,
        (at_once, done): (usize, &mut usize),
        block: &mut Matrix,
        each: &mut dyn FnMut(&Matrix) -> Result<()>,
        float: impl Fn(D::T) -> f32,
    ) -> Result<()> {
        let dim = block.cols;
        let (mut defined, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            defined.clear();
            repeated.clear();
            values.clear();
            let rows = at_once - block.rows();
            let read = || column.read_records(rows, Some(&mut defined), Some(&mut repeated), &mut values);
            let (records, ..) = guarded(path, read)?;
            if records == 0 {
                return Ok(());
            }
            let whole = values.len() == records * dim
                && defined.iter().all(|d| *d == self.vector_defined)
                && repeated.iter().enumerate().all(|(i, r)| (*r == 0) == i.is_multiple_of(dim));
            if !whole {
                let (from, to) = (*done + 1, *done + records);
                let what = format!("has a vector with other than {dim} values in the rows {from} to {to}");
                return Err(fault(path, what));
            }
            *done += records;
            block.data.extend(values.drain(..).map(&float));
            if block.rows() == at_once {
                each(block)?;
                block.data.clear();
            }
        }
    }
}
