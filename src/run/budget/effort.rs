//! The time that a run takes, counted in operations.

use super::Need;
use crate::facts::Dim;
use crate::model::{GraphId, NodeId, ValueId};
use crate::run::Unverifiable;

/// Multiplications and elements that one run may have: hours of one core.
const MOST_WORK: f64 = (1u64 << 44) as f64;
/// What a node costs beside its elements.
const PER_NODE: f64 = 100.0;
impl Need<'_> {
    /// The work of one run, and the node that has most of it.
    pub(super) fn total(&self) -> (f64, (f64, Option<NodeId>)) {
        let (mut total, mut most) = (0.0, (0.0, None));
        for (node, entry) in self.model.index().nodes() {
            let work = self.turns(entry.graph) * self.work_of(node);
            total += work;
            if work > most.0 {
                most = (work, Some(node));
            }
        }
        (total, most)
    }

    /// Errors: the run would not end within hours.
    pub(super) fn work(&self) -> Result<(), Unverifiable> {
        let (total, most) = self.total();
        match most.1.filter(|_| total > MOST_WORK) {
            None => Ok(()),
            Some(node) if total.is_infinite() => Err(Unverifiable::new(format!(
                "the loop that runs {} never ends: it has no number of turns, and its condition stays true",
                self.label(node)
            ))),
            Some(node) => Err(Unverifiable::new(format!(
                "one run would take {total:.1e} operations, most of them for {}, and {MOST_WORK:.1e} are what can be waited for; give smaller inputs",
                self.label(node)
            ))),
        }
    }

    fn work_of(&self, node: NodeId) -> f64 {
        let relation = &self.relations[node.index()];
        let number = |dim: &Dim| dim.num().map_or(1.0, |number| number.max(0) as f64);
        let products = relation.terms.iter().map(|term| {
            term.labels
                .iter()
                .map(|label| number(&relation.label(*label).extent))
                .product::<f64>()
        });
        let outputs = self.model.index().node(node).outputs.iter().flatten();
        let elements = outputs.map(|output| {
            self.facts
                .of(*output)
                .shape
                .iter()
                .flatten()
                .map(number)
                .product::<f64>()
        });
        PER_NODE + products.sum::<f64>() + elements.sum::<f64>()
    }

    /// How often the nodes of a graph run.
    fn turns(&self, graph: GraphId) -> f64 {
        let index = self.model.index();
        let Some(node) = index.graph(graph).parent else {
            return 1.0;
        };
        let input = |at: usize| index.node(node).input(at).map(|value| self.facts.of(value));
        let holds = |value: ValueId| {
            self.facts
                .of(value)
                .contents
                .as_ref()
                .and_then(|contents| contents.numbers())
                .is_some_and(|truth| truth == [1])
        };
        let goes_on = |body: GraphId| {
            index
                .graph(body)
                .outputs
                .first()
                .is_some_and(|goes| holds(*goes))
        };
        let number = |dim: Option<i64>| dim.map_or(1.0, |number| number.max(0) as f64);
        let own = match self.model.node(node).op_type() {
            // A condition may end it early.
            "Loop" if index.node(node).input(1).is_none_or(holds) && goes_on(graph) => {
                let trips = index.node(node).input(0);
                let trips = trips.map(|trips| self.facts.of(trips).contents.as_ref());
                match trips {
                    // Nothing ends it.
                    None => f64::INFINITY,
                    Some(trips) => {
                        number(trips.and_then(|trips| trips.numbers()?.first().copied()))
                    }
                }
            }
            "Scan" => {
                let last = index.node(node).inputs.len().saturating_sub(1);
                number(input(last).and_then(|fact| fact.shape.as_ref()?.first()?.num()))
            }
            _ => 1.0,
        };
        own * self.turns(index.node(node).graph)
    }
}
