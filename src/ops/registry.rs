//! All rules, found by domain and operator type.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Operator;
use super::meaning::{
    Control, Decides, Flow, LinearMap, Meaning, OfConstant, Pick, Positions, Recurrence,
    StoredStatistics,
};
use crate::model::normal_domain;
use crate::proto::NodeProto;

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

/// The families' tables.
static FAMILIES: &[&[Rule]] = &[
    super::conv::RULES,
    super::conv_deform::RULES,
    super::conv_causal::RULES,
    super::einsum::RULES,
    super::matmul::RULES,
    super::matmul_packed::RULES,
    super::matmul_blocks::RULES,
    super::matrix::RULES,
    super::image::RULES,
    super::norm::RULES,
    super::norm_last::RULES,
    super::norm_fused::RULES,
    super::pool::RULES,
    super::quant::RULES,
    super::quant_linear::RULES,
    super::attention::RULES,
    super::control::RULES,
    super::linear_attention::RULES,
    super::loss::RULES,
    super::microsoft::ATTENTION,
    super::microsoft::FROZEN,
    super::microsoft::MOE,
    super::microsoft::GROUP_QUERY,
    super::microsoft::MULTI_HEAD,
    super::microsoft::POSITION,
    super::microsoft::QUANTIZED_MOE,
    super::microsoft::RAGGED,
    super::ml::RULES,
    super::recurrent::RULES,
    super::rotary::RULES,
    super::permute::RULES,
    super::reshape::RULES,
    super::join::RULES,
    super::slice::RULES,
    super::packed::RULES,
    super::pad::RULES,
    super::expand::RULES,
    super::gather::RULES,
    super::scatter::RULES,
    super::resize::RULES,
    super::sequence::RULES,
    super::signal::RULES,
    super::text::RULES,
    super::training::RULES,
    super::elementwise::RULES,
    super::reduce::RULES,
    super::along::RULES,
    super::shape::RULES,
    super::softmax::RULES,
];

/// All rules, family after family.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().copied().flatten()
}

/// The rule for an operator, if there is one.
pub(super) fn rule_of(domain: &str, op_type: &str) -> Option<&'static Rule> {
    static RULES: OnceLock<Rules> = OnceLock::new();
    let table: &Rules = RULES.get_or_init(|| {
        let mut table = Rules::new();
        for rule in rules() {
            table.entry((rule.domain, rule.op_type)).or_insert(rule);
        }
        table
    });
    table.get(&(normal_domain(domain), op_type)).copied()
}

/// What an operator means, if it has a rule.
pub fn lookup(domain: &str, op_type: &str) -> Option<&'static dyn Operator> {
    rule_of(domain, op_type).map(|rule| rule.operator)
}

/// The facts of a node's operator; none are known of one without a rule.
pub fn meaning(node: &NodeProto) -> &'static Meaning {
    static UNKNOWN: Meaning = Meaning::UNKNOWN;
    rule_of(node.domain(), node.op_type()).map_or(&UNKNOWN, |rule| &rule.meaning)
}

/// Where the numbers of a node's first output come from.
pub fn flow(node: &NodeProto) -> Flow {
    meaning(node).flow
}

/// Rules by domain and name.
type Rules<'a> = HashMap<(&'a str, &'a str), &'static Rule>;
