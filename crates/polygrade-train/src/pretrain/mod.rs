//! Pretraining: a multilingual encoder from parallel text and an English teacher.
//!
//! Every batch holds pairs (x, y) of texts that say the same, its languages drawn by p ∝ n^(1/T), and is trained on the
//! weighted sum of
//!
//! - **translation ranking** (Yang et al. 2019, arXiv 1902.08564): InfoNCE of x against the y of the batch and of y
//!   against the x, less what is known to say the same. A text alone is cropped twice at random, and the crops are the
//!   pair (Contriever, arXiv 2112.09118);
//! - **distillation** (Reimers & Gurevych 2020, arXiv 2004.09813): 1 − cos(student(x), teacher(p)) for all x whose
//!   translation p into the teacher's language, the pivot, is known, p itself among them.
//!
//! Everything is a function of texts, settings and seed: any number of threads and any interruption give the same bits.
//! For fine-tuning on judgments see [`trainer`](crate::trainer).

mod corpus;
mod teacher;

pub use corpus::{Corpus, CorpusBuilder};
pub use teacher::TeacherStore;

use crate::align::{Distance, Distil, add_products, gather, scatter};
use crate::batches::{Deck, lang_shares, rounded};
use crate::loss::Role;
use crate::loss::info_nce::of_roles;
use corpus::NONE;
use polygrade_data::{At, Error, Lang, Result};
use polygrade_encoder::{Encoder, Learner, StepSettings, TextEncoder, TransformerTraining};
use polygrade_nn::Matrix;
use polygrade_nn::bag::Bags;
use polygrade_nn::kernels::{Transpose, matmul};
use polygrade_nn::optim::{AdamW, Decay, Schedule};
use polygrade_nn::rng::CounterRng;
use std::path::Path;

/// A joined text stands among so many others at most.
const JOINED_MOST: usize = 3;

/// Settings of pretraining. The defaults are those that `pocket` was made with; see docs/results.md.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Passes over the pairs, on average over languages.
    pub epochs: f64,
    /// Pairs in a batch.
    pub batch: usize,
    /// Weight of translation ranking.
    pub ranking: f32,
    /// Weight of distillation.
    pub distil: f32,
    /// T of translation ranking.
    pub temperature: f32,
    /// T of the languages' shares.
    pub lang_sampling: f32,
    /// Probability with which a token of a byte-pair encoding is taken apart into the two that it was merged from, and these
    /// again, anew each time; for static encoders. Rare words are met in their parts, as in BPE-dropout (Provilkov et al.
    /// 2020, arXiv 1910.13267), without tokenising again.
    pub split: f32,
    /// Probability with which one text of a pair stands among one to three others of its side and language, so that a
    /// sentence is to find a passage that holds its translation; for static encoders. Such a passage has no teacher.
    pub join: f32,
    /// Share of its tokens that each text of a batch goes without, drawn anew each time; for static encoders.
    pub token_dropout: f32,
    /// Highest learning rate.
    pub rate: f32,
    /// Highest learning rate of a static encoder's log-weights.
    pub weight_rate: f32,
    /// Share of the steps in which the rate rises.
    pub warmup: f32,
    /// AdamW.
    pub adam: AdamW,
    /// Seed of everything random.
    pub seed: u64,
    /// What counts for transformers alone.
    pub transformer: TransformerTraining,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            epochs: 4.0,
            batch: 1024,
            ranking: 1.0,
            distil: 40.0,
            temperature: 0.1,
            lang_sampling: 2.0,
            split: 0.1,
            join: 0.5,
            token_dropout: 0.0,
            rate: 0.03,
            weight_rate: 0.02,
            warmup: 0.05,
            adam: AdamW { weight_decay: 0.0, ..AdamW::default() },
            seed: 1,
            transformer: TransformerTraining::default(),
        }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The step, from 1.
    pub step: u64,
    /// Mean loss of translation ranking.
    pub ranking: f64,
    /// Mean distance to the teacher, 1 − cos.
    pub distil: f64,
}

/// A run of pretraining.
pub struct Pretrainer<'a> {
    learner: Learner,
    corpus: &'a Corpus,
    teacher: Option<&'a mut TeacherStore>,
    settings: Settings,
    schedule: Schedule,
    decks: Vec<Deck>,
    /// Batches dealt, those before a resumed step among them.
    dealt: u64,
    step: u64,
    pairs: Vec<[u32; 2]>,
    /// The place of each pair's language.
    langs: Vec<usize>,
    /// Of the texts in the batch, first those of one side: whether they are less or more than the text itself.
    changed: Vec<bool>,
    bags: Bags,
    kept: Vec<u32>,
    /// The two tokens that each was merged from.
    parts: Vec<Option<[u32; 2]>>,
    targets: Matrix,
    identity: String,
}

impl<'a> Pretrainer<'a> {
    /// Starts a run. With `threads`, rayon's threads share each step; the result is the same.
    ///
    /// # Errors
    /// There is nothing to train on, or the settings do not fit.
    pub fn new(
        mut student: Encoder,
        corpus: &'a Corpus,
        teacher: Option<&'a mut TeacherStore>,
        settings: Settings,
        threads: bool,
    ) -> Result<Self> {
        let pairs: usize = corpus.pairs.iter().map(Vec::len).sum();
        let fault = |what: String| Err(Error::Usage(what));
        if pairs < 2 {
            return fault("there are no pairs of texts to train on in these languages".into());
        }
        let sound = [settings.ranking, settings.distil].iter().all(|w| w.is_finite() && *w >= 0.0)
            && settings.ranking + settings.distil > 0.0
            && settings.temperature > 0.0
            && settings.lang_sampling >= 1.0
            && settings.batch >= 2
            && [settings.token_dropout, settings.split].iter().all(|p| (0.0..1.0).contains(p))
            && (0.0..=1.0).contains(&settings.join)
            && settings.epochs > 0.0;
        if !sound {
            return fault(
                "weights must be 0 or more and one above, the temperature above 0, the sampling temperature 1 or more, \
                 a batch 2 pairs or more, split and token dropout below 1, join 1 at most"
                    .into(),
            );
        }
        let changes = settings.token_dropout + settings.split + settings.join;
        if changes > 0.0 && matches!(student, Encoder::Transformer(_)) {
            let what = "--split, --join and --token-dropout are for static encoders, to which a text is a bag of tokens";
            return fault(what.into());
        }
        if settings.distil > 0.0 {
            match &teacher {
                None => return fault("distillation needs a teacher: --teacher MODEL, or --distil 0".into()),
                Some(t) if t.dim() != student.dim() => {
                    return fault(format!(
                        "the teacher's vectors have {} values and the student's {}; they must be as wide",
                        t.dim(),
                        student.dim()
                    ));
                }
                Some(_) => {}
            }
        }
        student.normalize();
        let parts = if settings.split > 0.0 { student.tokenizer().parts() } else { Vec::new() };
        let total = ((settings.epochs * pairs as f64) / settings.batch as f64).ceil().max(1.0) as u64;
        let schedule = Schedule {
            peak: 1.0,
            warmup: (total as f32 * settings.warmup) as u64,
            total,
            decay: Decay::Linear,
        };
        let rng = CounterRng::new(settings.seed).fork(1);
        let decks = corpus.pairs.iter().enumerate().map(|(l, pairs)| {
            let members: Vec<u32> = (0..pairs.len() as u32).collect();
            Deck::new(&members, rng.fork(l as u64))
        });
        let identity = format!(
            "pretraining {settings:?}, texts {:016x}, student {:016x}",
            corpus.fingerprint(),
            student.fingerprint()
        );
        let transformer = TransformerTraining { seed: settings.seed, ..settings.transformer.clone() };
        Ok(Pretrainer {
            learner: Learner::new(student, &transformer, None, threads)?,
            decks: decks.collect(),
            corpus,
            teacher,
            settings,
            schedule,
            dealt: 0,
            step: 0,
            pairs: Vec::new(),
            langs: Vec::new(),
            changed: Vec::new(),
            bags: Bags::new(),
            kept: Vec::new(),
            parts,
            targets: Matrix::default(),
            identity,
        })
    }

    /// Steps in all.
    pub fn total(&self) -> u64 {
        self.schedule.total
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.step
    }

    /// The encoder as trained so far.
    pub fn encoder(&self) -> &dyn TextEncoder {
        self.learner.encoder()
    }

    /// Ends training.
    pub fn into_encoder(self) -> Encoder {
        self.learner.into_encoder()
    }

    /// One step; `None` when training is over.
    ///
    /// # Errors
    /// The teacher's vectors cannot be read, or the loss is no number any more.
    pub fn next_step(&mut self) -> Result<Option<StepReport>> {
        if self.step >= self.schedule.total {
            return Ok(None);
        }
        // Batches of before a checkpoint are dealt again, which costs next to nothing.
        while self.dealt <= self.step {
            self.deal();
        }
        self.step += 1;
        self.fill();
        let vectors = self.learner.forward(&self.bags, self.step);
        let mut grad = Matrix::zeros(vectors.rows(), vectors.cols);
        let s = &self.settings;
        let mut report = StepReport { step: self.step, ranking: 0.0, distil: 0.0 };
        if s.ranking > 0.0 {
            let meaning: Vec<u32> = self.pairs.iter().map(|p| self.corpus.meaning[p[0] as usize]).collect();
            report.ranking = ranking(vectors, &meaning, s.temperature, s.ranking, &mut grad);
        }
        if let Some(teacher) = self.teacher.as_mut().filter(|_| s.distil > 0.0) {
            let texts = self.pairs.iter().map(|p| p[0]).chain(self.pairs.iter().map(|p| p[1]));
            let taught = texts.map(|t| self.corpus.taught[t as usize]).enumerate();
            // Half a text does not say what the whole does.
            let (places, rows): (Vec<usize>, Vec<u32>) =
                taught.filter(|(i, row)| *row != NONE && !self.changed[*i]).unzip();
            teacher.read(&rows, &mut self.targets)?;
            report.distil = distil(vectors, (&places, &self.targets), s.distil, &mut grad);
        }
        self.learner.backward(&self.bags, &mut grad);
        let factor = self.schedule.rate(self.step);
        self.learner.step(&StepSettings {
            adam: s.adam,
            rate: s.rate * factor,
            weight_rate: s.weight_rate * factor,
            step: self.step,
        });
        if !(report.ranking + report.distil).is_finite() {
            let what = format!("the loss is no number at step {}: lower --learning-rate", self.step);
            return Err(Error::Usage(what));
        }
        Ok(Some(report))
    }

    /// Draws the pairs of the next batch.
    fn deal(&mut self) {
        let rng = CounterRng::new(self.settings.seed).fork(2).fork(self.dealt);
        let sizes: Vec<usize> = self.corpus.pairs.iter().map(Vec::len).collect();
        let counts =
            rounded(&lang_shares(&sizes, self.settings.lang_sampling), self.settings.batch, rng.uniform(0));
        self.pairs.clear();
        self.langs.clear();
        let mut hand = Vec::new();
        let decks = self.decks.iter_mut().zip(&self.corpus.pairs).zip(counts).enumerate();
        for (lang, ((deck, pairs), count)) in decks {
            hand.clear();
            deck.deal(count, &mut hand);
            self.langs.resize(self.langs.len() + hand.len(), lang);
            self.pairs.extend(hand.iter().map(|i| pairs[*i as usize]));
        }
        self.dealt += 1;
    }

    /// The tokens of the batch: first texts, then second ones.
    fn fill(&mut self) {
        self.bags.clear();
        self.changed.clear();
        let s = &self.settings;
        let rng = CounterRng::new(s.seed).fork(3).fork(self.step);
        let mut text = Vec::new();
        for side in 0..2 {
            for (i, pair) in self.pairs.iter().enumerate() {
                let tokens = self.corpus.tokens.get(pair[side] as usize);
                let cropped = pair[0] == pair[1];
                // The same for both sides, of which one is joined.
                let both = rng.fork((2 * i) as u64).fork(2);
                let joined = !cropped && both.uniform(0) < f64::from(s.join) && both.below(1, 2) == side;
                self.changed.push(cropped || joined);
                let rng = rng.fork((2 * i + side) as u64);
                let span = if cropped { crop(tokens, &rng) } else { tokens };
                altered(span, (&self.parts, (s.split, s.token_dropout)), &rng.fork(1), &mut self.kept);
                if !joined {
                    self.bags.push(&self.kept);
                    continue;
                }
                text.clone_from(&self.kept);
                let others = &self.corpus.pairs[self.langs[i]];
                for n in 0..1 + both.below(2, JOINED_MOST) as u64 {
                    let other = others[both.below(3 + n, others.len())][side];
                    let tokens = self.corpus.tokens.get(other as usize);
                    altered(
                        tokens,
                        (&self.parts, (s.split, s.token_dropout)),
                        &rng.fork(3 + n),
                        &mut self.kept,
                    );
                    text.extend_from_slice(&self.kept);
                }
                self.bags.push(&text);
            }
        }
    }

    /// The share of held-out pairs of each language whose texts find each other among all of the language's, the mean of
    /// both directions, and their number.
    pub fn held_out(&self) -> Vec<(Lang, f64, usize)> {
        let c = self.corpus;
        let langs = c.langs().iter().zip(&c.held).filter(|(_, held)| held.len() > 1);
        langs.map(|(lang, held)| (lang.clone(), self.found(held), held.len())).collect()
    }

    fn found(&self, held: &[[u32; 2]]) -> f64 {
        let side = |side: usize| {
            let mut bags = Bags::new();
            held.iter().for_each(|p| bags.push(self.corpus.tokens.get(p[side] as usize)));
            self.learner.encoder().encode_bags(&bags, true)
        };
        let (x, y) = (side(0), side(1));
        let mut found = 0;
        for (from, to, from_side) in [(&x, &y, 0), (&y, &x, 1)] {
            let mut scores = Matrix::default();
            matmul(from, to, Transpose::Right, true, &mut scores);
            for i in 0..held.len() {
                let best = (0..held.len()).max_by(|a, b| scores.row(i)[*a].total_cmp(&scores.row(i)[*b]));
                // A text may have several translations.
                found += usize::from(best.is_some_and(|b| held[b][from_side] == held[i][from_side]));
            }
        }
        found as f64 / (2 * held.len()) as f64
    }

    /// Writes a checkpoint, atomically.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save_checkpoint(&self, path: &Path) -> Result<()> {
        let notes = [("step", self.step.to_string()), ("run", self.identity.clone())];
        self.learner.save_state(path, &notes)
    }

    /// Goes on from a checkpoint of the same run.
    ///
    /// # Errors
    /// It cannot be read, or belongs to another run.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let own = self.identity.clone();
        self.step = self.learner.load_state(path, |note| {
            let step = note("step").and_then(|n| n.parse().ok());
            match (step, note("run")) {
                (Some(step), Some(run)) if run == own => Ok(step),
                (_, run) => {
                    let run = run.unwrap_or_else(|| "no known run".into());
                    let what = format!("belongs to another run\n    there: {run}\n    here:  {own}");
                    Err(Error::input(At::file(path), what, "use the same settings and texts, or remove it"))
                }
            }
        })?;
        Ok(())
    }
}

/// The tokens, some of them in parts, without a share of them; at least one.
fn altered(
    tokens: &[u32],
    (parts, (split, dropout)): (&[Option<[u32; 2]>], (f32, f32)),
    rng: &CounterRng,
    kept: &mut Vec<u32>,
) {
    kept.clear();
    if split == 0.0 && dropout == 0.0 {
        kept.extend_from_slice(tokens);
        return;
    }
    let mut drawn = 0;
    let mut happens = |share: f32| {
        drawn += 1;
        share > 0.0 && rng.uniform(drawn) < f64::from(share)
    };
    let mut waiting = Vec::new();
    for &token in tokens {
        waiting.push(token);
        while let Some(token) = waiting.pop() {
            match parts.get(token as usize).copied().flatten().filter(|_| happens(split)) {
                Some([a, b]) => waiting.extend([b, a]),
                None if happens(dropout) => {}
                None => kept.push(token),
            }
        }
    }
    if kept.is_empty() {
        kept.extend(tokens.first());
    }
}

/// A random part of a text: 5 to 50 % of it (Contriever's range), 4 tokens or more.
fn crop<'t>(tokens: &'t [u32], rng: &CounterRng) -> &'t [u32] {
    let n = tokens.len();
    let share = 0.05 + 0.45 * rng.uniform(0);
    let len = ((n as f64 * share) as usize).clamp(4.min(n), n);
    let from = rng.below(1, n - len + 1);
    &tokens[from..from + len]
}

/// InfoNCE of the first half of the rows against the second and back, the mean of both. `meaning` tells the pairs apart:
/// pairs with the same number are no negatives of each other. Adds the gradient, times `weight`.
fn ranking(vectors: &Matrix, meaning: &[u32], temperature: f32, weight: f32, grad: &mut Matrix) -> f64 {
    let (n, cols) = (meaning.len(), vectors.cols);
    let half = |of: &Matrix, from: usize| Matrix::new(cols, of.data[from * cols..(from + n) * cols].to_vec());
    let (x, y) = (half(vectors, 0), half(vectors, n));
    let role = |i: usize, j: usize| match meaning[i] == meaning[j] {
        _ if i == j => Role::Positive,
        true => Role::Ignored,
        false => Role::Negative,
    };
    // As good for the way back, since it does not depend on the side.
    let roles: Vec<Role> = (0..n).flat_map(|i| (0..n).map(move |j| role(i, j))).collect();
    let (mut scores, mut there, mut back) = Default::default();
    matmul(&x, &y, Transpose::Right, true, &mut scores);
    let mut loss = of_roles(&scores, &roles, temperature, true, &mut there);
    loss += of_roles(&scores.transposed(), &roles, temperature, true, &mut back);
    there.data.iter_mut().zip(&back.transposed().data).for_each(|(t, b)| *t += b);
    let (mut grad_x, mut grad_y) = (half(grad, 0), half(grad, n));
    add_products(&mut there, (0.5 * weight, true), (&x, &y), (&mut grad_x, &mut grad_y));
    let (first, second) = grad.data.split_at_mut(n * cols);
    first.copy_from_slice(&grad_x.data);
    second.copy_from_slice(&grad_y.data);
    0.5 * loss
}

/// Mean 1 − cos of the rows at `places` to the targets. Adds the gradient, times `weight`.
fn distil(vectors: &Matrix, (places, targets): (&[usize], &Matrix), weight: f32, grad: &mut Matrix) -> f64 {
    let student = gather(vectors, places);
    let mut part = Matrix::zeros(student.rows(), student.cols);
    let cosine = Distil { weight, distance: Distance::Cosine };
    let distance = cosine.value(&student, targets, weight, &mut part);
    scatter(&part, places, grad);
    distance
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use polygrade_nn::kernels::l2_normalize;

    #[test]
    fn gradients_are_those_of_the_losses() {
        let rng = CounterRng::new(4);
        let mut vectors = Matrix::new(6, (0..60).map(|i| rng.normal(i) as f32).collect());
        vectors.data.chunks_mut(6).for_each(|row| {
            l2_normalize(row);
        });
        // The second and the fourth pair say the same.
        let meaning = [0, 1, 2, 1, 4];
        let mut targets = Matrix::new(6, (60..84).map(|i| rng.normal(i) as f32).collect());
        targets.data.chunks_mut(6).for_each(|row| {
            l2_normalize(row);
        });
        let places = [0, 3, 7, 9];
        let value = |v: &Matrix, grad: &mut Matrix| {
            1.5 * ranking(v, &meaning, 0.2, 1.5, grad) + 0.5 * distil(v, (&places, &targets), 0.5, grad)
        };
        let mut grad = Matrix::zeros(10, 6);
        value(&vectors, &mut grad);
        for at in 0..60 {
            let moved = |by: f32| {
                let mut moved = vectors.clone();
                moved.data[at] += by;
                value(&moved, &mut Matrix::zeros(10, 6))
            };
            let h = 2f32.powi(-8);
            let want = (moved(h) - moved(-h)) / (2.0 * f64::from(h));
            let got = f64::from(grad.data[at]);
            assert!((got - want).abs() < 3e-3 * (1.0 + want.abs()), "{at}: {got} {want}");
        }
    }

    #[test]
    fn pairs_of_one_meaning_are_no_negatives() {
        let vectors = Matrix::new(2, vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        let mut grad = Matrix::zeros(4, 2);
        assert_eq!(ranking(&vectors, &[3, 3], 0.05, 1.0, &mut grad), 0.0);
        assert!((ranking(&vectors, &[3, 4], 0.05, 1.0, &mut grad) - 2f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn one_text_of_a_pair_is_joined_with_others_of_its_side() {
        let words = ["one", "two", "three", "four", "five", "six"];
        let texts: Vec<String> = words.iter().flat_map(|w| [format!("{w} en"), format!("{w} de")]).collect();
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tokenizer = polygrade_encoder::TextTokenizer::train(60, &refs).unwrap();
        let student = polygrade_encoder::StaticEncoder::random(tokenizer, 8, None, 1);
        let lang = |tag| Lang::parse(tag).unwrap();
        let langs = [lang("en"), lang("de")];
        let mut builder = CorpusBuilder::new(&student, None, &langs, false);
        for pair in texts.chunks(2) {
            builder.add(vec![(lang("en"), pair[0].clone()), (lang("de"), pair[1].clone())]).unwrap();
        }
        let corpus = builder.finish().unwrap();
        let settings = Settings { join: 1.0, split: 0.0, distil: 0.0, batch: 6, ..Settings::default() };
        let mut trainer = Pretrainer::new(student.into(), &corpus, None, settings, false).unwrap();
        trainer.deal();
        trainer.fill();
        let (n, mut sides) = (trainer.pairs.len(), [0, 0]);
        for (i, pair) in trainer.pairs.iter().enumerate() {
            let own = [0, 1].map(|side| corpus.tokens.get(pair[side] as usize));
            let is = [0, 1].map(|side| trainer.bags.get(side * n + i));
            let joined = [0, 1].map(|side| is[side].len() > own[side].len());
            assert_eq!([0, 1].map(|side| trainer.changed[side * n + i]), joined);
            assert!(joined[0] != joined[1], "one of the two");
            assert!((0..2).all(|side| is[side].starts_with(own[side])));
            let side = usize::from(joined[1]);
            sides[side] += 1;
            let shared = |text: &[u32]| text.iter().filter(|t| is[side].contains(t)).count();
            let whole = |p: &&[u32; 2]| {
                let text = corpus.tokens.get(p[side] as usize);
                shared(text) == text.len()
            };
            assert!((1..=4).contains(&corpus.pairs.iter().flatten().filter(whole).count()));
        }
        assert!(sides.iter().all(|s| *s > 0), "now this side, now that: {sides:?}");
    }

    #[test]
    fn crops_are_parts_of_the_text() {
        let tokens: Vec<u32> = (0..40).collect();
        for i in 0..200 {
            let part = crop(&tokens, &CounterRng::new(i));
            assert!((4..=20).contains(&part.len()) && part.windows(2).all(|w| w[1] == w[0] + 1));
        }
    }
}
