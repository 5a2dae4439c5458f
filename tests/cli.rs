//! The command line as scripts see it: exit codes, files, JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn program() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("onnx-prune"))
}

/// Runs with these arguments, split at spaces; `{}` stands for the folder, `@name` for a fixture.
fn run(folder: &Path, line: &str) -> Output {
    let arguments = line.split_whitespace().map(|word| match word.strip_prefix('@') {
        Some(name) => fixture(name).display().to_string(),
        None => word.replace("{}", &folder.display().to_string()),
    });
    program().args(arguments).output().unwrap()
}

fn code(folder: &Path, line: &str) -> (i32, String) {
    let output = run(folder, line);
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

const SIZE_ONLY: &str = "--target macs=0.5 --no-verify";

#[test]
fn bad_input_is_one_line_and_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let whole = std::fs::read(fixture("digits_cnn.onnx")).unwrap();
    std::fs::write(path.join("cut.onnx"), &whole[..5000]).unwrap();
    std::fs::write(path.join("text.onnx"), "hello world").unwrap();
    std::fs::write(path.join("empty.onnx"), "").unwrap();
    for line in [
        "{}/missing.onnx",
        "{}/cut.onnx",
        "{}/text.onnx",
        "{}/empty.onnx",
        "{}",
        "inspect {}/missing.onnx",
        "verify @digits_cnn.onnx {}/cut.onnx",
        "bench @digits_cnn.onnx {}/missing.onnx",
        "@digits_cnn.onnx -o {}/no/folder.onnx",
        "@digits_cnn.onnx -o {}/x.onnx --report {}/x.pdf",
        "@digits_cnn.onnx -o {}/x.onnx --data {}/missing.npz",
        "@digits_cnn.onnx -o {}/x.onnx --plan {}/missing.json",
        "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --input nothing=1x2",
        "sparsify @digits_cnn.onnx -o {}/x.onnx --sparsity 0.9",
        "calibrate @digits_cnn.onnx --data x",
    ] {
        let (code, text) = code(path, line);
        assert_eq!(code, 2, "{line}: {text}");
        let problems: Vec<_> = text.lines().filter(|line| !line.starts_with("warning: ")).collect();
        assert!(problems.len() == 1 && problems[0].starts_with("error: "), "{line}: {text}");
    }
    assert!(!path.join("x.onnx").exists());
}

#[test]
fn bad_usage_names_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    for (options, named) in [
        ("--score obs", "available: l2, l1, random"),
        ("--score nonsense", "available: l2, l1, random"),
        ("--recover distill", "available: none"),
        ("--target latency=0.5", "not available"),
        ("--target macs=1.5", "fraction"),
        ("--units layers", "not available"),
        ("--align auto", "not available"),
        ("--no-verify --max-drift 0.1", "cannot be used with"),
        ("--target macs=0.5 --target drift=0.1 --no-verify", "leave out --no-verify"),
        ("--nonsense", "unexpected argument"),
    ] {
        let (code, text) = code(folder.path(), &format!("@digits_cnn.onnx -o {{}}/x.onnx {options}"));
        assert!(code == 2 && text.starts_with("error: ") && text.contains(named), "{options}: {text}");
    }
    assert_eq!(code(folder.path(), "").0, 2);
}

#[test]
fn the_input_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = path.join("model.onnx");
    std::fs::copy(fixture("digits_cnn.onnx"), &model).unwrap();
    std::fs::hard_link(&model, path.join("other.onnx")).unwrap();
    let before = std::fs::read(&model).unwrap();
    for output in ["-o {}/model.onnx", "-o {}/../{}/model.onnx", "-o {}/other.onnx", "--plan-out {}/model.onnx", "--report {}/model.onnx"] {
        let line = format!("{{}}/model.onnx {SIZE_ONLY} --force {output}");
        assert_eq!(code(path, &line).0, 2, "{output}");
    }
    assert_eq!(std::fs::read(&model).unwrap(), before);
    assert_eq!(code(path, &format!("{{}}/model.onnx {SIZE_ONLY}")).0, 0);
    assert!(path.join("model.pruned.onnx").exists());
}

#[test]
fn targets_out_of_reach_are_one_and_written_by_force_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/x.onnx --target macs=0.001 --no-verify -q";
    let (status, text) = code(path, line);
    assert!(status == 1 && text.contains("out of reach"), "{text}");
    assert!(!path.join("x.onnx").exists());
    assert_eq!(code(path, &format!("{line} --force")).0, 1);
    assert!(path.join("x.onnx").exists());
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 1, "no temporary files stay");
}

#[test]
fn a_run_leaves_its_reports_and_its_plan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --data @digits_test.npz --labels @digits_test_labels.npy --samples 40 \
                --plan-out {}/p.json --report {}/r.json --report {}/r.md --report {}/r.html --report {}/r.xml";
    let output = run(path, line);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("parameters"));
    let report = json(&path.join("r.json"));
    for field in [
        "/tool/name",
        "/tool/version",
        "/model/path",
        "/model/sha256",
        "/model/ir_version",
        "/model/opset/ai.onnx",
        "/model/nodes",
        "/original/macs",
        "/original/params",
        "/original/bytes",
        "/original/latency_ms",
        "/pruned/macs",
        "/pruned/latency_ms",
        "/params_prunable",
        "/groups/0/id",
        "/groups/0/kind",
        "/groups/0/units",
        "/groups/0/kept",
        "/groups/0/weights/0",
        "/groups/0/params",
        "/groups/0/macs",
        "/groups/0/lossy",
        "/frozen/0/reason",
        "/frozen/0/params",
        "/frozen/0/nodes/0",
        "/exactness/verdict",
        "/exactness/max_relative_error",
        "/exactness/inputs",
        "/exactness/reason",
        "/drift/verdict",
        "/drift/inputs",
        "/drift/synthetic",
        "/drift/outputs/0/name",
        "/drift/outputs/0/relative_l2",
        "/drift/outputs/0/cosine",
        "/drift/outputs/0/max_abs",
        "/drift/outputs/0/top1_agreement",
        "/drift/outputs/0/kl",
        "/drift/labelled/metric",
        "/drift/labelled/original",
        "/drift/labelled/pruned",
        "/tradeoff",
        "/runtime/name",
        "/runtime/version",
        "/seconds",
        "/peak_rss_bytes",
    ] {
        assert!(report.pointer(field).is_some(), "{field} is missing");
    }
    assert_eq!(report["exactness"]["verdict"], "exact");
    assert_eq!((&report["drift"]["inputs"], &report["drift"]["synthetic"]), (&Value::from(40), &Value::from(false)));
    assert_eq!(report["pruned"]["bytes"].as_u64(), Some(std::fs::metadata(path.join("x.onnx")).unwrap().len()));
    assert!(report["seconds"]["load"].is_f64() && report["peak_rss_bytes"].as_u64() > Some(1 << 20));
    assert!(std::fs::read_to_string(path.join("r.html")).unwrap().contains("<svg"));
    assert!(std::fs::read_to_string(path.join("r.xml")).unwrap().contains("failures=\"0\""));
    assert!(std::fs::read_to_string(path.join("r.md")).unwrap().starts_with("# "));
    // The plan makes the same model again.
    assert_eq!(code(path, "@digits_cnn.onnx -o {}/again.onnx --plan {}/p.json --no-verify").0, 0);
    assert_eq!(std::fs::read(path.join("x.onnx")).unwrap(), std::fs::read(path.join("again.onnx")).unwrap());
}

#[test]
fn verify_is_a_gate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(code(path, &format!("@digits_cnn.onnx -o {{}}/x.onnx {SIZE_ONLY}")).0, 0);
    let data = "--data @digits_test.npz --samples 20";
    assert_eq!(code(path, &format!("verify @digits_cnn.onnx {{}}/x.onnx {data}")).0, 0);
    assert_eq!(code(path, &format!("verify @digits_cnn.onnx {{}}/x.onnx {data} --max-drift 0.0001")).0, 1);
    assert_eq!(code(path, &format!("verify @digits_cnn.onnx @digits_cnn.onnx {data} --max-drift 0 --min-agreement 1")).0, 0);
    let output = run(path, &format!("verify @digits_cnn.onnx {{}}/x.onnx {data} --max-drift 0.0001 --json --report {{}}/r.xml"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["drift"]["verdict"], &report["exactness"]["verdict"]), (&Value::from("fail"), &Value::from("skipped")));
    assert!(std::fs::read_to_string(path.join("r.xml")).unwrap().contains("failures=\"1\""));
    assert!(code(path, "verify @digits_cnn.onnx @digits_cnn.onnx").1.contains("warning: no --data"));
}

#[test]
fn inspect_and_bench_speak_json() {
    let folder = tempfile::tempdir().unwrap();
    let report: Value = serde_json::from_slice(&run(folder.path(), "inspect @digits_transformer.onnx --json").stdout).unwrap();
    assert!(report["pruned"].is_null() && report["params_prunable"].as_u64() > Some(10_000));
    let kinds: Vec<_> = report["groups"].as_array().unwrap().iter().map(|group| group["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"heads") && kinds.contains(&"channels") && !kinds.contains(&"width"), "{kinds:?}");
    let output = run(folder.path(), "bench @digits_lstm.onnx @digits_lstm.onnx --json -q");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["models"].as_array().unwrap().len(), 2);
    assert!(report["models"][1]["latency_ms"].as_f64() > Some(0.0) && report["original"]["latency_ms"].is_f64());
}

#[test]
fn dry_runs_write_no_model() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(folder.path(), &format!("@digits_lstm.onnx -o {{}}/x.onnx {SIZE_ONLY} --dry-run --plan-out {{}}/p.json")).0, 0);
    assert!(!folder.path().join("x.onnx").exists() && folder.path().join("p.json").exists());
}

#[test]
fn a_closed_pipe_is_no_error() {
    for line in ["inspect", "completions", "--help"] {
        let mut command = program();
        command.arg(line);
        match line {
            "inspect" => command.arg(fixture("digits_cnn.onnx")).arg("--json"),
            "completions" => command.arg("bash"),
            _ => &mut command,
        };
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn help_lists_what_there_is() {
    let output = run(Path::new(""), "--help");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("inspect") && text.contains("--target") && !text.contains("sparsify") && !text.contains("calibrate "), "{text}");
}
