//! Clean-up that loses nothing: what nothing reads goes, what is equal is stored once, what is constant is not computed.
//!
//! Invariant: graph inputs and outputs stay as they are, and so do the names of all values and nodes that remain. The model
//! computes the same numbers; only folding normalisations changes their rounding, which is why it must be asked for.

mod edit;
mod fold;
mod merge;
mod norm;
mod passthrough;
mod statistics;
mod unused;

pub use edit::is_constant;
pub use passthrough::hand_on;
pub use statistics::fold_statistics;

use std::collections::BTreeMap;

use crate::model::{LoadError, Model, TensorRef, encoded_len};

/// What is done beyond removing, merging and passing through.
#[derive(Clone, Copy, Debug, Default)]
pub struct CleanOptions<'a> {
    /// Values whose contents are known, by name: the nodes that compute them become constants.
    pub contents: Option<&'a BTreeMap<String, TensorRef>>,
    /// Whether BatchNormalization goes into the weights of the Conv, ConvTranspose or Gemm before it.
    pub fold_norms: bool,
}

/// What was cleaned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Nodes that are gone, for whatever reason.
    pub removed_nodes: usize,
    /// Initializers that nothing read, or nothing reads any more.
    pub removed_initializers: usize,
    /// Initializers that were equal to another one (they count as removed, too).
    pub merged: usize,
    /// Nodes whose results are stored instead.
    pub folded: usize,
    /// Normalisations that went into weights.
    pub folded_norms: usize,
    /// Bytes that the file is smaller.
    pub bytes_saved: u64,
}

/// Cleans a model, its subgraphs included. Results that take more room than the nodes that compute them stay computed. Errors:
/// none on a model that loaded.
pub fn clean(model: &mut Model, options: CleanOptions) -> Result<Cleaned, LoadError> {
    if options.contents.is_some() {
        let (mut folded, bytes) = (model.clone(), encoded_len(model));
        let cleaned = passes(&mut folded, options)?;
        if encoded_len(&folded) <= bytes {
            *model = folded;
            return Ok(cleaned);
        }
    }
    let contents = None;
    passes(
        model,
        CleanOptions {
            contents,
            ..options
        },
    )
}

fn passes(model: &mut Model, options: CleanOptions) -> Result<Cleaned, LoadError> {
    let mut cleaned = Cleaned::default();
    let (nodes, bytes) = (model.index().nodes().len(), encoded_len(model));
    if let Some(contents) = options.contents {
        cleaned.folded = fold::constants(model, contents)?;
    }
    passthrough::remove(model)?;
    if options.fold_norms {
        cleaned.folded_norms = norm::fold(model)?;
    }
    cleaned.merged = merge::equal(model)?;
    cleaned.removed_initializers = unused::remove(model)?;
    cleaned.removed_nodes = nodes.saturating_sub(model.index().nodes().len());
    cleaned.bytes_saved = bytes.saturating_sub(encoded_len(model));
    Ok(cleaned)
}

impl std::ops::AddAssign for Cleaned {
    fn add_assign(&mut self, more: Self) {
        self.removed_nodes += more.removed_nodes;
        self.removed_initializers += more.removed_initializers;
        self.merged += more.merged;
        self.folded += more.folded;
        self.folded_norms += more.folded_norms;
        self.bytes_saved += more.bytes_saved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    fn cleaned(text: &str, options: CleanOptions) -> (Model, Cleaned) {
        let mut model = text::model(text).unwrap();
        let cleaned = clean(&mut model, options).unwrap();
        (model, cleaned)
    }

    fn nodes(model: &Model) -> Vec<String> {
        let show = |(id, _)| {
            let node = model.node(id);
            format!(
                "{} = {}({})",
                node.output.join(", "),
                node.op_type(),
                node.input.join(", ")
            )
        };
        model.index().nodes().map(show).collect()
    }

    fn initializers(model: &Model) -> Vec<&str> {
        model
            .proto
            .graph
            .as_ref()
            .unwrap()
            .initializer
            .iter()
            .map(|tensor| tensor.name())
            .collect()
    }

    #[test]
    fn what_nothing_reads_goes_and_captures_stay() {
        let (model, report) = cleaned(
            "
            input x f32[2]
            input c bool[]
            const inside f32[2]
            const unused f32[2]
            kept = Relu(x)
            dead = Relu(x)
            deader = Add(dead, unused)
            z = If(c) {then_branch=@a, else_branch=@b}
            value dead f32[2]
            output z
            graph a
            r = Add(kept, inside)
            lost = Relu(r)
            output r
            end
            graph b
            r = Neg(kept)
            output r
            end
            ",
            CleanOptions::default(),
        );
        assert_eq!(
            nodes(&model),
            [
                "kept = Relu(x)",
                "z = If(c)",
                "r = Add(kept, inside)",
                "r = Neg(kept)"
            ]
        );
        assert_eq!(
            (
                initializers(&model),
                model.proto.graph.as_ref().unwrap().value_info.len()
            ),
            (vec!["inside"], 0)
        );
        assert_eq!((report.removed_nodes, report.removed_initializers), (3, 1));
        assert!(report.bytes_saved > 0);
    }

    #[test]
    fn equal_constants_are_stored_once() {
        let (model, report) = cleaned(
            "
            input x f32[2]
            const a f32[2] = 1, 2
            const b f32[2] = 1, 2
            const c f32[1,2] = 1, 2
            const d f32[2] = 1, 2
            y = Add(x, a)
            z = Mul(y, b)
            w = Mul(z, c)
            output w
            output d
            ",
            CleanOptions::default(),
        );
        assert_eq!(
            nodes(&model),
            ["y = Add(x, a)", "z = Mul(y, a)", "w = Mul(z, c)"]
        );
        assert_eq!(
            (initializers(&model), report.merged),
            (vec!["a", "c", "d"], 1)
        );
    }

    #[test]
    fn what_only_hands_on_goes_but_names_of_outputs_stay() {
        let (model, report) = cleaned(
            "
            input x f32[2]
            const ratio f32[] = 0.5
            const training bool[] = 1
            a = Identity(x)
            b = Identity(a)
            c = Relu(b)
            d, _ = Dropout(c, ratio)
            e, _ = Dropout(d, ratio, training)
            f = Neg(e)
            g = Identity(f)
            h = Identity(g)
            same = Identity(x)
            twice = Identity(f)
            output h
            output same
            output twice
            ",
            CleanOptions::default(),
        );
        let found = nodes(&model);
        assert_eq!(
            found,
            [
                "c = Relu(x)",
                "e,  = Dropout(c, ratio, training)",
                "h = Neg(e)",
                "same = Identity(x)",
                "twice = Identity(h)"
            ]
        );
        assert_eq!(report.removed_nodes, 5);
        assert_eq!(initializers(&model), ["ratio", "training"]);
    }

    #[test]
    fn an_identity_between_a_branch_and_outside_stays() {
        let (model, _) = cleaned(
            "
            input x f32[2]
            input c bool[]
            y = Relu(x)
            z = If(c) {then_branch=@a, else_branch=@b}
            output z
            graph a
            r = Identity(y)
            output r
            end
            graph b
            s = Identity(y)
            r = Neg(s)
            output r
            end
            ",
            CleanOptions::default(),
        );
        assert_eq!(nodes(&model)[2..], ["r = Identity(y)", "r = Neg(y)"]);
    }

    #[test]
    fn known_results_are_stored() {
        let contents = BTreeMap::from([
            ("shape".to_owned(), TensorRef::from_i64(vec![2], &[2, 3])),
            ("n".to_owned(), TensorRef::from_i64(vec![1], &[2])),
            ("target".to_owned(), TensorRef::from_i64(vec![2], &[2, -1])),
        ]);
        let (model, report) = cleaned(
            "
            input x f32[2,3]
            const zero i64[1] = 0
            const minus i64[1] = -1
            shape = Shape(x)
            n = Gather(shape, zero)
            target = Concat(n, minus) {axis=0}
            y = Reshape(x, target)
            output y
            output shape
            ",
            CleanOptions {
                contents: Some(&contents),
                ..Default::default()
            },
        );
        assert_eq!(
            nodes(&model),
            ["shape = Shape(x)", "y = Reshape(x, target)"]
        );
        assert_eq!(
            (initializers(&model), report.folded, report.removed_nodes),
            (vec!["target"], 2, 2)
        );
    }

    #[test]
    fn old_files_lose_the_input_of_an_unused_initializer_and_new_ones_keep_defaults() {
        let text = "
            input x f32[2]
            input w f32[2]
            const w f32[2]
            y = Relu(x)
            output y
            ";
        let (old, _) = cleaned(&format!("ir 3\n{text}"), CleanOptions::default());
        assert_eq!(
            (
                initializers(&old).len(),
                old.proto.graph.as_ref().unwrap().input.len()
            ),
            (0, 1)
        );
        let (new, _) = cleaned(text, CleanOptions::default());
        assert_eq!(
            (
                initializers(&new).len(),
                new.proto.graph.as_ref().unwrap().input.len()
            ),
            (1, 2)
        );
    }

    #[test]
    fn cleaning_a_clean_model_changes_nothing() {
        let text = "
            input x f32[2]
            const w f32[2]
            y = Add(x, w)
            output y
            ";
        let (model, report) = cleaned(
            text,
            CleanOptions {
                fold_norms: true,
                ..Default::default()
            },
        );
        assert_eq!(
            (model.proto, report),
            (text::message(text).unwrap(), Cleaned::default())
        );
    }
}
