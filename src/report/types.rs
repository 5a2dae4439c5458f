//! What a report says, in the form of its JSON. `None` becomes `null`.

use std::collections::BTreeMap;

use super::swept::SweepRow;
use super::verdicts::{CheckVerdict, ExactnessVerdict};
use crate::plan::{ConstantRotation, Fit};
use crate::sparsify::{LeftDense, SparseLayer};
use crate::train::TrainingRecord;
use crate::verify::OutputDrift;
use indexmap::IndexMap;
use serde::{Serialize, Serializer};

/// Everything that is known after a job. Field names are a contract.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Who made it.
    pub tool: NamedValue,
    /// What was done, where it is not the main job: `sparsify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The model that was read.
    pub model: ModelInfo,
    /// What it costs.
    pub original: CostRow,
    /// What the pruned model costs.
    pub pruned: Option<CostRow>,
    /// The shapes of the inputs at which operations are counted.
    pub counted_at: BTreeMap<String, Vec<i64>>,
    /// Nodes whose operations are not counted, for nobody knows how many they take.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uncounted: Vec<UncountedRow>,
    /// Whether the numbers of the inputs decide which branches run, so that operations are a mean over them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mean_of_branches: bool,
    /// Parameters that belong to at least one removable unit.
    pub params_prunable: u64,
    /// What can be removed, and what stays of it.
    pub groups: Vec<GroupRow>,
    /// What cannot, most parameters first.
    pub frozen: Vec<FrozenRow>,
    /// What became of the vocabulary, where tokens went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<VocabularyRow>,
    /// Inputs and outputs whose shape changed.
    pub io_changed: Vec<IoChanged>,
    /// Whether the surgery did what the plan says.
    pub exactness: ExactnessRow,
    /// How far the outputs moved.
    pub drift: DriftRow,
    /// What the model was fed, where it was run.
    pub fed: Option<FedReport>,
    /// How the weights that stay were fitted.
    pub fit: Option<Fit>,
    /// Constants that were brought to another basis before the cut.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<ConstantRotation>,
    /// How they were trained, with the learning curve, where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingRecord>,
    /// Zeros among the weights, where they were put there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<Sparsity>,
    /// Branches of conditions that no input took: nothing in them was measured or checked.
    pub never_ran: Vec<NeverRan>,
    /// The points that were tried, and those that are foreseen, widest first.
    pub tradeoff: Vec<PointRow>,
    /// The least that what may be cut can come down to, where error curves were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least: Option<CostRow>,
    /// The groups that the outputs depend on most, the first of them most, where error curves were measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensitive: Vec<SensitiveRow>,
    /// The models of a sweep, the lightest cut first; what else is told is of the smallest that stands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<SweepRow>,
    /// What was foreseen of the latency, where one was aimed at.
    pub latency: Option<Foreseen>,
    /// What ran the models.
    pub runtime: Option<NamedValue>,
    /// Seconds by phase, in order.
    #[serde(serialize_with = "ordered")]
    pub seconds: IndexMap<String, f64>,
    /// The kernel's high-water mark, mapped file pages included.
    pub peak_rss_bytes: Option<u64>,
    /// Targets and thresholds, and whether they hold.
    pub checks: Vec<Check>,
    /// What was warned of on the way, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What the user should know, one sentence each.
    pub remarks: Vec<String>,
}

/// Zeros among the weights.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sparsity {
    /// How they lie.
    pub pattern: String,
    /// How many there are in the layers below.
    pub zeros: usize,
    /// Weights of these layers.
    pub elements: usize,
    /// Constants that are stored as indices and numbers.
    pub stored_sparse: usize,
    /// Bytes under deflate before and after.
    pub deflated: (Option<u64>, Option<u64>),
    /// What the pattern makes faster.
    pub speed: String,
    /// Constant by constant.
    pub layers: Vec<SparseLayer>,
    /// Weights that stay as they are, and why.
    pub left_dense: Vec<LeftDense>,
}

/// A program and its version.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct NamedValue {
    pub name: String,
    pub version: String,
}

/// What the model is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelInfo {
    /// The file.
    pub path: String,
    /// Digest of the file, where it was asked for.
    pub sha256: Option<String>,
    /// Version of the format.
    pub ir_version: i64,
    /// Versions of operators by domain.
    #[serde(serialize_with = "ordered")]
    pub opset: IndexMap<String, i64>,
    /// Nodes, subgraphs included.
    pub nodes: usize,
}

/// What a model costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CostRow {
    /// Multiply-accumulates of one run; `None` where they were not counted.
    pub macs: Option<u64>,
    /// Elements of weights.
    pub params: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Milliseconds of one run.
    pub latency_ms: Option<f64>,
}

/// A node whose operations are not counted.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct UncountedRow {
    pub node: String,
    pub operator: String,
}

/// Units that span the same axes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupRow {
    /// Its stable name.
    pub id: String,
    /// What its units are.
    pub kind: String,
    /// How many there are.
    pub units: usize,
    /// How many stay.
    pub kept: usize,
    /// The constants that hold its slices.
    pub weights: Vec<String>,
    /// Parameters in all its units together.
    pub params: u64,
    /// Multiply-accumulates that they take part in.
    pub macs: u64,
    /// Why cutting it changes what an operator computes for the rest.
    pub lossy: Option<String>,
}

/// Parameters out of reach for one reason.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct FrozenRow {
    pub reason: String,
    pub params: u64,
    pub nodes: Vec<String>,
    /// The nodes that fixed the axes which could have gone, or the inputs and outputs of the model that have them.
    pub held_by: Vec<String>,
}

/// A vocabulary of which tokens went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VocabularyRow {
    /// Inputs that hold ids, which are counted anew.
    pub inputs: Vec<String>,
    /// Outputs that have an entry for each token that stays.
    pub outputs: Vec<String>,
    /// How many tokens there were.
    pub rows: usize,
    /// How many stay.
    pub kept: usize,
    /// Parameters that went with the others.
    pub params_saved: u64,
    /// Bytes that went with them.
    pub bytes_saved: u64,
}

/// An input or output whose shape changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct IoChanged {
    pub name: String,
    pub from: Vec<ExtentValue>,
    pub to: Vec<ExtentValue>,
}

/// An extent: a number, or the name of one that is known at run time only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum ExtentValue {
    Number(i64),
    Symbol(String),
}

/// Whether the surgery did what the plan says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExactnessRow {
    /// The outcome.
    pub verdict: ExactnessVerdict,
    /// The largest relative error over all outputs and inputs.
    pub max_relative_error: Option<f64>,
    /// How many inputs were run.
    pub inputs: usize,
    /// Why there is no answer.
    pub reason: Option<String>,
}

/// How far the outputs moved.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DriftRow {
    /// Whether it is within what was asked.
    pub verdict: CheckVerdict,
    /// How many inputs there were.
    pub inputs: usize,
    /// How many of them nothing was fitted to or chosen by: where there are such, the figures are of these. `None` where
    /// only two files were compared, of which nothing is known.
    pub held_out: Option<usize>,
    /// Whether what was measured on was made up.
    pub synthetic: bool,
    /// Output by output.
    pub outputs: Vec<OutputDrift>,
    /// A metric that needs labels.
    pub labelled: Option<Labelled>,
}

/// What the model was fed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FedReport {
    /// All of it in a line.
    pub line: String,
    /// How it was prepared; empty where it was taken as it is.
    pub preparation: String,
    /// Input by input.
    pub inputs: Vec<FedInputRow>,
    /// Why it does not seem to be what the model was made for, one sentence each.
    pub doubts: Vec<String>,
}

/// What one input was fed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FedInputRow {
    /// Its name.
    pub name: String,
    /// Extents in one run.
    pub dims: Vec<usize>,
    /// The smallest and the largest number among those that were looked at.
    pub range: Option<(f64, f64)>,
}

/// A branch of a condition that no input took.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NeverRan {
    /// The node whose branch it is.
    pub node: String,
    /// The attribute that holds it.
    pub branch: String,
    /// Units that only it reads.
    pub units: usize,
}

/// A metric of both models.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Labelled {
    pub metric: String,
    pub original: f64,
    pub pruned: f64,
}

/// A point that was tried, or that is foreseen.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct PointRow {
    pub macs: u64,
    pub params: u64,
    pub bytes: u64,
    pub drift: f64,
    /// Whether the drift is foreseen by error curves, and no model was made.
    pub estimated: bool,
    /// What asks for it on the command line; for people.
    #[serde(skip)]
    pub option: String,
}

/// A group that the outputs depend on much.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SensitiveRow {
    /// Its id.
    pub id: String,
    /// How many units it has.
    pub units: usize,
    /// How many of them the drift is for.
    pub removed: usize,
    /// The drift to be expected where these go and nothing else.
    pub drift: f64,
    /// The pattern that leaves it whole.
    pub exclude: String,
    /// The same as an option of the command line; for people.
    #[serde(skip)]
    pub option: String,
}

/// A latency aimed at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Foreseen {
    /// The fraction of the original's that was asked for.
    pub target: f64,
    /// Milliseconds of the original when widths were chosen.
    pub original_ms: f64,
    /// Milliseconds of the pruned model by the table of operators.
    pub predicted_ms: f64,
    /// Milliseconds of the pruned model, run.
    pub measured_ms: f64,
    /// How often the table was corrected by running a candidate.
    pub corrections: usize,
}

/// A target or threshold.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Check {
    /// The option that asks for it: `--target macs=0.5`.
    pub name: String,
    /// What became of it.
    pub verdict: CheckVerdict,
    /// The number found, or what went wrong.
    pub message: String,
}

impl DriftRow {
    /// The output that moved most.
    pub fn worst(&self) -> Option<&OutputDrift> {
        self.outputs
            .iter()
            .max_by(|a, b| a.relative_l2.total_cmp(&b.relative_l2))
    }
}

fn ordered<S: Serializer, V: Serialize>(
    map: &IndexMap<String, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map)
}
