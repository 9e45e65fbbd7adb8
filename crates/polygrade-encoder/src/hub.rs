//! Models by name: a folder, or `organisation/name` in the local Hugging Face cache, or fetched into it.
//!
//! The cache is the one that Python's `huggingface_hub` keeps, with its variables: `HF_HUB_CACHE`, `HF_HOME`,
//! `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`. `models--org--name/refs/main` holds the commit that `main` last
//! was, `snapshots/<commit>/` its files, and `.no_exist/<commit>/` empty files for what the commit lacks. What
//! is in the cache is used without asking whether there is something newer; name a revision to get one.
//!
//! A snapshot may be there in part, since other programs fetch the files they want: `AutoModel` does not fetch
//! `modules.json`, without which a model would be pooled wrongly. So a snapshot counts only when it is known to
//! have all that a model needs.

#[cfg(feature = "hub")]
mod download;

use crate::checkpoint::shard_names;
use crate::modules::module_list;
use polygrade_data::{At, Error, Result};
use std::path::{Path, PathBuf};

/// The folder of the model `name`: a folder itself, or `organisation/name`, or `organisation/name@revision`.
pub fn resolve(name: &str) -> Result<PathBuf> {
    Hub::from_env().resolve(name, &mut |_, _, _| {})
}

/// Where models come from.
#[derive(Debug, Clone)]
pub struct Hub {
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Where to fetch from.
    pub endpoint: String,
    /// Sent along, for models that are not public.
    pub token: Option<String>,
    /// Whether nothing may be fetched.
    pub offline: bool,
    /// A file of certificates to trust in place of the built-in ones.
    pub certificates: Option<PathBuf>,
}

/// Told of a download: the file, the bytes so far, and how many it will be.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, Option<u64>);

impl Hub {
    /// As the environment says.
    pub fn from_env() -> Self {
        Hub::from_vars(|key| std::env::var(key).ok())
    }

    /// As these variables say.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Self {
        let user = vars("HOME").map(PathBuf::from).or_else(std::env::home_dir).unwrap_or_default();
        let get = |keys: &[&str]| keys.iter().find_map(|k| vars(k)).filter(|v| !v.is_empty());
        let path = |keys: &[&str]| {
            get(keys).map(|v| v.strip_prefix("~/").map_or_else(|| PathBuf::from(&v), |rest| user.join(rest)))
        };
        let home = path(&["HF_HOME"]).unwrap_or_else(|| {
            path(&["XDG_CACHE_HOME"]).unwrap_or_else(|| user.join(".cache")).join("huggingface")
        });
        let is_on = |key| {
            get(&[key])
                .is_some_and(|v| matches!(v.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
        };
        let saved = path(&["HF_TOKEN_PATH"]).unwrap_or_else(|| home.join("token"));
        let token =
            get(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).or_else(|| std::fs::read_to_string(saved).ok());
        let endpoint = get(&["HF_ENDPOINT"]).unwrap_or_else(|| "https://huggingface.co".into());
        Hub {
            cache: path(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).unwrap_or_else(|| home.join("hub")),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            certificates: path(&["SSL_CERT_FILE"]),
        }
    }

    /// As [`resolve`]; `progress` is told of what is fetched.
    pub fn resolve(&self, name: &str, progress: Progress) -> Result<PathBuf> {
        let folder = Path::new(name);
        if folder.is_dir() {
            return Ok(folder.to_owned());
        }
        let Some(model) = Model::of(name) else {
            let what = "is neither a folder nor the name of a model";
            let fix =
                "give a folder with a model in it, or a name such as organisation/name of huggingface.co";
            return Err(Error::input(At::file(folder), what, fix));
        };
        let home = self.cache.join(model.folder());
        let cached = match model.commit(&home) {
            None => Err("is not in the cache".to_owned()),
            Some(commit) => match missing(&home, &commit)? {
                None => Ok(home.join("snapshots").join(commit)),
                Some(file) => Err(format!("is in the cache without {file}")),
            },
        };
        match cached {
            Ok(snapshot) => Ok(snapshot),
            Err(why) => self.fetch(&model, &home, &why, progress),
        }
    }

    #[cfg(feature = "hub")]
    fn fetch(&self, model: &Model, home: &Path, why: &str, progress: Progress) -> Result<PathBuf> {
        if self.offline {
            let forbidden = "and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids to fetch it";
            return Err(self.unresolved(model, why, forbidden));
        }
        download::fetch(self, model, home, progress)
    }

    #[cfg(not(feature = "hub"))]
    fn fetch(&self, model: &Model, _: &Path, why: &str, _: Progress) -> Result<PathBuf> {
        Err(self.unresolved(model, why, "and this build, without the feature hub, cannot fetch it"))
    }

    fn unresolved(&self, model: &Model, why: &str, cannot: &str) -> Error {
        let what = format!("is no folder, {why} {}, {cannot}", self.cache.display());
        let revision = match model.revision {
            "main" => String::new(),
            other => format!(" --revision {other}"),
        };
        let fix = format!(
            "give the folder of a model (one of the cache, too, if you know it to be whole); or run \
             \"hf download {}{revision}\" where there is a network, and set HF_HUB_CACHE to where it went",
            model.name
        );
        Error::input(At::file(Path::new(model.name)), what, fix)
    }
}

/// A model that is named.
struct Model<'a> {
    name: &'a str,
    revision: &'a str,
}

impl<'a> Model<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let fine = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            !part.is_empty() && part.len() < 200 && !part.starts_with('.') && part.chars().all(known)
        };
        let (organisation, rest) = name.split_once('/')?;
        let all = fine(organisation) && fine(rest) && revision.split('/').all(fine);
        all.then_some(Model { name, revision })
    }

    /// Its folder in the cache.
    fn folder(&self) -> String {
        format!("models--{}", self.name.replace('/', "--"))
    }

    /// The commit that the cache has under the revision.
    fn commit(&self, home: &Path) -> Option<String> {
        if home.join("snapshots").join(self.revision).is_dir() && is_commit(self.revision) {
            return Some(self.revision.to_owned());
        }
        let commit = std::fs::read_to_string(home.join("refs").join(self.revision)).ok()?;
        let commit = commit.trim();
        let there = is_commit(commit) && home.join("snapshots").join(commit).is_dir();
        there.then(|| commit.to_owned())
    }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The first file that the snapshot lacks, though a model needs it and may have it.
fn missing(home: &Path, commit: &str) -> Result<Option<String>> {
    let snapshot = home.join("snapshots").join(commit);
    let absent = home.join(".no_exist").join(commit);
    // Only downloads of everything bring this file, which every model has.
    let whole = snapshot.join(".gitattributes").exists();
    let lacks = |file: &str| !whole && !snapshot.join(file).exists() && !absent.join(file).exists();
    if lacks("modules.json") {
        return Ok(Some("modules.json".into()));
    }
    for (i, (folder, kind)) in module_folders(&snapshot)?.into_iter().enumerate() {
        let mut files = vec!["config.json"];
        if i == 0 {
            files.push("tokenizer.json");
        }
        if kind == "Normalize" || kind == "StaticEmbedding" {
            files.remove(0);
        }
        if let Some(file) = files.into_iter().map(|f| format!("{folder}{f}")).find(|f| lacks(f)) {
            return Ok(Some(file));
        }
        let weights = format!("{folder}model.safetensors");
        let index = format!("{weights}.index.json");
        if has_weights(&kind) && !snapshot.join(&weights).exists() {
            if !snapshot.join(&index).exists() {
                // Not "known to be absent": a model without weights is of no use to anyone.
                return Ok(Some(weights));
            }
            let shards = shard_names(&snapshot.join(&index))?;
            let shard = shards.into_iter().map(|s| format!("{folder}{s}"));
            if let Some(shard) = shard.into_iter().find(|s| !snapshot.join(s).exists()) {
                return Ok(Some(shard));
            }
        }
    }
    Ok(None)
}

/// The folders of a snapshot's modules, each empty or with a slash at its end, and what they are.
fn module_folders(snapshot: &Path) -> Result<Vec<(String, String)>> {
    let Some(modules) = module_list(snapshot)? else {
        return Ok(vec![(String::new(), "Transformer".into())]);
    };
    let folder = |path: &Path| match path.strip_prefix(snapshot).unwrap_or(path).to_string_lossy() {
        name if name.is_empty() => String::new(),
        name => format!("{}/", name.trim_end_matches('/')),
    };
    Ok(modules.into_iter().map(|m| (folder(&m.path), m.kind)).collect())
}

/// Whether a module of this kind has weights of its own.
fn has_weights(kind: &str) -> bool {
    matches!(kind, "Transformer" | "StaticEmbedding" | "Dense")
}
