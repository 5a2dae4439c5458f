//! One operator's line in the table of its family.

use super::Operator;
use super::meaning::{
    Control, Decides, Flow, LinearMap, Meaning, OfConstant, PackedInputs, Pick, Positions,
    Recurrence, StoredStatistics,
};

/// One line of a family's table.
#[derive(Clone, Copy)]
pub struct Rule {
    /// The domain; empty for ai.onnx.
    pub domain: &'static str,
    /// The operator type.
    pub op_type: &'static str,
    /// What it means, for all versions (a rule asks its view for the version where that matters).
    pub operator: &'static dyn Operator,
    /// What other rooms ask of it.
    pub meaning: Meaning,
}

impl Rule {
    /// A rule of any domain.
    pub const fn of(
        domain: &'static str,
        op_type: &'static str,
        operator: &'static dyn Operator,
    ) -> Self {
        Rule {
            domain,
            op_type,
            operator,
            meaning: Meaning::UNKNOWN,
        }
    }

    /// A rule of the standard's own domain.
    pub const fn onnx(op_type: &'static str, operator: &'static dyn Operator) -> Self {
        Rule::of("", op_type, operator)
    }

    /// A rule of ONNX Runtime's domain.
    pub const fn microsoft(op_type: &'static str, operator: &'static dyn Operator) -> Self {
        Rule::of("com.microsoft", op_type, operator)
    }

    /// Says where the numbers of the first output come from.
    pub const fn flow(mut self, flow: Flow) -> Self {
        self.meaning.flow = flow;
        self
    }

    /// Says which inputs pick entries.
    pub const fn picks(mut self, picks: &'static [Pick]) -> Self {
        self.meaning.picks = picks;
        self
    }

    /// Says when it decides between numbers.
    pub const fn chooses(mut self, choice: Decides) -> Self {
        self.meaning.choice = choice;
        self
    }

    /// Says what it makes of one number.
    pub const fn constant(mut self, constant: OfConstant) -> Self {
        self.meaning.constant = Some(constant);
        self
    }

    /// Says of which inputs it adds up shares.
    pub const fn averages(mut self, inputs: &'static [u32]) -> Self {
        self.meaning.averages = inputs;
        self
    }

    /// Says of what the first output is a sum.
    pub const fn product(mut self, product: LinearMap) -> Self {
        self.meaning.product = Some(product);
        self
    }

    /// Says where the parts of its packed weight stand.
    pub const fn packed(mut self, inputs: PackedInputs) -> Self {
        self.meaning.packed = Some(inputs);
        self
    }

    /// Says where stored statistics stand.
    pub const fn statistics(mut self, statistics: StoredStatistics) -> Self {
        self.meaning.statistics = Some(statistics);
        self
    }

    /// Says what its cell is.
    pub const fn recurrence(mut self, recurrence: Recurrence) -> Self {
        self.meaning.recurrence = Some(recurrence);
        self
    }

    /// Says how its subgraphs are bound.
    pub const fn control(mut self, control: Control) -> Self {
        self.meaning.control = Some(control);
        self
    }

    /// Says where it hands over positions.
    pub const fn positions(mut self, positions: Positions) -> Self {
        self.meaning.positions = Some(positions);
        self
    }

    /// Says that it reads nothing but extents.
    pub const fn reads_extents(mut self) -> Self {
        self.meaning.reads_extents = true;
        self
    }

    /// Says that it holds what it gives.
    pub const fn holds_tensor(mut self) -> Self {
        self.meaning.holds_tensor = true;
        self
    }

    /// Says that it normalises.
    pub const fn normalises(mut self) -> Self {
        self.meaning.normalises = true;
        self
    }

    /// Says that it computes one number from many.
    pub const fn reduces(mut self) -> Self {
        self.meaning.reduces = true;
        self
    }

    /// Says that it draws numbers.
    pub const fn draws(mut self) -> Self {
        self.meaning.draws = true;
        self
    }

    /// Says that it computes in steps.
    pub const fn counts_steps(mut self) -> Self {
        self.meaning.counts_steps = true;
        self
    }
}
