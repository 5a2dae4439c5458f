//! Units that training with masks left at zero: cleaning takes them out, and no output can tell.

use onnx_prune::analysis::{Granularity, Options, Selection};
use onnx_prune::cost::params;
use onnx_prune::dead::{DeadUnits, clean, spare};
use onnx_prune::model::{Model, TensorRef, ValueId, encoded_len};
use onnx_prune::rng::rng;
use onnx_prune::run::{Tensors, TractRuntime};
use onnx_prune::workspace::Workspace;
use rand::seq::SliceRandom;

use crate::corpus::{Case, corpus_cases, fixture_cases};
use crate::engines;

/// What of a unit is zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Zeroed {
    /// All that goes with it.
    All,
    /// What is multiplied by it.
    Outgoing,
    /// What it is computed from.
    Incoming,
}

/// How far outputs may be apart, as a share of the largest.
pub const ROUNDING: f64 = 1e-4;

/// Half of the units of every group that is not read whole, drawn at random.
fn half(workspace: &Workspace, seed: u64) -> Vec<Vec<u32>> {
    let draw = |group: &onnx_prune::Group| {
        let mut units: Vec<u32> = (0..group.units.len() as u32).collect();
        units.shuffle(&mut rng(seed, &group.id));
        units.truncate(if group.lossy.is_some() {
            0
        } else {
            units.len() / 2
        });
        units.sort_unstable();
        units
    };
    let mut removed: Vec<Vec<u32>> = workspace.analysis.groups.iter().map(draw).collect();
    for (group, units) in removed.iter_mut().enumerate() {
        spare(&workspace.analysis, group, units, &[]);
    }
    removed
}

/// The axes of a constant that products sum over.
fn summed_axes(workspace: &Workspace, value: ValueId) -> Vec<usize> {
    let (model, analysis) = (&workspace.working, &workspace.analysis);
    let mut axes = Vec::new();
    for (node, slot) in &model.index().value(value).readers {
        let relation = &analysis.relations[node.index()];
        let port = onnx_prune::relation::Port::In(*slot);
        let Some(layout) = relation.ports.get(&port) else {
            continue;
        };
        for (axis, layout) in layout.axes.iter().enumerate() {
            let summed = |term: &onnx_prune::relation::Term| {
                layout.labels().any(|label| term.summed.contains(&label))
            };
            if relation.terms.iter().any(summed) {
                axes.push(axis);
            }
        }
    }
    axes
}

/// The model in which the slices of removed units are zero.
fn zeroed(workspace: &Workspace, selection: &Selection, what: Zeroed) -> Model {
    let mut model = workspace.working.clone();
    for (value, _) in workspace.working.index().values() {
        let Some(tensor) = workspace.working.constant(value) else {
            continue;
        };
        let Some(mut numbers) = tensor.to_f32().filter(|_| tensor.dtype.is_float()) else {
            continue;
        };
        let summed = summed_axes(workspace, value);
        let mut changed = false;
        for axis in 0..tensor.dims.len() {
            let wanted = match what {
                Zeroed::All => true,
                Zeroed::Outgoing => summed.contains(&axis),
                Zeroed::Incoming => !summed.contains(&axis),
            };
            let kept = workspace.analysis.kept_axis(value, axis, selection);
            let Some(kept) = kept.filter(|_| wanted) else {
                continue;
            };
            let (length, block) = (
                tensor.dims[axis],
                tensor.dims[axis + 1..].iter().product::<usize>(),
            );
            for (at, number) in numbers.iter_mut().enumerate() {
                if kept.binary_search(&((at / block % length) as u32)).is_err() {
                    *number = 0.0;
                    changed = true;
                }
            }
        }
        if changed {
            let bytes = onnx_prune::linear::encode(tensor.dtype, tensor.dims, &numbers).unwrap();
            let target = model.tensor_proto_mut(value).unwrap();
            *target = bytes.to_proto(target.name.clone().unwrap_or_default().as_str());
        }
    }
    model.reindex().unwrap();
    model
}

/// How far the outputs of two models are apart, as a share of the largest number of each. `None`: the first does not run.
pub fn apart(one: &Model, other: &Model, inputs: &Tensors) -> Option<f64> {
    let tract = TractRuntime::new(true);
    let before = engines::original(&tract, one, inputs).ok()?;
    let session = before.runtime.prepare(other, inputs, &[]);
    let after = session.unwrap().run(inputs).unwrap();
    assert_eq!(before.outputs.len(), after.len());
    let pairs = before.outputs.iter().zip(&after);
    Some(pairs.map(|(a, b)| distance(a, b)).fold(0.0, f64::max))
}

fn distance(one: &TensorRef, other: &TensorRef) -> f64 {
    assert_eq!((&one.dims, one.dtype), (&other.dims, other.dtype));
    let (Some(a), Some(b)) = (one.to_f64(), other.to_f64()) else {
        return if one.bytes == other.bytes { 0.0 } else { 1.0 };
    };
    let largest = a
        .iter()
        .fold(1e-20f64, |most, number| most.max(number.abs()));
    let differs = |(a, b): (f64, f64)| {
        if a == b || (a.is_nan() && b.is_nan()) {
            0.0
        } else {
            (a - b).abs()
        }
    };
    let most = a.into_iter().zip(b).map(differs).fold(0.0f64, f64::max);
    if most.is_nan() { 1.0 } else { most / largest }
}

/// Zeroes half of the units and cleans; says what went. Where all slices are zero the model must come back as narrow as a cut
/// would make it, unless loops and branches hand constants on under other names.
pub fn check(model: &Model, inputs: &Tensors, granularity: Granularity, what: Zeroed) -> DeadUnits {
    let options = Options {
        granularity,
        ..Default::default()
    };
    let workspace = Workspace::new(model, &options).unwrap();
    let removed = half(&workspace, 1);
    let selection = workspace.select(&removed);
    let zeroed = zeroed(&workspace, &selection, what);
    let mut cleaned = zeroed.clone();
    let (_, dead) = clean(&mut cleaned, false, &options).unwrap();
    assert!(encoded_len(&cleaned) <= encoded_len(&zeroed));
    let is_flat = workspace.working.index().graphs().len() == 1;
    if what == Zeroed::All && is_flat {
        let cut = workspace.cut(&selection, &[]).unwrap();
        assert!(
            params(&cleaned) <= params(&cut),
            "{} parameters are left, {} without what is zero",
            params(&cleaned),
            params(&cut)
        );
    }
    if let Some(far) = apart(&zeroed, &cleaned, inputs) {
        assert!(far <= ROUNDING, "{dead}: outputs are {far} apart");
    }
    dead
}

fn check_all(cases: &[Case]) {
    for case in cases {
        for granularity in [Granularity::Coarse, Granularity::Fine] {
            for what in [Zeroed::All, Zeroed::Outgoing, Zeroed::Incoming] {
                let dead = check(&case.model, &case.inputs, granularity, what);
                eprintln!("{} {granularity:?} {what:?}: {dead}", case.name);
                assert!(
                    !dead.is_empty() || what == Zeroed::Incoming,
                    "{}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn fixtures_with_half_of_their_units_at_zero_come_back_half_as_wide() {
    check_all(&fixture_cases());
}

#[test]
fn real_models_with_half_of_their_units_at_zero_come_back_half_as_wide() {
    check_all(&corpus_cases(Some("resnet20_bn,minilm")));
}

#[test]
fn cleaning_keeps_outputs_and_never_makes_a_model_larger() {
    let mut cases = fixture_cases();
    cases.extend(corpus_cases(Some("resnet20_bn,minilm")));
    for case in cases {
        let mut cleaned = case.model.clone();
        let (_, dead) = clean(&mut cleaned, false, &Options::default()).unwrap();
        let far = apart(&case.model, &cleaned, &case.inputs).unwrap();
        eprintln!("{}: {dead}, outputs {far} apart", case.name);
        assert!(far <= ROUNDING, "{}: {far}", case.name);
        assert!(encoded_len(&cleaned) <= encoded_len(&case.model));
        assert!(params(&cleaned) <= params(&case.model));
    }
}
