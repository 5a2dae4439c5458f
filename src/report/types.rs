//! The report as data. Field names are a contract with scripts: add, do not rename.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// Everything that one run found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Who made it.
    pub tool: Named,
    /// What was looked at.
    pub model: ModelSummary,
    /// What the model costs.
    pub original: Option<Costs>,
    /// What it costs after pruning; `None` when nothing was pruned.
    pub pruned: Option<Costs>,
    /// Parameters that belong to at least one removable unit.
    pub params_prunable: Option<u64>,
    /// What can be removed together, and how much of it was.
    pub groups: Vec<GroupSummary>,
    /// What can not be removed.
    pub frozen: Vec<FrozenSummary>,
    /// Whether the surgery was right.
    pub exactness: Option<Exactness>,
    /// How far the outputs moved.
    pub drift: Option<Drift>,
    /// The points that the search tried, widest first.
    pub tradeoff: Vec<TradeoffPoint>,
    /// What ran the models.
    pub runtime: Option<Named>,
    /// Seconds by phase, in order.
    pub seconds: Seconds,
    /// The most memory that was in use.
    pub peak_rss_bytes: Option<u64>,
}

/// A program and its version.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Which model a report is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelSummary {
    /// The file.
    pub path: String,
    /// Digest of the file, in hexadecimal digits.
    pub sha256: String,
    /// Version of the format.
    pub ir_version: i64,
    /// Versions of the operator sets, by domain (`ai.onnx` is the empty one).
    pub opset: BTreeMap<String, i64>,
    /// Number of nodes, subgraphs included.
    pub nodes: usize,
}

/// What a model costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Costs {
    /// Multiplications (each with an addition) for one input.
    pub macs: u64,
    /// Numbers in weights.
    pub params: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Time for one input.
    pub latency_ms: Option<f64>,
}

/// Units that span the same axes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GroupSummary {
    /// Its name, stable for a model.
    pub id: String,
    /// `channels`, `heads` …
    pub kind: String,
    /// How many units it has.
    pub units: usize,
    /// How many stay.
    pub kept: usize,
    /// The weights that are cut.
    pub weights: Vec<String>,
    /// Parameters of all its units.
    pub params: u64,
    /// Multiplications of all its units.
    pub macs: u64,
    /// Why removing them changes what the others compute, if it does.
    pub lossy: Option<String>,
}

/// Parameters that can not be removed, for one reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FrozenSummary {
    /// Why.
    pub reason: String,
    /// How many.
    pub params: u64,
    /// The nodes that read them.
    pub nodes: Vec<String>,
}

/// What a check of exactness found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExactnessVerdict {
    /// The pruned model computes what the original computes with the removed slices zeroed.
    Exact,
    /// It does not: a defect of the tool.
    Inexact,
    /// It could not be checked.
    Unverifiable,
    /// It was not to be checked.
    #[default]
    Skipped,
}

/// Whether the surgery was right, whatever the choice of units.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Exactness {
    /// The outcome.
    pub verdict: ExactnessVerdict,
    /// The largest deviation, relative to the largest output.
    pub max_relative_error: Option<f64>,
    /// How many inputs were run.
    pub inputs: usize,
    /// Why it is no plain "exact".
    pub reason: Option<String>,
}

/// What a check of drift found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftVerdict {
    /// Thresholds are met, or none were given.
    Pass,
    /// A threshold is not met.
    Fail,
    /// The models could not be run.
    Unverifiable,
    /// They were not to be run.
    #[default]
    Skipped,
}

/// How far the pruned model's outputs are from the original's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Drift {
    /// The outcome.
    pub verdict: DriftVerdict,
    /// How many samples were run.
    pub inputs: usize,
    /// Whether they were made up.
    pub synthetic: bool,
    /// By output.
    pub outputs: Vec<OutputDrift>,
    /// A metric against labels, if there are any.
    pub labelled: Option<Labelled>,
}

/// How far one output moved.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OutputDrift {
    /// The output.
    pub name: String,
    /// ‖pruned − original‖ / ‖original‖ over all inputs.
    pub relative_l2: f64,
    /// Cosine of the angle between the two.
    pub cosine: f64,
    /// The largest absolute difference.
    pub max_abs: f64,
    /// Share of inputs with the same largest entry, where that means a class.
    pub top1_agreement: Option<f64>,
    /// Mean Kullback–Leibler divergence of the softmax, in nats, likewise.
    pub kl: Option<f64>,
}

/// A metric against labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Labelled {
    /// Its name.
    pub metric: String,
    /// Of the original.
    pub original: f64,
    /// Of the pruned model.
    pub pruned: f64,
}

/// One point that the search tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TradeoffPoint {
    /// Multiplications.
    pub macs: u64,
    /// Parameters.
    pub params: u64,
    /// Bytes.
    pub bytes: u64,
    /// Relative output error; `None` where it was not measured.
    pub drift: Option<f64>,
}

/// Seconds by phase, in the order of the phases.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seconds(pub Vec<(String, f64)>);

impl Seconds {
    /// Adds time to a phase.
    pub fn add(&mut self, phase: &str, seconds: f64) {
        match self.0.iter_mut().find(|(name, _)| name == phase) {
            Some((_, sum)) => *sum += seconds,
            None => self.0.push((phase.to_owned(), seconds)),
        }
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(phase, seconds)| map.serialize_entry(phase, seconds))?;
        map.end()
    }
}
