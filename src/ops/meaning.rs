//! What other rooms ask of an operator, as data of its line in the table: where the numbers of its output come from, which
//! inputs pick entries, where a product takes its bias.

use super::NodeView;
use crate::model::edit::NodeExt;
use crate::proto::{Dtype, NodeProto};

/// Facts of an operator beyond its shapes and its relation.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// Where the numbers of the first output come from.
    pub flow: Flow,
    /// Inputs that pick entries of others by number.
    pub picks: &'static [Pick],
    /// Whether the output decides between numbers.
    pub choice: Decides,
    /// What the first output is where input 0 is one number, of operators that read no other numbers.
    pub constant: Option<OfConstant>,
    /// Inputs of which the first output adds up shares, of operators that do so: where these are zero, so is the output. It is
    /// computed in another way where the first of them is absent.
    pub averages: &'static [u32],
    /// The sum of products that the first output is, but for a bias.
    pub product: Option<LinearMap>,
    /// Where the parts of its packed weight stand, if the first output is a product with one, but for a bias.
    pub packed: Option<PackedInputs>,
    /// The stored statistics that it normalises by.
    pub statistics: Option<StoredStatistics>,
    /// Its cell, if it runs over the steps of a sequence.
    pub recurrence: Option<Recurrence>,
    /// How its subgraphs' values correspond to its own.
    pub control: Option<Control>,
    /// Positions that it hands to, or takes from, another operator.
    pub positions: Option<Positions>,
    /// Whether it reads the extents of its inputs and none of their entries.
    pub reads_extents: bool,
    /// Whether its attributes hold what it gives: one of the two places where the format keeps tensors.
    pub holds_tensor: bool,
    /// Whether it normalises, so that its float constants scale and shift.
    pub normalises: bool,
    /// Whether it computes one number of its output from many along some axes of its input.
    pub reduces: bool,
    /// Whether what it gives is drawn at random.
    pub draws: bool,
    /// Whether it computes in whole numbers that stand for steps of real ones.
    pub counts_steps: bool,
}

/// Where the numbers of an operator's first output come from. Inputs are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Computed in a way that has no name here.
    Other,
    /// Input 0 as it is.
    Same,
    /// Input 0 as it is, outside of training.
    Dropped,
    /// Input 0 in another type.
    Converted,
    /// Input 0 in the same order, under other extents.
    Reshaped,
    /// Input 0 with its axes in another order (attribute `perm`).
    Permuted,
    /// Entries of input 0 in other places, some left out, repeated or filled in.
    Moved,
    /// The largest or smallest entry of input 0 along some axes.
    Extreme,
    /// The mean of input 0 along some axes.
    Averaged,
    /// All inputs, one after the other.
    Joined,
    /// Entries of input 0, by the indices of input 1.
    Picked,
    /// Input 0 with entries of input 2 at the indices of input 1.
    Scattered,
    /// Entries of input 1 or input 2, by the truth values of input 0.
    Selected,
    /// The largest of all inputs.
    Largest,
    /// The smallest of all inputs.
    Smallest,
    /// The sum of all inputs.
    Summed,
    /// Input 0 + input 1.
    Add,
    /// Input 0 − input 1.
    Sub,
    /// Input 0 · input 1.
    Mul,
    /// Input 0 / input 1.
    Div,
    /// Input 0 to the power of input 1.
    Power,
    /// How large the entries of input 0 are, whatever their signs.
    Magnitude,
    /// Input 0, or 0 where it is negative.
    Rectified,
    /// Input 0, or input 0 · input 1 where it is negative.
    Leaky,
    /// Input 0 between two bounds: inputs 1 and 2, or the attributes `min` and `max`.
    Clipped,
    /// Input 0 in steps of input 1 from input 2.
    Quantized,
    /// Input 0 in real numbers: less input 2, times input 1.
    Dequantized,
    /// Input 0 less a mean over a deviation, scaled and shifted, by [`Meaning::statistics`].
    Normalised,
}

/// The number that a node gives wherever all that it is computed from is one number; `None` where it gives others.
pub type OfConstant = fn(&NodeProto, f64) -> Option<f64>;

/// Whether what an operator gives decides between numbers, so that rounding may turn it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decides {
    /// It does not.
    Never,
    /// It does.
    Always,
    /// Only where it gives whole numbers (attribute `to`).
    ToWhole,
}

/// An input whose whole numbers pick entries of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The input that holds the numbers.
    pub indices: u32,
    /// The input that they pick from.
    pub table: u32,
    /// What of the table they count.
    pub along: Along,
}

/// What indices count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// The axis that this attribute names; the first without it.
    Axis(&'static str),
    /// The rows of a table of two axes.
    Rows,
    /// One axis for each number of a position, after as many as this attribute says.
    Each(Option<&'static str>),
    /// As many as the table itself says, which is one number.
    Depth,
}

/// A sum of products of input 0 and input 1, and at most a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearMap {
    /// The bias, where the operator has an input for one.
    pub bias: Option<BiasInput>,
    /// Where the output channels stand in input 1.
    pub rows: WeightRows,
    /// The axis of the output that counts channels; `None` where the node's equation says so.
    pub channels: Option<ChannelAxis>,
}

/// The inputs of a product of input 0 and rows of numbers of a few bits, input 1: in blocks of `block_size` numbers along the
/// summed axis; attributes `N`, `K` and `bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedInputs {
    /// A scale for each block.
    pub scales: u32,
    /// A zero point for each block, if there are any.
    pub zeros: u32,
    /// Which block each number belongs to, where they are not in order.
    pub order: u32,
    /// The bias.
    pub bias: u32,
}

/// The input for a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BiasInput {
    /// Its number.
    pub input: u32,
    /// The attribute that it is multiplied by; 1 without it.
    pub factor: Option<&'static str>,
}

/// Where output channels stand in a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightRows {
    /// Along its first axis.
    First,
    /// Along its second axis, for each group of its first.
    Grouped,
    /// Along its last axis; along its first where this attribute is not 0.
    Last(Option<&'static str>),
    /// Where the node's equation says.
    Equation,
}

/// The axis that counts channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelAxis {
    /// The second.
    Second,
    /// The last.
    Last,
}

/// The inputs of a normalisation by stored statistics, (x − mean) / √(variance + `epsilon`) · scale + shift, by channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StoredStatistics {
    pub scale: u32,
    pub shift: u32,
    pub mean: u32,
    pub variance: u32,
}

/// The cell of a recurrent operator. Its data is input 0, its weight input 1, its recurrence input 2, its bias input 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// Sums that each unit computes in a step.
    pub gates: usize,
    /// Whether all of them are linear in the data and in the state of the step before.
    pub is_linear: bool,
}

/// How the values of an operator's subgraphs correspond to its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Results of a subgraph before those that are the node's outputs.
    pub own_results: usize,
    /// Inputs of the node, and as many formal inputs, before those that correspond.
    pub own_inputs: usize,
    /// Whether formal inputs take the numbers of the node's inputs.
    pub feeds: bool,
    /// Whether a result is what the next step reads.
    pub carries: bool,
    /// Whether only one of the subgraphs runs.
    pub alternative: bool,
}

/// Positions of entries within a tensor that operators hand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// It gives them at this output.
    Given(u32),
    /// It reads them at this input.
    Read(u32),
}

impl Meaning {
    /// Nothing is known.
    pub const UNKNOWN: Meaning = Meaning {
        flow: Flow::Other,
        picks: &[],
        choice: Decides::Never,
        constant: None,
        averages: &[],
        product: None,
        packed: None,
        statistics: None,
        recurrence: None,
        control: None,
        positions: None,
        reads_extents: false,
        holds_tensor: false,
        normalises: false,
        reduces: false,
        draws: false,
        counts_steps: false,
    };

    /// Whether a node decides between numbers.
    pub fn chooses(&self, node: &NodeProto) -> bool {
        let to_whole = || {
            node.int("to")
                .and_then(|code| Dtype::from_code(code as i32))
                .is_none_or(|dtype| !dtype.is_float())
        };
        match self.choice {
            Decides::Never => false,
            Decides::Always => true,
            Decides::ToWhole => to_whole(),
        }
    }
}

impl Pick {
    /// How many indices there are to pick from, by the extents of the table; where several axes are counted, along the shortest.
    pub fn count(&self, node: &NodeView) -> Option<i64> {
        let (table, indices) = (self.table as usize, self.indices as usize);
        let along = |axis: i64| {
            let shape = node.shape(table)?;
            shape.get(NodeView::axis(axis, shape.len())?)?.num()
        };
        match self.along {
            Along::Axis(attribute) => along(node.int(attribute).unwrap_or(0)),
            Along::Rows => along(0).filter(|_| node.shape(table).is_some_and(|s| s.len() == 2)),
            Along::Each(skipped) => {
                let skipped = skipped.and_then(|name| node.int(name)).unwrap_or(0);
                let axes = node.shape(indices)?.last()?.num()?;
                (0..axes.min(MOST_AXES))
                    .map(|axis| along(skipped + axis).filter(|extent| *extent > 0))
                    .try_fold(i64::MAX, |least, extent| Some(least.min(extent?)))
            }
            Along::Depth => {
                let depth = node.contents(table)?.0.first()?;
                let whole = depth.dim().and_then(|dim| dim.num());
                whole.or_else(|| depth.real().map(|real| real as i64))
            }
        }
    }
}

/// Positions in tensors of more axes than this are not followed.
const MOST_AXES: i64 = 16;

#[cfg(test)]
mod tests;
