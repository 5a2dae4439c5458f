//! What a cut asks of a node itself: other attributes, scaled weights and results, packed numbers.

use super::packed_rows::Repack;
use super::rewrite::Rewriter;
use crate::model::NodeId;
use crate::ops::{NodeEdit, Setting};
use crate::proto::AttributeProto;
use crate::relation::{Port, Reason};

impl Rewriter<'_> {
    /// Does what a rule asks for beside demands on shape operands.
    pub(super) fn apply(&mut self, node: NodeId, edit: &NodeEdit) {
        self.set_attributes(node, edit);
        self.scale(node, edit);
    }

    fn set_attributes(&mut self, node: NodeId, edit: &NodeEdit) {
        for (name, setting) in &edit.settings {
            let attributes = &mut self.model.node_mut(node).attribute;
            if *setting == Setting::Remove {
                attributes.retain(|attribute| attribute.name() != *name);
                continue;
            }
            let at = attributes
                .iter()
                .position(|attribute| attribute.name() == *name);
            let attribute = match setting {
                Setting::Remove => continue,
                Setting::Int(value) => AttributeProto::int(name, *value),
                Setting::Ints(values) => AttributeProto::ints(name, values),
                Setting::Float(value) => AttributeProto::float(name, *value),
            };
            match at {
                Some(at) => attributes[at] = attribute,
                None => attributes.push(attribute),
            }
        }
    }

    /// Multiplies the node's result and its weights by the factors that its rule gives.
    fn scale(&mut self, node: NodeId, edit: &NodeEdit) {
        if let Some(factor) = edit.result_scale
            && !self.operands.scale_result(
                self.model,
                self.original,
                &self.analysis.facts,
                node,
                factor,
            )
        {
            self.fail(
                node,
                Reason::Demand(format!(
                    "the result of {}, which is no real number",
                    self.original.node_label(node)
                )),
            );
        }
        for (input, factor) in &edit.scales {
            let value = self.original.index().node(node).input(*input as usize);
            let scaled = value.is_some_and(|value| {
                self.operands
                    .scale(self.model, node, *input, value, *factor)
            });
            if !scaled {
                self.fail(
                    node,
                    Reason::Demand(format!(
                        "a weight of {} that is no constant",
                        self.original.node_label(node)
                    )),
                );
            }
        }
    }

    /// Packs the bytes anew that hold numbers of which some go.
    pub(super) fn repack(&mut self, node: NodeId) {
        let relation = &self.analysis.relations[node.index()];
        if relation.labels.iter().all(|label| label.packs.is_none()) {
            return;
        }
        let kept = self.analysis.kept_labels(node, self.selection);
        let mut stuck = false;
        for port in relation.ports.keys() {
            let (Port::In(input), Some(packed)) = (port, relation.packed(*port)) else {
                continue;
            };
            if packed
                .of
                .labels()
                .all(|label| kept[label.index()].is_none())
            {
                continue;
            }
            let value = self.original.index().node(node).input(*input as usize);
            let row = packed
                .of
                .extent(&relation.labels)
                .count()
                .zip(packed.of.kept(&relation.labels, &kept));
            let row = row.map(|(numbers, kept)| Repack {
                numbers,
                bits: packed.bits as usize,
                kept,
            });
            stuck |= !value.zip(row).is_some_and(|(value, row)| {
                self.operands.repack(self.model, node, *input, value, &row)
            });
        }
        if stuck {
            self.fail(
                node,
                Reason::Demand(format!(
                    "packed numbers of {} that are no constant",
                    self.original.node_label(node)
                )),
            );
        }
    }
}
