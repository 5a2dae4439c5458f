//! What a rule sees of its node.

use std::collections::BTreeMap;

use crate::facts::{Contents, Dim, Fact};
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, Dtype, NodeProto};
use crate::relation::{Builder, Port, Reason, Relation};

/// A subgraph of a node.
#[derive(Clone, Debug, Default)]
pub struct Branch {
    /// The attribute that holds it.
    pub attribute: String,
    /// Facts of its formal inputs.
    pub formals: Vec<Fact>,
    /// Facts of its outputs.
    pub results: Vec<Fact>,
}

/// One node with the facts of its tensors.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    /// The node itself, for its attributes.
    pub node: &'a NodeProto,
    /// The version of its domain's operator set that the model imports.
    pub opset: i64,
    /// Facts of its inputs; `None` where one is left out.
    pub inputs: Vec<Option<&'a Fact>>,
    /// Facts of its outputs; empty while they are being inferred.
    pub outputs: Vec<Option<&'a Fact>>,
    /// Its subgraphs.
    pub branches: Vec<Branch>,
    /// Whether the first input holds squares or norms of another value, not less its mean: the one thing that a rule may know
    /// of the nodes around, for the mean of such magnitudes (root mean square normalisation, global response normalisation)
    /// follows a cut without loss and another mean does not.
    pub magnitudes: bool,
}

impl<'a> NodeView<'a> {
    /// Whether an input is given.
    pub fn has_input(&self, at: usize) -> bool {
        self.inputs.get(at).is_some_and(Option::is_some)
    }

    /// The fact of an input; `None` when it is left out.
    pub fn input(&self, at: usize) -> Option<&'a Fact> {
        self.inputs.get(at).copied().flatten()
    }

    /// The fact of an output; `None` when it is left out or not inferred yet.
    pub fn output(&self, at: usize) -> Option<&'a Fact> {
        self.outputs.get(at).copied().flatten()
    }

    /// Extents of an input; `None` when it is left out or its rank is unknown.
    pub fn shape(&self, at: usize) -> Option<&'a [Dim]> {
        self.input(at)?.shape.as_deref()
    }

    /// Extents of an output.
    pub fn output_shape(&self, at: usize) -> Option<&'a [Dim]> {
        self.output(at)?.shape.as_deref()
    }

    /// Element type of an input.
    pub fn dtype(&self, at: usize) -> Option<Dtype> {
        self.input(at)?.dtype
    }

    /// Contents of an input, if they are known.
    pub fn contents(&self, at: usize) -> Option<&'a Contents> {
        self.input(at)?.contents.as_ref()
    }

    /// Contents of an input as plain numbers.
    pub fn numbers(&self, at: usize) -> Option<Vec<i64>> {
        self.contents(at)?.numbers()
    }

    /// An attribute, if it is set.
    pub fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        NodeExt::attribute(self.node, name)
    }

    /// A whole-number attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).and_then(|attribute| attribute.i)
    }

    /// A real-number attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).and_then(|attribute| attribute.f)
    }

    /// A list-of-whole-numbers attribute.
    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name)
            .map(|attribute| attribute.ints.as_slice())
    }

    /// A text attribute.
    pub fn string(&self, name: &str) -> Option<&'a str> {
        self.attribute(name)?
            .s
            .as_deref()
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// An axis number made non-negative for `rank`; `None` when it is out of range.
    pub fn axis(axis: i64, rank: usize) -> Option<usize> {
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(axis).ok().filter(|axis| *axis < rank)
    }

    /// Axes given as an attribute (older versions) or as input number `input` (newer ones).
    /// `Ok(None)`: not given; `Err(())`: given as an input whose contents are not known.
    #[allow(clippy::result_unit_err)]
    pub fn ints_or_input(&self, attribute: &str, input: usize) -> Result<Option<Vec<i64>>, ()> {
        if let Some(ints) = self.ints(attribute) {
            return Ok(Some(ints.to_vec()));
        }
        match self.has_input(input) {
            true => self.numbers(input).map(Some).ok_or(()),
            false => Ok(None),
        }
    }

    /// An extent that cannot be known before the model runs, named after the output.
    pub fn unknown(&self, output: usize, axis: usize) -> Dim {
        let name = self.node.output.get(output).map_or("", String::as_str);
        Dim::symbol(&format!("?{name}.{axis}"))
    }

    /// `domain:Type`, for messages.
    pub fn key(&self) -> String {
        let domain = if self.node.domain().is_empty() {
            "ai.onnx"
        } else {
            self.node.domain()
        };
        format!("{domain}:{}", self.node.op_type())
    }

    /// All tensors whose rank is known.
    pub fn shapes(&self) -> BTreeMap<Port, Vec<Dim>> {
        let facts = |facts: &[Option<&Fact>], port: fn(u32) -> Port| -> Vec<(Port, Vec<Dim>)> {
            facts
                .iter()
                .enumerate()
                .filter_map(|(at, fact)| Some((port(at as u32), fact.as_ref()?.shape.clone()?)))
                .collect()
        };
        let mut shapes: BTreeMap<_, _> = facts(&self.inputs, Port::In)
            .into_iter()
            .chain(facts(&self.outputs, Port::Out))
            .collect();
        for (at, branch) in self.branches.iter().enumerate() {
            let formals = branch
                .formals
                .iter()
                .enumerate()
                .map(|(i, fact)| (Port::Formal(at as u32, i as u32), fact));
            let results = branch
                .results
                .iter()
                .enumerate()
                .map(|(i, fact)| (Port::Result(at as u32, i as u32), fact));
            shapes.extend(
                formals
                    .chain(results)
                    .filter_map(|(port, fact)| Some((port, fact.shape.clone()?))),
            );
        }
        shapes
    }

    /// Starts the node's relation.
    pub fn relation(&self) -> Builder {
        Builder::new(self.shapes())
    }

    /// A relation in which nothing may go.
    pub fn frozen(&self, reason: Reason) -> Relation {
        Builder::frozen(self.shapes(), reason)
    }
}
