//! Files of vectors: numpy's `.npy` with the ids beside it, or parquet with ids and vectors in columns.
//!
//! Both are written block by block and appear under their name only when whole; both are read block by block.

#[cfg(feature = "parquet")]
mod parquet_reader;
mod reader;

pub use reader::VectorReader;

use polygrade_data::io::AtomicFile;
use polygrade_data::{Error, Result};
use polygrade_nn::Matrix;
use std::io::Write;
use std::path::{Path, PathBuf};

/// numpy's header is padded to this size, so that the number of rows can be filled in at the end.
const HEADER: usize = 128;

/// A file of vectors being written.
pub struct VectorWriter {
    kind: Kind,
    path: PathBuf,
    dim: usize,
    rows: u64,
}

enum Kind {
    Npy {
        vectors: AtomicFile,
        ids: AtomicFile,
    },
    #[cfg(feature = "parquet")]
    Parquet(parquet_file::Writer),
}

/// Where the ids of a `.npy` file are: one a line, in the order of the rows.
pub fn ids_path(path: &Path) -> PathBuf {
    path.with_extension("ids.txt")
}

impl VectorWriter {
    /// Starts a file for vectors of `dim` values: parquet where its name ends in `.parquet`, else `.npy`.
    pub fn create(path: &Path, dim: usize) -> Result<Self> {
        let kind = if path.extension().is_some_and(|e| e == "parquet") {
            #[cfg(feature = "parquet")]
            {
                Kind::Parquet(parquet_file::Writer::create(path)?)
            }
            #[cfg(not(feature = "parquet"))]
            return Err(Error::Usage("this polygrade was built without parquet; write a .npy file".into()));
        } else {
            let mut vectors = AtomicFile::create(path)?;
            // The number of rows is known only at the end.
            vectors.write_all(&header(0, dim)).map_err(|e| Error::io(path, e))?;
            Kind::Npy { vectors, ids: AtomicFile::create(&ids_path(path))? }
        };
        Ok(VectorWriter { kind, path: path.to_owned(), dim, rows: 0 })
    }

    /// Adds vectors and their ids.
    ///
    /// # Panics
    /// When there are not as many ids as vectors, or vectors of another width.
    pub fn push(&mut self, ids: &[String], vectors: &Matrix) -> Result<()> {
        assert!(ids.len() == vectors.rows() && (ids.is_empty() || vectors.cols == self.dim));
        self.rows += ids.len() as u64;
        match &mut self.kind {
            Kind::Npy { vectors: file, ids: list } => {
                let bytes: Vec<u8> = vectors.data.iter().flat_map(|v| v.to_le_bytes()).collect();
                file.write_all(&bytes).map_err(|e| Error::io(&self.path, e))?;
                let mut text = String::new();
                ids.iter().for_each(|id| text.extend([id, "\n"]));
                list.write_all(text.as_bytes()).map_err(|e| Error::io(&ids_path(&self.path), e))
            }
            #[cfg(feature = "parquet")]
            Kind::Parquet(writer) => writer.push(ids, vectors),
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Puts the file under its name.
    pub fn finish(self) -> Result<()> {
        match self.kind {
            Kind::Npy { mut vectors, ids } => {
                vectors.rewrite_start(&header(self.rows, self.dim))?;
                ids.commit()?;
                vectors.commit()
            }
            #[cfg(feature = "parquet")]
            Kind::Parquet(writer) => writer.finish(),
        }
    }
}

/// The header of a .npy file of version 1.0: f32, little-endian, row after row.
fn header(rows: u64, cols: usize) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(((HEADER - 10) as u16).to_le_bytes());
    out.extend(format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}").bytes());
    out.resize(HEADER - 1, b' ');
    out.push(b'\n');
    out
}

#[cfg(feature = "parquet")]
mod parquet_file {
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
    use parquet::errors::ParquetError;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use polygrade_data::io::AtomicFile;
    use polygrade_data::{Error, Result};
    use polygrade_nn::Matrix;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    /// As pyarrow, polars and datasets read lists.
    const SCHEMA: &str = "message vectors {
        required binary id (utf8);
        required group vector (list) { repeated group list { required float element; } }
    }";

    pub(super) struct Writer {
        path: PathBuf,
        inner: SerializedFileWriter<AtomicFile>,
    }

    impl Writer {
        pub(super) fn create(path: &Path) -> Result<Self> {
            let fault = |e: ParquetError| Error::Internal(format!("{}: {e}", path.display()));
            let schema = Arc::new(parse_message_type(SCHEMA).map_err(fault)?);
            // Vectors do not compress, and a dictionary of their values helps nobody.
            let properties = WriterProperties::builder()
                .set_compression(Compression::UNCOMPRESSED)
                .set_dictionary_enabled(false)
                .build();
            let file = AtomicFile::create(path)?;
            let inner = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(fault)?;
            Ok(Writer { path: path.to_owned(), inner })
        }

        pub(super) fn push(&mut self, ids: &[String], vectors: &Matrix) -> Result<()> {
            let path = self.path.clone();
            self.group(ids, vectors).map_err(|e| Error::Internal(format!("{}: {e}", path.display())))
        }

        fn group(&mut self, ids: &[String], vectors: &Matrix) -> std::result::Result<(), ParquetError> {
            if ids.is_empty() {
                return Ok(());
            }
            let mut group = self.inner.next_row_group()?;
            if let Some(mut column) = group.next_column()? {
                let ids: Vec<ByteArray> = ids.iter().map(|id| ByteArray::from(id.as_str())).collect();
                column.typed::<ByteArrayType>().write_batch(&ids, None, None)?;
                column.close()?;
            }
            if let Some(mut column) = group.next_column()? {
                let defined = vec![1i16; vectors.data.len()];
                let repeated: Vec<i16> =
                    (0..vectors.data.len()).map(|i| i16::from(!i.is_multiple_of(vectors.cols))).collect();
                column.typed::<FloatType>().write_batch(&vectors.data, Some(&defined), Some(&repeated))?;
                column.close()?;
            }
            group.close()?;
            Ok(())
        }

        pub(super) fn finish(self) -> Result<()> {
            let file = self.inner.into_inner();
            file.map_err(|e| Error::Internal(format!("{}: {e}", self.path.display())))?.commit()
        }
    }
}

#[cfg(all(test, feature = "parquet"))]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    #[test]
    fn parquet_gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.parquet");
        let mut writer = VectorWriter::create(&path, 2).unwrap();
        writer.push(&["a".into(), "b".into()], &Matrix::new(2, vec![1.0, 2.0, 3.0, 4.0])).unwrap();
        assert!(!path.exists(), "a file that is not whole has another name");
        writer.push(&["c".into()], &Matrix::new(2, vec![5.0, 6.0])).unwrap();
        writer.finish().unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|r| r.unwrap().to_string()).collect();
        assert_eq!(
            rows,
            [
                "{id: \"a\", vector: [1.0, 2.0]}",
                "{id: \"b\", vector: [3.0, 4.0]}",
                "{id: \"c\", vector: [5.0, 6.0]}"
            ]
        );
    }
}
