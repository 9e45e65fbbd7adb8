//! Settings of sentence-transformers folders, in the words of releases 2 to 6. That release 6.2 reads what is
//! written here, and gives the vectors that these settings mean, was checked by hand with its own loader.
#![allow(clippy::unwrap_used)]

use polygrade_encoder::Prompts;
use polygrade_encoder::checkpoint::Dtype;
use polygrade_encoder::modules::{Activation, DenseSpec, DenseWeights, Pooling, SentenceModules, is_static};
use std::fs;
use std::path::Path;

fn put(dir: &Path, file: &str, text: &str) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// As release 2 wrote sentence-transformers/all-MiniLM-L6-v2, with a dense layer.
fn old(dir: &Path) {
    let kind = "sentence_transformers.models";
    put(
        dir,
        "modules.json",
        &format!(
            r#"[{{"idx":0,"name":"0","path":"","type":"{kind}.Transformer"}},
            {{"idx":1,"name":"1","path":"1_Pooling","type":"{kind}.Pooling"}},
            {{"idx":2,"name":"2","path":"2_Dense","type":"{kind}.Dense"}},
            {{"idx":3,"name":"3","path":"3_Normalize","type":"{kind}.Normalize"}}]"#
        ),
    );
    put(dir, "sentence_bert_config.json", r#"{"max_seq_length":256,"do_lower_case":true}"#);
    put(dir, "tokenizer_config.json", r#"{"model_max_length":512}"#);
    put(
        dir,
        "1_Pooling/config.json",
        r#"{"word_embedding_dimension":384,"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true,
        "pooling_mode_max_tokens":false,"pooling_mode_mean_sqrt_len_tokens":true}"#,
    );
    put(
        dir,
        "2_Dense/config.json",
        r#"{"in_features":1152,"out_features":64,"bias":true,
        "activation_function":"torch.nn.modules.activation.Tanh"}"#,
    );
    put(
        dir,
        "config_sentence_transformers.json",
        r#"{"prompts":{"query":"query: ","passage":"passage: ","other":"x"},"default_prompt_name":"other",
        "similarity_fn_name":"dot"}"#,
    );
}

/// As release 6.2 writes the same.
fn new(dir: &Path) {
    put(
        dir,
        "modules.json",
        r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.base.modules.transformer.Transformer"},
        {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
        {"idx":2,"name":"2","path":"2_Dense","type":"sentence_transformers.base.modules.dense.Dense"},
        {"idx":3,"name":"3","path":"3_Normalize","type":"sentence_transformers.base.modules.normalize.Normalize"}]"#,
    );
    put(
        dir,
        "sentence_bert_config.json",
        r#"{"transformer_task":"feature-extraction","module_output_name":"token_embeddings","do_lower_case":true,
        "modality_config":{"text":{"method":"forward","method_output_name":"last_hidden_state"}}}"#,
    );
    put(dir, "tokenizer_config.json", r#"{"model_max_length":256}"#);
    put(
        dir,
        "1_Pooling/config.json",
        r#"{"embedding_dimension":384,"pooling_mode":["cls","mean","mean_sqrt_len_tokens"],"include_prompt":true}"#,
    );
    put(
        dir,
        "2_Dense/config.json",
        r#"{"in_features":1152,"out_features":64,"bias":true,"activation_function":
        "torch.nn.modules.activation.Tanh","module_input_name":"sentence_embedding",
        "module_output_name":"sentence_embedding"}"#,
    );
    put(
        dir,
        "3_Normalize/config.json",
        r#"{"module_input_name":"sentence_embedding","module_output_name":"sentence_embedding"}"#,
    );
    put(
        dir,
        "config_sentence_transformers.json",
        r#"{"model_type":"SentenceTransformer","prompts":{"query":"query: ","document":"","passage":"passage: "},
        "default_prompt_name":null,"similarity_fn_name":"dot"}"#,
    );
}

fn expected(dir: &Path) -> SentenceModules {
    SentenceModules {
        transformer: dir.to_owned(),
        max_seq_length: Some(256),
        do_lower_case: true,
        pooling: vec![Pooling::Cls, Pooling::Mean, Pooling::MeanSqrtLen],
        include_prompt: true,
        dense: vec![DenseSpec {
            path: dir.join("2_Dense"),
            in_features: 1152,
            out_features: 64,
            bias: true,
            activation: Activation::Tanh,
            use_residual: false,
        }],
        normalize: true,
        prompts: Prompts { query: "query: ".into(), passage: "passage: ".into() },
        truncate_dim: None,
        similarity: Some("dot".into()),
        width: Some(384),
    }
}

#[test]
fn both_generations_mean_the_same() {
    for make in [old, new] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        assert_eq!(SentenceModules::read(dir.path()).unwrap(), expected(dir.path()));
        assert!(!is_static(dir.path()).unwrap());
    }
}

#[test]
fn what_is_written_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = expected(dir.path());
    let layer = |i: usize, activation, use_residual| DenseSpec {
        path: dir.path().join(format!("{i}_Dense")),
        in_features: 3,
        out_features: 2,
        bias: false,
        activation,
        use_residual,
    };
    all.dense.push(layer(3, Activation::Gelu, true));
    all.dense.push(layer(4, Activation::Identity, false));
    (all.include_prompt, all.truncate_dim) = (false, Some(32));
    let orders = [
        vec![Pooling::LastToken],
        vec![Pooling::WeightedMean],
        vec![Pooling::Cls, Pooling::Max],
        vec![Pooling::Mean, Pooling::Cls],
        vec![Pooling::Mean, Pooling::Mean],
    ];
    for pooling in orders {
        all.pooling = pooling;
        let folders = all.write(dir.path(), 384).unwrap();
        assert_eq!(folders, all.dense.iter().map(|d| d.path.clone()).collect::<Vec<_>>());
        assert_eq!(SentenceModules::read(dir.path()).unwrap(), all);
    }
    let weights =
        DenseWeights { linear: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], bias: None, residual: Some(vec![0.5; 6]) };
    all.dense[1].write_weights(&all.dense[1].path, &weights, Dtype::F32).unwrap();
    assert_eq!(all.dense[1].weights().unwrap(), weights);
    let mut other = all.dense[1].clone();
    other.in_features = 4;
    assert!(other.weights().unwrap_err().to_string().contains("[2, 3], expected [2, 4]"));
    other = all.dense[1].clone();
    other.bias = true;
    assert!(other.weights().unwrap_err().to_string().contains("linear.bias"));

    // Nothing to say of the length: no file, since text-embeddings-inference wants a number in it.
    let plain = tempfile::tempdir().unwrap();
    (all.max_seq_length, all.do_lower_case) = (None, false);
    all.write(plain.path(), 384).unwrap();
    assert!(!plain.path().join("sentence_bert_config.json").exists());
}

#[test]
fn a_plain_checkpoint_is_pooled_by_the_mean() {
    let dir = tempfile::tempdir().unwrap();
    for (limit, found) in [("512", Some(512)), ("1000000000000000019884624838656", None), ("1e30", None)] {
        put(dir.path(), "tokenizer_config.json", &format!(r#"{{"model_max_length":{limit}}}"#));
        let modules = SentenceModules::read(dir.path()).unwrap();
        assert_eq!(modules.max_seq_length, found);
        assert_eq!((modules.pooling, modules.normalize), (vec![Pooling::Mean], false));
    }
    fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    assert_eq!(SentenceModules::read(dir.path()).unwrap().max_seq_length, None);
    assert!(SentenceModules::read(&dir.path().join("none")).is_err());
}

#[test]
fn what_would_give_other_vectors_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let list = |kinds: &[&str]| {
        let one = |(i, k): (usize, &&str)| {
            format!(r#"{{"idx":{i},"name":"{i}","path":"{i}_{k}","type":"a.b.{k}"}}"#)
        };
        format!("[{}]", kinds.iter().enumerate().map(one).collect::<Vec<_>>().join(","))
    };
    let says = |file: &str, text: &str, wanted: &str| {
        new(dir.path());
        put(dir.path(), file, text);
        let error = SentenceModules::read(dir.path()).unwrap_err().to_string();
        let name = file.rsplit('/').next().unwrap();
        assert!(error.contains(wanted) && error.contains(name), "{file}: {wanted:?} is not in {error}");
    };
    says("modules.json", "{}", "no list");
    says("modules.json", "[]", "no module");
    says("modules.json", "[3]", "the path null");
    says("modules.json", r#"[{"path":"a/../../b","type":"x.Transformer"}]"#, "outside");
    says("modules.json", r#"[{"path":"","type":7}]"#, "the type 7");
    says("modules.json", &list(&["Transformer"]), "no Pooling");
    says("modules.json", &list(&["Router", "Pooling"]), "Router");
    says("modules.json", &list(&["Transformer", "Pooling", "Normalize", "LayerNorm"]), "LayerNorm");
    fs::remove_file(dir.path().join("1_Pooling/config.json")).unwrap();
    let gone = SentenceModules::read(dir.path()).unwrap_err().to_string();
    assert!(gone.contains("1_Pooling") && gone.contains("is missing"), "{gone}");
    says("1_Pooling/config.json", r#"{"pooling_mode":"median"}"#, "median");
    says("1_Pooling/config.json", r#"{"pooling_mode":[]}"#, "pools by []");
    says("1_Pooling/config.json", r#"{"pooling_mode_cls_token":"yes"}"#, "true or false");
    says(
        "2_Dense/config.json",
        r#"{"in_features":4,"out_features":2,"activation_function":"x.Tanh"}"#,
        "x.Tanh",
    );
    says("2_Dense/config.json", r#"{"in_features":0,"out_features":2}"#, "above 0");
    says(
        "2_Dense/config.json",
        r#"{"in_features":4,"module_input_name":"token_embeddings"}"#,
        "token_embeddings",
    );
    says("3_Normalize/config.json", r#"{"module_input_name":"token_embeddings"}"#, "token_embeddings");
    says("sentence_bert_config.json", r#"{"transformer_task":"fill-mask"}"#, "fill-mask");
    says("sentence_bert_config.json", r#"{"query_length":32}"#, "query_length");
    says(
        "sentence_bert_config.json",
        r#"{"processing_kwargs":{"text":{"max_length":8}}}"#,
        "processing_kwargs",
    );
    says(
        "sentence_bert_config.json",
        r#"{"modality_config":{"text":{"method":"get_text_features"}}}"#,
        "modality",
    );
    says("sentence_bert_config.json", r#"{"max_seq_length":0}"#, "max_seq_length");
    says("config_sentence_transformers.json", r#"{"model_type":"SparseEncoder"}"#, "SparseEncoder");
    says("config_sentence_transformers.json", r#"{"prompts":{"query":3}}"#, "prompt 3");
    says("config_sentence_transformers.json", "[]", "no JSON object");
    says("config_sentence_transformers.json", "{\n\n]", ":3");
}

#[test]
fn limits_come_from_where_the_release_kept_them() {
    let dir = tempfile::tempdir().unwrap();
    let limit = |config: &str| {
        new(dir.path());
        put(dir.path(), "sentence_bert_config.json", config);
        SentenceModules::read(dir.path()).unwrap().max_seq_length
    };
    assert_eq!(limit("{}"), Some(256));
    assert_eq!(limit(r#"{"max_seq_length":null}"#), Some(256));
    assert_eq!(limit(r#"{"max_seq_length":64}"#), Some(64));
    assert_eq!(limit(r#"{"max_seq_length":64,"processor_kwargs":{"model_max_length":32}}"#), Some(32));
    assert_eq!(
        limit(r#"{"max_seq_length":64,"tokenizer_args":{"x":1},"processing_kwargs":{"text":{}}}"#),
        Some(64)
    );
    fs::remove_file(dir.path().join("sentence_bert_config.json")).unwrap();
    put(dir.path(), "sentence_roberta_config.json", r#"{"max_seq_length":128}"#);
    assert_eq!(SentenceModules::read(dir.path()).unwrap().max_seq_length, Some(128));
}
