//! One safetensors file: its header read and checked, its tensors read one at a time, new files written.
//!
//! Eight bytes give the length of the header (little endian); the header is JSON, from names to type, shape
//! and place; the values follow, and the places cover them without gap or overlap. The header is checked
//! here rather than by the `safetensors` crate, because that wants all of the file in memory and does not
//! say which tensor is at fault. No length is believed before the length of the file has been asked.

use crate::json::FETCH_AGAIN;
use half::{bf16, f16};
use polygrade_data::io::AtomicFile;
use polygrade_data::{At, Error, Result};
use safetensors::tensor::{Dtype as Stored, TensorInfo};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes read or converted at a time; a multiple of every type's width.
const CHUNK: usize = 1 << 20;

/// The header of a safetensors file, known to agree with the file's length.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    /// Where the values begin.
    start: u64,
    /// Names and places, in the order of the values.
    pub(crate) tensors: Vec<(String, TensorInfo)>,
}

/// The entries of a header, repeated names included, which a map would hide.
struct Entries(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object from names to tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        from.deserialize_map(Each)
    }
}

impl TensorFile {
    /// Reads and checks the header of `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let fault = |what: String| {
            let what = format!("is not readable safetensors: {what}");
            Error::input(At::file(path), what, FETCH_AGAIN)
        };
        let mut first = [0; 8];
        if length < 8 {
            return Err(fault(format!("it has {length} bytes")));
        }
        file.read_exact(&mut first).map_err(io)?;
        if &first == b"version " {
            let fix = "run git lfs pull in the folder, or fetch the model with Hugging Face's tools";
            return Err(Error::input(At::file(path), "is a Git LFS pointer, not the model itself", fix));
        }
        let header = u64::from_le_bytes(first);
        if header > MAX_HEADER {
            return Err(fault(format!("a header of {header} bytes, the format allows {MAX_HEADER}")));
        }
        if header > length - 8 {
            return Err(fault(format!(
                "a header of {header} bytes in a file of {length}; it may be cut short"
            )));
        }
        let mut bytes = vec![0; header as usize];
        file.read_exact(&mut bytes).map_err(io)?;
        let Entries(mut tensors) =
            serde_json::from_slice(&bytes).map_err(|e| fault(format!("its header is at fault: {e}")))?;
        drop(bytes);
        tensors.sort_by(|(a, x), (b, y)| x.data_offsets.cmp(&y.data_offsets).then_with(|| a.cmp(b)));
        let start = 8 + header;
        covers(&tensors, length - start).map_err(fault)?;
        Ok(TensorFile { path: path.to_owned(), start, tensors })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The values of a tensor of this file, each given to `make`; a mebibyte of the file is in memory at a
    /// time. `None` for types that are no plain numbers.
    pub(crate) fn read<T>(&self, info: &TensorInfo, make: impl Fn(f64) -> T) -> Result<Option<Vec<T>>> {
        let (from, to) = info.data_offsets;
        let mut out: Vec<T> = Vec::new();
        let source = Source { path: &self.path, from: self.start + from as u64, bytes: to - from };
        match info.dtype {
            Stored::F32 => source.read(&mut out, |b| make(f32::from_le_bytes(b).into()))?,
            Stored::F16 => source.read(&mut out, |b| make(f16::from_le_bytes(b).into()))?,
            Stored::BF16 => source.read(&mut out, |b| make(bf16::from_le_bytes(b).into()))?,
            Stored::F64 => source.read(&mut out, |b| make(f64::from_le_bytes(b)))?,
            Stored::I64 => source.read(&mut out, |b| make(i64::from_le_bytes(b) as f64))?,
            Stored::I32 => source.read(&mut out, |b| make(i32::from_le_bytes(b).into()))?,
            Stored::U32 => source.read(&mut out, |b| make(u32::from_le_bytes(b).into()))?,
            Stored::I8 => source.read(&mut out, |b| make(i8::from_le_bytes(b).into()))?,
            _ => return Ok(None),
        }
        Ok(Some(out))
    }
}

/// Whether the tensors, in the order of their places, are exactly the `length` bytes of values.
fn covers(tensors: &[(String, TensorInfo)], length: u64) -> Result<(), String> {
    let mut names = HashSet::new();
    let mut end = 0;
    for (name, info) in tensors {
        if !names.insert(name) {
            return Err(format!("it has the tensor {name:?} twice"));
        }
        let (from, to) = info.data_offsets;
        if to < from || to as u64 > length {
            return Err(format!(
                "{name:?} lies at bytes {from} to {to} of {length}; the file may be cut short"
            ));
        }
        if from != end {
            let fault = if from < end { "overlaps the tensor before it" } else { "leaves a gap before it" };
            return Err(format!("{name:?} at bytes {from} to {to} {fault}"));
        }
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &d| n.checked_mul(d));
        if bits.is_none() || bits != (to - from).checked_mul(8) {
            return Err(format!(
                "{name:?} of type {:?} and shape {:?} cannot have {} bytes",
                info.dtype,
                Shape(&info.shape),
                to - from
            ));
        }
        end = to;
    }
    match end as u64 == length {
        true => Ok(()),
        false => Err(format!("its tensors have {end} bytes, the file {length}")),
    }
}

/// A shape in a message, cut where it is long.
pub(crate) struct Shape<'a>(pub(crate) &'a [usize]);

impl fmt::Debug for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0.get(..8) {
            Some(first) if self.0.len() > 8 => write!(f, "{first:?} and {} more", self.0.len() - 8),
            _ => write!(f, "{:?}", self.0),
        }
    }
}

/// A stretch of a file.
struct Source<'a> {
    path: &'a Path,
    from: u64,
    bytes: usize,
}

impl Source<'_> {
    fn read<const N: usize, T>(&self, out: &mut Vec<T>, number: impl Fn([u8; N]) -> T) -> Result<()> {
        let io = |e| Error::io(self.path, e);
        if out.try_reserve_exact(self.bytes / N).is_err() {
            let what = format!("a tensor of {} values does not fit in memory", self.bytes / N);
            return Err(Error::input(At::file(self.path), what, "use a machine with more memory"));
        }
        let mut file = File::open(self.path).map_err(io)?;
        file.seek(SeekFrom::Start(self.from)).map_err(io)?;
        let (mut left, mut buffer) = (self.bytes, vec![0; CHUNK.min(self.bytes)]);
        while left > 0 {
            let part = &mut buffer[..CHUNK.min(left)];
            file.read_exact(part).map_err(io)?;
            out.extend(part.as_chunks::<N>().0.iter().map(|b| number(*b)));
            left -= part.len();
        }
        Ok(())
    }
}

/// The type that values are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits, as computed.
    F32,
    /// IEEE 754 half precision: 11 bits of precision, up to 65504.
    F16,
    /// Brain floating point: 8 bits of precision, the range of `F32`.
    BF16,
}

impl Dtype {
    fn stored(self) -> Stored {
        match self {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::BF16,
        }
    }
}

/// Writes a safetensors file tensor by tensor; it appears under its name only when all of it is written.
/// Names and shapes are given first, since they come first in the file; values are converted in small parts.
pub struct TensorWriter {
    path: PathBuf,
    file: AtomicFile,
    dtype: Dtype,
    expected: std::vec::IntoIter<(String, usize)>,
    buffer: Vec<u8>,
}

impl TensorWriter {
    /// Starts `path` with the names and shapes of all tensors, in the order they will come. `metadata` is
    /// kept in the header, beside the format, which is PyTorch's.
    pub fn create(
        path: &Path,
        tensors: Vec<(String, Vec<usize>)>,
        dtype: Dtype,
        metadata: &[(&str, &str)],
    ) -> Result<Self> {
        let internal = |what: String| Error::Internal(format!("{}: {what}", path.display()));
        let mut about = serde_json::Map::new();
        for (key, value) in [("format", "pt")].iter().chain(metadata) {
            about.insert((*key).into(), (*value).into());
        }
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".into(), about.into());
        let (mut end, mut expected) = (0usize, Vec::with_capacity(tensors.len()));
        let width = dtype.stored().bitsize() / 8;
        for (name, shape) in tensors {
            let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            let to = count.and_then(|n| n.checked_mul(width)?.checked_add(end));
            let (Some(count), Some(to)) = (count, to) else {
                return Err(internal(format!("the shape {shape:?} of {name:?} is too large")));
            };
            let info = TensorInfo { dtype: dtype.stored(), shape, data_offsets: (end, to) };
            let info = serde_json::to_value(info).map_err(|e| internal(e.to_string()))?;
            if header.insert(name.clone(), info).is_some() {
                return Err(internal(format!("two tensors {name:?}")));
            }
            expected.push((name, count));
            end = to;
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        // Values begin at a multiple of eight bytes, so that readers may map them into memory.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = AtomicFile::create(path)?;
        let begun =
            file.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&header));
        begun.map_err(|e| Error::io(path, e))?;
        Ok(TensorWriter {
            path: path.to_owned(),
            file,
            dtype,
            expected: expected.into_iter(),
            buffer: Vec::new(),
        })
    }

    /// Writes the values of the next tensor, which must be `name`.
    pub fn push(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let next = self.expected.next();
        if next.as_ref().is_none_or(|(n, count)| n != name || *count != values.len()) {
            let next = next.map_or("nothing".into(), |(n, count)| format!("{n:?} with {count} values"));
            let what = format!("{name:?} with {} values where {next} was announced", values.len());
            return Err(Error::Internal(format!("{}: {what}", self.path.display())));
        }
        for part in values.chunks(CHUNK / 4) {
            self.buffer.clear();
            match self.dtype {
                Dtype::F32 => self.buffer.extend(part.iter().flat_map(|v| v.to_le_bytes())),
                Dtype::F16 => {
                    self.buffer.extend(part.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
                    let lost = part.iter().find(|v| v.is_finite() && !f16::from_f32(**v).is_finite());
                    if let Some(v) = lost {
                        let what = format!("{name:?} holds {v}, more than f16 can; choose bf16 or f32");
                        return Err(Error::Usage(format!("{}: {what}", self.path.display())));
                    }
                }
                Dtype::BF16 => {
                    self.buffer.extend(part.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
                }
            }
            self.file.write_all(&self.buffer).map_err(|e| Error::io(&self.path, e))?;
        }
        Ok(())
    }

    /// Puts the file under its name.
    pub fn finish(mut self) -> Result<()> {
        match self.expected.next() {
            None => self.file.commit(),
            Some((name, _)) => {
                Err(Error::Internal(format!("{}: {name:?} was not written", self.path.display())))
            }
        }
    }
}

/// Writes a safetensors file of tensors that are all there: name, shape and values of each. Use
/// [`TensorWriter`] for those that are made on the way.
pub fn write_safetensors<N: Into<String>, S: Into<Vec<usize>>, V: AsRef<[f32]>>(
    path: &Path,
    tensors: impl IntoIterator<Item = (N, S, V)>,
    dtype: Dtype,
    metadata: &[(&str, &str)],
) -> Result<()> {
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (name, shape, value) in tensors {
        names.push((name.into(), shape.into()));
        values.push(value);
    }
    let order: Vec<String> = names.iter().map(|(n, _)| n.clone()).collect();
    let mut writer = TensorWriter::create(path, names, dtype, metadata)?;
    for (name, value) in order.iter().zip(values) {
        writer.push(name, value.as_ref())?;
    }
    writer.finish()
}
