//! The transformer encoder: embeddings, layers of self-attention and feed-forward, norms after each part (BERT,
//! Devlin et al. 2019) or before it (ModernBERT, Warner et al. 2024); forward and hand-written backward.
//!
//! A [`Spec`] says what a model is made of; [`Transformer`] holds no numbers: parameters are in [`Params`] and
//! gradients in [`Grads`], by place. Forward writes what backward needs to a [`Tape`], whose buffers are used
//! again from step to step.

use crate::device::{Activation, AttentionShape, Device, Dropout, Finish, Norm, NormAfter, Tables, Weight};
use crate::params::{Grads, Params};
use crate::rng::CounterRng;

/// Where the order of the tokens comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// A learned table of so many rows; a text's first token takes row `first`.
    Learned {
        /// Rows of the table.
        rows: usize,
        /// Row of the first token (2 in RoBERTa and XLM-R).
        first: usize,
    },
    /// Queries and keys are rotated.
    Rotary,
}

/// What differs between layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    /// Tokens see only so many tokens to either side.
    pub window: Option<usize>,
    /// θ of the rotation, where positions are rotary.
    pub theta: f32,
}

/// What a transformer encoder is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Rows of the token table.
    pub vocab: usize,
    /// Width of the tokens' vectors.
    pub hidden: usize,
    /// Attention heads; `hidden` is a multiple of them.
    pub heads: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// Its activation.
    pub activation: Activation,
    /// Whether it is gated (GeGLU).
    pub gated: bool,
    /// The layers.
    pub layers: Vec<LayerSpec>,
    /// Where the order comes from.
    pub positions: Positions,
    /// Rows of the table of token types, 0 for none.
    pub types: usize,
    /// Whether norms stand before the parts, with one more at the end; else after them.
    pub pre_norm: bool,
    /// Whether norms have summands.
    pub norm_bias: bool,
    /// Whether the projections of attention have biases.
    pub attention_bias: bool,
    /// Whether those of the feed-forward part have.
    pub mlp_bias: bool,
    /// Added to variances.
    pub eps: f32,
    /// Dropout of the parts' outputs in training.
    pub hidden_dropout: f32,
    /// Dropout of attention's probabilities in training.
    pub attention_dropout: f32,
}

/// A parameter's place in the network. Matrices are outputs × inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// Token table.
    Tokens,
    /// Position table.
    Positions,
    /// Type table.
    Types,
    /// Norm of the embeddings.
    EmbeddingNorm(Part),
    /// Query, key and value of a layer, one above the other.
    Qkv(usize, Part),
    /// Output projection of a layer's attention.
    AttentionOut(usize, Part),
    /// Norm of a layer's attention. The first layer of a pre-norm encoder has none.
    AttentionNorm(usize, Part),
    /// First projection of a layer's feed-forward part; gated: [input | gate] one above the other.
    Up(usize, Part),
    /// Second projection.
    Down(usize, Part),
    /// Norm of a layer's feed-forward part.
    MlpNorm(usize, Part),
    /// Last norm of a pre-norm encoder.
    FinalNorm(Part),
}

/// Weight or bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The matrix, or the factors of a norm.
    Weight,
    /// The summands.
    Bias,
}

impl Slot {
    /// The layer it belongs to, embeddings being 0 and the first layer 1; `layers + 1` after the last.
    pub fn depth(self, layers: usize) -> usize {
        match self {
            Slot::Tokens | Slot::Positions | Slot::Types | Slot::EmbeddingNorm(_) => 0,
            Slot::Qkv(i, _) | Slot::AttentionOut(i, _) | Slot::AttentionNorm(i, _) => i + 1,
            Slot::Up(i, _) | Slot::Down(i, _) | Slot::MlpNorm(i, _) => i + 1,
            Slot::FinalNorm(_) => layers + 1,
        }
    }

    /// Whether weight decay leaves it alone: biases and norms.
    pub fn no_decay(self) -> bool {
        match self {
            Slot::Tokens | Slot::Positions | Slot::Types => false,
            Slot::EmbeddingNorm(_) | Slot::AttentionNorm(..) | Slot::MlpNorm(..) | Slot::FinalNorm(_) => true,
            Slot::Qkv(_, p) | Slot::AttentionOut(_, p) | Slot::Up(_, p) | Slot::Down(_, p) => p == Part::Bias,
        }
    }
}

impl Spec {
    /// All parameters with their shapes, in a fixed order: embeddings first, then layer after layer.
    pub fn slots(&self) -> Vec<(Slot, Vec<usize>)> {
        let (h, m) = (self.hidden, self.intermediate);
        let mut out = vec![(Slot::Tokens, vec![self.vocab, h])];
        if let Positions::Learned { rows, .. } = self.positions {
            out.push((Slot::Positions, vec![rows, h]));
        }
        if self.types > 0 {
            out.push((Slot::Types, vec![self.types, h]));
        }
        let norm = |out: &mut Vec<_>, slot: fn(Part) -> Slot| {
            out.push((slot(Part::Weight), vec![h]));
            if self.norm_bias {
                out.push((slot(Part::Bias), vec![h]));
            }
        };
        norm(&mut out, Slot::EmbeddingNorm);
        for i in 0..self.layers.len() {
            let linear =
                |out: &mut Vec<_>, slot: fn(usize, Part) -> Slot, rows: usize, cols: usize, bias: bool| {
                    out.push((slot(i, Part::Weight), vec![rows, cols]));
                    if bias {
                        out.push((slot(i, Part::Bias), vec![rows]));
                    }
                };
            let norm = |out: &mut Vec<_>, slot: fn(usize, Part) -> Slot| {
                out.push((slot(i, Part::Weight), vec![h]));
                if self.norm_bias {
                    out.push((slot(i, Part::Bias), vec![h]));
                }
            };
            linear(&mut out, Slot::Qkv, 3 * h, h, self.attention_bias);
            linear(&mut out, Slot::AttentionOut, h, h, self.attention_bias);
            if !(self.pre_norm && i == 0) {
                norm(&mut out, Slot::AttentionNorm);
            }
            linear(&mut out, Slot::Up, if self.gated { 2 * m } else { m }, h, self.mlp_bias);
            linear(&mut out, Slot::Down, h, m, self.mlp_bias);
            norm(&mut out, Slot::MlpNorm);
        }
        if self.pre_norm {
            norm(&mut out, Slot::FinalNorm);
        }
        out
    }

    fn shape(&self, layer: usize) -> AttentionShape {
        let head_dim = self.hidden / self.heads;
        let scale = 1.0 / (head_dim as f32).sqrt();
        AttentionShape { heads: self.heads, head_dim, scale, window: self.layers[layer].window }
    }
}

/// Places of a layer's parameters in [`Params`].
#[derive(Debug, Clone, Copy)]
struct Linear {
    weight: usize,
    bias: Option<usize>,
    outputs: usize,
    inputs: usize,
}

#[derive(Debug, Clone, Copy)]
struct NormPlace {
    gamma: usize,
    beta: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Layer {
    qkv: Linear,
    attention_out: Linear,
    attention_norm: Option<NormPlace>,
    up: Linear,
    down: Linear,
    mlp_norm: NormPlace,
}

/// A transformer encoder, without its numbers.
#[derive(Debug, Clone)]
pub struct Transformer {
    spec: Spec,
    tokens: usize,
    positions: Option<usize>,
    types: Option<usize>,
    embedding_norm: NormPlace,
    layers: Vec<Layer>,
    final_norm: Option<NormPlace>,
}

/// Angles of the rotation: for each θ in use a table of positions × [cos | sin].
struct Rotations<D: Device> {
    theta: f32,
    positions: usize,
    table: D::Floats,
}

/// What forward keeps of a layer.
struct LayerTape<D: Device> {
    qkv: D::Floats,
    context: D::Floats,
    log_sums: D::Floats,
    attention_normal: D::Floats,
    attention_scale: D::Floats,
    pre: D::Floats,
    mlp_normal: D::Floats,
    mlp_scale: D::Floats,
}

/// The buffers of a forward and its backward. They grow to what the largest batch needs and stay.
pub struct Tape<D: Device> {
    device: D,
    embedding_normal: D::Floats,
    embedding_scale: D::Floats,
    layers: Vec<LayerTape<D>>,
    /// What went into each layer, where layers are run again.
    inputs: Vec<D::Floats>,
    longest: usize,
    final_normal: D::Floats,
    final_scale: D::Floats,
    /// The tokens' vectors after the last layer.
    pub hidden: D::Floats,
    stream: D::Floats,
    normed: D::Floats,
    wide: D::Floats,
    grad_wide: D::Floats,
    grad_qkv: D::Floats,
    grad_a: D::Floats,
    grad_b: D::Floats,
    rotations: Vec<Rotations<D>>,
}

impl<D: Device> Tape<D> {
    /// Empty buffers.
    pub fn new(device: &D) -> Self {
        let f = || device.floats(&[]);
        Tape {
            device: device.clone(),
            embedding_normal: f(),
            embedding_scale: f(),
            layers: Vec::new(),
            inputs: Vec::new(),
            longest: 0,
            final_normal: f(),
            final_scale: f(),
            hidden: f(),
            stream: f(),
            normed: f(),
            wide: f(),
            grad_wide: f(),
            grad_qkv: f(),
            grad_a: f(),
            grad_b: f(),
            rotations: Vec::new(),
        }
    }

    fn layer(&mut self, i: usize) {
        while self.layers.len() <= i {
            let f = || self.device.floats(&[]);
            self.layers.push(LayerTape {
                qkv: f(),
                context: f(),
                log_sums: f(),
                attention_normal: f(),
                attention_scale: f(),
                pre: f(),
                mlp_normal: f(),
                mlp_scale: f(),
            });
        }
    }

    /// The table of a θ for texts of up to `longest` tokens.
    fn rotation(&mut self, theta: f32, half: usize, longest: usize) -> usize {
        let known = self.rotations.iter().position(|r| r.theta == theta);
        if let Some(i) = known.filter(|i| self.rotations[*i].positions >= longest) {
            return i;
        }
        let positions = longest.next_power_of_two().max(64);
        let mut table = vec![0.0f32; positions * 2 * half];
        for (position, row) in table.chunks_exact_mut(2 * half).enumerate() {
            for i in 0..half {
                // In f32 as in PyTorch, whose rounding of large angles is part of the model.
                let frequency = 1.0 / theta.powf(2.0 * i as f32 / (2 * half) as f32);
                let angle = f64::from(position as f32 * frequency);
                (row[i], row[half + i]) = (angle.cos() as f32, angle.sin() as f32);
            }
        }
        let new = Rotations { theta, positions, table: self.device.floats(&table) };
        match known {
            Some(i) => {
                self.rotations[i] = new;
                i
            }
            None => {
                self.rotations.push(new);
                self.rotations.len() - 1
            }
        }
    }
}

/// How a forward is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Nothing is kept for a backward.
    Inference,
    /// Backward will follow. Dropout is on with the key of the step, off without one.
    Training {
        /// The key.
        dropout: Option<u64>,
        /// Keeps only what goes into each layer, and runs the layer again in backward (Chen et al. 2016): a fraction
        /// of the memory for about a third more time, with the same bits.
        recompute: bool,
    },
}

impl Mode {
    fn recomputes(self) -> bool {
        matches!(self, Mode::Training { recompute: true, .. })
    }

    /// The set of buffers that a layer uses: all layers share one where none is kept for a backward.
    fn kept(self, layer: usize) -> usize {
        if self == Mode::Inference || self.recomputes() { 0 } else { layer }
    }
}

fn norm_of<'a, D: Device>(params: &'a Params<D>, place: NormPlace, eps: f32) -> Norm<'a, D> {
    Norm { gamma: params.value(place.gamma), beta: place.beta.map(|b| params.value(b)), eps }
}

fn weight_of<'a, D: Device>(params: &'a Params<D>, l: &Linear) -> Weight<'a, D> {
    match params.prepared(l.weight) {
        Some(p) => Weight::Prepared(p),
        None => Weight::Plain(params.value(l.weight)),
    }
}

/// Kinds of places where values are dropped, for keys.
#[derive(Clone, Copy)]
enum Site {
    Embedding,
    Attention,
    AttentionOut,
    MlpOut,
}

impl Transformer {
    /// The encoder of a spec whose parameters are in `Params` in the order of [`Spec::slots`], from `first` on.
    pub fn new(spec: Spec, first: usize) -> Self {
        let slots = spec.slots();
        let find = |slot: Slot| slots.iter().position(|(s, _)| *s == slot).map(|i| first + i);
        let at = |slot: Slot| find(slot).unwrap_or(usize::MAX);
        let norm = |slot: &dyn Fn(Part) -> Slot| NormPlace {
            gamma: at(slot(Part::Weight)),
            beta: find(slot(Part::Bias)),
        };
        let linear = |slot: &dyn Fn(Part) -> Slot, outputs: usize, inputs: usize| Linear {
            weight: at(slot(Part::Weight)),
            bias: find(slot(Part::Bias)),
            outputs,
            inputs,
        };
        let (h, m) = (spec.hidden, spec.intermediate);
        let layers = (0..spec.layers.len()).map(|i| Layer {
            qkv: linear(&|p| Slot::Qkv(i, p), 3 * h, h),
            attention_out: linear(&|p| Slot::AttentionOut(i, p), h, h),
            attention_norm: find(Slot::AttentionNorm(i, Part::Weight))
                .map(|_| norm(&|p| Slot::AttentionNorm(i, p))),
            up: linear(&|p| Slot::Up(i, p), if spec.gated { 2 * m } else { m }, h),
            down: linear(&|p| Slot::Down(i, p), h, m),
            mlp_norm: norm(&|p| Slot::MlpNorm(i, p)),
        });
        Transformer {
            tokens: at(Slot::Tokens),
            positions: find(Slot::Positions),
            types: find(Slot::Types),
            embedding_norm: norm(&Slot::EmbeddingNorm),
            layers: layers.collect(),
            final_norm: spec.pre_norm.then(|| norm(&Slot::FinalNorm)),
            spec,
        }
    }

    /// What it is made of.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    fn dropout(&self, mode: Mode, layer: usize, site: Site) -> Option<Dropout> {
        let Mode::Training { dropout: Some(key), .. } = mode else { return None };
        let p = match site {
            Site::Attention => self.spec.attention_dropout,
            _ => self.spec.hidden_dropout,
        };
        let key = CounterRng::new(key).bits((layer as u64) << 8 | site as u64) as u32;
        Dropout::new(p, key)
    }

    /// The tokens' vectors of a batch whose longest text has `longest` tokens, in [`Tape::hidden`].
    pub fn forward<D: Device>(
        &self,
        params: &Params<D>,
        batch: &D::Batch,
        longest: usize,
        mode: Mode,
        tape: &mut Tape<D>,
    ) {
        let device = tape.device.clone();
        let eps = self.spec.eps;
        let tables = Tables {
            tokens: params.value(self.tokens),
            positions: match self.spec.positions {
                Positions::Learned { first, .. } => self.positions.map(|p| (params.value(p), first)),
                Positions::Rotary => None,
            },
            kind: self.types.map(|t| params.value(t)),
        };
        device.embed(batch, &tables, self.spec.hidden, &mut tape.embedding_normal);
        let norm = norm_of(params, self.embedding_norm, eps);
        device.layer_norm(&mut tape.embedding_normal, norm, &mut tape.embedding_scale, &mut tape.hidden);
        if let Some(d) = self.dropout(mode, 0, Site::Embedding) {
            device.drop(batch, &mut tape.hidden, d);
        }
        tape.longest = longest;
        for i in 0..self.layers.len() {
            let kept = mode.kept(i);
            tape.layer(kept);
            if mode.recomputes() {
                while tape.inputs.len() <= i {
                    tape.inputs.push(device.floats(&[]));
                }
                device.copy(&tape.hidden, &mut tape.inputs[i]);
            }
            self.layer_forward(&device, params, batch, mode, (i, kept), tape);
        }
        if let Some(place) = self.final_norm {
            let norm = norm_of(params, place, eps);
            std::mem::swap(&mut tape.final_normal, &mut tape.hidden);
            device.layer_norm(&mut tape.final_normal, norm, &mut tape.final_scale, &mut tape.hidden);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn layer_forward<D: Device>(
        &self,
        device: &D,
        params: &Params<D>,
        batch: &D::Batch,
        mode: Mode,
        (i, kept): (usize, usize),
        tape: &mut Tape<D>,
    ) {
        let (layer, spec, longest) = (&self.layers[i], &self.spec, tape.longest);
        let shape = spec.shape(i);
        let half = shape.head_dim / 2;
        let rotation = matches!(spec.positions, Positions::Rotary)
            .then(|| tape.rotation(spec.layers[i].theta, half, longest));
        let t = &mut tape.layers[kept];
        let sizes = |l: &Linear| (l.outputs, l.inputs);
        let bias = |l: &Linear| l.bias.map(|b| params.value(b));

        // Pre-norm: `hidden` is the residual stream and `normed` what the part reads; post-norm: both are `hidden`.
        let input = match layer.attention_norm.filter(|_| spec.pre_norm) {
            None => &tape.hidden,
            Some(place) => {
                device.copy(&tape.hidden, &mut t.attention_normal);
                let norm = norm_of(params, place, spec.eps);
                device.layer_norm(&mut t.attention_normal, norm, &mut t.attention_scale, &mut tape.normed);
                &tape.normed
            }
        };
        let plain = Finish { bias: bias(&layer.qkv), ..Finish::default() };
        device.linear(batch, input, weight_of(params, &layer.qkv), sizes(&layer.qkv), plain, &mut t.qkv);
        if let Some(r) = rotation {
            device.rotate(batch, &mut t.qkv, shape, (&tape.rotations[r].table, half), false);
        }
        let dropout = self.dropout(mode, i + 1, Site::Attention);
        device.attention(batch, &t.qkv, shape, dropout, &mut t.context, &mut t.log_sums);

        let dropout = self.dropout(mode, i + 1, Site::AttentionOut);
        let out = &layer.attention_out;
        let mut finish = Finish { bias: bias(out), dropout, residual: Some(&tape.hidden), norm: None };
        if !spec.pre_norm {
            finish.norm = layer.attention_norm.map(|place| NormAfter {
                norm: norm_of(params, place, spec.eps),
                normal: &mut t.attention_normal,
                scale: &mut t.attention_scale,
            });
        }
        device.linear(batch, &t.context, weight_of(params, out), sizes(out), finish, &mut tape.stream);

        let input = if spec.pre_norm {
            device.copy(&tape.stream, &mut t.mlp_normal);
            let norm = norm_of(params, layer.mlp_norm, spec.eps);
            device.layer_norm(&mut t.mlp_normal, norm, &mut t.mlp_scale, &mut tape.normed);
            &tape.normed
        } else {
            &tape.stream
        };
        let (up, down) = (&layer.up, &layer.down);
        let kind = (spec.activation, spec.gated);
        device.linear_activate(
            input,
            weight_of(params, up),
            sizes(up),
            bias(up),
            kind,
            &mut t.pre,
            &mut tape.wide,
        );
        let dropout = self.dropout(mode, i + 1, Site::MlpOut);
        let mut finish = Finish { bias: bias(down), dropout, residual: Some(&tape.stream), norm: None };
        if !spec.pre_norm {
            finish.norm = Some(NormAfter {
                norm: norm_of(params, layer.mlp_norm, spec.eps),
                normal: &mut t.mlp_normal,
                scale: &mut t.mlp_scale,
            });
        }
        device.linear(batch, &tape.wide, weight_of(params, down), sizes(down), finish, &mut tape.hidden);
    }

    /// Gradients from ∂L/∂hidden, which is used up, after a [`Transformer::forward`] in training mode on the same
    /// batch. Below the lowest parameter that `grads` wants nothing is computed.
    pub fn backward<D: Device>(
        &self,
        params: &Params<D>,
        batch: &D::Batch,
        mode: Mode,
        tape: &mut Tape<D>,
        grad: &mut D::Floats,
        grads: &mut Grads<D>,
    ) {
        let device = tape.device.clone();
        let eps = self.spec.eps;
        if let Some(place) = self.final_norm {
            let norm = norm_of(params, place, eps);
            let (gamma, beta) = grads.pair(place.gamma, place.beta);
            device.layer_norm_backward(&tape.final_normal, &tape.final_scale, norm, None, grad, gamma, beta);
        }
        let lowest = grads.lowest();
        for i in (0..self.layers.len()).rev() {
            if self.layer_range(i).end <= lowest {
                return;
            }
            if mode.recomputes() {
                device.copy(&tape.inputs[i], &mut tape.hidden);
                self.layer_forward(&device, params, batch, mode, (i, mode.kept(i)), tape);
            }
            self.layer_backward(&device, params, batch, mode, i, tape, grad, grads);
        }
        if let Some(d) = self.dropout(mode, 0, Site::Embedding) {
            device.drop(batch, grad, d);
        }
        let norm = norm_of(params, self.embedding_norm, eps);
        let place = self.embedding_norm;
        let (gamma, beta) = grads.pair(place.gamma, place.beta);
        device.layer_norm_backward(
            &tape.embedding_normal,
            &tape.embedding_scale,
            norm,
            None,
            grad,
            gamma,
            beta,
        );
        if let Some((rows, sums)) = grads.rows(self.tokens) {
            device.embed_backward(batch, grad, self.spec.hidden, rows, sums);
        }
        let first = match self.spec.positions {
            Positions::Learned { first, .. } => first,
            Positions::Rotary => 0,
        };
        let (positions, types) = grads.pair_of(self.positions, self.types);
        device.position_backward(batch, grad, positions.map(|p| (p, first)), types);
    }

    /// Places of a layer's parameters.
    fn layer_range(&self, i: usize) -> std::ops::Range<usize> {
        let start = self.layers[i].qkv.weight;
        let end = self.layers.get(i + 1).map(|l| l.qkv.weight);
        let last = self.layers[i].mlp_norm;
        start..end.unwrap_or(last.beta.unwrap_or(last.gamma) + 1)
    }

    #[allow(clippy::too_many_arguments)]
    fn layer_backward<D: Device>(
        &self,
        device: &D,
        params: &Params<D>,
        batch: &D::Batch,
        mode: Mode,
        i: usize,
        tape: &mut Tape<D>,
        grad: &mut D::Floats,
        grads: &mut Grads<D>,
    ) {
        let (layer, spec) = (&self.layers[i], &self.spec);
        let shape = spec.shape(i);
        let half = shape.head_dim / 2;
        let rotation = self.rotation_of(i, tape);
        let sizes = |l: &Linear| (l.outputs, l.inputs);
        let norm = |place| norm_of(params, place, spec.eps);

        // What the layer read: the norm's result below it, again.
        let (below, t) = tape.layers.split_at_mut(mode.kept(i));
        let t = &mut t[0];

        // Feed-forward. `grad` is ∂L/∂(the layer's output).
        if !spec.pre_norm {
            let (gamma, beta) = grads.pair(layer.mlp_norm.gamma, layer.mlp_norm.beta);
            let n = norm(layer.mlp_norm);
            device.layer_norm_backward(&t.mlp_normal, &t.mlp_scale, n, None, grad, gamma, beta);
        }
        let through = match self.dropout(mode, i + 1, Site::MlpOut) {
            None => &*grad,
            Some(d) => {
                device.copy(grad, &mut tape.grad_a);
                device.drop(batch, &mut tape.grad_a, d);
                &tape.grad_a
            }
        };
        let (up, down) = (&layer.up, &layer.down);
        device.linear_backward(through, params.value(down.weight), sizes(down), false, &mut tape.grad_wide);
        device.activate_backward(&mut t.pre, up.outputs, (spec.activation, spec.gated), &mut tape.grad_wide);
        // Gated or not, one of the two holds the activation's value now and the other ∂L/∂pre.
        let (value, grad_pre) =
            if spec.gated { (&tape.grad_wide, &t.pre) } else { (&t.pre, &tape.grad_wide) };
        let (w, b) = grads.pair(down.weight, down.bias);
        device.weight_backward(through, value, sizes(down), w, b);
        let n = match spec.pre_norm {
            true => (&t.mlp_normal, norm(layer.mlp_norm)),
            false => match layer.attention_norm {
                Some(place) => (&t.attention_normal, norm(place)),
                None => unreachable!("post-norm layers have both norms"),
            },
        };
        device.scale_shift(n.0, n.1, &mut tape.normed);
        let (w, b) = grads.pair(up.weight, up.bias);
        device.weight_backward(grad_pre, &tape.normed, sizes(up), w, b);
        if spec.pre_norm {
            device.linear_backward(grad_pre, params.value(up.weight), sizes(up), false, &mut tape.grad_b);
            let (gamma, beta) = grads.pair(layer.mlp_norm.gamma, layer.mlp_norm.beta);
            let n = norm(layer.mlp_norm);
            device.layer_norm_backward(
                &t.mlp_normal,
                &t.mlp_scale,
                n,
                Some(grad),
                &mut tape.grad_b,
                gamma,
                beta,
            );
            std::mem::swap(grad, &mut tape.grad_b);
        } else {
            device.linear_backward(grad_pre, params.value(up.weight), sizes(up), true, grad);
            if let Some(place) = layer.attention_norm {
                let (gamma, beta) = grads.pair(place.gamma, place.beta);
                let n = norm(place);
                device.layer_norm_backward(
                    &t.attention_normal,
                    &t.attention_scale,
                    n,
                    None,
                    grad,
                    gamma,
                    beta,
                );
            }
        }

        // Attention. `grad` is ∂L/∂(the stream after attention's sum).
        let through = match self.dropout(mode, i + 1, Site::AttentionOut) {
            None => &*grad,
            Some(d) => {
                device.copy(grad, &mut tape.grad_a);
                device.drop(batch, &mut tape.grad_a, d);
                &tape.grad_a
            }
        };
        let out = &layer.attention_out;
        let (w, b) = grads.pair(out.weight, out.bias);
        device.weight_backward(through, &t.context, sizes(out), w, b);
        device.linear_backward(through, params.value(out.weight), sizes(out), false, &mut tape.grad_b);
        let dropout = self.dropout(mode, i + 1, Site::Attention);
        let forward = (&t.qkv, &t.context, &t.log_sums);
        device.attention_backward(batch, forward, &tape.grad_b, shape, dropout, &mut tape.grad_qkv);
        if let Some(r) = rotation {
            device.rotate(batch, &mut tape.grad_qkv, shape, (&tape.rotations[r].table, half), true);
        }
        // The layer's input, computed again from the norm below it.
        match (spec.pre_norm, layer.attention_norm, below.last()) {
            (true, Some(place), _) => {
                device.scale_shift(&t.attention_normal, norm(place), &mut tape.normed);
            }
            _ if mode.recomputes() => device.copy(&tape.inputs[i], &mut tape.normed),
            (false, _, Some(b)) => {
                device.scale_shift(&b.mlp_normal, norm(self.layers[i - 1].mlp_norm), &mut tape.normed);
            }
            _ => {
                device.scale_shift(&tape.embedding_normal, norm(self.embedding_norm), &mut tape.normed);
                if let Some(d) = self.dropout(mode, 0, Site::Embedding) {
                    device.drop(batch, &mut tape.normed, d);
                }
            }
        }
        let qkv = &layer.qkv;
        let (w, b) = grads.pair(qkv.weight, qkv.bias);
        device.weight_backward(&tape.grad_qkv, &tape.normed, sizes(qkv), w, b);
        match layer.attention_norm.filter(|_| spec.pre_norm) {
            None => device.linear_backward(&tape.grad_qkv, params.value(qkv.weight), sizes(qkv), true, grad),
            Some(place) => {
                let weight = params.value(qkv.weight);
                device.linear_backward(&tape.grad_qkv, weight, sizes(qkv), false, &mut tape.grad_b);
                let (gamma, beta) = grads.pair(place.gamma, place.beta);
                device.layer_norm_backward(
                    &t.attention_normal,
                    &t.attention_scale,
                    norm(place),
                    Some(grad),
                    &mut tape.grad_b,
                    gamma,
                    beta,
                );
                std::mem::swap(grad, &mut tape.grad_b);
            }
        }
    }

    fn rotation_of<D: Device>(&self, i: usize, tape: &Tape<D>) -> Option<usize> {
        let theta = self.spec.layers[i].theta;
        matches!(self.spec.positions, Positions::Rotary)
            .then(|| tape.rotations.iter().position(|r| r.theta == theta))
            .flatten()
    }
}
