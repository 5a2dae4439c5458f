//! The classical learners of ai.onnx.ml. Their coefficients are attributes, a number per feature, so that features stay; what
//! follows them keeps known shapes.

use super::frozen::{FrozenOperator, outputs, unknown};
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{LabelId, Port, Relation};

/// Binarizer: each element by itself.
struct Binarizer;

impl Operator for Binarizer {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        super::frozen::same(node)
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let mut builder = node.relation();
        let axes: Vec<LabelId> = node
            .shape(0)
            .unwrap_or_default()
            .iter()
            .map(|dim| builder.free("a", dim.clone()))
            .collect();
        builder.port(Port::In(0), "x", axes.clone());
        builder.port(Port::Out(0), "y", axes);
        builder.finish()
    }
}

/// Of the shape of the first input, with another element type.
fn shaped(node: &NodeView, dtype: Option<Dtype>) -> Vec<Fact> {
    outputs(
        node,
        [Fact {
            dtype,
            shape: node.shape(0).map(<[Dim]>::to_vec),
            contents: None,
        }],
    )
}

fn floats(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    Ok(shaped(node, Some(Dtype::Float)))
}

/// How many samples there are: the first axis, or one sample without an axis of its own.
fn samples(node: &NodeView, output: usize) -> Dim {
    match node.shape(0) {
        Some([samples, _]) => samples.clone(),
        Some([_]) => Dim::Num(1),
        _ => node.unknown(output, 0),
    }
}

/// `[samples, targets]`.
fn targets(node: &NodeView, attribute: &str) -> Vec<Fact> {
    let count = node.int(attribute).unwrap_or(1).max(0);
    let dtype = node
        .dtype(0)
        .filter(|dtype| *dtype == Dtype::Double && node.node.op_type() == "TreeEnsemble")
        .unwrap_or(Dtype::Float);
    outputs(
        node,
        [Fact::new(
            Some(dtype),
            vec![samples(node, 0), Dim::Num(count)],
        )],
    )
}

/// How many entries a list attribute has, whatever their type.
fn entries(node: &NodeView, names: &[&str]) -> usize {
    let count = |name: &&str| {
        node.attribute(name).map_or(0, |list| {
            list.ints
                .len()
                .max(list.strings.len())
                .max(list.floats.len())
        })
    };
    names.iter().map(count).max().unwrap_or(0)
}

/// The class of each sample, and `[samples, classes]` scores.
fn classes(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let texts = entries(node, &["classlabels_strings"]);
    let count = texts.max(entries(node, &["classlabels_ints", "classlabels_int64s"]));
    let scores = if count > 0 {
        Dim::from(count)
    } else {
        node.unknown(1, 1)
    };
    let label = if texts > 0 {
        Dtype::String
    } else {
        Dtype::Int64
    };
    Ok(outputs(
        node,
        [
            Fact::new(Some(label), vec![samples(node, 0)]),
            Fact::new(Some(Dtype::Float), vec![samples(node, 0), scores]),
        ],
    ))
}

/// The type that a table of values gives.
fn encoded(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let tables = [
        ("values_int64s", Dtype::Int64),
        ("values_strings", Dtype::String),
        ("values_floats", Dtype::Float),
        ("classes_strings", Dtype::Int64),
    ];
    let dtype = tables
        .into_iter()
        .find(|(name, _)| entries(node, &[name]) > 0)
        .map(|(_, dtype)| dtype);
    let tensor = || Dtype::from_code(node.attribute("values_tensor")?.t.as_ref()?.data_type?);
    Ok(shaped(node, dtype.or_else(tensor)))
}

/// Features picked from the last axis.
fn picked(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let dtype = node.dtype(0);
    let (Some(x), Some(indices)) = (node.shape(0), node.shape(1)) else {
        return Ok(outputs(
            node,
            [Fact {
                dtype,
                ..Fact::default()
            }],
        ));
    };
    let Some((_, outer)) = x.split_last() else {
        return Err(InferError("features of a scalar".into()));
    };
    let mut dims = if outer.is_empty() {
        vec![Dim::Num(1)]
    } else {
        outer.to_vec()
    };
    dims.push(Dim::product(indices));
    Ok(outputs(node, [Fact::new(dtype, dims)]))
}

/// One more axis, of categories.
fn one_hot(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let categories = Dim::from(entries(node, &["cats_int64s", "cats_strings"]));
    let shape = node
        .shape(0)
        .map(|dims| dims.iter().cloned().chain([categories]).collect());
    Ok(outputs(
        node,
        [Fact {
            dtype: Some(Dtype::Float),
            shape,
            contents: None,
        }],
    ))
}

/// Features of all inputs side by side.
fn joined(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let width = node
        .ints("inputdimensions")
        .filter(|sizes| sizes.len() == node.inputs.len());
    let width = width.map_or_else(
        || node.unknown(0, 1),
        |sizes| {
            sizes
                .iter()
                .fold(Dim::Num(0), |sum, size| &sum + &Dim::Num(*size))
        },
    );
    Ok(outputs(
        node,
        [Fact::new(Some(Dtype::Float), vec![samples(node, 0), width])],
    ))
}

const fn rule(op_type: &'static str, operator: &'static dyn Operator) -> Rule {
    Rule::of("ai.onnx.ml", op_type, operator)
}

const COEFFICIENTS: &str = "coefficients are attributes";
const TREES: &str = "trees name features in attributes";
const MAP: &str = "a map holds the values";

static CLASSIFIER: FrozenOperator = FrozenOperator {
    reason: COEFFICIENTS,
    infer: classes,
};
static TABLE: FrozenOperator = FrozenOperator {
    reason: "a table in attributes maps the values",
    infer: encoded,
};
static MAPS: FrozenOperator = FrozenOperator {
    reason: MAP,
    infer: unknown,
};

pub(super) static RULES: &[Rule] = &[
    rule(
        "ArrayFeatureExtractor",
        &FrozenOperator {
            reason: "features are picked by number",
            infer: picked,
        },
    ),
    rule("Binarizer", &Binarizer),
    rule("CastMap", &MAPS),
    rule(
        "CategoryMapper",
        &FrozenOperator {
            reason: "a table in attributes maps the values",
            infer: |node| {
                Ok(shaped(
                    node,
                    Some(if node.dtype(0) == Some(Dtype::String) {
                        Dtype::Int64
                    } else {
                        Dtype::String
                    }),
                ))
            },
        },
    ),
    rule("DictVectorizer", &MAPS),
    rule(
        "FeatureVectorizer",
        &FrozenOperator {
            reason: "feature counts are attributes",
            infer: joined,
        },
    ),
    rule(
        "Imputer",
        &FrozenOperator {
            reason: "imputed values are attributes",
            infer: super::frozen::same,
        },
    ),
    rule("LabelEncoder", &TABLE),
    rule("LinearClassifier", &CLASSIFIER),
    rule(
        "LinearRegressor",
        &FrozenOperator {
            reason: COEFFICIENTS,
            infer: |node| Ok(targets(node, "targets")),
        },
    ),
    rule(
        "Normalizer",
        &FrozenOperator {
            reason: "norm over all features",
            infer: floats,
        },
    ),
    rule(
        "OneHotEncoder",
        &FrozenOperator {
            reason: "categories are attributes",
            infer: one_hot,
        },
    ),
    rule("SVMClassifier", &CLASSIFIER),
    rule(
        "SVMRegressor",
        &FrozenOperator {
            reason: COEFFICIENTS,
            infer: |node| Ok(targets(node, "")),
        },
    ),
    rule(
        "Scaler",
        &FrozenOperator {
            reason: "scales are attributes",
            infer: floats,
        },
    ),
    rule(
        "TreeEnsemble",
        &FrozenOperator {
            reason: TREES,
            infer: |node| Ok(targets(node, "n_targets")),
        },
    ),
    rule(
        "TreeEnsembleClassifier",
        &FrozenOperator {
            reason: TREES,
            infer: classes,
        },
    ),
    rule(
        "TreeEnsembleRegressor",
        &FrozenOperator {
            reason: TREES,
            infer: |node| Ok(targets(node, "n_targets")),
        },
    ),
    rule("ZipMap", &MAPS),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    fn ml(op_type: &str) -> OpCase {
        OpCase::op(op_type).domain("ai.onnx.ml").at(3)
    }

    #[test]
    fn shapes_go_on() {
        ml("Scaler")
            .input("i64:nx4")
            .expect_shapes("nx4")
            .expect_relation("input 0[n, 4] → output 0[n, 4]");
        ml("LinearRegressor")
            .int("targets", 3)
            .input("nx4")
            .expect_shapes("nx3");
        ml("LinearClassifier")
            .ints("classlabels_ints", &[0, 1, 2])
            .outputs(2)
            .input("nx4")
            .expect_shapes("n nx3");
        ml("TreeEnsembleRegressor").input("4").expect_shapes("1x1");
        ml("ArrayFeatureExtractor")
            .input("nx4")
            .list(&[1, 3])
            .expect_shapes("nx2");
        ml("OneHotEncoder")
            .ints("cats_int64s", &[1, 2, 3])
            .input("i64:n")
            .expect_shapes("nx3");
        ml("FeatureVectorizer")
            .ints("inputdimensions", &[4, 5])
            .input("nx4")
            .input("nx5")
            .expect_shapes("nx9");
        ml("ZipMap").input("nx3").expect_shapes("?");
    }

    #[test]
    fn elements_by_themselves() {
        ml("Binarizer")
            .input("nx4")
            .expect_shapes("nx4")
            .expect_relation("x[a, a2] → y[a, a2]");
    }
}
