//! Which part of a graph runs, and whether it can, as far as shapes tell.

use super::infer::Facts;
use crate::model::{GraphId, Model, NodeId};
use crate::ops::{lookup, meaning};

/// Which graphs of a model run at the shapes of some facts.
#[derive(Clone, Debug)]
pub struct Runs {
    /// By graph: in what share of all runs it is run.
    shares: Vec<f64>,
    /// Nodes that run and do not take the shapes that reach them.
    pub misfits: usize,
}

impl Runs {
    /// Of the branches of a condition one is run: which, is decided by shapes where the condition depends on them alone, or where
    /// one branch does not take them. Else each is run by an equal share of all runs.
    pub fn new(model: &Model, facts: &Facts) -> Self {
        let index = model.index();
        let refused = |node: &&NodeId| {
            let message = model.node(**node);
            lookup(message.domain(), message.op_type()).is_some()
        };
        let refused = facts.problems.keys().filter(refused);
        let refused: Vec<GraphId> = refused.map(|node| index.node(*node).graph).collect();
        let inside: Vec<(GraphId, NodeId)> = index
            .graphs()
            .filter_map(|(graph, entry)| Some((graph, entry.parent?)))
            .collect();
        let mut fits = vec![true; index.graphs().len()];
        refused.iter().for_each(|graph| fits[graph.index()] = false);
        // Graphs come after those that they are part of.
        for (_, node) in inside.iter().rev() {
            let open = choices(model, facts, *node);
            let takes = |graph: &GraphId| fits[graph.index()];
            let fit = match is_condition(model, *node) {
                true => open.iter().any(takes),
                false => open.iter().all(takes),
            };
            fits[index.node(*node).graph.index()] &= fit;
        }
        let mut shares = vec![1.0; fits.len()];
        for (graph, node) in inside {
            let around = shares[index.node(node).graph.index()];
            shares[graph.index()] = around
                * part(
                    graph,
                    &choices(model, facts, node),
                    &fits,
                    is_condition(model, node),
                );
        }
        let misfits = refused.iter().filter(|graph| shares[graph.index()] > 0.0);
        Runs {
            misfits: misfits.count(),
            shares,
        }
    }

    /// In what share of all runs a graph is run.
    pub fn share(&self, graph: GraphId) -> f64 {
        self.shares[graph.index()]
    }
}

/// The part of a node's runs that run one of its subgraphs.
fn part(graph: GraphId, open: &[GraphId], fits: &[bool], alternative: bool) -> f64 {
    if !open.contains(&graph) {
        return 0.0;
    }
    if !alternative {
        return 1.0;
    }
    let fitting = open.iter().filter(|other| fits[other.index()]).count();
    match (fitting, fits[graph.index()]) {
        (0, _) => 1.0 / open.len() as f64,
        (_, true) => 1.0 / fitting as f64,
        (_, false) => 0.0,
    }
}

/// Whether only one of a node's subgraphs runs.
fn is_condition(model: &Model, node: NodeId) -> bool {
    meaning(model.node(node))
        .control
        .is_some_and(|control| control.alternative)
}

/// The subgraphs of a node that its condition allows, as far as it follows from shapes.
fn choices(model: &Model, facts: &Facts, node: NodeId) -> Vec<GraphId> {
    let index = model.index();
    let truth = if is_condition(model, node) {
        condition(model, facts, node)
    } else {
        None
    };
    let allowed = |graph: &&GraphId| {
        truth.is_none_or(|truth| truth == (index.graph(**graph).attribute == "then_branch"))
    };
    let subgraphs = &index.node(node).subgraphs;
    subgraphs.iter().filter(allowed).copied().collect()
}

/// What the condition of a node comes to, where that follows from shapes.
fn condition(model: &Model, facts: &Facts, node: NodeId) -> Option<bool> {
    let value = model.index().node(node).input(0)?;
    let [number] = facts.of(value).contents.as_ref()?.numbers()?[..] else {
        return None;
    };
    Some(number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Pins, infer};
    use crate::model::text;

    /// A condition on the extent of `x`; the branch that is not for it multiplies by a matrix of another width.
    const SHAPED: &str = "input x f32[n,4]\nconst a f32[4,6]\nconst b f32[5,6]\nconst one i64[1] = 1\nconst zero i64[1] = 0
        s = Shape(x)\nw = Gather(s, zero)\nq = Equal(w, one)\ny = If(q) {then_branch=@short, else_branch=@long}\noutput y
        graph short\nr = MatMul(x, a)\noutput r\nend\ngraph long\nr = MatMul(x, b)\noutput r\nend";

    fn shares(text: &str, rows: i64) -> (Vec<f64>, usize) {
        let model = text::model(text).unwrap();
        let facts = infer(&model, &Pins::from([("x".to_owned(), vec![rows, 4])]));
        let runs = Runs::new(&model, &facts);
        let graphs = model.index().graphs();
        let shares = graphs.map(|(graph, _)| runs.share(graph));
        (shares.collect(), runs.misfits)
    }

    #[test]
    fn a_condition_on_shapes_runs_one_branch_whether_or_not_it_fits() {
        assert_eq!(shares(SHAPED, 1), (vec![1.0, 1.0, 0.0], 0));
        assert_eq!(shares(SHAPED, 2), (vec![1.0, 0.0, 1.0], 1));
    }

    #[test]
    fn of_the_branches_of_another_condition_those_run_that_take_the_shapes() {
        let asked = SHAPED.replace("q = Equal(w, one)", "input q bool[]");
        assert_eq!(shares(&asked, 1), (vec![1.0, 1.0, 0.0], 0));
        let both = asked.replace("b f32[5,6]", "b f32[4,6]");
        assert_eq!(shares(&both, 1), (vec![1.0, 0.5, 0.5], 0));
        let none = asked.replace("a f32[4,6]", "a f32[7,6]");
        assert_eq!(shares(&none, 1), (vec![1.0, 0.5, 0.5], 2));
    }

    #[test]
    fn a_branch_within_a_branch_is_run_where_both_are() {
        let nested =
            "input x f32[n,4]\nconst a f32[4,6]\nconst b f32[5,6]\ninput p bool[]\ninput q bool[]
            y = If(p) {then_branch=@outer, else_branch=@other}\noutput y
            graph outer\nr = If(q) {then_branch=@one, else_branch=@two}\noutput r\nend
            graph one\nr = MatMul(x, a)\noutput r\nend\ngraph two\nr = MatMul(x, a)\noutput r\nend
            graph other\nr = MatMul(x, a)\noutput r\nend";
        let (mut found, misfits) = shares(nested, 1);
        found.sort_by(f64::total_cmp);
        assert_eq!((found, misfits), (vec![0.25, 0.25, 0.5, 0.5, 1.0], 0));
        // Where nothing in a branch takes the shapes, the branch does not.
        let wrong = nested.replace("one\nr = MatMul(x, a)", "one\nr = MatMul(x, b)");
        let (mut found, misfits) = shares(&wrong, 1);
        found.sort_by(f64::total_cmp);
        assert_eq!((found, misfits), (vec![0.0, 0.5, 0.5, 0.5, 1.0], 0));
        let wrong = wrong.replace("two\nr = MatMul(x, a)", "two\nr = MatMul(x, b)");
        let (mut found, misfits) = shares(&wrong, 1);
        found.sort_by(f64::total_cmp);
        assert_eq!((found, misfits), (vec![0.0, 0.0, 0.0, 1.0, 1.0], 0));
    }
}
