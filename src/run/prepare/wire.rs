//! Making nodes in place of others.

use super::node::{input, with_float, with_int, with_ints};
use crate::model::TensorRef;
use crate::proto::{AttributeProto, Dtype, NodeProto, TensorProto};

/// Names that nothing in the model has.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    made: u64,
}

impl Names {
    /// `taken`: all names of the model.
    pub(super) fn new<'a>(taken: impl Iterator<Item = &'a str>) -> Self {
        // A prefix of one tilde more than any name begins with.
        let tildes = taken
            .map(|name| name.len() - name.trim_start_matches('~').len())
            .max()
            .unwrap_or(0);
        Names {
            prefix: "~".repeat(tildes + 1),
            made: 0,
        }
    }

    pub(super) fn fresh(&mut self, hint: &str) -> String {
        self.made += 1;
        format!(
            "{}{}.{}",
            self.prefix,
            self.made,
            hint.trim_start_matches('~')
        )
    }
}

/// Nodes and constants that take the place of one node.
pub(super) struct Wire<'a> {
    pub(super) names: &'a mut Names,
    /// The version of the standard's operators that new nodes must follow.
    pub(super) opset: i64,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
}

impl<'a> Wire<'a> {
    pub(super) fn new(names: &'a mut Names, opset: i64) -> Self {
        Wire {
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
    pub(super) fn give(&mut self, value: &str, node: &NodeProto, slot: usize) {
        if let Some(output) = super::node::output(node, slot) {
            self.node("Identity", &[value], &[output], Vec::new());
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
        self.op("Cast", &[value], vec![with_int("to", i64::from(to.code()))])
    }

    pub(super) fn transpose(&mut self, value: &str, permutation: &[i64]) -> String {
        self.op("Transpose", &[value], vec![with_ints("perm", permutation)])
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
            vec![with_int("keepdims", i64::from(keep))],
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
            attributes.push(with_ints("axes", axes));
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
                vec![with_int("axis", axis), with_ints("split", sizes)],
            );
        } else {
            let sizes = self.ints(sizes);
            self.node(
                "Split",
                &[value, &sizes],
                &names,
                vec![with_int("axis", axis)],
            );
        }
        outputs
    }

    /// `start..end` of one axis, by steps of `step`.
    pub(super) fn slice(&mut self, value: &str, axis: i64, range: (i64, i64, i64)) -> String {
        let (start, end, step) = range;
        if self.opset < 10 && step == 1 {
            let attributes = vec![
                with_ints("axes", &[axis]),
                with_ints("starts", &[start]),
                with_ints("ends", &[end]),
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
            vec![with_int("axis", -1), with_float("epsilon", epsilon)],
        )
    }

    pub(super) fn dequantize(&mut self, node: &NodeProto, at: usize) -> String {
        self.dequantize_along(node, at, 1)
    }

    /// The value at input `at` by the scale and zero point behind it, which lie along an axis if they are several.
    pub(super) fn dequantize_along(&mut self, node: &NodeProto, at: usize, axis: i64) -> String {
        let inputs: Vec<&str> = (at..at + 3).filter_map(|at| input(node, at)).collect();
        self.op("DequantizeLinear", &inputs, vec![with_int("axis", axis)])
    }

    /// Quantizes `value` by the scale at input `at` and the zero point behind it.
    pub(super) fn quantize(&mut self, value: &str, node: &NodeProto, at: usize) -> String {
        let mut inputs = vec![value];
        inputs.extend((at..at + 2).filter_map(|at| input(node, at)));
        self.op("QuantizeLinear", &inputs, Vec::new())
    }
}
