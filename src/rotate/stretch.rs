//! Where the elements of a class lie in a tensor.

use super::find::{LinearSpace, SpaceHolder};
use crate::analysis::{Analysis, ClassId, PieceAt};

/// The stretches of a tensor that run over the space once each, block by block.
pub(super) struct Stretches {
    /// By block: where the elements of each stretch lie, as a list of offsets and an offset to all of them.
    of: Vec<Vec<(usize, usize)>>,
    lists: Vec<Vec<usize>>,
}

/// One index of an axis: its offset and what it adds to the number of the block.
type AxisStep = (usize, usize);

impl Stretches {
    /// Those of a tensor of these dims. `None`: the dims are others than the analysis says.
    pub fn of(
        analysis: &Analysis,
        space: &LinearSpace,
        holder: &SpaceHolder,
        dims: &[usize],
    ) -> Option<Self> {
        let id = analysis.spaces.axis(holder.value, holder.axis)?;
        let stride = |axis: usize| dims[axis + 1..].iter().product::<usize>();
        let numbers = BlockNumbers::new(analysis, space);
        let (lists, numbered) = numbers.lists((id, holder.piece), stride(holder.axis))?;
        let length = *dims.get(holder.axis)? * stride(holder.axis);
        if lists.iter().flatten().any(|offset| *offset >= length) {
            return None;
        }
        let mut others: Vec<AxisStep> = vec![(0, 0)];
        for (axis, extent) in dims.iter().enumerate() {
            if axis == holder.axis {
                continue;
            }
            let beside = analysis.spaces.axis(holder.value, axis)?;
            let steps = numbers.steps(beside, *extent, stride(axis))?;
            others = others
                .iter()
                .flat_map(|(offset, block)| {
                    steps
                        .iter()
                        .map(move |(more, part)| (offset + more, block + part))
                })
                .collect();
        }
        let mut of = vec![Vec::new(); numbers.count];
        for (list, block) in numbered.iter().enumerate() {
            for (offset, part) in &others {
                of.get_mut(block + part)?.push((list, *offset));
            }
        }
        Some(Stretches { of, lists })
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.of.len()
    }

    /// How many stretches the fewest of any block are.
    pub fn count(&self) -> usize {
        self.of.iter().map(Vec::len).min().unwrap_or(0)
    }

    /// The places of the elements of one stretch of a block.
    pub fn places(&self, block: usize, at: usize) -> impl Iterator<Item = usize> + '_ {
        let (list, offset) = self.of[block][at];
        self.lists[list].iter().map(move |place| place + offset)
    }

    /// The number of stretches of one block.
    pub fn count_of(&self, block: usize) -> usize {
        self.of[block].len()
    }
}

/// How blocks are numbered by the elements of the classes beside.
struct BlockNumbers<'a> {
    analysis: &'a Analysis,
    class: ClassId,
    /// Class, extent, and what one element adds.
    weights: Vec<(ClassId, u64, usize)>,
    count: usize,
}

impl<'a> BlockNumbers<'a> {
    fn new(analysis: &'a Analysis, space: &LinearSpace) -> Self {
        let mut count = 1;
        let weights = space.blocks.iter().map(|class| {
            let extent = analysis.classes.get(*class).extent;
            let weight = count;
            count *= extent as usize;
            (*class, u64::from(extent), weight)
        });
        let weights = weights.collect();
        BlockNumbers {
            analysis,
            class: space.class,
            weights,
            count,
        }
    }

    /// What a place of a piece adds to the number of its block.
    fn part(&self, (space, piece): PieceAt, place: u64) -> usize {
        let factors = self.analysis.classes.of_piece(space, piece);
        let part = |(class, extent, weight): &(ClassId, u64, usize)| {
            let factor = factors.iter().find(|factor| factor.class == *class);
            factor.map_or(0, |factor| {
                (place / factor.stride % extent) as usize * weight
            })
        };
        self.weights.iter().map(part).sum()
    }

    /// Offsets of the space's elements along its own axis, one list for each combination of other factors, with its block.
    fn lists(&self, at: PieceAt, stride: usize) -> Option<(Vec<Vec<usize>>, Vec<usize>)> {
        let (spaces, classes) = (&self.analysis.spaces, &self.analysis.classes);
        let piece = spaces.get(at.0).pieces.get(at.1)?;
        let factor = classes
            .carrier(at.0, at.1)
            .filter(|factor| factor.class == self.class)?;
        let extent = u64::from(classes.get(self.class).extent);
        let size = piece.size().count()? as u64;
        let (mut lists, mut blocks) = (Vec::new(), Vec::new());
        for place in (0..size).filter(|place| place / factor.stride % extent == 0) {
            let index = |element| piece.index(place + element * factor.stride) as usize * stride;
            lists.push((0..extent).map(index).collect());
            blocks.push(self.part(at, place));
        }
        Some((lists, blocks))
    }

    /// The indices of an axis beside.
    fn steps(
        &self,
        space: crate::analysis::SpaceId,
        extent: usize,
        stride: usize,
    ) -> Option<Vec<AxisStep>> {
        let pieces = &self.analysis.spaces.get(space).pieces;
        let step = |index: usize| {
            let part = match pieces.len() {
                1 => self.part((space, 0), pieces.first()?.place(index as u64).unwrap_or(0)),
                _ => 0,
            };
            Some((index * stride, part))
        };
        (0..extent).map(step).collect()
    }
}
