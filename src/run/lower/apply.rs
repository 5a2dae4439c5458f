//! Applies a table of rules to all graphs of a model.

use std::collections::BTreeMap;

use super::builder::GraphBuilder;
use super::inferred::InferredFacts;
use super::lowering::Lowering;
use super::rule::{Change, How, LoweringRule, Site};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{GraphProto, NodeProto};
use crate::run::Unverifiable;

/// Rules by domain and operator.
pub(super) struct LoweringTable(BTreeMap<(&'static str, &'static str), How>);

impl LoweringTable {
    /// Takes up the rules of all families.
    pub(super) fn new(families: &[&'static [LoweringRule]]) -> Self {
        let rules = families.iter().flat_map(|family| family.iter());
        LoweringTable(
            rules
                .map(|rule| ((rule.domain, rule.op), rule.how))
                .collect(),
        )
    }

    /// One pass over all graphs. Leaves in `lowering.waiting` the first node that needs more facts.
    pub(super) fn apply(
        &self,
        lowering: &mut Lowering,
        inferred: &InferredFacts,
    ) -> Result<Change, Unverifiable> {
        lowering.waiting = None;
        let mut graph = lowering.proto.graph.take().unwrap_or_default();
        let change = self.in_graph(&mut graph, lowering, inferred, &BTreeMap::new());
        lowering.proto.graph = Some(graph);
        change
    }

    fn in_graph(
        &self,
        graph: &mut GraphProto,
        lowering: &mut Lowering,
        inferred: &InferredFacts,
        outer: &BTreeMap<String, TensorRef>,
    ) -> Result<Change, Unverifiable> {
        let mut change = Change::Unchanged;
        let touched = |node: &NodeProto| {
            self.0.contains_key(&node.key()) || node.subgraphs().next().is_some()
        };
        if !graph.node.iter().any(touched) {
            return Ok(change);
        }
        let mut constants = outer.clone();
        constants.extend(graph.initializer.iter().filter_map(|tensor| {
            let tensor_ref = TensorRef::from_proto(tensor).ok()?;
            Some((tensor.name().to_owned(), tensor_ref))
        }));
        let mut nodes = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            for subgraph in node.subgraphs_mut() {
                change = change.and(self.in_graph(subgraph, lowering, inferred, &constants)?);
            }
            let Some(how) = self.0.get(&node.key()) else {
                nodes.push(node);
                continue;
            };
            let mut site = Site {
                builder: GraphBuilder::new(&mut lowering.names, lowering.opset),
                inferred,
                constants: &constants,
            };
            let result = rewritten(*how, &node, &mut site)?;
            change = change.and(result);
            match result {
                Change::Replaced => {
                    nodes.append(&mut site.builder.nodes);
                    graph.initializer.append(&mut site.builder.constants);
                    continue;
                }
                Change::NeedsFacts => {
                    lowering.waiting.get_or_insert_with(|| node.label());
                }
                Change::Unchanged => {}
            }
            nodes.push(node);
        }
        graph.node = nodes;
        Ok(change)
    }
}

fn rewritten(how: How, node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    match how {
        How::Code(rewrite) => rewrite(node, site),
        How::Text(function) => {
            let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
            let outputs: Vec<&str> = node.output.iter().map(String::as_str).collect();
            site.builder
                .call_into(function, &inputs, &outputs, node.attribute.clone())?;
            Ok(Change::Replaced)
        }
    }
}
