//! Fetches a model into the cache.
//!
//! Files go straight into the snapshot, as `huggingface_hub` does where there are no symbolic links, each whole
//! or not at all. The reference to the snapshot is written last, so that a download that breaks off is taken
//! up again at the file it was at.

use super::{Hub, Model, Progress, has_weights, is_commit, module_folders};
use crate::checkpoint::{is_within, shard_names};
use crate::json::MAX_JSON;
use polygrade_data::io::{self, AtomicFile};
use polygrade_data::{At, Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// Settings that the folder of any module may have.
const SETTINGS: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_xlm-roberta_config.json",
];

/// Settings of the model as a whole.
const ABOUT: [&str; 2] = ["modules.json", "config_sentence_transformers.json"];

/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The hub's answer about a revision of a model.
struct Listing {
    commit: String,
    files: BTreeSet<String>,
}

/// Fetches what a model needs and returns its snapshot.
pub(super) fn fetch(hub: &Hub, model: &Model, home: &Path, progress: Progress) -> Result<PathBuf> {
    let client = Client { hub, agent: agent(hub)?, model };
    let listing = client.listing()?;
    let snapshot = home.join("snapshots").join(&listing.commit);
    let mut get = |file: &str| -> Result<()> {
        let target = snapshot.join(file);
        // A commit never changes, so what is there is right.
        if target.exists() || !listing.files.contains(file) {
            return Ok(());
        }
        client.download(&listing.commit, file, &target, progress)
    };
    ABOUT.iter().try_for_each(|file| get(file))?;
    let modules = module_folders(&snapshot)?;
    // Before the small files, too: without weights nothing of it is of use.
    for (folder, kind) in modules.iter().filter(|(_, kind)| has_weights(kind)) {
        let there = |name: &str| listing.files.contains(&format!("{folder}{name}"));
        if !there("model.safetensors") && !there("model.safetensors.index.json") {
            return Err(client.no_weights(folder, kind, there("pytorch_model.bin")));
        }
    }
    for (folder, kind) in &modules {
        SETTINGS.iter().try_for_each(|file| get(&format!("{folder}{file}")))?;
        let weights = format!("{folder}model.safetensors");
        if listing.files.contains(&weights) {
            get(&weights)?;
        } else if has_weights(kind) {
            let index = format!("{weights}.index.json");
            get(&index)?;
            for shard in shard_names(&snapshot.join(index))? {
                get(&format!("{folder}{shard}"))?;
            }
        }
    }
    let absent = home.join(".no_exist").join(&listing.commit);
    for file in ABOUT.iter().chain(&SETTINGS).filter(|f| !listing.files.contains(**f)) {
        io::write(&absent.join(file), b"")?;
    }
    if !is_commit(model.revision) {
        io::write(&home.join("refs").join(model.revision), listing.commit.as_bytes())?;
    }
    Ok(snapshot)
}

fn agent(hub: &Hub) -> Result<Agent> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = &hub.certificates {
        let pem = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let certificates = parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates.collect::<Vec<_>>()));
    }
    let config = Agent::config_builder()
        .tls_config(tls.build())
        // Models that were renamed answer with a redirect on the same host; their files lie on others.
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .user_agent(concat!("polygrade/", env!("CARGO_PKG_VERSION")));
    Ok(config.build().into())
}

struct Client<'a> {
    hub: &'a Hub,
    agent: Agent,
    model: &'a Model<'a>,
}

impl Client<'_> {
    fn listing(&self) -> Result<Listing> {
        let revision = self.model.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.hub.endpoint, self.model.name);
        let mut bytes = Vec::new();
        let read = self.get(&url)?.into_reader().take(MAX_JSON).read_to_end(&mut bytes);
        read.map_err(|e| broken(&url, &e.to_string()))?;
        let answer = || -> Option<Listing> {
            let answer: Value = serde_json::from_slice(&bytes).ok()?;
            let commit = answer.get("sha")?.as_str().filter(|c| is_commit(c))?.to_owned();
            let name = |file: &Value| Some(file.get("rfilename")?.as_str()?.to_owned());
            let files = answer.get("siblings")?.as_array()?.iter().filter_map(name);
            Some(Listing { commit, files: files.filter(|f| is_within(f)).collect() })
        };
        answer().ok_or_else(|| broken(&url, "the answer is no list of a model's files"))
    }

    fn download(&self, commit: &str, file: &str, target: &Path, progress: Progress) -> Result<()> {
        let url = format!("{}/{}/resolve/{commit}/{file}", self.hub.endpoint, self.model.name);
        let body = self.get(&url)?;
        let total = body.content_length();
        let (mut reader, mut out, mut done) = (body.into_reader(), AtomicFile::create(target)?, 0);
        let mut buffer = vec![0; 1 << 16];
        progress(file, 0, total);
        loop {
            let n = reader.read(&mut buffer).map_err(|e| broken(&url, &e.to_string()))?;
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n]).map_err(|e| Error::io(target, e))?;
            done += n as u64;
            progress(file, done, total);
        }
        match total.is_none_or(|t| t == done) {
            true => out.commit(),
            false => Err(broken(&url, &format!("it ended after {done} bytes"))),
        }
    }

    fn get(&self, url: &str) -> Result<Body> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.hub.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        match request.call() {
            Ok(response) => Ok(response.into_body()),
            Err(ureq::Error::StatusCode(code @ (401 | 403 | 404))) => {
                let (what, fix) = match &self.hub.token {
                    Some(_) => ("the token does not open it", "ask for access on the model's page"),
                    None => ("it wants a token", "set HF_TOKEN if it is private or gated"),
                };
                let what = format!(
                    "is no folder, is not in the cache {}, and {url} answers {code}: there is no such model or \
                     revision, or {what}",
                    self.hub.cache.display()
                );
                let fix = format!("check the name; {fix}; or give the folder of a model");
                Err(Error::input(At::file(Path::new(self.model.name)), what, fix))
            }
            Err(e) => Err(broken(url, &e.to_string())),
        }
    }

    fn no_weights(&self, folder: &str, kind: &str, pickled: bool) -> Error {
        let what = format!(
            "has no {folder}model.safetensors for its {kind}{}",
            if pickled { ", only a pytorch_model.bin, which can run code" } else { "" }
        );
        let fix = format!(
            "choose another model; or convert it once, in Python: from sentence_transformers import \
             SentenceTransformer; SentenceTransformer({:?}).save(\"NEW FOLDER\")",
            self.model.name
        );
        Error::input(At::file(Path::new(self.model.name)), what, fix)
    }
}

fn broken(url: &str, why: &str) -> Error {
    let what = format!("cannot be fetched: {why}");
    let fix = "check the network, HF_ENDPOINT, and SSL_CERT_FILE behind a proxy of one's own, and run again; \
               files that are whole are kept";
    Error::input(At::file(Path::new(url)), what, fix)
}
