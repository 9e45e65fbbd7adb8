//! Names of models: folders, the cache, and a hub on this machine.
#![allow(clippy::unwrap_used)]

use polygrade_encoder::hub::Hub;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn put(dir: &Path, file: &str, text: &str) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn hub(vars: &[(&str, &str)]) -> Hub {
    let vars: HashMap<_, _> = vars.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Hub::from_vars(|key| vars.get(key).cloned())
}

fn quiet(hub: &Hub, name: &str) -> Result<std::path::PathBuf, String> {
    hub.resolve(name, &mut |_, _, _| {}).map_err(|e| {
        assert_eq!(e.exit_code(), 1);
        e.to_string()
    })
}

#[test]
fn variables_are_those_of_huggingface_hub() {
    let cache = |vars: &[(&str, &str)]| hub(vars).cache.to_string_lossy().into_owned();
    let home = ("HOME", "/h");
    assert_eq!(cache(&[home]), "/h/.cache/huggingface/hub");
    assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
    assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/y")]), "/h/y/hub");
    assert_eq!(cache(&[home, ("HF_HOME", "/y"), ("HF_HUB_CACHE", "/z")]), "/z");
    let plain = hub(&[home]);
    assert_eq!(
        (plain.endpoint.as_str(), plain.token, plain.offline),
        ("https://huggingface.co", None, false)
    );
    let set =
        hub(&[home, ("HF_ENDPOINT", "http://m/"), ("HF_TOKEN", "t\n"), ("TRANSFORMERS_OFFLINE", "true")]);
    assert_eq!((set.endpoint.as_str(), set.token.as_deref(), set.offline), ("http://m", Some("t"), true));
    assert!(!hub(&[("HF_HUB_OFFLINE", "0")]).offline);
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "token", "saved\n");
    assert_eq!(hub(&[("HF_HOME", dir.path().to_str().unwrap())]).token.as_deref(), Some("saved"));
}

#[test]
fn folders_and_the_cache_need_no_network() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(&[("HF_HUB_CACHE", dir.path().to_str().unwrap()), ("HF_HUB_OFFLINE", "1")]);
    assert_eq!(quiet(&hub, dir.path().to_str().unwrap()).unwrap(), dir.path());

    let absent = quiet(&hub, "org/name").unwrap_err();
    let why = if cfg!(feature = "hub") { "HF_HUB_OFFLINE" } else { "without the feature hub" };
    for part in ["no folder", "not in the cache", why, "hf download org/name"] {
        assert!(absent.contains(part), "{absent}");
    }
    for name in ["", "name", "a/b/c", "../x", "org/..", "org/name@", "org/na me", "org/name@../..", "/abs/x"]
    {
        let error = quiet(&hub, name).unwrap_err();
        assert!(error.contains("neither a folder nor the name"), "{name}: {error}");
    }

    let home = dir.path().join("models--org--name");
    let snapshot = home.join("snapshots").join(COMMIT);
    put(&home, "refs/main", COMMIT);
    put(&home, "refs/pr/1", COMMIT);
    put(&home, "refs/odd", "../../..");
    let without = |file: &str| {
        let error = quiet(&hub, "org/name").unwrap_err();
        assert!(error.contains(&format!("in the cache without {file} ")), "{file}: {error}");
    };
    // As transformers' AutoModel leaves it: whether there is a modules.json is not known.
    put(&snapshot, "config.json", "{}");
    put(&snapshot, "model.safetensors", "");
    without("modules.json");
    put(&home, &format!(".no_exist/{COMMIT}/modules.json"), "");
    without("tokenizer.json");
    put(&snapshot, "tokenizer.json", "{}");
    for name in ["org/name", "org/name@main", "org/name@pr/1", &format!("org/name@{COMMIT}")] {
        assert_eq!(quiet(&hub, name).unwrap(), snapshot, "{name}");
    }
    for name in ["org/name@odd", "org/name@v2", "org/other"] {
        assert!(quiet(&hub, name).unwrap_err().contains("not in the cache"), "{name}");
    }

    put(
        &snapshot,
        "modules.json",
        r#"[{"path":"","type":"x.Transformer"},{"path":"1_Pooling","type":"x.Pooling"},
        {"path":"2_Dense","type":"x.Dense"},{"path":"3_Normalize","type":"x.Normalize"}]"#,
    );
    without("1_Pooling/config.json");
    put(&snapshot, "1_Pooling/config.json", "{}");
    without("2_Dense/config.json");
    put(&snapshot, "2_Dense/config.json", "{}");
    without("2_Dense/model.safetensors");
    put(&snapshot, "2_Dense/model.safetensors.index.json", r#"{"weight_map":{"a":"s1"}}"#);
    without("2_Dense/s1");
    put(&snapshot, "2_Dense/s1", "");
    assert_eq!(quiet(&hub, "org/name").unwrap(), snapshot);

    // As "hf download" leaves it: all files, so that there is no modules.json.
    fs::remove_file(snapshot.join("modules.json")).unwrap();
    fs::remove_dir_all(home.join(".no_exist")).unwrap();
    without("modules.json");
    put(&snapshot, ".gitattributes", "");
    assert_eq!(quiet(&hub, "org/name").unwrap(), snapshot);
}

#[cfg(feature = "hub")]
mod downloads {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    /// What was asked for: path and token.
    type Log = Arc<Mutex<Vec<(String, String)>>>;

    /// A server of files; `file!` sends half of what it promises, `path>other` redirects.
    fn serve(files: Vec<(String, String)>) -> (String, Log) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Log::default();
        let seen = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|l| !l.is_empty())
                    .collect();
                let path = lines.first().and_then(|l| l.split(' ').nth(1)).unwrap_or_default().to_owned();
                let token = lines.iter().find_map(|l| l.strip_prefix("authorization: ")).unwrap_or_default();
                seen.lock().unwrap().push((path.clone(), token.to_owned()));
                let find = |p: &str| files.iter().find(|(f, _)| f == p).map(|(_, text)| text.clone());
                let close = "Connection: close\r\n\r\n";
                let answer = if let Some(text) = find(&path) {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}{text}", text.len())
                } else if let Some(text) = find(&format!("{path}!")) {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}{text}", text.len() * 2)
                } else if let Some(to) = find(&format!("{path}>")) {
                    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n{close}")
                } else {
                    format!("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n{close}")
                };
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (url, log)
    }

    fn listing(files: &[&str]) -> String {
        let names: Vec<String> = files.iter().map(|f| format!(r#"{{"rfilename":"{f}"}}"#)).collect();
        format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, names.join(","))
    }

    fn file(name: &str, text: &str) -> (String, String) {
        (format!("/org/name/resolve/{COMMIT}/{name}"), text.to_owned())
    }

    fn api(revision: &str, files: &[&str]) -> (String, String) {
        (format!("/api/models/org/name/revision/{revision}"), listing(files))
    }

    fn online(url: &str, dir: &Path) -> Hub {
        hub(&[("HF_HUB_CACHE", dir.to_str().unwrap()), ("HF_ENDPOINT", url), ("HF_TOKEN", "secret")])
    }

    #[test]
    fn a_model_is_fetched_once_and_then_found() {
        let names = [
            "README.md",
            "../evil",
            "modules.json",
            "config.json",
            "tokenizer.json",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "1_Pooling/config.json",
            "model.safetensors.index.json",
            "a.safetensors",
            "b.safetensors",
        ];
        let (url, log) = serve(vec![
            api("main", &names),
            file(
                "modules.json",
                r#"[{"path":"","type":"x.Transformer"},{"path":"1_Pooling","type":"x.Pooling"}]"#,
            ),
            file("config.json", "{}"),
            file("tokenizer.json", "{\"t\":1}"),
            file("1_Pooling/config.json", "{\"p\":1}"),
            file(
                "model.safetensors.index.json",
                r#"{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}"#,
            ),
            file("a.safetensors>", "/elsewhere"),
            ("/elsewhere".into(), "weights a".into()),
            file("b.safetensors", "weights b"),
        ]);
        let dir = tempfile::tempdir().unwrap();
        let hub = online(&url, dir.path());
        let mut told = Vec::new();
        let found =
            hub.resolve("org/name", &mut |f, done, total| told.push((f.to_owned(), done, total))).unwrap();
        assert!(told.contains(&("b.safetensors".to_owned(), 9, Some(9))), "{told:?}");
        assert_eq!(found, dir.path().join("models--org--name/snapshots").join(COMMIT));
        for (name, text) in [("a.safetensors", "weights a"), ("1_Pooling/config.json", "{\"p\":1}")] {
            assert_eq!(fs::read_to_string(found.join(name)).unwrap(), text);
        }
        for name in ["README.md", "pytorch_model.bin", "onnx", "../evil"] {
            assert!(!found.join(name).exists(), "{name}");
        }
        let asked = log.lock().unwrap().clone();
        assert!(asked.iter().all(|(_, token)| token == "Bearer secret"), "{asked:?}");
        // Neither asks the server again.
        let offline = Hub { offline: true, token: None, ..hub.clone() };
        assert_eq!(quiet(&offline, "org/name").unwrap(), found);
        assert_eq!(quiet(&hub, &format!("org/name@{COMMIT}")).unwrap(), found);
        assert_eq!(log.lock().unwrap().len(), asked.len());
        assert!(quiet(&hub, "org/name@refs/pr/1").unwrap_err().contains("refs%2Fpr%2F1"));
    }

    #[test]
    fn what_is_cut_short_is_taken_up_again() {
        let names = ["config.json", "tokenizer.json", "model.safetensors"];
        let all = |mark: &str| {
            vec![
                api("v1", &names),
                file("config.json", "{}"),
                file("tokenizer.json", "{}"),
                file(&format!("model.safetensors{mark}"), "half of it"),
            ]
        };
        let dir = tempfile::tempdir().unwrap();
        let (url, _) = serve(all("!"));
        let error = quiet(&online(&url, dir.path()), "org/name@v1").unwrap_err();
        assert!(error.contains("model.safetensors") && error.contains("run again"), "{error}");
        let home = dir.path().join("models--org--name");
        assert!(!home.join("refs").exists() && !home.join("snapshots").join(COMMIT).join(names[2]).exists());
        let (url, log) = serve(all(""));
        let found = quiet(&online(&url, dir.path()), "org/name@v1").unwrap();
        assert_eq!(fs::read_to_string(found.join("model.safetensors")).unwrap(), "half of it");
        assert_eq!(log.lock().unwrap().len(), 2, "the whole files were kept");
        assert_eq!(fs::read_to_string(home.join("refs/v1")).unwrap(), COMMIT);
        assert!(home.join(".no_exist").join(COMMIT).join("modules.json").exists());
    }

    #[test]
    fn refusals_are_explained() {
        let dir = tempfile::tempdir().unwrap();
        let says = |files: Vec<(String, String)>, wanted: &[&str]| {
            let (url, _) = serve(files);
            let error = quiet(&online(&url, dir.path()), "org/name").unwrap_err();
            assert!(wanted.iter().all(|w| error.contains(w)), "{error}");
        };
        says(vec![], &["404", "no such model", "no folder", "not in the cache"]);
        says(vec![api("main", &["config.json", "pytorch_model.bin"])], &["pytorch_model.bin", "save("]);
        says(vec![(api("main", &[]).0, "<html>".into())], &["no list", "HF_ENDPOINT"]);
        says(vec![(api("main", &[]).0, r#"{"sha":"../..","siblings":[]}"#.into())], &["no list"]);
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = quiet(&online(&format!("http://{nobody}"), dir.path()), "org/name").unwrap_err();
        assert!(error.contains("check the network"), "{error}");
        let bad = Hub { certificates: Some(dir.path().join("none.pem")), ..online("http://x", dir.path()) };
        assert!(quiet(&bad, "org/name").unwrap_err().contains("none.pem"));
        assert!(!dir.path().join("models--org--name/refs").exists());
    }
}
