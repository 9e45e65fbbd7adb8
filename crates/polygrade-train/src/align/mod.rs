//! Cross-lingual alignment: losses that bring translations together, beside the retrieval loss or in its place.
//!
//! [`jsd`], [`clear`] and [`distil`] hold the losses, each with its formula; [`parallel`] the texts that they are
//! computed on. Every batch of a training run draws triples (query, passage, translation) and pairs (text, translation)
//! from these, by seed and number alone, and their texts join those of the retrieval loss in one forward and backward.
//! What is minimised is Σ weight · loss.

pub mod clear;
pub mod distil;
pub mod jsd;
pub mod parallel;

pub use clear::Clear;
pub use distil::{Distance, Distil};
pub use jsd::Jsd;
pub use parallel::{Parallel, ParallelBuilder};

use crate::loss::Role;
use parallel::Triple;
use polygrade_data::{Error, Result};
use polygrade_nn::Matrix;
use polygrade_nn::kernels::{Transpose, matmul};
use polygrade_nn::rng::CounterRng;
use rustc_hash::FxHashMap;

/// Which alignment losses are trained on, how much each counts, and on how much of the parallel texts at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlignSettings {
    /// Weight of the retrieval loss; 0 switches it off.
    pub retrieval: f32,
    /// √JSD + InfoNCE.
    pub jsd: Jsd,
    /// CLEAR.
    pub clear: Clear,
    /// Distillation of a teacher.
    pub distil: Distil,
    /// Triples of each batch, and as many pairs for distillation.
    pub batch: usize,
}

impl Default for AlignSettings {
    /// All alignment losses off.
    fn default() -> Self {
        AlignSettings {
            retrieval: 1.0,
            jsd: Jsd::default(),
            clear: Clear::default(),
            distil: Distil::default(),
            batch: 32,
        }
    }
}

impl AlignSettings {
    /// Sets weights from a text such as `jsd=1.0,clear=0.5,distil=1.0`. A name alone has weight 1. `jsd` is the
    /// paper's sum of two terms of equal weight, unless `nce`, the second, is given as well.
    pub fn set_weights(&mut self, text: &str) -> Result<()> {
        let fault = |what: String| {
            Err(Error::Usage(format!(
                "{what}: expected jsd, nce, clear or distil with weights, as in jsd=1,distil=0.5"
            )))
        };
        let (mut nce, mut seen) = (None, Vec::new());
        for part in text.split(',').map(str::trim) {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let Some(weight) = weight.trim().parse::<f32>().ok().filter(|w| w.is_finite() && *w >= 0.0)
            else {
                return fault(format!("{weight:?} is no weight"));
            };
            match name.trim() {
                "jsd" => self.jsd.weight = weight,
                "nce" => nce = Some(weight),
                "clear" => self.clear.weight = weight,
                "distil" => self.distil.weight = weight,
                name => return fault(format!("{name:?} is no alignment loss")),
            }
            if seen.contains(&name.trim()) {
                return fault(format!("{:?} is given twice", name.trim()));
            }
            seen.push(name.trim());
        }
        self.jsd.nce = nce.unwrap_or(self.jsd.weight);
        if !self.needs_triples() && !self.needs_pairs() {
            return fault(format!("{text:?} switches nothing on"));
        }
        Ok(())
    }

    fn needs_triples(&self) -> bool {
        [self.jsd.weight, self.jsd.nce, self.clear.weight].iter().any(|w| *w > 0.0)
    }

    fn needs_pairs(&self) -> bool {
        self.distil.weight > 0.0
    }

    /// An error that says what is wrong, if anything is.
    fn check(&self) -> Result<()> {
        let Jsd { weight, nce, scale, eps, temperature } = self.jsd;
        let (c, d) = (&self.clear, &self.distil);
        let weights = [self.retrieval, weight, nce, c.weight, d.weight, c.alpha, c.beta];
        let positive = [scale.unwrap_or(1.0), eps, temperature, c.scale];
        let sound = weights.iter().all(|w| w.is_finite() && *w >= 0.0)
            && positive.iter().all(|x| x.is_finite() && *x > 0.0)
            && c.alpha + c.beta <= 1.0
            && (1..=1_000_000).contains(&self.batch);
        if sound && (self.needs_triples() || self.needs_pairs()) {
            return Ok(());
        }
        let what = "alignment needs weights of 0 or more and one above, a scale, ε and temperature above 0, CLEAR's α \
                    and β of 1 at most together, and a batch of 1 to a million";
        Err(Error::Usage(what.into()))
    }
}

/// Adds the gradients of a table of scores a·bᵀ, times `share`, to those of `a` and `b`; perhaps by rayon's threads.
pub(crate) fn add_products(
    scores: &mut Matrix,
    (share, threads): (f32, bool),
    (a, b): (&Matrix, &Matrix),
    (grad_a, grad_b): (&mut Matrix, &mut Matrix),
) {
    scores.data.iter_mut().for_each(|g| *g *= share);
    let mut product = Matrix::default();
    let add = |to: &mut Matrix, product: &Matrix| {
        to.data.iter_mut().zip(&product.data).for_each(|(t, p)| *t += p);
    };
    matmul(scores, b, Transpose::None, threads, &mut product);
    add(grad_a, &product);
    matmul(scores, a, Transpose::Left, threads, &mut product);
    add(grad_b, &product);
}

/// A shuffled order of `0..n` for each pass, cut into batches.
#[derive(Default)]
struct Passes {
    pass: Option<u64>,
    order: Vec<u32>,
}

impl Passes {
    fn batch(&mut self, n: usize, size: usize, number: u64, rng: &CounterRng) -> &[u32] {
        let per_pass = n.div_ceil(size).max(1);
        let (pass, place) = (number / per_pass as u64, (number % per_pass as u64) as usize);
        if self.pass != Some(pass) {
            self.pass = Some(pass);
            self.order.clear();
            self.order.extend(0..n as u32);
            rng.fork(pass).shuffle(&mut self.order);
        }
        &self.order[place * n / per_pass..(place + 1) * n / per_pass]
    }
}

/// Texts of a batch, each once, and their rows.
#[derive(Default)]
struct Rows {
    texts: Vec<u32>,
    row_of: FxHashMap<u32, usize>,
}

impl Rows {
    fn of(&mut self, text: u32) -> usize {
        *self.row_of.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() - 1
        })
    }
}

/// A training run's alignment: what each batch draws, and the loss of what it drew.
pub(crate) struct Alignment<'a> {
    settings: AlignSettings,
    parallel: &'a Parallel,
    triples: Passes,
    pairs: Passes,
    /// Of the batch in hand: its texts, its triples, hard negatives behind them, and texts with their teacher's row.
    rows: Rows,
    drawn: Vec<Triple>,
    hard: Vec<Triple>,
    taught: Vec<(u32, u32)>,
}

impl<'a> Alignment<'a> {
    /// An error where the parallel texts lack what the settings ask for.
    pub(crate) fn new(settings: AlignSettings, parallel: &'a Parallel) -> Result<Self> {
        settings.check()?;
        let fault = |what: &str| Err(Error::Usage(what.into()));
        if settings.needs_triples() && parallel.triples().is_empty() {
            return fault(
                "jsd and clear need passages with translations that a training query in the pivot language has as a \
                 positive, or --parallel texts; there are none",
            );
        }
        if settings.clear.weight > 0.0 && parallel.triples().iter().all(|t| t.target_query.is_none()) {
            return fault("clear needs training queries with translations; there are none");
        }
        if settings.needs_pairs() {
            if parallel.pairs().is_empty() {
                return fault(
                    "distil needs texts with translations that train knows of, or --parallel texts",
                );
            }
            if !parallel.is_taught() {
                return fault("distil needs a teacher: --teacher MODEL");
            }
        }
        Ok(Alignment {
            settings,
            parallel,
            triples: Passes::default(),
            pairs: Passes::default(),
            rows: Rows::default(),
            drawn: Vec::new(),
            hard: Vec::new(),
            taught: Vec::new(),
        })
    }

    /// Weight of the retrieval loss.
    pub(crate) fn retrieval(&self) -> f32 {
        self.settings.retrieval
    }

    /// Batches of a pass over the parallel texts.
    pub(crate) fn batches_per_pass(&self) -> usize {
        let triples = if self.settings.needs_triples() { self.parallel.triples().len() } else { 0 };
        let pairs = if self.settings.needs_pairs() { self.parallel.pairs().len() } else { 0 };
        triples.max(pairs).div_ceil(self.settings.batch)
    }

    /// Draws what the batch of this number, counted from 0, is computed on; gives the tokens of its texts.
    pub(crate) fn draw(&mut self, number: u64, rng: &CounterRng) -> impl Iterator<Item = &[u32]> {
        let (s, parallel) = (&self.settings, self.parallel);
        self.rows.texts.clear();
        self.rows.row_of.clear();
        self.drawn.clear();
        self.hard.clear();
        self.taught.clear();
        if s.needs_triples() {
            let all = parallel.triples();
            let which = self.triples.batch(all.len(), s.batch, number, &rng.fork(1));
            self.drawn.extend(which.iter().map(|i| all[*i as usize]));
        }
        if s.needs_pairs() {
            let all = parallel.pairs();
            for &i in self.pairs.batch(all.len(), s.batch, number, &rng.fork(2)) {
                let [pivot, translation] = all[i as usize];
                let teacher = parallel.teacher_row(pivot);
                self.taught.extend([(pivot, teacher), (translation, teacher)]);
            }
            // A pivot text with several translations in the batch is taught once.
            self.taught.sort_unstable();
            self.taught.dedup();
        }
        if s.clear.weight > 0.0 && s.clear.negatives > 0 {
            for triple in self.drawn.iter().filter(|t| t.target_query.is_some()) {
                let mut found = parallel.hard_negatives(triple);
                let rng =
                    rng.fork(3).fork(number).fork(u64::from(triple.query)).fork(u64::from(triple.target));
                rng.shuffle(&mut found);
                self.hard.extend(found.into_iter().take(s.clear.negatives));
            }
        }
        for t in self.drawn.iter().chain(&self.hard) {
            for text in [Some(t.query), Some(t.pivot), Some(t.target), t.target_query].into_iter().flatten() {
                self.rows.of(text);
            }
        }
        for (text, _) in &self.taught {
            self.rows.of(*text);
        }
        self.rows.texts.iter().map(|t| parallel.tokens(*t))
    }

    /// The weighted loss of the batch drawn last and the number of triples and texts in it. `vectors` and `grad` hold a
    /// row for each text that [`Alignment::draw`] gave; the gradient, times `share`, is added to `grad`.
    pub(crate) fn value(&mut self, vectors: &Matrix, share: f32, grad: &mut Matrix) -> (f64, usize) {
        let s = self.settings;
        let mut loss = 0.0;
        if s.jsd.weight > 0.0 || s.jsd.nce > 0.0 {
            loss += self.jsd(vectors, share, grad);
        }
        if s.clear.weight > 0.0 {
            loss += f64::from(s.clear.weight) * self.clear(vectors, share * s.clear.weight, grad);
        }
        if s.distil.weight > 0.0 {
            loss += f64::from(s.distil.weight) * self.distil(vectors, share * s.distil.weight, grad);
        }
        (loss, self.drawn.len() + self.taught.len())
    }

    fn jsd(&mut self, vectors: &Matrix, share: f32, grad: &mut Matrix) -> f64 {
        let (s, parallel) = (self.settings.jsd, self.parallel);
        let pivots = self.places(|t| t.pivot);
        let targets = self.places(|t| t.target);
        // A query of several triples is one candidate.
        let mut texts: Vec<u32> = self.drawn.iter().map(|t| t.query).collect();
        texts.sort_unstable();
        texts.dedup();
        let queries: Vec<usize> = texts.iter().map(|t| self.rows.of(*t)).collect();
        let (p, t, q) = (gather(vectors, &pivots), gather(vectors, &targets), gather(vectors, &queries));
        let zeros = |m: &Matrix| Matrix::zeros(m.rows(), m.cols);
        let (mut gp, mut gt, mut gq) = (zeros(&p), zeros(&t), zeros(&q));
        let mut loss = 0.0;
        if s.weight > 0.0 {
            loss += f64::from(s.weight) * s.root(&p, &t, share * s.weight, (&mut gp, &mut gt));
        }
        if s.nce > 0.0 {
            let role = |anchor: &Triple, query: u32| match query == anchor.query {
                true => Role::Positive,
                false if parallel.spares(query, anchor) => Role::Ignored,
                false => Role::Negative,
            };
            let roles: Vec<Role> =
                self.drawn.iter().flat_map(|a| texts.iter().map(move |q| role(a, *q))).collect();
            loss += f64::from(s.nce) * s.nce(&t, &q, &roles, share * s.nce, (&mut gt, &mut gq));
        }
        for (places, part) in [(&pivots, &gp), (&targets, &gt), (&queries, &gq)] {
            scatter(part, places, grad);
        }
        loss
    }

    fn clear(&mut self, vectors: &Matrix, share: f32, grad: &mut Matrix) -> f64 {
        let whole: Vec<Triple> = self.drawn.iter().filter(|t| t.target_query.is_some()).copied().collect();
        let columns: Vec<Triple> = whole.iter().chain(&self.hard).copied().collect();
        let queries: Vec<usize> = whole.iter().map(|t| self.rows.of(t.query)).collect();
        let passages: Vec<usize> = columns.iter().map(|t| self.rows.of(t.pivot)).collect();
        let targets: Vec<usize> =
            columns.iter().filter_map(|t| t.target_query).map(|q| self.rows.of(q)).collect();
        let v = clear::Vectors {
            queries: gather(vectors, &queries),
            passages: gather(vectors, &passages),
            targets: gather(vectors, &targets),
        };
        let zeros = |m: &Matrix| Matrix::zeros(m.rows(), m.cols);
        let mut g = clear::Vectors {
            queries: zeros(&v.queries),
            passages: zeros(&v.passages),
            targets: zeros(&v.targets),
        };
        let relevant = |i: usize, j: usize| {
            let (row, column) = (&whole[i], &columns[j]);
            let same = row.pivot == column.pivot
                || row.target == column.target
                || row.target_query == column.target_query;
            same || self.parallel.spares(row.query, column) || self.parallel.spares(column.query, row)
        };
        let loss = self.settings.clear.value(&v, relevant, share, &mut g);
        for (places, part) in [(&queries, &g.queries), (&passages, &g.passages), (&targets, &g.targets)] {
            scatter(part, places, grad);
        }
        loss
    }

    fn distil(&mut self, vectors: &Matrix, share: f32, grad: &mut Matrix) -> f64 {
        let places: Vec<usize> = self.taught.iter().map(|(text, _)| self.rows.row_of[text]).collect();
        let student = gather(vectors, &places);
        let rows: Vec<usize> = self.taught.iter().map(|(_, row)| *row as usize).collect();
        let teacher = gather(self.parallel.teacher(), &rows);
        let mut part = Matrix::zeros(student.rows(), student.cols);
        let loss = self.settings.distil.value(&student, &teacher, share, &mut part);
        scatter(&part, &places, grad);
        loss
    }

    fn places(&mut self, text: impl Fn(&Triple) -> u32) -> Vec<usize> {
        self.drawn.iter().map(|t| self.rows.row_of[&text(t)]).collect()
    }
}

pub(crate) fn gather(from: &Matrix, rows: &[usize]) -> Matrix {
    Matrix { cols: from.cols, data: rows.iter().flat_map(|r| from.row(*r)).copied().collect() }
}

pub(crate) fn scatter(from: &Matrix, rows: &[usize], to: &mut Matrix) {
    for (i, &row) in rows.iter().enumerate() {
        to.row_mut(row).iter_mut().zip(from.row(i)).for_each(|(t, f)| *t += f);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::examples::Scenario;
    use parallel::tests::{collection, lang, policies, student};
    use polygrade_nn::kernels::l2_normalize;

    #[test]
    fn gradients_reach_the_rows_of_their_texts() {
        let student = student();
        let mut builder = ParallelBuilder::new(&student, lang("en"), &["de", "sw"].map(lang));
        builder.add_train(&collection(), Scenario::Mixture, &policies());
        let parallel = builder.finish(Some(&student)).unwrap();
        for losses in ["jsd=0.7,nce=0.4", "clear=0.8", "distil=1.5", "jsd=0.7,clear=0.8,distil=1.5"] {
            let mut settings = AlignSettings::default();
            settings.set_weights(losses).unwrap();
            let mut alignment = Alignment::new(settings, &parallel).unwrap();
            let rng = CounterRng::new(6);
            let rows = alignment.draw(0, &rng).count();
            let values = (0..rows * 8).map(|i| rng.normal(i as u64) as f32);
            let mut vectors = Matrix::new(8, values.collect());
            vectors.data.chunks_mut(8).for_each(|row| {
                l2_normalize(row);
            });
            let mut grad = Matrix::zeros(rows, 8);
            alignment.value(&vectors, 0.5, &mut grad);
            for at in 0..vectors.data.len() {
                let step = 2f32.powi(-9);
                let mut value = |by: f32| {
                    let mut moved = vectors.clone();
                    moved.data[at] += by;
                    alignment.value(&moved, 1.0, &mut Matrix::zeros(rows, 8)).0
                };
                let wide = (value(2.0 * step) - value(-2.0 * step)) / (4.0 * f64::from(step));
                let narrow = (value(step) - value(-step)) / (2.0 * f64::from(step));
                // Half of it: the share.
                let want = 0.5 * (4.0 * narrow - wide) / 3.0;
                let got = f64::from(grad.data[at]);
                assert!((got - want).abs() < 2e-3 * (1.0 + want.abs()), "{losses} {at}: {got} {want}");
            }
        }
    }

    #[test]
    fn weights_are_read() {
        let read = |text: &str| {
            let mut s = AlignSettings::default();
            s.set_weights(text).map(|()| (s.jsd.weight, s.jsd.nce, s.clear.weight, s.distil.weight)).ok()
        };
        assert_eq!(read("jsd=1.0, clear=0.5,distil=2"), Some((1.0, 1.0, 0.5, 2.0)));
        assert_eq!(read("jsd"), Some((1.0, 1.0, 0.0, 0.0)));
        assert_eq!(read("jsd=2,nce=0"), Some((2.0, 0.0, 0.0, 0.0)));
        assert_eq!(read("nce=0.5"), Some((0.0, 0.5, 0.0, 0.0)));
        for bad in ["", "jsd=0", "jsd=-1", "jsd=x", "mse=1", "jsd=1,jsd=2", "jsd=inf"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pass_holds_everything_once() {
        let rng = CounterRng::new(4);
        let mut passes = Passes::default();
        let mut all: Vec<u32> = (0..4).flat_map(|n| passes.batch(10, 3, n, &rng).to_vec()).collect();
        let next: Vec<u32> = (4..8).flat_map(|n| passes.batch(10, 3, n, &rng).to_vec()).collect();
        assert_ne!(all, next);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        // Any batch can be drawn without those before it.
        assert_eq!(Passes::default().batch(10, 3, 5, &rng), &next[2..5]);
    }
}
