//! What layers need of a machine: buffers, and kernels over them. [`crate::Cpu`] is the implementation; layers
//! are generic over [`Device`], so that one on a GPU can stand beside it.
//!
//! A batch is *packed*: the tokens of all texts one after another, `[tokens, width]`, with offsets. There is no
//! padding. Every kernel gives the same bits at any number of threads, and a text's values do not depend on the
//! texts beside it.

use crate::bag::Bags;
use crate::optim::Rates;

pub use crate::cpu::math::Activation;

/// The shape of self-attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Number of heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// What scores are multiplied with, 1/√`head_dim` as a rule.
    pub scale: f32,
    /// Tokens see only so many tokens to either side; `None`: all of them.
    pub window: Option<usize>,
}

/// Dropout with a counter-based generator: what is dropped follows from the step, the place in the network, the
/// text's name in the batch, the position and the feature; so not from threads, micro-batches or resuming.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The probability of dropping, times 2³².
    pub threshold: u32,
    /// 1 / (1 − probability).
    pub factor: f32,
    /// Of the step and the place in the network.
    pub key: u32,
}

impl Dropout {
    /// Drops with probability `p` in 0..1; `None` for 0.
    pub fn new(p: f32, key: u32) -> Option<Self> {
        let threshold = (f64::from(p) * 2f64.powi(32)).clamp(0.0, f64::from(u32::MAX)) as u32;
        (threshold > 0).then(|| Dropout { threshold, factor: 1.0 / (1.0 - p), key })
    }
}

/// The weights of a linear layer (`outputs` × `inputs`, as PyTorch keeps them).
pub enum Weight<'a, D: Device> {
    /// As they are trained.
    Plain(&'a D::Floats),
    /// As [`Device::prepare`] made them.
    Prepared(&'a D::Prepared),
}

impl<D: Device> Clone for Weight<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Weight<'_, D> {}

/// What a linear layer's product goes through before it is written.
pub struct Finish<'a, D: Device> {
    /// Added to each row.
    pub bias: Option<&'a D::Floats>,
    /// Applied next.
    pub dropout: Option<Dropout>,
    /// Added next: as many rows as the product.
    pub residual: Option<&'a D::Floats>,
    /// Applied last.
    pub norm: Option<NormAfter<'a, D>>,
}

impl<D: Device> Default for Finish<'_, D> {
    fn default() -> Self {
        Finish { bias: None, dropout: None, residual: None, norm: None }
    }
}

/// Parameters of a layer norm.
pub struct Norm<'a, D: Device> {
    /// Factors.
    pub gamma: &'a D::Floats,
    /// Summands.
    pub beta: Option<&'a D::Floats>,
    /// Added to the variance.
    pub eps: f32,
}

impl<D: Device> Clone for Norm<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Norm<'_, D> {}

/// A layer norm, with what its backward needs.
pub struct NormAfter<'a, D: Device> {
    /// The layer norm.
    pub norm: Norm<'a, D>,
    /// Gets the normalised rows before factors and summands.
    pub normal: &'a mut D::Floats,
    /// Gets 1/√(variance + eps) of each row.
    pub scale: &'a mut D::Floats,
}

/// The tables that are summed into a token's embedding.
pub struct Tables<'a, D: Device> {
    /// vocabulary × width
    pub tokens: &'a D::Floats,
    /// positions × width, and the row of a text's first token.
    pub positions: Option<(&'a D::Floats, usize)>,
    /// The row that is added to all tokens (of type 0).
    pub kind: Option<&'a D::Floats>,
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The first token's.
    Cls,
    /// Their mean.
    Mean,
    /// The highest of each feature.
    Max,
    /// Their sum over the root of their number.
    MeanSqrtLen,
    /// Their mean, weighted with 1, 2, 3 …
    WeightedMean,
    /// The last token's.
    LastToken,
}

/// Numbers that the weights of linear layers can have in inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits, as in training.
    #[default]
    F32,
    /// bfloat16 weights and activations, summed in 32 bits.
    Bf16,
    /// 8-bit weights with a factor an output, 8-bit activations with a factor a token, summed in 32 bits.
    Int8,
}

/// A machine's buffers and kernels. Sizes follow from the arguments; outputs are resized to fit.
pub trait Device: Clone + Send + Sync {
    /// A buffer of `f32`.
    type Floats: Send + Sync;
    /// A packed batch.
    type Batch: Send + Sync;
    /// Weights of a linear layer, arranged for products.
    type Prepared: Send + Sync;
    /// A buffer of bfloat16.
    type Halves: Send + Sync;

    /// The same device, whose kernels run on all threads or one. Buffers of both fit both.
    fn with_threads(&self, threads: bool) -> Self;

    /// A buffer with these values.
    fn floats(&self, values: &[f32]) -> Self::Floats;
    /// Number of values in a buffer.
    fn len(&self, floats: &Self::Floats) -> usize;
    /// The values of a buffer.
    fn read(&self, floats: &Self::Floats) -> Vec<f32>;
    /// Overwrites a buffer; it takes the length of `values`.
    fn write(&self, floats: &mut Self::Floats, values: &[f32]);
    /// Makes a buffer `len` long, without a promise of what it holds.
    fn resize(&self, floats: &mut Self::Floats, len: usize);
    /// `len` zeros.
    fn zero(&self, floats: &mut Self::Floats, len: usize);
    /// Makes a buffer `len` long; what is new is zero.
    fn extend(&self, floats: &mut Self::Floats, len: usize);
    /// Copies a buffer.
    fn copy(&self, from: &Self::Floats, to: &mut Self::Floats);
    /// `to += from`
    fn add(&self, from: &Self::Floats, to: &mut Self::Floats);
    /// `to += share · (from − to)`
    fn mix(&self, from: &Self::Floats, share: f32, to: &mut Self::Floats);
    /// Multiplies by a number.
    fn scale(&self, floats: &mut Self::Floats, factor: f32);
    /// Σ x², in double precision.
    fn square_sum(&self, floats: &Self::Floats) -> f64;

    /// A batch of packed texts. `names` tells texts apart in dropout: the same text of a step has the same name
    /// however the step is cut into batches.
    fn batch(&self, texts: &Bags, names: &[u32]) -> Self::Batch;

    /// Arranges weights for [`Weight::Prepared`].
    fn prepare(&self, weight: &Self::Floats, outputs: usize, inputs: usize, p: Precision) -> Self::Prepared;

    /// The sum of a token's embeddings: `out` is tokens × width.
    fn embed(&self, batch: &Self::Batch, tables: &Tables<Self>, width: usize, out: &mut Self::Floats);
    /// Backward of [`Device::embed`] for the token table: the batch's distinct tokens, ascending, and the sum of
    /// `grad`'s rows for each, added to what `rows` and `sums` hold already.
    fn embed_backward(
        &self,
        batch: &Self::Batch,
        grad: &Self::Floats,
        width: usize,
        rows: &mut Vec<u32>,
        sums: &mut Self::Floats,
    );
    /// Backward of [`Device::embed`] for the tables of positions and of the type.
    fn position_backward(
        &self,
        batch: &Self::Batch,
        grad: &Self::Floats,
        positions: Option<(&mut Self::Floats, usize)>,
        kind: Option<&mut Self::Floats>,
    );

    /// `out = finish(x · Wᵀ)`; `x` is rows × `inputs`, and `out` rows × `outputs`.
    fn linear(
        &self,
        batch: &Self::Batch,
        x: &Self::Floats,
        weight: Weight<Self>,
        sizes: (usize, usize),
        finish: Finish<Self>,
        out: &mut Self::Floats,
    );
    /// `pre = x · Wᵀ + bias`, `out = f(pre)`, or f(left half) · right half with `gated`.
    fn linear_activate(
        &self,
        x: &Self::Floats,
        weight: Weight<Self>,
        sizes: (usize, usize),
        bias: Option<&Self::Floats>,
        activation: (Activation, bool),
        pre: &mut Self::Floats,
        out: &mut Self::Floats,
    );
    /// Backward of the activation of [`Device::linear_activate`], of which the caller keeps only `pre`.
    /// Without `gated`: `grad` becomes ∂L/∂pre and `pre` the output. With it, `pre` becomes ∂L/∂pre and `grad` the
    /// output.
    fn activate_backward(
        &self,
        pre: &mut Self::Floats,
        outputs: usize,
        activation: (Activation, bool),
        grad: &mut Self::Floats,
    );
    /// ∂L/∂x of a linear layer: `out = grad · W`, added to `out` with `add`.
    fn linear_backward(
        &self,
        grad: &Self::Floats,
        weight: &Self::Floats,
        sizes: (usize, usize),
        add: bool,
        out: &mut Self::Floats,
    );
    /// Adds ∂L/∂W = gradᵀ · x to `weight_grad`, and the column sums of `grad` to `bias_grad`.
    fn weight_backward(
        &self,
        grad: &Self::Floats,
        x: &Self::Floats,
        sizes: (usize, usize),
        weight_grad: Option<&mut Self::Floats>,
        bias_grad: Option<&mut Self::Floats>,
    );

    /// Drops values of `x` (tokens × width) in place; the same call on gradients is its backward.
    fn drop(&self, batch: &Self::Batch, x: &mut Self::Floats, dropout: Dropout);

    /// Layer norm: `x` becomes the normalised rows, `out` gets the result.
    fn layer_norm(
        &self,
        x: &mut Self::Floats,
        norm: Norm<Self>,
        scale: &mut Self::Floats,
        out: &mut Self::Floats,
    );
    /// The result of a layer norm again, from its normalised rows.
    fn scale_shift(&self, normal: &Self::Floats, norm: Norm<Self>, out: &mut Self::Floats);
    /// Backward of a layer norm: `grad` becomes ∂L/∂x plus `skip`; sums for gamma and beta are added.
    fn layer_norm_backward(
        &self,
        normal: &Self::Floats,
        scale: &Self::Floats,
        norm: Norm<Self>,
        skip: Option<&Self::Floats>,
        grad: &mut Self::Floats,
        gamma_grad: Option<&mut Self::Floats>,
        beta_grad: Option<&mut Self::Floats>,
    );

    /// Rotates queries and keys in place. `table` holds for each position cos and sin of `half` angles.
    fn rotate(
        &self,
        batch: &Self::Batch,
        qkv: &mut Self::Floats,
        shape: AttentionShape,
        table: (&Self::Floats, usize),
        back: bool,
    );
    /// Self-attention: `qkv` is tokens × [query | key | value], `out` tokens × (heads · `head_dim`), `log_sums`
    /// tokens × heads.
    fn attention(
        &self,
        batch: &Self::Batch,
        qkv: &Self::Floats,
        shape: AttentionShape,
        dropout: Option<Dropout>,
        out: &mut Self::Floats,
        log_sums: &mut Self::Floats,
    );
    /// Backward of [`Device::attention`], from what it read and wrote.
    fn attention_backward(
        &self,
        batch: &Self::Batch,
        forward: (&Self::Floats, &Self::Floats, &Self::Floats),
        grad: &Self::Floats,
        shape: AttentionShape,
        dropout: Option<Dropout>,
        grad_qkv: &mut Self::Floats,
    );

    /// One vector a text: `out` is texts × width.
    fn pool(&self, batch: &Self::Batch, x: &Self::Floats, pooling: Pooling, out: &mut Self::Floats);
    /// Backward of [`Device::pool`]: `grad_x` is tokens × width.
    fn pool_backward(
        &self,
        batch: &Self::Batch,
        x: &Self::Floats,
        grad: &Self::Floats,
        pooling: Pooling,
        grad_x: &mut Self::Floats,
    );

    /// One step of AdamW on a whole tensor.
    fn adamw(
        &self,
        weights: &mut Self::Floats,
        grad: &Self::Floats,
        moments: (&mut Self::Floats, &mut Self::Floats),
        rates: Rates,
    );
    /// `len` zeros in bfloat16.
    fn halves(&self, len: usize) -> Self::Halves;
    /// The values of a buffer of bfloat16.
    fn read_halves(&self, halves: &Self::Halves) -> Vec<f32>;
    /// Overwrites a buffer of bfloat16 with values that fit it exactly; it takes their number.
    fn write_halves(&self, halves: &mut Self::Halves, values: &[f32]);
    /// [`Device::adamw`] with moments in bfloat16. They are rounded up or down by chance, in proportion to how near
    /// each is: always to the nearest, a second moment would stand still, whose steps are smaller than half of a
    /// place. `key` is that of the step and the tensor.
    fn adamw_halves(
        &self,
        weights: &mut Self::Floats,
        grad: &Self::Floats,
        moments: (&mut Self::Halves, &mut Self::Halves),
        rates: Rates,
        key: u32,
    );
    /// The same on single rows: row `rows[i]` of the table has its moments in row `slots[i]`, and row `grads[i]`
    /// of `grad` where that is not `u32::MAX` (no gradient).
    fn adamw_rows(
        &self,
        table: &mut Self::Floats,
        rows: (&[u32], &[u32], &[u32]),
        grad: &Self::Floats,
        moments: (&mut Self::Floats, &mut Self::Floats),
        width: usize,
        rates: Rates,
    );
    /// Multiplies the rows of a table by `keep`, but for `except` (ascending).
    fn decay_rows(&self, table: &mut Self::Floats, except: &[u32], rows: usize, width: usize, keep: f32);
}
