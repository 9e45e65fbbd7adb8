//! `polygrade search`: a model, a collection and a query → the best passages.

use super::common::{OwnLanguageBonus, langs, one_lang};
use crate::ui::Ui;
use polygrade_data::{Collection, Error, Index, Lang, Result, Split};
use polygrade_encoder::TextKind;
use polygrade_index::{TieOrder, exact, own_language};
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade search model collections/mini \"how high should my desk be\"\n  \
    polygrade search model collections/mini --langs en,sw      (asks for queries)\n  \
    polygrade search model collections/mini --query-lang de --own-language-bonus 0.1 \"Höhe des Schreibtischs\"")]
pub(crate) struct Args {
    /// Folder of a model, or its name on the Hugging Face hub
    model: String,
    #[command(flatten)]
    options: super::common::ModelOptions,
    /// The collection
    collection: PathBuf,
    /// The query; without it, queries are read from standard input, one a line
    query: Option<String>,
    /// Languages of the passages; all unless given
    #[arg(long)]
    langs: Option<String>,
    /// The queries' language, for --own-language-bonus; a judged query of the collection need not be told
    #[arg(long, value_name = "LANG")]
    query_lang: Option<String>,
    #[command(flatten)]
    bonus: OwnLanguageBonus,
    /// Passages to show
    #[arg(long, short = 'k', default_value_t = 5, value_name = "N")]
    hits: usize,
}

#[derive(Serialize)]
struct Found {
    id: String,
    lang: Lang,
    score: f32,
    /// The grade, where the text is a judged query of the collection.
    grade: Option<f32>,
    text: String,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let bonus = args.bonus.own_language_bonus;
    if args.query_lang.is_some() && bonus == 0.0 {
        return Err(Error::Usage("--query-lang is for --own-language-bonus, which is not given".into()));
    }
    let mut encoder = args.options.load(&args.model)?;
    // Ranking is by cosine, also with a model that leaves its vectors unscaled.
    encoder.normalize();
    let collection = Collection::load(&args.collection)?;
    let query_lang = match args.query_lang.as_deref() {
        Some(lang) => Some(one_lang(lang, &collection)?),
        None => None,
    };
    let langs = langs(args.langs.as_deref(), &collection)?;
    if let polygrade_encoder::Encoder::Transformer(e) = &mut encoder {
        // Single queries come later, for each of which the weights would be arranged again.
        e.prepare(polygrade_nn::device::Precision::F32);
    }
    let wanted = |i: &Index| langs.contains(&collection.passages[*i as usize].lang);
    let inside: Vec<Index> = (0..collection.passages.len() as Index).filter(wanted).collect();
    let texts: Vec<_> = inside.iter().map(|&i| collection.passages[i as usize].full_text()).collect();
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let some = encoder.encode(&texts, TextKind::Passage)?;
    let mut vectors = polygrade_nn::Matrix::zeros(collection.passages.len(), some.cols);
    inside
        .iter()
        .enumerate()
        .for_each(|(row, &i)| vectors.row_mut(i as usize).copy_from_slice(some.row(row)));
    let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
    let ties = TieOrder::new(&ids);
    let mut pool = exact::Pool::new(inside, &vectors);

    let graded: Vec<_> = Split::ALL.iter().map(|s| collection.graded(*s)).collect();

    let mut answer = |query: &str| -> Result<()> {
        let vector = encoder.encode(&[query], TextKind::Query)?;
        let same = |q: &&polygrade_data::Query| q.text.trim() == query.trim();
        let known = collection.queries.iter().position(|q| same(&q)).map(|i| i as Index);
        if bonus != 0.0 {
            let its = known.map(|q| &collection.queries[q as usize].lang);
            let lang = query_lang.as_ref().or(its).ok_or_else(|| {
                Error::Usage("--own-language-bonus needs the query's language: --query-lang LANG".into())
            })?;
            pool.set_bonus(own_language(&collection, lang, bonus as f32));
        }
        let hits = pool.search(&vector, args.hits, &ties, true).remove(0);
        let found: Vec<Found> = hits
            .into_iter()
            .map(|hit| {
                let p = &collection.passages[hit.passage as usize];
                let grade = known.and_then(|q| graded.iter().find_map(|g| g.grade(q, hit.passage)));
                Found {
                    id: p.id.clone(),
                    lang: p.lang.clone(),
                    score: hit.score,
                    grade,
                    text: p.full_text().into(),
                }
            })
            .collect();
        ui.result(&found, |found| found.iter().map(line).collect())
    };
    match &args.query {
        Some(query) => answer(query),
        None => {
            let prompt = || {
                if std::io::stdin().is_terminal() {
                    eprint!("query> ");
                    // A prompt that cannot be shown is no reason to stop.
                    let _ = std::io::stderr().flush();
                }
            };
            prompt();
            for query in std::io::stdin().lock().lines() {
                let query = query.map_err(|e| polygrade_data::Error::io("standard input".as_ref(), e))?;
                if !query.trim().is_empty() {
                    answer(&query)?;
                }
                prompt();
            }
            Ok(())
        }
    }
}

fn line(f: &Found) -> String {
    let grade = f.grade.map_or("    –".to_owned(), |g| format!("g={g:>3}"));
    let text: String = f.text.chars().take(150).collect();
    let more = if f.text.chars().count() > 150 { "…" } else { "" };
    format!("{:6.3}  {grade}  {:<5} {}\n        {text}{more}\n", f.score, f.lang.as_str(), f.id)
}
