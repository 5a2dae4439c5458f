//! What is known of a model that tract may not be able to run yet: by tract's own inference, and by the operators' rules.

use tract_onnx::tract_hir::infer::Factoid;

use super::guard::guard;
use super::skeleton::{analyse, parse_hollow};
use super::tensor::{dtype, from_tract};
use crate::analysis;
use crate::model::{Index, Model, Source};
use crate::proto::ModelProto;
use crate::run::prepare::{Known, kind};
use crate::run::table;

/// Elements of a value whose contents are read.
const LIMIT: usize = 4096;

/// Infers types, shapes and small contents. Operators that tract lacks or gets wrong count as unknown, and so does `If`:
/// both its branches would have to fit.
pub(in crate::run) fn infer(proto: &ModelProto) -> Known {
    let mut known = Known::default();
    let original = proto;
    let mut proto = proto.clone();
    for node in proto.graph.iter_mut().flat_map(|graph| &mut graph.node) {
        if table::problem(node).is_some() || kind(node) == ("", "If") {
            node.op_type = Some("~Unknown".into());
            node.attribute.clear();
        }
        // A mask of truth values is an error to tract, and no shape depends on it.
        if kind(node) == ("", "Attention")
            && let Some(mask) = node.input.get_mut(3)
        {
            mask.clear();
        }
    }
    let Ok(mut parsed) = guard(|| parse_hollow(&proto)) else {
        by_rules(original, &mut known);
        return known;
    };
    let _ = guard(|| {
        analyse(&mut parsed.model);
        Ok(())
    });
    for (name, outlet) in &parsed.outlets {
        let Ok(fact) = parsed.model.outlet_fact(*outlet) else { continue };
        if let Some(theirs) = fact.datum_type.concretize().and_then(dtype) {
            known.dtypes.insert(name.clone(), theirs);
        }
        let dims = fact.shape.concretize().and_then(|dims| dims.iter().map(|dim| dim.to_i64().ok()).collect::<Option<Vec<_>>>());
        if let Some(dims) = dims {
            known.shapes.insert(name.clone(), dims);
        }
        if let Some(value) = fact.value.concretize().filter(|value| value.len() <= LIMIT)
            && let Ok(contents) = guard(|| from_tract(&value))
        {
            known.contents.insert(name.clone(), contents);
        }
    }
    if parsed.outlets.keys().any(|name| !known.shapes.contains_key(name)) {
        by_rules(original, &mut known);
    }
    known
}

/// Adds what the operators' own rules know: tract learns the shapes of some fused operators only when it translates them.
fn by_rules(proto: &ModelProto, known: &mut Known) {
    let mut proto = proto.clone();
    for node in proto.graph.iter_mut().flat_map(|graph| &mut graph.node) {
        // One whose first turns are written out has inputs that are not the operator's.
        if kind(node) == ("", "Loop") {
            node.op_type = Some("~Unknown".into());
            node.attribute.clear();
        }
    }
    let Ok(model) = Model::new(proto, Source::default()) else { return };
    let facts = analysis::infer(&model, &analysis::Pins::new());
    for (value, entry) in model.index().values().filter(|(_, entry)| entry.graph == Index::MAIN) {
        let fact = facts.of(value);
        if let Some(dtype) = fact.dtype {
            known.dtypes.entry(entry.name.clone()).or_insert(dtype);
        }
        let dims: Option<Vec<i64>> = fact.shape.as_ref().and_then(|shape| shape.iter().map(|dim| dim.num()).collect());
        if let Some(dims) = dims {
            known.shapes.entry(entry.name.clone()).or_insert(dims);
        }
    }
}
