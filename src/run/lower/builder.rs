//! Making nodes in place of others.

use std::collections::BTreeMap;

use crate::constants::functions;
use crate::model::edit::NodeExt;
use crate::model::{Names, TensorRef, text};
use crate::ops::held_tensor;
use crate::proto::{AttributeProto, Dtype, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::run::Unverifiable;

/// Nodes and constants that take the place of one node.
pub(super) struct GraphBuilder<'a> {
    pub(super) names: &'a mut Names,
    /// The version of the standard's operators that new nodes must follow.
    pub(super) opset: i64,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
}

impl<'a> GraphBuilder<'a> {
    pub(super) fn new(names: &'a mut Names, opset: i64) -> Self {
        GraphBuilder {
            names,
            opset,
            nodes: Vec::new(),
            constants: Vec::new(),
        }
    }

    /// A node of the standard's domain that gives `outputs`.
    pub(super) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) {
        self.nodes.push(NodeProto {
            op_type: Some(op.into()),
            name: Some(self.names.fresh(op)),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: outputs.iter().map(|name| (*name).to_owned()).collect(),
            attribute: attributes,
            ..Default::default()
        });
    }

    /// A node with one output of a new name, which is given back.
    pub(super) fn op(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let output = self.names.fresh(op);
        self.node(op, inputs, &[&output], attributes);
        output
    }

    /// Lets `value` be output `slot` of the node that is replaced.
    pub(super) fn bind_output(&mut self, value: &str, node: &NodeProto, slot: usize) {
        if let Some(output) = node.output(slot) {
            self.node("Identity", &[value], &[output], Vec::new());
        }
    }

    /// Inlines a function, see [`text::function`], that writes these outputs. It is written for version 18 of the standard's
    /// operators; in older models, axes and sizes become attributes. Errors: the function's text does not parse.
    pub(super) fn call_into(
        &mut self,
        function: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Result<(), Unverifiable> {
        let function =
            text::function(function).map_err(|error| Unverifiable::new(error.to_string()))?;
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let call = NodeProto {
            op_type: function.name.clone(),
            domain: function.domain.clone(),
            name: Some(self.names.fresh(function.name())),
            input: owned(inputs),
            output: owned(outputs),
            attribute: attributes,
            ..Default::default()
        };
        let mut proto = ModelProto {
            functions: vec![function],
            graph: Some(GraphProto {
                node: vec![call],
                ..Default::default()
            }),
            ..Default::default()
        };
        let names = &mut *self.names;
        functions::inline(&mut proto, &mut |hint| names.fresh(hint))?;
        let mut graph = proto.graph.unwrap_or_default();
        self.constants.append(&mut graph.initializer);
        let mut constants = BTreeMap::new();
        for mut node in graph.node {
            match (held_tensor(&node), node.output(0)) {
                (Some(tensor), Some(name)) => {
                    constants.insert(name.to_owned(), tensor);
                }
                _ => {
                    while node.input.last().is_some_and(String::is_empty) {
                        node.input.pop();
                    }
                    self.rewrite_for_older(&mut node, &constants);
                    self.nodes.push(node);
                }
            }
        }
        let read = |name: &String| self.nodes.iter().any(|node| node.input.contains(name));
        let kept = constants.iter().filter(|(name, _)| read(name));
        let made: Vec<_> = kept.map(|(name, tensor)| tensor.to_proto(name)).collect();
        self.constants.extend(made);
        Ok(())
    }

    /// Inlines a function with one output, whose name is given back. Errors: the function's text does not parse.
    pub(super) fn call(
        &mut self,
        function: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Result<String, Unverifiable> {
        let output = self.names.fresh("result");
        self.call_into(function, inputs, &[&output], attributes)?;
        Ok(output)
    }

    /// Writes the axes or sizes of a node, where they are constants, as the model's version of the operator has them.
    fn rewrite_for_older(&self, node: &mut NodeProto, constants: &BTreeMap<String, TensorRef>) {
        let (name, since) = match node.op_type() {
            "Unsqueeze" | "Squeeze" | "ReduceSum" => ("axes", 13),
            "Split" => ("split", 13),
            "ReduceMax" | "ReduceMean" => ("axes", 18),
            _ => return,
        };
        let given = node.input.get(1).and_then(|input| constants.get(input));
        if self.opset < since
            && let Some(numbers) = given.and_then(TensorRef::to_i64)
        {
            node.input.truncate(1);
            node.set(AttributeProto::ints(name, &numbers));
        }
    }

    /// A constant of a new name.
    pub(super) fn constant(&mut self, tensor: &TensorRef) -> String {
        let name = self.names.fresh("constant");
        self.constants.push(tensor.to_proto(&name));
        name
    }

    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        self.constant(&TensorRef::from_i64(vec![values.len()], values))
    }

    pub(super) fn scalar(&mut self, value: f32) -> String {
        self.constant(&TensorRef::from_f32(Vec::new(), &[value]))
    }

    pub(super) fn cast(&mut self, value: &str, to: Dtype) -> String {
        self.op(
            "Cast",
            &[value],
            vec![AttributeProto::int("to", i64::from(to.code()))],
        )
    }

    pub(super) fn transpose(&mut self, value: &str, permutation: &[i64]) -> String {
        self.op(
            "Transpose",
            &[value],
            vec![AttributeProto::ints("perm", permutation)],
        )
    }

    pub(super) fn reshape(&mut self, value: &str, target: &[i64]) -> String {
        let target = self.ints(target);
        self.op("Reshape", &[value, &target], Vec::new())
    }

    pub(super) fn unsqueeze(&mut self, value: &str, axes: &[i64]) -> String {
        self.with_axes("Unsqueeze", value, axes, 13, Vec::new())
    }

    pub(super) fn squeeze(&mut self, value: &str, axes: &[i64]) -> String {
        self.with_axes("Squeeze", value, axes, 13, Vec::new())
    }

    /// `ReduceSum`, `ReduceMean` …, axes kept with extent 1.
    pub(super) fn reduce(&mut self, op: &str, value: &str, axes: &[i64], keep: bool) -> String {
        let since = if op == "ReduceSum" { 13 } else { 18 };
        self.with_axes(
            op,
            value,
            axes,
            since,
            vec![AttributeProto::int("keepdims", i64::from(keep))],
        )
    }

    /// Axes became an input in version `since`.
    fn with_axes(
        &mut self,
        op: &str,
        value: &str,
        axes: &[i64],
        since: i64,
        mut attributes: Vec<AttributeProto>,
    ) -> String {
        if self.opset < since {
            attributes.push(AttributeProto::ints("axes", axes));
            return self.op(op, &[value], attributes);
        }
        let axes = self.ints(axes);
        self.op(op, &[value, &axes], attributes)
    }

    pub(super) fn split(&mut self, value: &str, axis: i64, sizes: &[i64]) -> Vec<String> {
        let outputs: Vec<String> = sizes.iter().map(|_| self.names.fresh("Split")).collect();
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        if self.opset < 13 {
            self.node(
                "Split",
                &[value],
                &names,
                vec![
                    AttributeProto::int("axis", axis),
                    AttributeProto::ints("split", sizes),
                ],
            );
        } else {
            let sizes = self.ints(sizes);
            self.node(
                "Split",
                &[value, &sizes],
                &names,
                vec![AttributeProto::int("axis", axis)],
            );
        }
        outputs
    }

    /// `start..end` of one axis, by steps of `step`.
    pub(super) fn slice(&mut self, value: &str, axis: i64, range: (i64, i64, i64)) -> String {
        let (start, end, step) = range;
        if self.opset < 10 && step == 1 {
            let attributes = vec![
                AttributeProto::ints("axes", &[axis]),
                AttributeProto::ints("starts", &[start]),
                AttributeProto::ints("ends", &[end]),
            ];
            return self.op("Slice", &[value], attributes);
        }
        let (starts, ends, axes, steps) = (
            self.ints(&[start]),
            self.ints(&[end]),
            self.ints(&[axis]),
            self.ints(&[step]),
        );
        self.op("Slice", &[value, &starts, &ends, &axes, &steps], Vec::new())
    }

    pub(super) fn layer_norm(
        &mut self,
        value: &str,
        scale: &str,
        bias: &str,
        epsilon: f32,
    ) -> String {
        self.op(
            "LayerNormalization",
            &[value, scale, bias],
            vec![
                AttributeProto::int("axis", -1),
                AttributeProto::float("epsilon", epsilon),
            ],
        )
    }

    pub(super) fn dequantize(&mut self, node: &NodeProto, at: usize) -> String {
        self.dequantize_along(node, at, 1)
    }

    /// The value at input `at` by the scale and zero point behind it, which lie along an axis if they are several.
    pub(super) fn dequantize_along(&mut self, node: &NodeProto, at: usize, axis: i64) -> String {
        let inputs: Vec<&str> = (at..at + 3).filter_map(|at| node.input(at)).collect();
        self.op(
            "DequantizeLinear",
            &inputs,
            vec![AttributeProto::int("axis", axis)],
        )
    }

    /// Quantizes `value` by the scale at input `at` and the zero point behind it.
    pub(super) fn quantize(&mut self, value: &str, node: &NodeProto, at: usize) -> String {
        let mut inputs = vec![value];
        inputs.extend((at..at + 2).filter_map(|at| node.input(at)));
        self.op("QuantizeLinear", &inputs, Vec::new())
    }

    /// Values one behind the other along an axis.
    pub(super) fn concat(&mut self, values: &[&str], axis: i64) -> String {
        self.op("Concat", values, vec![AttributeProto::int("axis", axis)])
    }

    /// A sum, or the value alone where nothing is to be added.
    pub(super) fn plus(&mut self, value: String, other: Option<&str>) -> String {
        match other {
            Some(other) => self.op("Add", &[&value, other], Vec::new()),
            None => value,
        }
    }

    /// `0, 1, …` up to a count, laid along the axis of `dims` that is -1.
    pub(super) fn positions(&mut self, count: i64, dims: &[i64]) -> String {
        let numbers: Vec<i64> = (0..count).collect();
        let extent = |dim: &i64| usize::try_from(*dim).unwrap_or(numbers.len());
        let dims = dims.iter().map(extent).collect();
        self.constant(&TensorRef::from_i64(dims, &numbers))
    }

    /// Quantizes to bytes by the value's own range; gives the numbers, the scale and the zero point.
    pub(super) fn dynamic_quantize(&mut self, value: &str) -> (String, String, String) {
        let [y, scale, zero] = ["quantized", "scale", "zero"].map(|hint| self.names.fresh(hint));
        self.node(
            "DynamicQuantizeLinear",
            &[value],
            &[&y, &scale, &zero],
            Vec::new(),
        );
        (y, scale, zero)
    }
}
