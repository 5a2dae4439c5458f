//! Elements in blocks: axes split, put in another order and merged; and arrays repeated as tiles.

use super::array::FloatArray;
use super::broadcast::{expand, sum_to};
use super::function::{Arguments, Evaluated, Function, Misfit, operand};
use super::moves::{first_pull_back, permuted};

/// How axes are split and merged.
pub struct AxisBlocks {
    /// Extents once axes are split.
    pub split: Vec<usize>,
    /// The order of those axes afterwards.
    pub order: Vec<usize>,
    /// Extents once they are merged.
    pub merged: Vec<usize>,
}

/// Axes split, put in another order and merged, by what the extents say.
pub struct Rearrangement<F> {
    /// How; `None` where the extents do not fit.
    pub blocks: F,
}

/// The array repeated along each axis as often as the second operand says.
pub struct Tiling;

impl<F: Fn(&[usize]) -> Option<AxisBlocks> + Send + Sync> Rearrangement<F> {
    fn of(&self, x: &FloatArray) -> Result<AxisBlocks, Misfit> {
        let fits = |blocks: &AxisBlocks| {
            let count = |dims: &[usize]| dims.iter().product::<usize>();
            count(&blocks.split) == x.data.len() && count(&blocks.merged) == x.data.len()
        };
        let blocks = (self.blocks)(&x.dims).filter(fits);
        blocks.ok_or_else(|| Misfit(format!("no blocks in {:?}", x.dims)))
    }
}

impl<F: Fn(&[usize]) -> Option<AxisBlocks> + Send + Sync> Function for Rearrangement<F> {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let x = operand(inputs, 0)?;
        let blocks = self.of(x)?;
        let split = x.clone().reshaped(blocks.split);
        Ok(permuted(&split, &blocks.order).reshaped(blocks.merged))
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        first_pull_back(point, wanted, |x| {
            let blocks = self.of(x).ok()?;
            let (mut back, mut dims) = (vec![0; blocks.order.len()], Vec::new());
            for (to, from) in blocks.order.iter().enumerate() {
                back[*from] = to;
                dims.push(blocks.split[*from]);
            }
            let moved = permuted(&point.gradient.clone().reshaped(dims), &back);
            Some(moved.reshaped(x.dims.clone()))
        })
    }
}

impl Tiling {
    /// Extents with an axis of 1 before each, the same with as many as there are tiles, and those of the result.
    fn dims(inputs: &Arguments) -> Result<[Vec<usize>; 3], Misfit> {
        let (x, repeats) = (operand(inputs, 0)?, operand(inputs, 1)?.integers());
        if repeats.len() != x.dims.len() || repeats.iter().any(|repeat| *repeat < 1) {
            return Err(Misfit(format!("{:?} in tiles of {repeats:?}", x.dims)));
        }
        let pairs = || {
            x.dims
                .iter()
                .zip(repeats.iter().map(|repeat| *repeat as usize))
        };
        Ok([
            pairs().flat_map(|(dim, _)| [1, *dim]).collect(),
            pairs().flat_map(|(dim, repeat)| [repeat, *dim]).collect(),
            pairs().map(|(dim, repeat)| dim * repeat).collect(),
        ])
    }
}

impl Function for Tiling {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let [alone, tiled, dims] = Self::dims(inputs)?;
        let x = operand(inputs, 0)?.clone().reshaped(alone);
        Ok(expand(&x, &tiled)?.reshaped(dims))
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        first_pull_back(point, wanted, |x| {
            let [alone, tiled, _] = Self::dims(point.inputs).ok()?;
            let sums = sum_to(point.gradient.clone().reshaped(tiled), &alone);
            Some(sums.reshaped(x.dims.clone()))
        })
    }
}
