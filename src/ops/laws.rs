//! Law 4 on single nodes: `op(cut(x)) = cut(op(mask(x)))`, run on random numbers and random cuts at both granularities.
//!
//! Every axis of every graph input and output may shrink here, so that each free label of the rule is tried. Masks stand
//! where indices are contracted; indices that pass through need none, for they are cut away from the outputs.

use rand::Rng;

use super::case::{CaseInput, OpCase};
use crate::analysis::{Analysis, Granularity, Options, Selection, analyse};
use crate::facts::{Contents, Dim, Element};
use crate::model::{Index, Model, Source, TensorRef, ValueId, normal_domain};
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{Dtype, GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto, type_proto};
use crate::rng::rng;
use crate::run::{Runtime, Tensors, TractRuntime};
use crate::surgery;
use crate::verify::{masked, relative_error};

/// Numbers and cuts tried per granularity.
const SEEDS: u64 = 4;
const TOLERANCE: f64 = 1e-4;

impl OpCase {
    /// Runs law 4; an operator that the runtime lacks is named on standard error and let pass.
    pub fn check_laws(self) -> Self {
        let name = self.node.op_type().to_owned();
        match run(&self) {
            Ok(0) => eprintln!("law 4: {name} @{}: nothing can be cut", self.opset),
            Ok(cuts) => eprintln!("law 4: {name} @{}: {cuts} cuts hold", self.opset),
            Err(Failure::NotRun(reason)) => {
                eprintln!("law 4: {name} @{}: not run: {reason}", self.opset)
            }
            Err(Failure::Broken(what)) => {
                panic!("law 4 of {name} @{}: {what}\n{self:?}", self.opset)
            }
        }
        self
    }
}

enum Failure {
    /// The case cannot be run here.
    NotRun(String),
    /// The rule is wrong.
    Broken(String),
}

fn not_run(reason: impl ToString) -> Failure {
    Failure::NotRun(reason.to_string())
}

/// The inputs of a case with the numbers that a seed gives, another tensor at one of them, and what the runtime makes of them.
pub(super) fn outcome(
    case: &OpCase,
    seed: u64,
    instead: Option<(usize, &TensorRef)>,
) -> Result<(Vec<Option<TensorRef>>, Vec<TensorRef>), String> {
    let mut model = model(case, seed).map_err(|failure| match failure {
        Failure::NotRun(why) | Failure::Broken(why) => why,
    })?;
    if let Some((input, tensor)) = instead {
        let name = format!("in{input}");
        let constant = model.index().main_value(&name);
        let target = constant.and_then(|value| model.tensor_proto_mut(value));
        *target.ok_or("an input that is no constant")? = tensor.to_proto(&name);
    }
    let feeds = feeds(&model, seed);
    let outputs = in_tract(&model, &feeds)?;
    let input = |at: usize| {
        let name = format!("in{at}");
        let fed = feeds.get(&name).cloned();
        fed.or_else(|| model.constant(model.index().main_value(&name)?))
    };
    Ok(((0..case.inputs.len()).map(input).collect(), outputs))
}

/// The number of cuts that were compared.
fn run(case: &OpCase) -> Result<usize, Failure> {
    let mut compared = 0;
    for granularity in [Granularity::Coarse, Granularity::Fine] {
        for seed in 0..SEEDS {
            let model = model(case, seed)?;
            compared += usize::from(hold(
                &in_tract,
                &model,
                &feeds(&model, seed),
                granularity,
                seed,
            )?);
        }
    }
    Ok(compared)
}

/// Holds a random cut of a model, in which every axis of every input and output may shrink, against its mask; whether
/// there was anything to cut.
fn hold(
    run: Run,
    model: &Model,
    whole: &Tensors,
    granularity: Granularity,
    seed: u64,
) -> Result<bool, Failure> {
    let main = model.index().graph(Index::MAIN);
    let ends = main.inputs.iter().chain(&main.outputs);
    // More axes than a tensor has do no harm.
    let allowed = ends
        .flat_map(|end| (0..8).map(|axis| (model.index().value(*end).name.clone(), axis)))
        .collect();
    let analysis = analyse(
        model,
        &Options {
            granularity,
            allowed,
            weightless: true,
            ..Default::default()
        },
    );
    let selection = selection(&analysis, seed);
    if selection.is_empty() {
        return Ok(false);
    }
    let cut = surgery::apply(model, &analysis, &selection, &[])
        .map_err(|error| Failure::Broken(format!("the cut is refused: {error}")))?;
    let masked = masked(model, &analysis, &selection)
        .map_err(|error| Failure::Broken(format!("the mask fails: {error}")))?;
    let kept = kept(model, &analysis, &selection, whole);
    let expected = run(model, whole)
        .and_then(|_| run(&masked, whole))
        .map_err(not_run)?;
    let found = run(&cut, &kept).map_err(|error| match error {
        // Faults of the runtime: it lays out what it computed itself in another way than it reads it, or its own passes contradict
        // each other.
        error if error.contains("not contiguous") || error.contains("Trying to substitute") => {
            Failure::NotRun(error)
        }
        error => Failure::Broken(format!("the cut operator does not run: {error}")),
    })?;
    for (at, ((value, expected), found)) in
        main.outputs.iter().zip(&expected).zip(&found).enumerate()
    {
        let fact = analysis.facts.of(*value);
        if fact.contents.is_some() {
            // Extents, which change with the cut.
            continue;
        }
        if fact.shape.as_ref().is_some_and(|shape| {
            shape
                .iter()
                .zip(&expected.dims)
                .any(|(dim, found)| dim.differs(&Dim::from(*found)))
                || shape.len() != expected.dims.len()
        }) {
            return Err(not_run(
                "the runtime gives another shape than the standard asks for",
            ));
        }
        let expected = select(&analysis, &selection, *value, expected);
        let error = distance(&expected, found);
        if error > TOLERANCE {
            let classes = analysis.classes.classes.iter().zip(0u32..);
            let removed: Vec<_> = classes
                .map(|(class, at)| (class.extent, selection.kept(crate::analysis::ClassId(at))))
                .collect();
            let dims = (&expected.dims, &found.dims);
            return Err(Failure::Broken(format!(
                "output {at} is off by {error:.1e} ({granularity:?}, seed {seed}); shapes {dims:?}, kept (extent, indices) {removed:?}, relation {}",
                analysis.relations[0]
            )));
        }
    }
    Ok(true)
}

fn distance(expected: &TensorRef, found: &TensorRef) -> f64 {
    if expected.dims != found.dims || expected.dtype.is_float() || expected.dtype != found.dtype {
        return relative_error(expected, found, None);
    }
    // One step of a quantized value is rounding.
    let step = if matches!(expected.dtype, Dtype::Int8 | Dtype::Uint8) {
        1
    } else {
        0
    };
    match (expected.to_i64(), found.to_i64()) {
        (Some(a), Some(b)) => {
            if a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= step) {
                0.0
            } else {
                1.0
            }
        }
        _ => relative_error(expected, found, None),
    }
}

/// How a model's outputs are computed.
type Run<'a> = &'a dyn Fn(&Model, &Tensors) -> Result<Vec<TensorRef>, String>;

fn in_tract(model: &Model, feeds: &Tensors) -> Result<Vec<TensorRef>, String> {
    let session = TractRuntime::new(false)
        .prepare(model, feeds, &[])
        .map_err(|error| error.to_string())?;
    session.run(feeds).map_err(|error| error.to_string())
}

/// Removes each unit with a chance of two in five, but never what a class must keep.
fn selection(analysis: &Analysis, seed: u64) -> Selection {
    let mut random = rng(seed, "cut");
    let mut left: Vec<u32> = analysis
        .classes
        .classes
        .iter()
        .map(|class| class.extent)
        .collect();
    let least = |class| analysis.classes.get(class).least();
    let mut removed: Vec<(usize, Vec<u32>)> = Vec::new();
    for (at, group) in analysis.groups.iter().enumerate() {
        let mut units = Vec::new();
        for (unit, elements) in group.units.iter().enumerate() {
            let taken = |class| elements.iter().filter(|(other, _)| *other == class).count() as u32;
            if random.random_bool(0.4)
                && elements
                    .iter()
                    .all(|(class, _)| left[class.index()] >= taken(*class) + least(*class))
            {
                elements
                    .iter()
                    .for_each(|(class, _)| left[class.index()] -= 1);
                units.push(unit as u32);
            }
        }
        if !units.is_empty() {
            removed.push((at, units));
        }
    }
    analysis.select(
        removed
            .iter()
            .map(|(group, units)| (*group, units.as_slice())),
    )
}

fn select(
    analysis: &Analysis,
    selection: &Selection,
    value: ValueId,
    tensor: &TensorRef,
) -> TensorRef {
    let kept: Vec<_> = (0..tensor.dims.len())
        .map(|axis| analysis.kept_axis(value, axis, selection))
        .collect();
    tensor.select(&kept)
}

fn kept(model: &Model, analysis: &Analysis, selection: &Selection, feeds: &Tensors) -> Tensors {
    let main = model.index().graph(Index::MAIN);
    let cut = main.inputs.iter().filter_map(|value| {
        let name = &model.index().value(*value).name;
        Some((
            name.clone(),
            select(analysis, selection, *value, feeds.get(name)?),
        ))
    });
    cut.collect()
}

fn feeds(model: &Model, seed: u64) -> Tensors {
    let graph = model.graph(Index::MAIN);
    let feeds = graph.input.iter().filter_map(|info| {
        let tensor = match info.r#type.as_ref()?.value.as_ref()? {
            type_proto::Value::TensorType(tensor) => tensor,
            _ => return None,
        };
        let dims = tensor
            .shape
            .as_ref()?
            .dim
            .iter()
            .map(|dim| match &dim.value {
                Some(dimension::Value::DimValue(number)) => *number as usize,
                _ => 1,
            });
        Some((
            info.name().to_owned(),
            random(
                Dtype::from_code(tensor.elem_type())?,
                dims.collect(),
                seed,
                info.name(),
            ),
        ))
    });
    feeds.collect()
}

/// Numbers about 0 for even seeds, above 0 for odd ones (logarithms and variances want them); whole numbers are 0 or 1.
fn random(dtype: Dtype, dims: Vec<usize>, seed: u64, name: &str) -> TensorRef {
    let mut random = rng(seed, name);
    let mut normal = || {
        let number = (0..6)
            .map(|_| random.random_range(-0.5..0.5f64))
            .sum::<f64>();
        if seed.is_multiple_of(2) {
            number
        } else {
            number.abs() + 0.1
        }
    };
    let mut bytes = Vec::new();
    for _ in 0..dims.iter().product() {
        let number = normal();
        let whole = i64::from(number > 0.3);
        match dtype {
            Dtype::Float => bytes.extend((number as f32).to_le_bytes()),
            Dtype::Double => bytes.extend(number.to_le_bytes()),
            Dtype::Float16 => bytes.extend(half::f16::from_f64(number).to_le_bytes()),
            Dtype::Int64 => bytes.extend(whole.to_le_bytes()),
            Dtype::Int32 => bytes.extend((whole as i32).to_le_bytes()),
            Dtype::Int8 => bytes.push((number * 30.0) as i8 as u8),
            Dtype::Uint8 => bytes.push((128.0 + number * 30.0) as u8),
            _ => bytes.push(whole as u8),
        }
    }
    TensorRef {
        dtype,
        dims,
        bytes: bytes.into(),
    }
}

/// A symbol stands for the same small extent wherever it occurs.
fn extent(dim: &Dim) -> Option<i64> {
    let name = dim.to_string();
    let simple = name
        .chars()
        .all(|letter| letter.is_alphanumeric() || letter == '_');
    dim.num()
        .or_else(|| simple.then(|| 2 + name.bytes().map(i64::from).sum::<i64>() % 3))
}

fn tensor_of(input: &CaseInput, dims: Vec<usize>, contents: &Contents) -> Option<TensorRef> {
    let numbers = contents.0.iter().map(|element| match element {
        Element::Int(dim) => extent(dim).map(|number| number as f64),
        Element::Float(number) => Some(*number),
        Element::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Element::Unknown => None,
    });
    let numbers: Vec<f64> = numbers.collect::<Option<_>>()?;
    match input.fact.dtype {
        Some(Dtype::Float) => Some(TensorRef::from_f32(
            dims,
            &numbers
                .iter()
                .map(|number| *number as f32)
                .collect::<Vec<_>>(),
        )),
        Some(Dtype::Int64) => Some(TensorRef::from_i64(
            dims,
            &numbers
                .iter()
                .map(|number| *number as i64)
                .collect::<Vec<_>>(),
        )),
        _ => None,
    }
}

/// The case as a model of one node.
fn model(case: &OpCase, seed: u64) -> Result<Model, Failure> {
    let mut case = case.clone();
    let mut graph = GraphProto {
        name: Some("case".into()),
        ..Default::default()
    };
    for (at, input) in case.inputs.iter_mut().enumerate() {
        let Some(input) = input else { continue };
        let name = format!("in{at}");
        let shape = input
            .fact
            .shape
            .as_ref()
            .ok_or_else(|| not_run("an input of unknown rank"))?;
        let dims: Vec<i64> = shape
            .iter()
            .map(extent)
            .collect::<Option<_>>()
            .ok_or_else(|| not_run("extents that are expressions"))?;
        let counts: Vec<usize> = dims.iter().map(|dim| *dim as usize).collect();
        let dtype = input
            .fact
            .dtype
            .ok_or_else(|| not_run("an input of unknown type"))?;
        input.fact.shape = Some(dims.iter().map(|dim| Dim::Num(*dim)).collect());
        match &input.fact.contents {
            Some(contents) => {
                let tensor = tensor_of(input, counts, contents)
                    .ok_or_else(|| not_run("contents that are not known"))?;
                input.fact.contents = crate::facts::contents_of(&tensor);
                graph.initializer.push(tensor.to_proto(&name));
            }
            None if input.constant => graph
                .initializer
                .push(random(dtype, counts, seed, &name).to_proto(&name)),
            None => graph.input.push(info(&name, dtype, Some(&dims))),
        }
    }
    let node = case.named();
    let inferred = {
        let inputs = case
            .inputs
            .iter()
            .map(|input| input.as_ref().map(|input| &input.fact))
            .collect();
        let view = super::NodeView {
            node: &node,
            opset: case.opset,
            inputs,
            outputs: Vec::new(),
            branches: Vec::new(),
            magnitudes: false,
        };
        let operator =
            super::lookup(node.domain(), node.op_type()).ok_or_else(|| not_run("no rule"))?;
        operator.infer(&view).map_err(not_run)?
    };
    for (name, fact) in node.output.iter().zip(&inferred) {
        let dims: Option<Vec<i64>> = fact
            .shape
            .as_ref()
            .and_then(|shape| shape.iter().map(Dim::num).collect());
        graph.output.push(info(
            name,
            fact.dtype.unwrap_or(Dtype::Float),
            dims.as_deref(),
        ));
    }
    let domain = normal_domain(node.domain()).to_owned();
    let import = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.into()),
        version: Some(version),
    };
    let opset_import = if domain.is_empty() {
        vec![import("", case.opset)]
    } else {
        vec![import("", 21), import(&domain, case.opset)]
    };
    graph.node.push(node);
    Model::new(
        ModelProto {
            ir_version: Some(10),
            opset_import,
            graph: Some(graph),
            ..Default::default()
        },
        Source::default(),
    )
    .map_err(not_run)
}

fn info(name: &str, dtype: Dtype, dims: Option<&[i64]>) -> ValueInfoProto {
    ValueInfoProto::tensor(name, dtype.code(), dims)
}

#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod tests;
