//! Verdicts of ONNX Runtime, where tract can not run the original.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use onnx_prune::calibrate::write_npz;
use onnx_prune::model::{Model, save};
use onnx_prune::proto::Dtype;
use onnx_prune::run::Tensors;
use onnx_prune::verify::{HALF_TOLERANCE, TOLERANCE};
use serde::Deserialize;

use super::row::Kind;

/// Quantizers round to steps, and what lies between two of them may go either way.
const QUANTIZED_TOLERANCE: f64 = 2e-2;

/// How much of a difference may be rounding: so many times what two ways of running the same model differ by, and that no
/// more than this.
const NOISE: (f64, f64) = (10.0, 1e-3);

/// The three models of one plan, as files.
pub struct OnnxRuntime {
    folder: PathBuf,
    pruned: PathBuf,
    problem: Option<String>,
}

/// The answer of the script.
#[derive(Deserialize)]
struct Answer {
    /// Between the masked original and the pruned model.
    error: Option<f64>,
    /// Between the original and the masked one.
    moved: Option<f64>,
    /// Between two ways of running the masked one.
    #[serde(default)]
    noise: f64,
    /// The model at fault, and what ONNX Runtime says.
    failed: Option<(String, String)>,
}

impl OnnxRuntime {
    /// Whether Python has what the script needs.
    pub fn is_there() -> bool {
        static THERE: OnceLock<bool> = OnceLock::new();
        *THERE.get_or_init(|| {
            let output = Command::new("python3").args(["-c", "import numpy, onnxruntime"]).output();
            output.is_ok_and(|output| output.status.success())
        })
    }

    pub fn new(folder: &Path, original: &Model, masked: &Model, pruned: &Path) -> Self {
        let write = |model: &Model, name: &str| save(model, &folder.join(name)).err().map(|error| error.to_string());
        let problem = write(original, "original.onnx").or_else(|| write(masked, "masked.onnx"));
        OnnxRuntime { folder: folder.to_owned(), pruned: pruned.to_owned(), problem }
    }

    /// Runs all three on the same inputs.
    pub fn compare(&self, inputs: &Tensors, masked: &Model) -> (Kind, Option<f64>, String) {
        let open = |why: String| (Kind::Open, None, why);
        if let Some(problem) = &self.problem {
            return open(problem.clone());
        }
        let data = self.folder.join("inputs.npz");
        if let Err(error) = write_npz(&data, inputs) {
            return open(error.to_string());
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compare_in_onnxruntime.py");
        let names = ["original.onnx", "masked.onnx"].map(|name| self.folder.join(name));
        let output = Command::new("python3").arg(script).args(names).arg(&self.pruned).arg(&data).output();
        let output = match output {
            Ok(output) => output,
            Err(error) => return open(format!("no python3: {error}")),
        };
        let Ok(answer) = serde_json::from_slice::<Answer>(&output.stdout) else {
            let said = String::from_utf8_lossy(&output.stderr);
            return open(said.trim().lines().last().unwrap_or("ONNX Runtime ended without an answer").to_owned());
        };
        let tolerance = tolerance(masked).max(NOISE.0 * answer.noise.min(NOISE.1));
        match answer {
            Answer { failed: Some((which, why)), .. } if which == "original" => open(format!("ONNX Runtime: {why}")),
            Answer { failed: Some((which, why)), .. } if which == "both" => {
                open(format!("neither the masked nor the pruned model runs on this input: {why}"))
            }
            Answer { failed: Some((which, why)), .. } => (Kind::Wrong, None, format!("ONNX Runtime, {which}: {why}")),
            Answer { error: Some(error), moved: Some(moved), .. } => {
                let kind = match () {
                    () if error > tolerance => Kind::Wrong,
                    () if moved <= tolerance => Kind::Weak,
                    () => Kind::Exact,
                };
                (kind, Some(error), "ONNX Runtime".to_owned())
            }
            _ => open("ONNX Runtime gave outputs that are not finite".to_owned()),
        }
    }
}

fn tolerance(model: &Model) -> f64 {
    let marks = ["QuantizeLinear", "DynamicQuantize", "Integer", "QLinear", "QGemm", "QAttention"];
    let quantized = model.index().nodes().any(|(node, _)| marks.iter().any(|mark| model.node(node).op_type().contains(mark)));
    let half = model.index().values().any(|(value, _)| {
        let dtype = model.tensor_proto(value).and_then(|tensor| Dtype::from_code(tensor.data_type()));
        matches!(dtype, Some(Dtype::Float16 | Dtype::Bfloat16))
    });
    match (quantized, half) {
        (true, _) => QUANTIZED_TOLERANCE,
        (_, true) => HALF_TOLERANCE,
        _ => TOLERANCE,
    }
}
