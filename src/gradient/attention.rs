//! Attention of several heads in one function (Vaswani et al., *Attention is all you need*, 2017).

use super::array::FloatArray;
use super::broadcast::{sum_to, zip};
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};
use super::moves::permuted;
use super::product::MatMul;

/// softmax(q · kᵀ · scale + bias) · v, head by head. Operands: q (batch × rows × width), k and v (batch × positions × width), then
/// what is added to the scores (as it broadcasts to batch × heads × rows × positions), then which positions are seen (batch ×
/// positions, zero where one is not).
#[derive(Clone, Debug)]
pub struct HeadAttention {
    /// Heads, which are next to each other in the widths.
    pub heads: usize,
    /// What scores are multiplied by; `None`: one over the root of a head's width.
    pub scale: Option<f32>,
    /// What is added to the scores of positions that are not seen.
    pub unseen: f32,
}

/// Heads apart, and the weights of the positions.
struct AttentionParts {
    q: FloatArray,
    /// With rows and columns exchanged.
    k: FloatArray,
    v: FloatArray,
    weights: FloatArray,
    scale: f32,
}

const BY_HEAD: [usize; 4] = [0, 2, 1, 3];
const TURNED: [usize; 4] = [0, 1, 3, 2];

impl HeadAttention {
    /// Batch × heads × rows × a head's width.
    fn apart(&self, x: &FloatArray) -> Result<FloatArray, Misfit> {
        match x.dims[..] {
            [batch, rows, width] if self.heads > 0 && width % self.heads == 0 => {
                let split = vec![batch, rows, self.heads, width / self.heads];
                Ok(permuted(&x.clone().reshaped(split), &BY_HEAD))
            }
            _ => Err(Misfit(format!("{:?} has not {} heads", x.dims, self.heads))),
        }
    }

    /// The transpose of that.
    fn together(x: &FloatArray) -> FloatArray {
        let moved = permuted(x, &BY_HEAD);
        let dims = vec![moved.dims[0], moved.dims[1], moved.dims[2] * moved.dims[3]];
        moved.reshaped(dims)
    }

    fn parts(&self, inputs: &Arguments) -> Result<AttentionParts, Misfit> {
        let [q, k, v] = [0, 1, 2].map(|at| operand(inputs, at).and_then(|x| self.apart(x)));
        let (q, k, v) = (q?, permuted(&k?, &TURNED), v?);
        let scale = self.scale.unwrap_or(1.0 / (q.dims[3].max(1) as f32).sqrt());
        let mut scores = MatMul
            .value(&[Some(&q), Some(&k)])?
            .map(|score| score * scale);
        if let Some(bias) = inputs.get(3).copied().flatten() {
            scores = zip(&scores, bias, |score, bias| score + bias)?;
        }
        if let Some(seen) = inputs.get(4).copied().flatten() {
            let [batch, positions] = seen.dims[..] else {
                return Err(Misfit(format!(
                    "{:?} for which positions are seen",
                    seen.dims
                )));
            };
            let added = seen.map(|seen| if seen == 0.0 { self.unseen } else { 0.0 });
            let added = added.reshaped(vec![batch, 1, 1, positions]);
            scores = zip(&scores, &added, |score, added| score + added)?;
        }
        let row = scores.dims[3].max(1);
        for row in scores.data.chunks_mut(row) {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut()
                .for_each(|score| *score = (*score - most).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|weight| *weight /= sum);
        }
        Ok(AttentionParts {
            q,
            k,
            v,
            weights: scores,
            scale,
        })
    }
}

/// The derivative by scores from that by weights: w · (g − Σ g · w), row by row.
fn by_scores(weights: &FloatArray, mut gradient: FloatArray) -> FloatArray {
    let row = weights.dims.last().copied().unwrap_or(1).max(1);
    let rows = gradient.data.chunks_mut(row).zip(weights.data.chunks(row));
    for (gradient, weights) in rows {
        let along: f32 = gradient.iter().zip(weights).map(|(g, w)| g * w).sum();
        let pairs = gradient.iter_mut().zip(weights);
        pairs.for_each(|(g, w)| *g = w * (*g - along));
    }
    gradient
}

/// Both derivatives of a product of stacks of matrices.
fn product_back(a: &FloatArray, b: &FloatArray, gradient: &FloatArray) -> Option<[FloatArray; 2]> {
    let operands = [Some(a), Some(b)];
    let point = Evaluated {
        inputs: &operands,
        output: gradient,
        gradient,
    };
    let pulled: Option<Vec<FloatArray>> = MatMul
        .pull_back(&point, &[true, true])
        .into_iter()
        .collect();
    pulled?.try_into().ok()
}

impl Function for HeadAttention {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let parts = self.parts(inputs)?;
        let heads = MatMul.value(&[Some(&parts.weights), Some(&parts.v)])?;
        Ok(Self::together(&heads))
    }

    fn work(&self, inputs: &Arguments, output: &FloatArray) -> usize {
        let positions = inputs.get(1).copied().flatten();
        let positions = positions.and_then(|k| k.dims.get(1)).copied();
        2 * output.data.len() * positions.unwrap_or(1)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let back = || {
            let parts = self.parts(point.inputs).ok()?;
            let gradient = self.apart(point.gradient).ok()?;
            let [by_weights, by_v] = product_back(&parts.weights, &parts.v, &gradient)?;
            let by_scores = by_scores(&parts.weights, by_weights);
            let by_bias = point.input(3).filter(|_| wants(wanted, 3));
            let by_bias = by_bias.map(|bias| sum_to(by_scores.clone(), &bias.dims));
            let scaled = by_scores.map(|gradient| gradient * parts.scale);
            let [by_q, by_k] = product_back(&parts.q, &parts.k, &scaled)?;
            let by_k = permuted(&by_k, &TURNED);
            let all = [by_q, by_k, by_v].map(|array| Self::together(&array));
            let own = all.into_iter().enumerate();
            let own = own.map(|(at, array)| Some(array).filter(|_| wants(wanted, at)));
            Some(own.chain([by_bias]).collect())
        };
        back().unwrap_or_default()
    }
}
