//! The command line's words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::allow_io::AllowIo;
use super::family::SweepArgs;
use super::keep::KeepArgs;
use super::train_args::TrainArgs;
use super::values::{self, EngineName, GoalText, Kinds, Numbers, Pin, Recovery, Scoring, Shard};
use super::views::ViewArgs;
use super::zero_args::ZeroArgs;
use crate::allocate::Align;
use crate::progress::Memory;
use crate::prune::Pattern;
use crate::sparsify::{self, SparseScore};

/// Prune trained ONNX models structurally, and compare the result with the original.
#[derive(Debug, Parser)]
#[command(
    name = "onnx-prune",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit codes: 0 done and thresholds met, 1 target or thresholds not met, 2 bad usage or input, 3 unverifiable, 130 and 143 interrupted."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub prune: Prune,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// What could be pruned, what is frozen and why
    Inspect(Inspect),
    /// How far the outputs of a pruned model moved from the original's
    Verify(Verify),
    /// Lossless clean-up: what nothing reads goes, what is equal is stored once
    Clean(Clean),
    /// Statistics of a model's activations, into a file that --stats takes
    Calibrate(Calibrate),
    /// Latency of models in the runtime, side by side
    Bench(Bench),
    /// Completions for a shell, on stdout
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Sets single weights to zero; the graph stays as it is
    Sparsify(Sparsify),
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// Threads to use; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// The most memory that folding, made-up inputs, or all runs at a time may take, beside what is kept: 4GiB, 500MB; half of
    /// what is free if not given
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub memory: Option<Memory>,
    /// Say more on stderr; twice for much more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// Where inputs come from.
#[derive(Clone, Debug, Args)]
pub(super) struct DataArgs {
    /// Inputs to measure with: .npz (an array per input, batch first), .npy, a folder of images, or ONNX test_data_set_* folders
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// At most so many samples
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub samples: Option<usize>,
    /// Factor for whole-number arrays and images, before mean and std; 1/255 for bytes
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub scale: Option<f64>,
    /// Means to subtract on the channel axis
    #[arg(long, value_name = "A,B,C", value_parser = values::numbers, allow_hyphen_values = true)]
    pub mean: Option<Numbers>,
    /// Standard deviations to divide by on the channel axis
    #[arg(long, value_name = "A,B,C", value_parser = values::numbers)]
    pub std: Option<Numbers>,
    /// Pin the dynamic dimensions of an input, input_ids=1x128; repeatable
    #[arg(long, value_name = "NAME=SHAPE", value_parser = values::pin)]
    pub input: Vec<Pin>,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// What runs models.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct EngineArgs {
    /// What runs the models: auto, tract or ort. auto is tract, and ONNX Runtime for models that tract does not run, where its
    /// library is found: the file that ORT_DYLIB_PATH names, or that of the Python package onnxruntime
    #[arg(long, value_name = "NAME", value_parser = values::engine, default_value = "auto")]
    pub runtime: EngineName,
}

/// When outputs count as near enough.
#[derive(Clone, Debug, Args)]
pub(super) struct Thresholds {
    /// The largest relative output error allowed
    #[arg(long, value_name = "X", value_parser = values::not_negative)]
    pub max_drift: Option<f64>,
    /// The smallest share of samples that must keep their top-1 class (of embeddings: the least correlation of the ranks
    /// of their similarities)
    #[arg(long, value_name = "X", value_parser = values::share)]
    pub min_agreement: Option<f64>,
    /// Accept a result that the runtime could not check
    #[arg(long)]
    pub allow_unverified: bool,
}

/// What a result is judged on.
#[derive(Clone, Debug, Args)]
pub(super) struct JudgedArgs {
    /// Class ids of all samples, for a labelled metric, and for --recover distill to learn from: of --data; of --verify-data where
    /// that is given without --verify-labels, and then not learnt from
    #[arg(long, value_name = "FILE.npy")]
    pub labels: Option<PathBuf>,
    /// Inputs to measure drift, agreement and accuracy on, in the forms of --data and prepared as those; then all of --data
    /// may be fitted to. An eighth of --data, kept apart, if not given
    #[arg(long, value_name = "PATH", conflicts_with = "no_verify")]
    pub verify_data: Option<PathBuf>,
    /// Class ids of all samples of --verify-data
    #[arg(long, value_name = "FILE.npy", requires = "verify_data")]
    pub verify_labels: Option<PathBuf>,
}

/// What is written beside the model, and when.
#[derive(Clone, Debug, Args)]
pub(super) struct OutputArgs {
    /// Save the plan made
    #[arg(long, value_name = "FILE.json")]
    pub plan_out: Option<PathBuf>,
    /// Write a report: .json, .md, .html or .xml (JUnit), by its ending; repeatable
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Do everything but write the model
    #[arg(long)]
    pub dry_run: bool,
    /// Write the model even where targets or thresholds are not met
    #[arg(long)]
    pub force: bool,
}

/// The main job.
#[derive(Clone, Debug, Args)]
pub(super) struct Prune {
    /// The model to prune
    #[arg(value_name = "MODEL.onnx", required = true)]
    pub model: Option<PathBuf>,
    /// Where the pruned model goes; MODEL.pruned.onnx if not given
    #[arg(short, long, value_name = "OUT.onnx")]
    pub output: Option<PathBuf>,
    /// What to reach: macs=0.5, params=0.5, bytes=0.5, latency=0.6 (what remains; latency as measured here), or drift=0.02 (as
    /// small as possible within that output error), or agreement=0.98 (while that share of inputs kept apart keeps its class, or
    /// similarities of embeddings rank so alike); repeatable, all must hold. If not given drift=0.1 with --data, else
    /// drift=0.05 on made-up inputs, and less or nothing where these say too little
    #[arg(long, value_name = "METRIC=VALUE", value_parser = values::goal)]
    pub target: Vec<GoalText>,
    #[command(flatten)]
    pub family: SweepArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub judged: JudgedArgs,
    /// Statistics of the model's activations, made by `onnx-prune calibrate`; repeatable, shards are added
    #[arg(long, value_name = "FILE")]
    pub stats: Vec<PathBuf>,
    /// How units are ranked: obs, variance, wanda (which look at activations, the last two with --data or --stats), taylor
    /// (which takes derivatives, with --data), l2, l1, bn, lamp, geometric-median, random, or FILE.json, your own scores:
    /// {"groups": [{"id": "...", "scores": [a number per unit]}]}, groups that are not named are not cut. obs if not given, on
    /// made-up inputs without --data or --stats; l2 with --no-verify and neither
    #[arg(long, value_name = "NAME", value_parser = values::score)]
    pub score: Option<Scoring>,
    /// How the weights that stay are mended: none, statistics, least-squares, distill (least squares, then training with the
    /// original as teacher; with --data, no labels needed, minutes to an hour); least-squares where obs is the score, else
    /// none, if not given
    #[arg(long, value_name = "NAME", value_parser = values::recovery)]
    pub recover: Option<Recovery>,
    #[command(flatten)]
    pub views: ViewArgs,
    #[command(flatten)]
    pub train: TrainArgs,
    /// Score, cut and recover so many times on the way to the targets (with --data)
    #[arg(long, value_name = "N", value_parser = values::positive, default_value = "1")]
    pub rounds: usize,
    /// Which kinds may go, of channels, heads, head-dims, width, layers, directions (of what is linear, after a change of basis),
    /// experts (of mixtures, with their router's logits); or auto: channels, heads, and with --data layers
    #[arg(long, value_name = "LIST", value_parser = values::kinds, default_value = "channels,heads")]
    pub units: Kinds,
    /// One width for all layers of a kind and size, for runtimes that have one number for them
    #[arg(long, conflicts_with = "plan")]
    pub uniform: bool,
    /// Only groups whose weights or nodes match; repeatable
    #[arg(long, value_name = "GLOB", value_parser = values::pattern)]
    pub only: Vec<Pattern>,
    /// No groups whose weights or nodes match; repeatable
    #[arg(long, value_name = "GLOB", value_parser = values::pattern)]
    pub exclude: Vec<Pattern>,
    #[command(flatten)]
    pub allow: AllowIo,
    #[command(flatten)]
    pub tokens: KeepArgs,
    #[command(flatten)]
    pub zeros: ZeroArgs,
    /// Kept widths are multiples of N; auto measures for each group which of 1, 4, 8 and 16 is cheapest here; 8 in groups of 64
    /// units and more, 4 from 32, if not given
    #[arg(long, value_name = "N|auto", value_parser = values::align)]
    pub align: Option<Align>,
    /// Where measured latencies of operators are kept for --target latency=X and --align auto; a file in the user's cache
    /// folder if not given
    #[arg(long, value_name = "FILE.json")]
    pub latency_table: Option<PathBuf>,
    /// Apply a saved plan
    #[arg(long, value_name = "FILE.json", conflicts_with = "target")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Do not run the models
    #[arg(long, conflicts_with_all = ["max_drift", "min_agreement"])]
    pub no_verify: bool,
    #[command(flatten)]
    pub gate: Thresholds,
    #[command(flatten)]
    pub outputs: OutputArgs,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The model
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    /// Which kinds may go, of channels, heads, head-dims, width, layers, directions, experts; or auto
    #[arg(long, value_name = "LIST", value_parser = values::kinds, default_value = "channels,heads")]
    pub units: Kinds,
    #[command(flatten)]
    pub allow: AllowIo,
    /// Pin the dynamic dimensions of an input, input_ids=1x128; repeatable
    #[arg(long, value_name = "NAME=SHAPE", value_parser = values::pin)]
    pub input: Vec<Pin>,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The original
    #[arg(value_name = "ORIGINAL.onnx")]
    pub original: PathBuf,
    /// What was made of it
    #[arg(value_name = "PRUNED.onnx")]
    pub pruned: PathBuf,
    /// The plan by which it was pruned: says what is left of inputs and outputs that were allowed to shrink
    #[arg(long, value_name = "FILE.json")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Class ids of all samples, for a labelled metric
    #[arg(long, value_name = "FILE.npy", requires = "data")]
    pub labels: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub gate: Thresholds,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Write a report: .json, .md, .html or .xml (JUnit), by its ending; repeatable
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// The models; all take the same inputs
    #[arg(value_name = "MODEL.onnx", required = true)]
    pub models: Vec<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Calibrate {
    /// The model
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    /// Where the statistics go
    #[arg(short, long, value_name = "STATS")]
    pub output: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    /// Only part i of n of the samples; the statistics of all parts add up to those of the whole
    #[arg(long, value_name = "i/n", value_parser = values::shard)]
    pub shard: Option<Shard>,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub allow: AllowIo,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Sparsify {
    /// The model
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    /// Where the sparse model goes; MODEL.sparse.onnx if not given
    #[arg(short, long, value_name = "OUT.onnx")]
    pub output: Option<PathBuf>,
    /// The share of the weights that becomes zero, 0.9; of products with constant weights that are not excluded
    #[arg(long, value_name = "X", value_parser = values::sparsity, required_unless_present_any = ["pattern", "plan"])]
    pub sparsity: Option<f64>,
    /// How zeros lie: none (anywhere), N:M (at most N of M neighbouring input channels stay, 2:4), blocks of rows × input
    /// channels (1x4, 4x1, 16x1), kernel (whole windows)
    #[arg(long, value_name = "PATTERN", default_value = "none")]
    pub pattern: sparsify::SparsityPattern,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub judged: JudgedArgs,
    /// How weights are ranked: obs, sparsegpt, wanda (which look at activations), magnitude (in units of the layer's root mean
    /// square), magnitude-layer (the same share of each layer), magnitude-global. obs with --data, else magnitude, if not given
    #[arg(long, value_name = "NAME")]
    pub score: Option<SparseScore>,
    /// How the weights that stay are fitted: none, statistics, least-squares, distill (least squares, then
    /// training with the original as teacher, zeros kept; with --data); least-squares where inputs are run, if not given
    #[arg(long, value_name = "NAME", value_parser = values::recovery)]
    pub recover: Option<Recovery>,
    #[command(flatten)]
    pub views: ViewArgs,
    #[command(flatten)]
    pub train: TrainArgs,
    /// The same share of zeros in every layer
    #[arg(long)]
    pub uniform: bool,
    /// No weights whose names, or nodes, match; repeatable
    #[arg(long, value_name = "GLOB", value_parser = values::glob)]
    pub exclude: Vec<globset::Glob>,
    /// How zeros are stored: dense, or sparse (as indices and numbers, where that is smaller)
    #[arg(long, value_name = "NAME", value_parser = values::storage, default_value = "dense")]
    pub storage: values::Storage,
    /// Apply a saved plan
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["sparsity", "score", "uniform"])]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Do not run the models
    #[arg(long, conflicts_with_all = ["max_drift", "min_agreement", "data"])]
    pub no_verify: bool,
    #[command(flatten)]
    pub gate: Thresholds,
    #[command(flatten)]
    pub outputs: OutputArgs,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Clean {
    /// The model
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    /// Where the clean model goes
    #[arg(short, long, value_name = "OUT.onnx")]
    pub output: PathBuf,
    /// Also put BatchNormalization into the weights before it, which changes rounding
    #[arg(long)]
    pub fold_norms: bool,
    #[command(flatten)]
    pub common: Common,
}
