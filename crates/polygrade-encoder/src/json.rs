//! JSON files of model folders, read and written.

use polygrade_data::{At, Error, Result, io};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Longest JSON file read: an index of many thousand tensors has a few megabytes.
pub(crate) const MAX_JSON: u64 = 64 << 20;

/// What mends a file that is not as its writer left it.
pub(crate) const FETCH_AGAIN: &str = "fetch the model again";

/// A JSON file, `None` where it does not exist.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(MAX_JSON + 1).read_to_end(&mut bytes));
    read.map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_JSON {
        let what = format!("is longer than {} MiB, too long for a JSON file of a model", MAX_JSON >> 20);
        return Err(Error::input(At::file(path), what, FETCH_AGAIN));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    serde_json::from_slice(bytes).map(Some).map_err(|e| {
        let at = At::line(path, e.line() as u64);
        Error::input(at, format!("is not valid JSON: {e}"), "restore the file from where the model came from")
    })
}

/// A JSON object, empty where the file does not exist.
pub(crate) fn read_object(path: &Path) -> Result<Object> {
    match read_json(path)? {
        None => Ok(Object { path: path.into(), map: serde_json::Map::new() }),
        Some(Value::Object(map)) => Ok(Object { path: path.into(), map }),
        Some(_) => {
            Err(Error::input(At::file(path), "is no JSON object", "begin the file with { and end it with }"))
        }
    }
}

/// A JSON object in a file that must be there.
pub(crate) fn need_object(path: &Path) -> Result<Object> {
    if !path.is_file() {
        let fix = "restore the file from where the model came from";
        return Err(Error::input(At::file(path), "is missing", fix));
    }
    read_object(path)
}

/// Writes `value` over several lines.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    io::write(path, format!("{value:#}\n").as_bytes())
}

/// A JSON object whose values are asked for by type. A key that is missing or null gives `None`, a value of
/// another type an error that names file and key.
pub(crate) struct Object {
    path: Box<Path>,
    map: serde_json::Map<String, Value>,
}

impl Object {
    /// An object that no file holds yet; `name` is the file's name in errors.
    pub(crate) fn of(name: &str, value: Value) -> Self {
        let map = if let Value::Object(map) = value { map } else { serde_json::Map::new() };
        Object { path: Path::new(name).into(), map }
    }

    /// The value of a key, unless it is null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        take: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        take(value).map(Some).ok_or_else(|| {
            let what = format!("{key:?} is {}, expected {wanted}", brief(value));
            self.fault(&what, &format!("set {key:?} to {wanted}, as the model's author has it"))
        })
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", Value::as_str)
    }

    /// True or false.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A count of at least one.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>> {
        let take = |v: &Value| v.as_u64().filter(|n| *n > 0).and_then(|n| n.try_into().ok());
        self.typed(key, "a whole number above 0", take)
    }

    /// A number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |v| v.as_f64().filter(|n| n.is_finite()))
    }

    /// All keys and values.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The whole object.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.map)
    }

    /// An object in this one.
    pub(crate) fn object(&self, key: &str) -> Result<Option<&serde_json::Map<String, Value>>> {
        self.typed(key, "an object", Value::as_object)
    }

    /// An error about this file.
    pub(crate) fn fault(&self, what: &str, fix: &str) -> Error {
        Error::input(At::file(&self.path), what, fix)
    }
}

/// A value in a message, cut where it is long.
pub(crate) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
