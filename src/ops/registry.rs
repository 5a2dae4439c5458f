//! All rules, found by domain and operator type.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Operator;
use crate::model::normal_domain;

/// One line of a family's table.
#[derive(Clone, Copy)]
pub struct Rule {
    /// The domain; empty for ai.onnx.
    pub domain: &'static str,
    /// The operator type.
    pub op_type: &'static str,
    /// What it means, for all versions (a rule asks its view for the version where that matters).
    pub operator: &'static dyn Operator,
}

impl Rule {
    /// A rule of the standard's own domain.
    pub const fn onnx(op_type: &'static str, operator: &'static dyn Operator) -> Self {
        Rule {
            domain: "",
            op_type,
            operator,
        }
    }

    /// A rule of ONNX Runtime's domain.
    pub const fn microsoft(op_type: &'static str, operator: &'static dyn Operator) -> Self {
        Rule {
            domain: "com.microsoft",
            op_type,
            operator,
        }
    }
}

/// The families' tables.
static FAMILIES: &[&[Rule]] = &[
    super::conv::RULES,
    super::conv_causal::RULES,
    super::einsum::RULES,
    super::matmul::RULES,
    super::matmul_packed::RULES,
    super::matmul_blocks::RULES,
    super::matrix::RULES,
    super::image::RULES,
    super::norm::RULES,
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
    super::shape::RULES,
    super::softmax::RULES,
];

/// All rules, family after family.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().copied().flatten()
}

/// The rule for an operator, if there is one.
pub fn lookup(domain: &str, op_type: &str) -> Option<&'static dyn Operator> {
    static RULES: OnceLock<Rules> = OnceLock::new();
    let table: &Rules = RULES.get_or_init(|| {
        let mut table = Rules::new();
        for rule in rules() {
            table
                .entry((rule.domain, rule.op_type))
                .or_insert(rule.operator);
        }
        table
    });
    table.get(&(normal_domain(domain), op_type)).copied()
}

/// Rules by domain and name.
type Rules<'a> = HashMap<(&'a str, &'a str), &'static dyn Operator>;
