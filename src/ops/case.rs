//! One node to check a rule on: its shapes, its relation as text, and the laws.

mod text;

use super::{Cut, InferError, NodeEdit, NodeView, RewriteError, lookup};
use crate::facts::{Contents, Dim, Element, Fact};
use crate::proto::{AttributeProto, Dtype, NodeProto, TensorProto, attribute_proto::AttributeType};

/// One node with inputs of given types and shapes, described in a chain:
/// `OpCase::op("Conv").at(17).input("2x12x5x5").weight("8x3x3x3").int("group", 4).expect_shapes("2x8x3x3").expect_relation("…")`.
/// Shapes are written `2x3`, names for symbolic extents (`bx3`), `` for scalars; a prefix `i64:` sets the element type.
#[derive(Clone, Debug, Default)]
pub struct OpCase {
    pub(crate) node: NodeProto,
    pub(crate) opset: i64,
    pub(crate) inputs: Vec<Option<CaseInput>>,
    pub(crate) outputs: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct CaseInput {
    pub fact: Fact,
    /// Whether it is an initializer (a weight, or a shape operand with contents).
    pub constant: bool,
}

fn parse(text: &str) -> Fact {
    let (dtype, dims) = match text.split_once(':') {
        Some(("i64", dims)) => (Dtype::Int64, dims),
        Some(("i32", dims)) => (Dtype::Int32, dims),
        Some(("bool", dims)) => (Dtype::Bool, dims),
        Some(("u8", dims)) => (Dtype::Uint8, dims),
        Some(("i8", dims)) => (Dtype::Int8, dims),
        Some(("f16", dims)) => (Dtype::Float16, dims),
        Some(("f64", dims)) => (Dtype::Double, dims),
        _ => (Dtype::Float, text),
    };
    let dim = |part: &str| part.parse().map_or_else(|_| Dim::symbol(part), Dim::Num);
    let shape = if dims.is_empty() {
        Vec::new()
    } else {
        dims.split('x').map(dim).collect()
    };
    Fact::new(Some(dtype), shape)
}

impl OpCase {
    /// An operator of ai.onnx at a recent version.
    pub fn op(op_type: &str) -> Self {
        OpCase {
            node: NodeProto {
                op_type: Some(op_type.into()),
                name: Some("node".into()),
                ..Default::default()
            },
            opset: 21,
            outputs: 1,
            ..Default::default()
        }
    }

    /// Of another domain.
    pub fn domain(mut self, domain: &str) -> Self {
        self.node.domain = Some(domain.into());
        self
    }

    /// At another version.
    pub fn at(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    /// With more than one output.
    pub fn outputs(mut self, count: usize) -> Self {
        self.outputs = count;
        self
    }

    fn push(mut self, input: Option<CaseInput>) -> Self {
        self.inputs.push(input);
        self
    }

    /// The next input, fed at run time.
    pub fn input(self, shape: &str) -> Self {
        self.push(Some(CaseInput {
            fact: parse(shape),
            constant: false,
        }))
    }

    /// The next input, a constant of random numbers.
    pub fn weight(self, shape: &str) -> Self {
        self.push(Some(CaseInput {
            fact: parse(shape),
            constant: true,
        }))
    }

    /// The next input, left out.
    pub fn none(self) -> Self {
        self.push(None)
    }

    /// The next input, a constant list of int64.
    pub fn list(self, numbers: &[i64]) -> Self {
        let fact = Fact::new(Some(Dtype::Int64), vec![Dim::from(numbers.len())]);
        let contents = Contents::ints(numbers.iter().map(|number| Dim::Num(*number)));
        self.push(Some(CaseInput {
            fact: fact.with_contents(contents),
            constant: true,
        }))
    }

    /// The next input, a constant int64 scalar.
    pub fn number(self, number: i64) -> Self {
        let fact = Fact::new(Some(Dtype::Int64), Vec::new());
        self.push(Some(CaseInput {
            fact: fact.with_contents(Contents::ints([Dim::Num(number)])),
            constant: true,
        }))
    }

    /// The next input, with these (possibly symbolic) contents known though it is no constant: what shape chains compute.
    pub fn computed(self, dims: &[Dim]) -> Self {
        let fact = Fact::new(Some(Dtype::Int64), vec![Dim::from(dims.len())]);
        self.push(Some(CaseInput {
            fact: fact.with_contents(Contents::ints(dims.iter().cloned())),
            constant: false,
        }))
    }

    /// The next input, a constant list of floats with known contents.
    pub fn floats(self, numbers: &[f64]) -> Self {
        let fact = Fact::new(Some(Dtype::Float), vec![Dim::from(numbers.len())]);
        let contents = Contents::new(
            numbers
                .iter()
                .map(|number| Element::Float(*number))
                .collect(),
        );
        self.push(Some(CaseInput {
            fact: fact.with_contents(contents),
            constant: true,
        }))
    }

    /// The next input, a constant float scalar.
    pub fn scalar(self, number: f64) -> Self {
        let fact = Fact::new(Some(Dtype::Float), Vec::new());
        self.push(Some(CaseInput {
            fact: fact.with_contents(Contents::new(vec![Element::Float(number)])),
            constant: true,
        }))
    }

    fn attribute(
        mut self,
        name: &str,
        kind: AttributeType,
        set: impl FnOnce(&mut AttributeProto),
    ) -> Self {
        let mut attribute = AttributeProto {
            name: Some(name.into()),
            r#type: Some(kind as i32),
            ..Default::default()
        };
        set(&mut attribute);
        self.node.attribute.push(attribute);
        self
    }

    /// A whole-number attribute.
    pub fn int(self, name: &str, value: i64) -> Self {
        self.attribute(name, AttributeType::Int, |attribute| {
            attribute.i = Some(value)
        })
    }

    /// A list attribute.
    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        self.attribute(name, AttributeType::Ints, |attribute| {
            attribute.ints = values.to_vec()
        })
    }

    /// A real-number attribute.
    pub fn float(self, name: &str, value: f32) -> Self {
        self.attribute(name, AttributeType::Float, |attribute| {
            attribute.f = Some(value)
        })
    }

    /// A text attribute.
    pub fn text(self, name: &str, value: &str) -> Self {
        self.attribute(name, AttributeType::String, |attribute| {
            attribute.s = Some(value.as_bytes().to_vec().into())
        })
    }

    /// A tensor attribute.
    pub fn tensor(self, name: &str, value: TensorProto) -> Self {
        self.attribute(name, AttributeType::Tensor, |attribute| {
            attribute.t = Some(value)
        })
    }

    pub(crate) fn named(&self) -> NodeProto {
        let mut node = self.node.clone();
        node.input = self
            .inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                if input.is_some() {
                    format!("in{at}")
                } else {
                    String::new()
                }
            })
            .collect();
        node.output = (0..self.outputs).map(|at| format!("out{at}")).collect();
        node
    }

    /// Runs a function on the view with all facts inferred.
    pub fn view<T>(&self, use_view: impl FnOnce(&NodeView) -> T) -> T {
        self.inferred(|view, facts| {
            let facts = facts.unwrap_or_else(|error| panic!("{}: {error}", view.node.op_type()));
            use_view(&NodeView {
                outputs: facts.iter().map(Some).collect(),
                ..view.clone()
            })
        })
    }

    /// What does not fit, if something does not.
    pub fn problem(&self) -> Option<String> {
        self.inferred(|_, facts| facts.err().map(|error| error.to_string()))
    }

    fn inferred<T>(
        &self,
        use_facts: impl FnOnce(&NodeView, Result<Vec<Fact>, InferError>) -> T,
    ) -> T {
        let node = self.named();
        let inputs: Vec<Option<&Fact>> = self
            .inputs
            .iter()
            .map(|input| input.as_ref().map(|input| &input.fact))
            .collect();
        let view = NodeView {
            node: &node,
            opset: self.opset,
            inputs,
            outputs: Vec::new(),
            branches: Vec::new(),
            magnitudes: false,
        };
        let operator = lookup(node.domain(), node.op_type())
            .unwrap_or_else(|| panic!("no rule for {}", node.op_type()));
        use_facts(&view, operator.infer(&view))
    }

    /// The outputs' facts.
    pub fn facts(&self) -> Vec<Fact> {
        self.view(|view| {
            view.outputs
                .iter()
                .map(|fact| fact.cloned().unwrap_or_default())
                .collect()
        })
    }

    /// Checks the outputs' shapes, written like the inputs' and separated by spaces.
    pub fn expect_shapes(self, shapes: &str) -> Self {
        let show = |fact: &Fact| {
            fact.shape.as_ref().map_or("?".into(), |shape| {
                shape
                    .iter()
                    .map(Dim::to_string)
                    .collect::<Vec<_>>()
                    .join("x")
            })
        };
        let found = self.facts().iter().map(show).collect::<Vec<_>>().join(" ");
        assert_eq!(found, shapes, "shapes of {}", self.node.op_type());
        self
    }

    /// Checks the first output's contents (whole numbers).
    pub fn expect_contents(self, numbers: &[i64]) -> Self {
        let contents = self.facts()[0]
            .contents
            .clone()
            .and_then(|contents| contents.numbers());
        assert_eq!(
            contents.as_deref(),
            Some(numbers),
            "contents of {}",
            self.node.op_type()
        );
        self
    }

    /// Checks the relation's text.
    pub fn expect_relation(self, text: &str) -> Self {
        let operator =
            lookup(self.node.domain(), self.node.op_type()).unwrap_or_else(|| panic!("no rule"));
        let found = self.view(|view| operator.relate(view).to_string());
        assert_eq!(found, text, "relation of {}", self.node.op_type());
        self.check_laws()
    }

    /// What the rule asks for when of these labels only these indices stay.
    pub fn edit(&self, kept: &[(&str, &[u32])]) -> Result<NodeEdit, RewriteError> {
        let operator =
            lookup(self.node.domain(), self.node.op_type()).unwrap_or_else(|| panic!("no rule"));
        self.view(|view| {
            let relation = operator.relate(view);
            let of = |name: &str| {
                kept.iter()
                    .find(|(label, _)| *label == name)
                    .map(|(_, kept)| (*kept).into())
            };
            let cut = Cut {
                kept: relation
                    .labels
                    .iter()
                    .map(|label| of(&label.name))
                    .collect(),
                relation: &relation,
            };
            let mut edit = NodeEdit::default();
            operator.rewrite(view, &cut, &mut edit).map(|()| edit)
        })
    }
}
