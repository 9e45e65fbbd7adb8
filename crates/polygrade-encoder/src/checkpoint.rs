//! The tensors of a model folder, by name: `model.safetensors`, or the shards of its index.
//!
//! Opening reads the headers only, reading a tensor reads that tensor only, so that a large model is never
//! in memory beside what is made of it. Names are those of today's transformers: the `LayerNorm.gamma` and
//! `LayerNorm.beta` of old checkpoints become `.weight` and `.bias`, and a prefix such as `bert.` goes once
//! [`Checkpoint::strip_prefix`] has found it.

pub use crate::tensor_file::{Dtype, TensorWriter, write_safetensors};

use crate::json::{FETCH_AGAIN, read_object};
use crate::tensor_file::{Shape, TensorFile};
use polygrade_data::{At, Error, Result};
use polygrade_nn::Matrix;
use safetensors::tensor::{Dtype as Stored, TensorInfo};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The tensors of a model folder.
#[derive(Debug)]
pub struct Checkpoint {
    /// The file that a message about the whole names.
    path: PathBuf,
    files: Vec<TensorFile>,
    tensors: BTreeMap<String, Place>,
    prefix: String,
}

/// Where a tensor lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    index: usize,
}

impl Checkpoint {
    /// Opens the checkpoint in the folder `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let single = dir.join(SINGLE);
        let index = dir.join(INDEX);
        if single.is_file() {
            let files = vec![TensorFile::open(&single)?];
            Checkpoint::of(single, files)
        } else if index.is_file() {
            let map = shards(&index)?;
            let names: BTreeSet<&String> = map.values().collect();
            let files: Result<Vec<_>> = names.iter().map(|name| TensorFile::open(&dir.join(name))).collect();
            let found = Checkpoint::of(index, files?)?;
            for (tensor, shard) in &map {
                let place = found.tensors.get(&today(tensor));
                if place.is_none_or(|p| found.files[p.file].path() != dir.join(shard)) {
                    let what = format!("says that {tensor:?} is in {shard}, which does not hold it");
                    return Err(found.fault(&what, FETCH_AGAIN));
                }
            }
            Ok(found)
        } else {
            Err(none_there(dir))
        }
    }

    fn of(path: PathBuf, files: Vec<TensorFile>) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (file, one) in files.iter().enumerate() {
            for (index, (name, _)) in one.tensors.iter().enumerate() {
                let place = Place { file, index };
                if let Some(other) = tensors.insert(today(name), place) {
                    let other: &TensorFile = &files[other.file];
                    let what = format!("holds the tensor {name:?}, as does {}", other.path().display());
                    return Err(Error::input(At::file(one.path()), what, FETCH_AGAIN));
                }
            }
        }
        Ok(Checkpoint { path, files, tensors, prefix: String::new() })
    }

    /// The file that is read, or the index of several.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor, if there is such a one.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|p| self.info(*p).shape.as_slice())
    }

    /// The prefix that [`Checkpoint::strip_prefix`] took from the names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Finds which of the `prefixes` stands before the tensor `probe`, and takes it from all names that have
    /// it. Names are left alone if `probe` is there as it is. Models with a head call their encoder `bert.`,
    /// `roberta.` or `model.`.
    pub fn strip_prefix(&mut self, prefixes: &[&str], probe: &str) -> Result<()> {
        if self.has(probe) {
            return Ok(());
        }
        let Some(prefix) = prefixes.iter().find(|p| self.has(&format!("{p}{probe}"))) else {
            return Err(self.missing(probe));
        };
        let mut tensors = BTreeMap::new();
        for (name, place) in &self.tensors {
            let short = name.strip_prefix(prefix).unwrap_or(name);
            if tensors.insert(short.to_owned(), *place).is_some() {
                let what = format!("holds both {short:?} and {:?}", format!("{prefix}{short}"));
                return Err(self.fault(&what, "remove one of the two tensors"));
            }
        }
        self.tensors = tensors;
        self.prefix = (*prefix).to_owned();
        Ok(())
    }

    /// The values of a tensor that must have the given shape. Half and double precision become `f32`.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let place = self.place(name)?;
        let info = self.info(place);
        if info.shape != shape {
            let what = format!("{name:?} has the shape {:?}, expected {shape:?}", Shape(&info.shape));
            let fix = "use the config.json that was saved with the model";
            return Err(self.fault_in(place, &what, fix));
        }
        if !matches!(info.dtype, Stored::F32 | Stored::F16 | Stored::BF16 | Stored::F64) {
            return Err(self.unreadable(name, place));
        }
        self.numbers(name, |v| v as f32)
    }

    /// The values of a tensor of any shape, whole numbers too, each given to `make`.
    pub(crate) fn numbers<T>(&self, name: &str, make: impl Fn(f64) -> T) -> Result<Vec<T>> {
        let place = self.place(name)?;
        let values = self.files[place.file].read(self.info(place), make)?;
        values.ok_or_else(|| self.unreadable(name, place))
    }

    /// A tensor of rows and columns, neither of them none.
    pub(crate) fn matrix(&self, name: &str) -> Result<Matrix> {
        let place = self.place(name)?;
        let shape = &self.info(place).shape;
        match shape[..] {
            [rows, cols] if rows > 0 && cols > 0 => Ok(Matrix::new(cols, self.numbers(name, |v| v as f32)?)),
            _ => {
                let what = format!("{name:?} has the shape {:?}, expected rows × columns", Shape(shape));
                Err(self.fault_in(place, &what, FETCH_AGAIN))
            }
        }
    }

    /// The type that all tensors of numbers have; `F32` where they differ, or have one that is not written.
    pub fn dtype(&self) -> Dtype {
        let whole = |t: Stored| matches!(t, Stored::I64 | Stored::I32);
        let mut all = self.tensors.values().map(|p| self.info(*p).dtype).filter(|t| !whole(*t));
        let first = all.next();
        match first.filter(|t| all.all(|other| other == *t)) {
            Some(Stored::F16) => Dtype::F16,
            Some(Stored::BF16) => Dtype::BF16,
            _ => Dtype::F32,
        }
    }

    /// The tensors that are not in `read` and whose names begin with none of `ignorable`.
    pub fn unused(&self, read: &HashSet<String>, ignorable: &[&str]) -> Vec<String> {
        let idle = |name: &&str| !read.contains(*name) && !ignorable.iter().any(|p| name.starts_with(p));
        self.names().filter(idle).map(str::to_owned).collect()
    }

    /// An error about the checkpoint as a whole.
    pub fn fault(&self, what: &str, fix: &str) -> Error {
        Error::input(At::file(&self.path), what, fix)
    }

    fn fault_in(&self, place: Place, what: &str, fix: &str) -> Error {
        Error::input(At::file(self.files[place.file].path()), what, fix)
    }

    fn unreadable(&self, name: &str, place: Place) -> Error {
        let what = format!("{name:?} has the type {:?}", self.info(place).dtype);
        self.fault_in(place, &what, "save the model as f32, f16 or bf16; quantised models are not read")
    }

    fn info(&self, place: Place) -> &TensorInfo {
        &self.files[place.file].tensors[place.index].1
    }

    fn place(&self, name: &str) -> Result<Place> {
        self.tensors.get(name).copied().ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        let nearest = match nearest(name, self.names()) {
            None => "it holds none".to_owned(),
            Some(near) => format!("the nearest of its {} names is {near:?}", self.tensors.len()),
        };
        let what = format!("lacks the tensor {name:?}; {nearest}");
        self.fault(&what, "use a checkpoint of the architecture that config.json names")
    }
}

/// The name that transformers gives this tensor today.
fn today(name: &str) -> String {
    for (old, new) in [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")] {
        if let Some(stem) = name.strip_suffix(old) {
            return format!("{stem}{new}");
        }
    }
    name.to_owned()
}

/// The name with most in common at both ends, the shortest of those.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let common = |other: &str| {
        let most = name.len().min(other.len());
        let start = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let end = name.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
        (start + end).min(most)
    };
    names.max_by_key(|other| (common(other), std::cmp::Reverse(other.len())))
}

/// The files that an index names.
pub(crate) fn shard_names(index: &Path) -> Result<BTreeSet<String>> {
    Ok(shards(index)?.into_values().collect())
}

/// Which shard holds which tensor. A shard outside the folder is refused.
fn shards(index: &Path) -> Result<BTreeMap<String, String>> {
    let object = read_object(index)?;
    let fix = "fetch the index and all its shards again";
    let map = object.object("weight_map")?;
    let map = map.ok_or_else(|| object.fault("has no \"weight_map\"", fix))?;
    let mut out = BTreeMap::new();
    for (tensor, shard) in map {
        let Some(shard) = shard.as_str() else {
            return Err(object.fault(&format!("{tensor:?} is in no file: {shard}"), fix));
        };
        if !is_within(shard) || Path::new(shard).file_name().is_none() {
            let what = format!("says that {tensor:?} is in {shard:?}, which is no file of this folder");
            return Err(object.fault(&what, fix));
        }
        out.insert(tensor.clone(), shard.to_owned());
    }
    match out.is_empty() {
        true => Err(object.fault("names no tensor", fix)),
        false => Ok(out),
    }
}

/// Whether a path that a file of the model names stays in the model's folder.
pub(crate) fn is_within(path: &str) -> bool {
    // A backslash or a drive would lead out on Windows only; a folder that is refused there is refused here.
    !path.contains(['\\', ':', '\0'])
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
}

fn none_there(dir: &Path) -> Error {
    if !dir.is_dir() {
        return Error::input(At::file(dir), "is no folder", "give the folder of a model");
    }
    let others = ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"];
    match others.iter().find(|name| dir.join(name).is_file()) {
        None => Error::input(
            At::file(dir),
            format!("holds neither {SINGLE} nor {INDEX}"),
            "give the folder of a model in the Hugging Face layout, with its weights as safetensors",
        ),
        Some(name) => {
            let fix = "convert the model once, in Python: from sentence_transformers import \
                       SentenceTransformer; SentenceTransformer(\"THE MODEL\").save(\"NEW FOLDER\")";
            let what = format!("has its weights in {name} only; safetensors is read, which runs no code");
            Error::input(At::file(dir), what, fix)
        }
    }
}
