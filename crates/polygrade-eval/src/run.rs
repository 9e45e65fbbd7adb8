//! Run files: `query-id Q0 passage-id rank score tag`, six columns separated by white space.

use polygrade_data::io::{AtomicFile, Lines};
use polygrade_data::{At, Error, Problems, Result};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The ranked passages of each query, with scores; in trec_eval's order once read.
pub type Run = BTreeMap<String, Vec<(String, f64)>>;

/// Puts a ranking in trec_eval's order: score descending, then passage id descending by bytes.
pub fn sort(ranking: &mut [(String, f64)]) {
    ranking.sort_by(|a, b| {
        b.1.partial_cmp(&a.1).unwrap_or(std::cmp::Ordering::Equal).then_with(|| b.0.cmp(&a.0))
    });
}

/// Reads a run. The rank column and anything after the tag are ignored, as in trec_eval: the score decides.
pub fn read(path: &Path) -> Result<Run> {
    let mut problems = Problems::default();
    let mut run = Run::new();
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line(&mut problems) {
        let mut fields = line.split_ascii_whitespace();
        let fields = [fields.next(), fields.next(), fields.next(), fields.next(), fields.next()];
        let [Some(query), Some(_), Some(passage), Some(_), Some(score)] = fields else {
            let fix = "write query-id Q0 passage-id rank score tag";
            problems.push(At::line(path, number), "has fewer than 5 columns", fix);
            continue;
        };
        match score.parse::<f64>() {
            Ok(score) if !score.is_nan() => match run.get_mut(query) {
                Some(ranking) => ranking.push((passage.to_owned(), score)),
                None => {
                    run.insert(query.to_owned(), vec![(passage.to_owned(), score)]);
                }
            },
            _ => {
                problems.push(At::line(path, number), format!("has {score:?} for a score"), "write a number")
            }
        }
    }
    for (query, ranking) in &mut run {
        sort(ranking);
        let mut ids: Vec<&str> = ranking.iter().map(|(id, _)| id.as_str()).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|w| w[0] == w[1]) {
            let what = format!("ranks passage {:?} twice for query {query:?}", twice[0]);
            problems.push(At::file(path), what, "keep one line for each query and passage");
        }
    }
    problems.into_result()?;
    Ok(run)
}

/// Writes rankings in the order given. Scores keep enough digits to read back the same.
pub fn write<'a>(
    path: &Path,
    tag: &str,
    rankings: impl Iterator<Item = (&'a str, Vec<(&'a str, f32)>)>,
) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    for (query, ranking) in rankings {
        for (i, (passage, score)) in ranking.into_iter().enumerate() {
            writeln!(file, "{query} Q0 {passage} {} {score} {tag}", i + 1).map_err(|e| Error::io(path, e))?;
        }
    }
    file.commit()
}
