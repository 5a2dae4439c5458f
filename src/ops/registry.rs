//! All rules, found by domain and operator type.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Operator;
use super::meaning::{Flow, Meaning};
use super::rule::Rule;
use crate::model::normal_domain;
use crate::proto::NodeProto;

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
