//! Whether a node commutes with a change of basis of one of its index spaces.

use crate::analysis::{Analysis, port_value};
use crate::model::edit::NodeExt;
use crate::model::{Model, NodeId};
use crate::ops::{Flow, meaning};
use crate::proto::NodeProto;
use crate::relation::{LabelId, Port, PortLayout, Relation};

/// A sum over the index space: of what two ports hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SpaceSum {
    pub label: LabelId,
    pub data: Port,
    pub weight: Port,
}

/// A node, and those of its labels that run over the index space.
pub(super) struct LabelledNode<'a> {
    pub model: &'a Model,
    pub analysis: &'a Analysis,
    pub node: NodeId,
    pub labels: &'a [LabelId],
}

/// Whether an axis runs over a label.
pub(super) fn has(layout: &PortLayout, label: LabelId) -> bool {
    layout
        .axes
        .iter()
        .any(|axis| axis.labels().any(|other| other == label))
}

impl LabelledNode<'_> {
    fn relation(&self) -> &Relation {
        &self.analysis.relations[self.node.index()]
    }

    fn message(&self) -> &NodeProto {
        self.model.node(self.node)
    }

    fn on(&self, port: Port, label: LabelId) -> bool {
        let layout = self.relation().ports.get(&port);
        layout.is_some_and(|layout| has(layout, label))
    }

    /// The ports that run over one of the labels.
    pub fn carrying(&self) -> impl Iterator<Item = Port> + '_ {
        let ports = self.relation().ports.iter();
        ports
            .filter(|(_, layout)| self.labels.iter().any(|label| has(layout, *label)))
            .map(|(port, _)| *port)
    }

    /// The sums over the index space, where the node is linear in all that runs over it and treats its indices alike.
    /// Errors: it is not, in a few words.
    pub fn contractions(&self) -> Result<Vec<SpaceSum>, &'static str> {
        let known = meaning(self.message());
        if known.reads_extents {
            return Ok(Vec::new());
        }
        if known.counts_steps {
            return Err("computes in whole numbers");
        }
        let plain = |port: &Port| matches!(port, Port::In(_) | Port::Out(0));
        if !self.carrying().all(|port| plain(&port) || self.moves()) {
            return Err("hands it to more than one result or to a subgraph");
        }
        if known.product.is_some() {
            return self.of_product();
        }
        self.of_flow(known.flow).map(|()| Vec::new())
    }

    /// Whether it moves entries, whatever the number of its outputs.
    fn moves(&self) -> bool {
        meaning(self.message()).flow == Flow::Moved
    }

    fn of_product(&self) -> Result<Vec<SpaceSum>, &'static str> {
        let [term] = &self.relation().terms[..] else {
            return Err("computes more than one sum");
        };
        let Some(weight) = term.weight else {
            return Err("sums without a second factor");
        };
        let mut found = Vec::new();
        for label in self.labels {
            let on = [term.data, weight, Port::Out(0)].map(|port| self.on(port, *label));
            match (term.summed.contains(label), on) {
                (true, [true, true, false]) => found.push(SpaceSum {
                    label: *label,
                    data: term.data,
                    weight,
                }),
                (false, [true, false, true] | [false, true, true]) => self.biased(*label)?,
                _ => return Err("multiplies each index by a number of its own"),
            }
        }
        Ok(found)
    }

    /// Errors: a bias that is one number for all indices.
    fn biased(&self, label: LabelId) -> Result<(), &'static str> {
        let bias = meaning(self.message())
            .product
            .and_then(|product| product.bias);
        let Some(input) = bias.map(|bias| bias.input) else {
            return Ok(());
        };
        let absent = self.message().input(input as usize).is_none();
        match absent || self.on(Port::In(input), label) {
            true => Ok(()),
            false => Err("adds one number to all indices"),
        }
    }

    fn of_flow(&self, flow: Flow) -> Result<(), &'static str> {
        let inputs = self.message().input.len() as u32;
        let carries = |input: u32| {
            let on = |label: &LabelId| self.on(Port::In(input), *label);
            self.labels.iter().filter(|label| on(label)).count()
        };
        let all = |input: u32| carries(input) == self.labels.len();
        let only_first = all(0) && (1..inputs).all(|input| carries(input) == 0);
        let carrying = (0..inputs).filter(|input| carries(*input) > 0).count();
        match flow {
            Flow::Same
            | Flow::Converted
            | Flow::Reshaped
            | Flow::Permuted
            | Flow::Averaged
            | Flow::Picked
                if only_first =>
            {
                Ok(())
            }
            Flow::Dropped if only_first && inputs < 3 => Ok(()),
            Flow::Moved if only_first => self.fills_zeros(),
            Flow::Joined => Ok(()),
            Flow::Add | Flow::Sub | Flow::Summed if (0..inputs).all(all) => Ok(()),
            Flow::Add | Flow::Sub | Flow::Summed => Err("adds one number to all indices"),
            Flow::Mul if carrying == 1 && (0..inputs).any(all) => Ok(()),
            Flow::Div if only_first => Ok(()),
            Flow::Mul | Flow::Div => Err("multiplies each index by a number of its own"),
            _ => Err("treats each index by itself"),
        }
    }

    /// Errors: entries that are filled in are not known to be zero.
    fn fills_zeros(&self) -> Result<(), &'static str> {
        let dtype = |port| {
            let value = port_value(self.model, self.node, port)?;
            self.analysis.facts.of(value).dtype
        };
        let zero = |input: u32| {
            let value = port_value(self.model, self.node, Port::In(input));
            let tensor = value.and_then(|value| self.model.constant(value));
            tensor
                .and_then(|tensor| tensor.to_f32())
                .is_some_and(|numbers| numbers.iter().all(|number| *number == 0.0))
        };
        let given = self.message().float("value").unwrap_or(0.0);
        let fills = |input: &u32| {
            self.message().input(*input as usize).is_some()
                && dtype(Port::In(*input)) == dtype(Port::Out(0))
        };
        let inputs = self.message().input.len() as u32;
        match given == 0.0 && (1..inputs).filter(fills).all(zero) {
            true => Ok(()),
            false => Err("fills in other numbers than zero"),
        }
    }
}
