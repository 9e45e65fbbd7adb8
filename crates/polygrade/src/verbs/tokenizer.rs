//! `polygrade tokenizer`: texts in several languages → a tokeniser that serves them evenly.

use crate::ui::{Ui, table};
use polygrade_data::io::{self, AtomicDir};
use polygrade_data::{Error, Lang, Result, bitext};
use polygrade_encoder::TextTokenizer;
use polygrade_train::batches::lang_shares;
use rustc_hash::FxHashSet;
use serde::Serialize;
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_64;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    polygrade tokenizer collections/mini --langs en,de,sw --vocab-size 8000 --out tokenizer")]
pub(crate) struct Args {
    /// Texts, as for `polygrade pretrain`
    #[arg(required = true, num_args = 1..)]
    texts: Vec<PathBuf>,
    /// Languages to serve
    #[arg(long, required = true, value_delimiter = ',', value_name = "LANGS")]
    langs: Vec<String>,
    /// Tokens in the vocabulary
    #[arg(long, default_value_t = 60_000, value_name = "N")]
    vocab_size: usize,
    /// A language with n characters counts as n^(1/T): 1 as it is, higher for more balance
    #[arg(long, default_value_t = 2.0, value_name = "T")]
    lang_sampling: f32,
    /// Texts of a language are taken up to so many characters
    #[arg(long, default_value_t = 20_000_000, value_name = "N")]
    max_chars: usize,
    /// Folder of the tokeniser
    #[arg(long)]
    out: PathBuf,
}

#[derive(Serialize)]
struct Row {
    lang: Lang,
    texts: usize,
    characters: usize,
    /// Times that each text was counted, on average.
    counted: f64,
    tokens: usize,
    characters_per_token: f64,
    /// Share of the characters (white space aside) that are in known tokens.
    covered: f64,
}

#[derive(Serialize)]
struct Report {
    out: String,
    vocabulary: usize,
    langs: Vec<Row>,
}

/// A text is counted so many times at most.
const MOST: f64 = 10.0;

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let langs = super::pretrain::languages(&args.langs)?;
    if !(16..=10_000_000).contains(&args.vocab_size)
        || args.lang_sampling.is_nan()
        || args.lang_sampling < 1.0
    {
        return Err(Error::Usage("--vocab-size must be 16 to 10 million, --lang-sampling 1 or more".into()));
    }
    let new = AtomicDir::create(&args.out)?;
    let texts = read(&args, &langs, ui)?;
    let chars: Vec<usize> = texts.iter().map(|t| t.iter().map(|t| t.chars().count()).sum()).collect();
    if chars.iter().all(|n| *n == 0) {
        return Err(Error::Usage("there is no text in these languages".into()));
    }
    let shares = lang_shares(&chars, args.lang_sampling);
    let all: usize = chars.iter().sum();
    let times = |i: usize| (shares[i] * all as f64 / chars[i].max(1) as f64).min(MOST);
    let mut counted: Vec<&str> = Vec::new();
    for (i, texts) in texts.iter().enumerate() {
        for text in texts {
            // What a fraction leaves over, a hash of the text decides.
            let u = (xxh3_64(text.as_bytes()) >> 11) as f64 / (1u64 << 53) as f64;
            let n = (times(i) + u).floor() as usize;
            counted.extend(std::iter::repeat_n(text.as_str(), n));
        }
    }
    let bar = ui.progress("training the tokeniser", 0);
    let tokenizer = TextTokenizer::train(args.vocab_size, &counted)?;
    bar.finish_and_clear();
    let mut rows = Vec::new();
    for (i, (lang, texts)) in langs.iter().zip(&texts).enumerate() {
        let (tokens, covered) = tokenizer.coverage(texts)?;
        rows.push(Row {
            lang: lang.clone(),
            texts: texts.len(),
            characters: chars[i],
            counted: times(i),
            tokens,
            characters_per_token: chars[i] as f64 / tokens.max(1) as f64,
            covered,
        });
    }
    io::write(&new.path().join("tokenizer.json"), tokenizer.to_json()?.as_bytes())?;
    new.commit()?;
    let report =
        Report { out: args.out.display().to_string(), vocabulary: tokenizer.vocab_size(), langs: rows };
    ui.result(&report, text)
}

/// The distinct texts of each language.
fn read(args: &Args, langs: &[Lang], ui: &Ui) -> Result<Vec<Vec<String>>> {
    let mut texts: Vec<Vec<String>> = vec![Vec::new(); langs.len()];
    let (mut chars, mut seen) = (vec![0; langs.len()], FxHashSet::default());
    let sources = bitext::find(&args.texts)?;
    let bar = ui.progress("reading", sources.len() as u64);
    for source in &sources {
        bitext::read(source, &mut |aligned| {
            for (lang, text) in aligned {
                let Some(place) = lang.place_in(langs).filter(|p| chars[*p] < args.max_chars) else {
                    continue;
                };
                if seen.insert(xxh3_64(text.as_bytes())) {
                    chars[place] += text.chars().count();
                    texts[place].push(text);
                }
            }
            Ok(())
        })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(texts)
}

fn text(report: &Report) -> String {
    let rows = report.langs.iter().map(|r| {
        vec![
            r.lang.to_string(),
            r.texts.to_string(),
            r.characters.to_string(),
            format!("{:.2}", r.counted),
            format!("{:.2}", r.characters_per_token),
            format!("{:.3} %", 100.0 * r.covered),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let head = ["language", "texts", "characters", "counted", "characters a token", "covered"];
    format!("{}{}: {} tokens", table(&head, &rows), report.out, report.vocabulary)
}
