//! Structures that break pruners: each a graph of a few lines, cut by random plans and held to the masked original, with
//! what must be within reach, so that a structure that freezes again is noticed.

mod attention;
mod control;
mod convolution;
mod experts;
mod microsoft;
mod norms;
mod quantized;
mod recurrent;
mod shapes;

use onnx_prune::allocate::{Align, Ranking};
use onnx_prune::analysis::{Granularity, Options, frozen};
use onnx_prune::model::{Index, Model, TensorRef, text};
use onnx_prune::proto::{Dtype, tensor_shape_proto::dimension, type_proto};
use onnx_prune::rng::rng;
use onnx_prune::run::{Tensors, TractRuntime};
use onnx_prune::score::{Evidence, Random, Score};
use onnx_prune::verify::Verdict;
use onnx_prune::workspace::Workspace;
use rand::Rng;

use crate::engines;

/// A symbol's extent in these tests.
const SYMBOL: usize = 2;

/// What a structure must allow.
struct Structure<'a> {
    text: &'a str,
    /// Percent of the parameters that some unit holds, at least.
    reach: f64,
    /// Numbers of units by group and granularity, sorted, where they matter.
    coarse: &'a [usize],
    fine: &'a [usize],
    allowed: &'a [(&'a str, usize)],
    /// Whether no statistic may change for what stays.
    lossless: bool,
}

impl<'a> Structure<'a> {
    fn new(text: &'a str, reach: f64) -> Self {
        Structure {
            text,
            reach,
            coarse: &[],
            fine: &[],
            allowed: &[],
            lossless: false,
        }
    }

    /// What is to be cut: whole heads or channels.
    fn coarse(mut self, units: &'a [usize]) -> Self {
        self.coarse = units;
        self
    }

    /// What is to be cut along the innermost factors.
    fn fine(mut self, units: &'a [usize]) -> Self {
        self.fine = units;
        self
    }

    /// No cut may change a statistic over what stays.
    fn lossless(mut self) -> Self {
        self.lossless = true;
        self
    }

    /// Inputs and outputs that may shrink.
    fn allow(mut self, axes: &'a [(&'a str, usize)]) -> Self {
        self.allowed = axes;
        self
    }

    /// Cuts lightly and heavily, coarse and fine, with three seeds; something must be proved at either granularity that
    /// cuts anything, and nothing may be wrong.
    fn holds(&self) {
        self.holds_of(
            &text::model(self.text).unwrap_or_else(|error| panic!("{error}\n{}", self.text)),
        );
    }

    /// The same of a model that the text is only a part of.
    fn holds_of(&self, model: &Model) {
        for (granularity, units) in [
            (Granularity::Coarse, self.coarse),
            (Granularity::Fine, self.fine),
        ] {
            let allowed = self
                .allowed
                .iter()
                .map(|(name, axis)| ((*name).to_owned(), *axis))
                .collect();
            let options = Options {
                granularity,
                allowed,
                ..Default::default()
            };
            let prepared = Workspace::new(model, &options).unwrap();
            self.reaches(&prepared, granularity, units);
            let (mut proved, mut skipped) = (0, false);
            for (seed, share) in [(1, 0.2), (2, 0.6), (3, 0.4)] {
                match cut(model, &prepared, share, seed) {
                    Ok(Outcome::Proved) => proved += 1,
                    Ok(Outcome::Open) => {}
                    Ok(Outcome::Skipped) => skipped = true,
                    Err(what) => panic!(
                        "{granularity:?} share {share} seed {seed}: {what}\n{}",
                        self.text
                    ),
                }
            }
            if skipped {
                eprintln!(
                    "SKIP: tract does not run this structure, and python3 has no onnxruntime"
                );
                continue;
            }
            assert!(
                proved > 0 || prepared.analysis.groups.is_empty(),
                "{granularity:?}: nothing proved of\n{}",
                self.text
            );
        }
    }

    /// Checks what is within reach, and that cuts can be carried through, of graphs that the runtime can not run.
    fn analysed(text: &str, reach: f64, units: &[usize]) {
        let model = text::model(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let prepared = Workspace::new(&model, &Options::default()).unwrap();
        Structure::new(text, reach).reaches(&prepared, Granularity::Coarse, units);
        let one = vec![vec![0u32]; prepared.analysis.groups.len()];
        prepared.cut(&prepared.select(&one), &[]).unwrap();
    }

    fn reaches(&self, prepared: &Workspace, granularity: Granularity, units: &[usize]) {
        let analysis = &prepared.analysis;
        let (reached, why) = frozen(
            &prepared.working,
            analysis,
            &prepared.origins,
            &analysis.groups,
        );
        let total = reached + why.iter().map(|frozen| frozen.params).sum::<u64>();
        let percent = 100.0 * reached as f64 / total as f64;
        let groups: Vec<String> = analysis
            .groups
            .iter()
            .map(|group| format!("{} {} {}", group.id, group.kind, group.units.len()))
            .collect();
        let context = || {
            format!(
                "{granularity:?}: {percent:.1} % in reach, {groups:?}, frozen {why:?}\n{}",
                self.text
            )
        };
        assert!(percent >= self.reach, "{}", context());
        assert!(
            !self.lossless || analysis.groups.iter().all(|group| group.lossy.is_none()),
            "{}",
            context()
        );
        if !units.is_empty() {
            let mut found: Vec<usize> = analysis
                .groups
                .iter()
                .map(|group| group.units.len())
                .collect();
            found.sort_unstable();
            assert_eq!(found, units, "{}", context());
        }
    }
}

/// Inputs for what a graph declares: floats, small whole numbers, or truths.
fn inputs(model: &Model, seed: u64) -> Tensors {
    let mut random = rng(seed, "inputs");
    let mut tensors = Tensors::new();
    for input in &model.graph(Index::MAIN).input {
        let Some(type_proto::Value::TensorType(tensor)) =
            input.r#type.as_ref().and_then(|kind| kind.value.as_ref())
        else {
            continue;
        };
        let dims: Vec<usize> = tensor
            .shape
            .iter()
            .flat_map(|shape| &shape.dim)
            .map(|dim| match dim.value {
                Some(dimension::Value::DimValue(number)) => number as usize,
                _ => SYMBOL,
            })
            .collect();
        let count: usize = dims.iter().product();
        let floats: Vec<f32> = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
        let dtype = Dtype::from_code(tensor.elem_type()).unwrap();
        let bytes: Vec<u8> = match dtype {
            Dtype::Float => floats.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Dtype::Double => floats
                .iter()
                .flat_map(|x| f64::from(*x).to_le_bytes())
                .collect(),
            Dtype::Float16 => floats
                .iter()
                .flat_map(|x| half::f16::from_f32(*x).to_le_bytes())
                .collect(),
            Dtype::Bfloat16 => floats
                .iter()
                .flat_map(|x| half::bf16::from_f32(*x).to_le_bytes())
                .collect(),
            Dtype::Int64 => floats
                .iter()
                .flat_map(|x| ((x.abs() * 4.0) as i64).to_le_bytes())
                .collect(),
            Dtype::Bool => vec![1; count],
            other => panic!("no inputs of type {other:?}"),
        };
        tensors.insert(
            input.name().to_owned(),
            TensorRef {
                dtype,
                dims,
                bytes: bytes.into(),
            },
        );
    }
    tensors
}

/// What came of one plan.
enum Outcome {
    Proved,
    /// Nothing to cut, or inputs that are too weak.
    Open,
    /// No runtime here that runs the original.
    Skipped,
}

/// Cuts a share of the units and proves the result exact, in ONNX Runtime where tract does not run the original.
fn cut(model: &Model, prepared: &Workspace, share: f64, seed: u64) -> Result<Outcome, String> {
    let analysis = &prepared.analysis;
    let groups: Vec<usize> = (0..analysis.groups.len()).collect();
    if groups.is_empty() {
        return Ok(Outcome::Open);
    }
    let saliency = Random { seed }.score(
        Evidence {
            model: &prepared.working,
            analysis,
        },
        &analysis.groups,
    );
    let ranking = Ranking::new(prepared.subject(), &groups, &saliency, &Align::Multiple(1));
    let mut choice = ranking.remove(((ranking.len() as f64 * share) as usize).max(1));
    if seed.is_multiple_of(2) {
        crate::branches::take(prepared, &mut choice, seed);
    }
    let selection = ranking.selection(&choice);
    let pruned = prepared
        .cut(&selection, &[])
        .map_err(|error| format!("surgery: {error}"))?;
    prepared
        .check(&pruned, &selection)
        .map_err(|error| format!("check: {error}"))?;
    prepared
        .masked(&selection)
        .map_err(|error| format!("mask: {error}"))?;
    let inputs = inputs(model, seed);
    let runtime = TractRuntime::new(false);
    let ran = match engines::original(&runtime, model, &inputs) {
        Ok(ran) => ran,
        Err(_) if engines::onnxruntime().is_none() => return Ok(Outcome::Skipped),
        Err(error) => return Err(error),
    };
    let (outcome, engine) = engines::judge(&ran, model, prepared, &selection, &pruned, &inputs);
    match &outcome.verdict {
        Verdict::Exact => Ok(Outcome::Proved),
        verdict => Err(format!(
            "{engine}: {verdict:?} {:?} {:?}; removed {:?}",
            outcome.max_relative_error, outcome.reason, choice.removed
        )),
    }
}
