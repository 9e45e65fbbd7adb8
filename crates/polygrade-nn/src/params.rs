//! Parameters, gradients and the optimiser's memory of a network, by place.

use crate::device::{Device, Precision};
use crate::optim::AdamW;
use crate::rng::CounterRng;

/// The parameters of a network.
pub struct Params<D: Device> {
    device: D,
    values: Vec<D::Floats>,
    shapes: Vec<Vec<usize>>,
    prepared: Vec<Option<D::Prepared>>,
}

impl<D: Device> Params<D> {
    /// None yet.
    pub fn new(device: &D) -> Self {
        Params { device: device.clone(), values: Vec::new(), shapes: Vec::new(), prepared: Vec::new() }
    }

    /// Adds a parameter; returns its place.
    ///
    /// # Panics
    /// When the number of values is not that of the shape.
    pub fn push(&mut self, shape: &[usize], values: &[f32]) -> usize {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        self.values.push(self.device.floats(values));
        self.shapes.push(shape.to_vec());
        self.prepared.push(None);
        self.values.len() - 1
    }

    /// Number of parameters' places.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Where they are.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// A parameter.
    pub fn value(&self, place: usize) -> &D::Floats {
        &self.values[place]
    }

    /// A parameter, to write. What was prepared of it is thrown away.
    pub fn value_mut(&mut self, place: usize) -> &mut D::Floats {
        self.prepared[place] = None;
        &mut self.values[place]
    }

    /// Its shape.
    pub fn shape(&self, place: usize) -> &[usize] {
        &self.shapes[place]
    }

    /// What [`Params::prepare`] made of it.
    pub fn prepared(&self, place: usize) -> Option<&D::Prepared> {
        self.prepared[place].as_ref()
    }

    /// Arranges the matrices at `places` for inference.
    pub fn prepare(&mut self, places: impl IntoIterator<Item = usize>, precision: Precision) {
        for place in places {
            let [outputs, inputs] = self.shapes[place][..] else { continue };
            self.prepared[place] = Some(self.device.prepare(&self.values[place], outputs, inputs, precision));
        }
    }

    /// Throws away what [`Params::prepare`] made.
    pub fn forget_prepared(&mut self) {
        self.prepared.iter_mut().for_each(|p| *p = None);
    }
}

impl<D: Device> Clone for Params<D> {
    fn clone(&self) -> Self {
        let copy = |f: &D::Floats| {
            let mut out = self.device.floats(&[]);
            self.device.copy(f, &mut out);
            out
        };
        Params {
            device: self.device.clone(),
            values: self.values.iter().map(copy).collect(),
            shapes: self.shapes.clone(),
            prepared: self.values.iter().map(|_| None).collect(),
        }
    }
}

/// A gradient.
enum Grad<D: Device> {
    /// Not wanted: the parameter is frozen.
    Frozen,
    /// Of all values.
    Dense(D::Floats),
    /// Of some rows of a table: ascending row numbers, and a row of values for each.
    Rows(Vec<u32>, D::Floats),
}

/// The gradients of a network, summed since the last [`Grads::clear`].
pub struct Grads<D: Device> {
    device: D,
    grads: Vec<Grad<D>>,
}

impl<D: Device> Grads<D> {
    /// For `params`; those whose place `trained` refuses get none. Places in `tables` are token tables, of which
    /// only some rows get gradients.
    pub fn new(params: &Params<D>, trained: impl Fn(usize) -> bool, tables: &[usize]) -> Self {
        let device = params.device().clone();
        let grads = (0..params.len()).map(|place| match trained(place) {
            false => Grad::Frozen,
            true if tables.contains(&place) => Grad::Rows(Vec::new(), device.floats(&[])),
            true => {
                let mut zeros = device.floats(&[]);
                device.zero(&mut zeros, params.shape(place).iter().product());
                Grad::Dense(zeros)
            }
        });
        Grads { grads: grads.collect(), device }
    }

    /// The lowest place that is trained.
    pub fn lowest(&self) -> usize {
        self.grads.iter().position(|g| !matches!(g, Grad::Frozen)).unwrap_or(self.grads.len())
    }

    /// Whether a place is trained.
    pub fn trained(&self, place: usize) -> bool {
        !matches!(self.grads[place], Grad::Frozen)
    }

    /// Sets all to zero.
    pub fn clear(&mut self) {
        for grad in &mut self.grads {
            match grad {
                Grad::Frozen => {}
                Grad::Dense(values) => {
                    let len = self.device.len(values);
                    self.device.zero(values, len);
                }
                Grad::Rows(rows, values) => {
                    rows.clear();
                    self.device.resize(values, 0);
                }
            }
        }
    }

    /// The gradient of a dense parameter, to add to.
    pub fn dense(&mut self, place: usize) -> Option<&mut D::Floats> {
        match &mut self.grads[place] {
            Grad::Dense(values) => Some(values),
            _ => None,
        }
    }

    /// The gradient of a table, to add to.
    pub fn rows(&mut self, place: usize) -> Option<(&mut Vec<u32>, &mut D::Floats)> {
        match &mut self.grads[place] {
            Grad::Rows(rows, values) => Some((rows, values)),
            _ => None,
        }
    }

    /// The gradients of a weight and its bias.
    pub fn pair(
        &mut self,
        weight: usize,
        bias: Option<usize>,
    ) -> (Option<&mut D::Floats>, Option<&mut D::Floats>) {
        self.pair_of(Some(weight), bias)
    }

    /// The gradients of two dense parameters.
    ///
    /// # Panics
    /// When they are the same.
    pub fn pair_of(
        &mut self,
        a: Option<usize>,
        b: Option<usize>,
    ) -> (Option<&mut D::Floats>, Option<&mut D::Floats>) {
        fn dense<D: Device>(grad: &mut Grad<D>) -> Option<&mut D::Floats> {
            match grad {
                Grad::Dense(values) => Some(values),
                _ => None,
            }
        }
        match (a, b) {
            (Some(a), Some(b)) => {
                let [x, y] = self.grads.get_disjoint_mut([a, b]).expect("two different places");
                (dense(x), dense(y))
            }
            (Some(a), None) => (dense(&mut self.grads[a]), None),
            (None, Some(b)) => (None, dense(&mut self.grads[b])),
            (None, None) => (None, None),
        }
    }

    /// The length of all gradients together.
    pub fn norm(&self) -> f64 {
        let squares = self.grads.iter().map(|g| match g {
            Grad::Frozen => 0.0,
            Grad::Dense(values) | Grad::Rows(_, values) => self.device.square_sum(values),
        });
        squares.sum::<f64>().sqrt()
    }

    /// Multiplies all.
    pub fn scale(&mut self, factor: f32) {
        for grad in &mut self.grads {
            if let Grad::Dense(values) | Grad::Rows(_, values) = grad {
                self.device.scale(values, factor);
            }
        }
    }

    /// A gradient as dense values of the parameter's size; zeros where it is frozen.
    pub fn read(&self, params: &Params<D>, place: usize) -> Vec<f32> {
        let shape = params.shape(place);
        match &self.grads[place] {
            Grad::Frozen => vec![0.0; shape.iter().product()],
            Grad::Dense(values) => self.device.read(values),
            Grad::Rows(rows, values) => {
                let (width, values) = (shape[1], self.device.read(values));
                let mut out = vec![0.0; shape.iter().product()];
                for (i, &row) in rows.iter().enumerate() {
                    out[row as usize * width..][..width].copy_from_slice(&values[i * width..][..width]);
                }
                out
            }
        }
    }
}

/// AdamW's memory of one parameter.
enum Memory<D: Device> {
    None,
    Dense {
        first: D::Floats,
        second: D::Floats,
    },
    /// The same in bfloat16.
    Halves {
        first: D::Halves,
        second: D::Halves,
    },
    /// Of the rows that ever had a gradient; `slots[i]` is the place of the moments of `rows[i]`, which ascend.
    Rows {
        rows: Vec<u32>,
        slots: Vec<u32>,
        first: D::Floats,
        second: D::Floats,
    },
}

/// AdamW over a network. Rows of a token table that never had a gradient have no moments: their step is weight
/// decay alone, so that the result is that of dense moments at a fraction of memory and time.
pub struct Optimizer<D: Device> {
    device: D,
    memory: Vec<Memory<D>>,
}

impl<D: Device> Optimizer<D> {
    /// Empty memory for what `grads` trains. With `halves`, that of dense parameters is kept in bfloat16.
    pub fn new(params: &Params<D>, grads: &Grads<D>, halves: bool) -> Self {
        let device = params.device().clone();
        let memory = grads.grads.iter().enumerate().map(|(place, grad)| match grad {
            Grad::Frozen => Memory::None,
            Grad::Dense(_) => {
                let n = params.shape(place).iter().product();
                let zeros = || {
                    let mut f = device.floats(&[]);
                    device.zero(&mut f, n);
                    f
                };
                match halves {
                    true => Memory::Halves { first: device.halves(n), second: device.halves(n) },
                    false => Memory::Dense { first: zeros(), second: zeros() },
                }
            }
            Grad::Rows(..) => {
                let f = || device.floats(&[]);
                Memory::Rows { rows: Vec::new(), slots: Vec::new(), first: f(), second: f() }
            }
        });
        Optimizer { memory: memory.collect(), device }
    }

    /// One step, counted from 1. `rate` gives the learning rate and whether weight decay applies, by place.
    pub fn step(
        &mut self,
        params: &mut Params<D>,
        grads: &Grads<D>,
        adam: AdamW,
        step: u64,
        rate: impl Fn(usize) -> (f32, bool),
    ) {
        for place in 0..params.len() {
            let (lr, decay) = rate(place);
            let adam = AdamW { weight_decay: if decay { adam.weight_decay } else { 0.0 }, ..adam };
            let rates = adam.rates(lr, step);
            match (&mut self.memory[place], &grads.grads[place]) {
                (Memory::Dense { first, second }, Grad::Dense(grad)) => {
                    self.device.adamw(params.value_mut(place), grad, (first, second), rates);
                }
                (Memory::Halves { first, second }, Grad::Dense(grad)) => {
                    let key = CounterRng::new(step).bits(place as u64) as u32;
                    self.device.adamw_halves(params.value_mut(place), grad, (first, second), rates, key);
                }
                (Memory::Rows { rows, slots, first, second }, Grad::Rows(touched, grad)) => {
                    let (vocab, width) = (params.shape(place)[0], params.shape(place)[1]);
                    grow(&self.device, rows, slots, (first, second), touched, width);
                    let mut at = touched.iter().zip(0u32..).peekable();
                    let which: Vec<u32> = rows
                        .iter()
                        .map(|row| at.next_if(|(t, _)| *t == row).map_or(u32::MAX, |(_, i)| i))
                        .collect();
                    let table = params.value_mut(place);
                    if rates.keep != 1.0 {
                        self.device.decay_rows(table, rows, vocab, width, rates.keep);
                    }
                    self.device.adamw_rows(table, (rows, slots, &which), grad, (first, second), width, rates);
                }
                _ => {}
            }
        }
    }

    /// The memory as named vectors, to save: (place, kind, values). One is copied at a time.
    pub fn save(&self) -> impl Iterator<Item = (usize, &'static str, Vec<f32>)> + '_ {
        self.memory.iter().enumerate().flat_map(move |(place, memory)| {
            let kinds: &'static [&'static str] = match memory {
                Memory::None => &[],
                Memory::Dense { .. } | Memory::Halves { .. } => &["first", "second"],
                Memory::Rows { .. } => &["rows", "slots", "first", "second"],
            };
            kinds.iter().map(move |kind| (place, *kind, self.vector(memory, kind)))
        })
    }

    fn vector(&self, memory: &Memory<D>, kind: &str) -> Vec<f32> {
        // As bits: row numbers above 2²⁴ are not whole in f32.
        let bits = |numbers: &[u32]| numbers.iter().map(|r| f32::from_bits(*r)).collect();
        match (memory, kind) {
            (Memory::Rows { rows, .. }, "rows") => bits(rows),
            (Memory::Rows { slots, .. }, "slots") => bits(slots),
            (Memory::Dense { first, .. } | Memory::Rows { first, .. }, "first") => self.device.read(first),
            (Memory::Dense { second, .. } | Memory::Rows { second, .. }, _) => self.device.read(second),
            (Memory::Halves { first, .. }, "first") => self.device.read_halves(first),
            (Memory::Halves { second, .. }, _) => self.device.read_halves(second),
            (Memory::None, _) => Vec::new(),
        }
    }

    /// Takes back what [`Optimizer::save`] gave, asking `find` for each; false where something does not fit `params`.
    pub fn load(
        &mut self,
        params: &Params<D>,
        mut find: impl FnMut(usize, &str) -> Option<Vec<f32>>,
    ) -> bool {
        for (place, memory) in self.memory.iter_mut().enumerate() {
            match memory {
                Memory::None => {}
                Memory::Dense { first, second } => {
                    for (kind, to) in [("first", first), ("second", second)] {
                        let Some(values) = find(place, kind) else { return false };
                        if values.len() != self.device.len(to) {
                            return false;
                        }
                        self.device.write(to, &values);
                    }
                }
                Memory::Halves { first, second } => {
                    for (kind, to) in [("first", first), ("second", second)] {
                        let Some(values) = find(place, kind) else { return false };
                        if values.len() != self.device.read_halves(to).len() {
                            return false;
                        }
                        self.device.write_halves(to, &values);
                    }
                }
                Memory::Rows { rows, slots, first, second } => {
                    let all = ["rows", "slots", "first", "second"].map(|kind| find(place, kind));
                    let [Some(r), Some(s), Some(f), Some(v)] = all else { return false };
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                    let (new_rows, new_slots) = (bits(&r), bits(&s));
                    let mut places = new_slots.clone();
                    places.sort_unstable();
                    let (vocab, width) = (params.shape(place)[0], params.shape(place)[1]);
                    let ascending = new_rows.windows(2).all(|w| w[0] < w[1]);
                    let inside = new_rows.last().is_none_or(|last| (*last as usize) < vocab);
                    let whole = places.iter().zip(0u32..).all(|(place, i)| *place == i);
                    let sizes = [f.len(), v.len()].iter().all(|n| *n == new_rows.len() * width);
                    if !(ascending && inside && whole && sizes && new_rows.len() == new_slots.len()) {
                        return false;
                    }
                    (*rows, *slots) = (new_rows, new_slots);
                    self.device.write(first, &f);
                    self.device.write(second, &v);
                }
            }
        }
        true
    }
}

/// Gives rows that have their first gradient a place among the moments.
fn grow<D: Device>(
    device: &D,
    rows: &mut Vec<u32>,
    slots: &mut Vec<u32>,
    (first, second): (&mut D::Floats, &mut D::Floats),
    touched: &[u32],
    width: usize,
) {
    let mut next = rows.len() as u32;
    let mut new: Vec<(u32, u32)> = Vec::new();
    for &row in touched {
        if rows.binary_search(&row).is_err() {
            new.push((row, next));
            next += 1;
        }
    }
    if new.is_empty() {
        return;
    }
    new.extend(rows.iter().copied().zip(slots.iter().copied()));
    new.sort_unstable();
    *rows = new.iter().map(|(row, _)| *row).collect();
    *slots = new.iter().map(|(_, slot)| *slot).collect();
    // New memory is zero, and old memory was never more than this.
    device.extend(first, next as usize * width);
    device.extend(second, next as usize * width);
}
