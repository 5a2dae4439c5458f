//! The command line as scripts see it: exit codes, files, JSON.

mod augment;
mod counts;
mod data;
mod dead;
mod directions;
mod ends;
mod experts;
mod files;
mod kills;
mod padding;
mod quality;
mod runtime;
mod said;
mod sparsify;
mod sweep;
mod tradeoff;
mod train;
mod uniform;
mod vocabulary;
mod words;
mod zeros;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use onnx_prune::calibrate::Statistics;
use onnx_prune::model::{Limits, load};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

fn program() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("onnx-prune"))
}

/// Runs with these arguments, split at spaces; `{}` stands for the folder, `@name` for a fixture.
fn run(folder: &Path, line: &str) -> Output {
    let arguments = line
        .split_whitespace()
        .map(|word| match word.strip_prefix('@') {
            Some(name) => fixture(name).display().to_string(),
            None => word.replace("{}", &folder.display().to_string()),
        });
    program().args(arguments).output().unwrap()
}

fn code(folder: &Path, line: &str) -> (i32, String) {
    let output = run(folder, line);
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Whether two files of a folder hold the same bytes.
fn same(folder: &Path, one: &str, other: &str) -> bool {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    read(one) == read(other)
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
        "sparsify @digits_cnn.onnx -o {}/x.onnx --pattern 4x1",
        "calibrate @digits_cnn.onnx --data {}/missing.npz -o {}/x.stats",
        "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --stats {}/text.onnx",
        "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --score variance",
        "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --units layers --no-verify",
        "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --score {}/missing.json",
    ] {
        let (code, text) = code(path, line);
        assert_eq!(code, 2, "{line}: {text}");
        let problems: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("warning: "))
            .collect();
        assert!(
            problems.len() == 1 && problems[0].starts_with("error: "),
            "{line}: {text}"
        );
    }
    assert!(!path.join("x.onnx").exists());
}

#[test]
fn bad_usage_names_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    for (options, named) in [
        (
            "--score nonsense",
            "available: obs, variance, wanda, taylor, l2",
        ),
        ("--recover nonsense", "available: none"),
        ("--recover distill", "give them with --data"),
        ("--target latency=1.5", "fraction"),
        ("--target latency=0.5 --no-verify", "leave out --no-verify"),
        ("--target macs=1.5", "fraction"),
        ("--align auto --no-verify", "leave out --no-verify"),
        ("--align 0", "or auto"),
        ("--no-verify --max-drift 0.1", "cannot be used with"),
        (
            "--target macs=0.5 --target drift=0.1 --no-verify",
            "leave out --no-verify",
        ),
        ("--nonsense", "unexpected argument"),
    ] {
        let (code, text) = code(
            folder.path(),
            &format!("@digits_cnn.onnx -o {{}}/x.onnx {options}"),
        );
        assert!(
            code == 2 && text.starts_with("error: ") && text.contains(named),
            "{options}: {text}"
        );
    }
    assert_eq!(code(folder.path(), "").0, 2);
}

#[test]
fn whole_layers_go_and_a_plan_takes_them_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_transformer.onnx --data @digits_calibration.npz --samples 64 --force --report {}/r.json";
    let made =
        format!("{line} -o {{}}/x.onnx --units layers --target macs=0.8 --plan-out {{}}/p.json");
    // The outputs move by more than half: only who insists gets the file.
    assert_eq!(code(path, &made).0, 1);
    let report = json(&path.join("r.json"));
    assert_eq!(report["exactness"]["verdict"], "exact");
    let kept: Vec<(u64, u64)> = report["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            (
                group["kept"].as_u64().unwrap(),
                group["units"].as_u64().unwrap(),
            )
        })
        .collect();
    assert!(
        kept.iter().all(|(kept, units)| *kept == 0 || kept == units)
            && kept.iter().any(|(kept, _)| *kept == 0),
        "{kept:?}"
    );
    let nodes = |name: &str| {
        load(&path.join(name), Limits::default())
            .unwrap()
            .index()
            .nodes()
            .count()
    };
    assert!(
        nodes("x.onnx")
            < load(&fixture("digits_transformer.onnx"), Limits::default())
                .unwrap()
                .index()
                .nodes()
                .count()
                - 4
    );
    assert_eq!(
        code(
            path,
            &format!("{line} -o {{}}/y.onnx --units layers --plan {{}}/p.json --recover none")
        )
        .0,
        1
    );
    assert_eq!(
        (
            json(&path.join("r.json"))["exactness"]["verdict"].as_str(),
            nodes("y.onnx")
        ),
        (Some("exact"), nodes("x.onnx"))
    );
}

#[test]
fn the_input_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = path.join("model.onnx");
    std::fs::copy(fixture("digits_cnn.onnx"), &model).unwrap();
    std::fs::hard_link(&model, path.join("other.onnx")).unwrap();
    let before = std::fs::read(&model).unwrap();
    for output in [
        "-o {}/model.onnx",
        "-o {}/../{}/model.onnx",
        "-o {}/other.onnx",
        "--plan-out {}/model.onnx",
        "--report {}/model.onnx",
    ] {
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
    assert_eq!(
        std::fs::read_dir(path).unwrap().count(),
        1,
        "no temporary files stay"
    );
}

#[test]
fn a_run_leaves_its_reports_and_its_plan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --data @digits_test.npz --labels @digits_test_labels.npy --samples 40 \
                --plan-out {}/p.json --report {}/r.json --report {}/r.md --report {}/r.html --report {}/r.xml";
    let output = run(path, line);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
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
        "/io_changed",
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
    assert_eq!(
        (&report["drift"]["inputs"], &report["drift"]["synthetic"]),
        (&Value::from(40), &Value::from(false))
    );
    assert_eq!(
        report["pruned"]["bytes"].as_u64(),
        Some(std::fs::metadata(path.join("x.onnx")).unwrap().len())
    );
    assert!(
        report["seconds"]["load"].is_f64() && report["peak_rss_bytes"].as_u64() > Some(1 << 20)
    );
    assert!(
        std::fs::read_to_string(path.join("r.html"))
            .unwrap()
            .contains("<svg")
    );
    assert!(
        std::fs::read_to_string(path.join("r.xml"))
            .unwrap()
            .contains("failures=\"0\"")
    );
    assert!(
        std::fs::read_to_string(path.join("r.md"))
            .unwrap()
            .starts_with("# ")
    );
    // The plan makes the same model again, mended on the same inputs.
    let again = "@digits_cnn.onnx -o {}/again.onnx --plan {}/p.json --no-verify --data @digits_test.npz --samples 40";
    assert_eq!(code(path, again).0, 0);
    assert_eq!(
        std::fs::read(path.join("x.onnx")).unwrap(),
        std::fs::read(path.join("again.onnx")).unwrap()
    );
}

#[test]
fn verify_is_a_gate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(
        code(
            path,
            &format!("@digits_cnn.onnx -o {{}}/x.onnx {SIZE_ONLY}")
        )
        .0,
        0
    );
    let data = "--data @digits_test.npz --samples 20";
    assert_eq!(
        code(path, &format!("verify @digits_cnn.onnx {{}}/x.onnx {data}")).0,
        0
    );
    assert_eq!(
        code(
            path,
            &format!("verify @digits_cnn.onnx {{}}/x.onnx {data} --max-drift 0.0001")
        )
        .0,
        1
    );
    assert_eq!(
        code(
            path,
            &format!(
                "verify @digits_cnn.onnx @digits_cnn.onnx {data} --max-drift 0 --min-agreement 1"
            )
        )
        .0,
        0
    );
    let output = run(
        path,
        &format!(
            "verify @digits_cnn.onnx {{}}/x.onnx {data} --max-drift 0.0001 --json --report {{}}/r.xml"
        ),
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["drift"]["verdict"], &report["exactness"]["verdict"]),
        (&Value::from("fail"), &Value::from("skipped"))
    );
    assert!(
        std::fs::read_to_string(path.join("r.xml"))
            .unwrap()
            .contains("failures=\"1\"")
    );
    assert!(
        code(path, "verify @digits_cnn.onnx @digits_cnn.onnx")
            .1
            .contains("warning: no --data")
    );
}

#[test]
fn inspect_and_bench_speak_json() {
    let folder = tempfile::tempdir().unwrap();
    let report: Value = serde_json::from_slice(
        &run(folder.path(), "inspect @digits_transformer.onnx --json").stdout,
    )
    .unwrap();
    assert!(report["pruned"].is_null() && report["params_prunable"].as_u64() > Some(10_000));
    let kinds: Vec<_> = report["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["kind"].as_str().unwrap())
        .collect();
    assert!(
        kinds.contains(&"heads") && kinds.contains(&"channels") && !kinds.contains(&"width"),
        "{kinds:?}"
    );
    let output = run(
        folder.path(),
        "bench @digits_lstm.onnx @digits_lstm.onnx --json -q",
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["models"].as_array().unwrap().len(), 2);
    assert!(
        report["models"][1]["latency_ms"].as_f64() > Some(0.0)
            && report["original"]["latency_ms"].is_f64()
    );
}

#[test]
fn dry_runs_write_no_model() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        code(
            folder.path(),
            &format!(
                "@digits_lstm.onnx -o {{}}/x.onnx {SIZE_ONLY} --dry-run --plan-out {{}}/p.json"
            )
        )
        .0,
        0
    );
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
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn help_lists_what_there_is() {
    let output = run(Path::new(""), "--help");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("inspect")
            && text.contains("--target")
            && text.contains("sparsify ")
            && text.contains("calibrate "),
        "{text}"
    );
}

/// Sums over parts of the samples are those over all of them, and pruning by either gives the same model.
#[test]
fn shards_of_statistics_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let data = "--data @digits_calibration.npz --samples 41 -q";
    for (part, file) in [
        ("", "whole"),
        ("--shard 1/3", "1"),
        ("--shard 2/3", "2"),
        ("--shard 3/3", "3"),
    ] {
        assert_eq!(
            code(
                path,
                &format!("calibrate @digits_cnn.onnx {data} {part} -o {{}}/{file}.stats")
            ),
            (0, String::new())
        );
    }
    let model = load(&fixture("digits_cnn.onnx"), Limits::default()).unwrap();
    let read = |file: &str| Statistics::read(&path.join(file), &model.source.sha256()).unwrap();
    let (whole, mut sum) = (read("whole.stats"), read("1.stats"));
    // Eight are in no statistics: they are there to measure on.
    assert_eq!(whole.samples, 33);
    sum.merge(&read("2.stats")).unwrap();
    sum.merge(&read("3.stats")).unwrap();
    assert_eq!((sum.samples, sum.of.len()), (33, whole.of.len()));
    assert!(!whole.of.is_empty());
    for (key, whole) in &whole.of {
        let sum = &sum.of[key];
        let same = |a: f64, b: f64, scale: f64| {
            assert!((a - b).abs() <= 1e-9 * scale, "{key}: {a} and {b}")
        };
        same(whole.rows, sum.rows, 1.0);
        assert!(whole.rows > 0.0);
        whole
            .sum
            .iter()
            .zip(&sum.sum)
            .for_each(|(a, b)| same(*a, *b, a.abs().max(1e-6)));
        for (a, b) in whole.gram.iter().zip(&sum.gram) {
            (0..a.nrows()).for_each(|row| {
                (0..a.ncols()).for_each(|column| {
                    same(
                        a[(row, column)],
                        b[(row, column)],
                        a[(row, column)].abs().max(1e-6),
                    )
                })
            });
        }
    }
    let other = code(
        path,
        "@digits_lstm.onnx --target macs=0.7 --stats {}/whole.stats -o {}/x.onnx",
    );
    assert!(
        other.0 == 2 && other.1.contains("of another model"),
        "{other:?}"
    );
    // No inputs are needed, and the fit by statistics makes up for most of what goes.
    let test = "--data @digits_test.npz --samples 64 --json -q";
    let drift = |name: &str, options: &str| {
        let (code, text) = code(
            path,
            &format!("@digits_cnn.onnx --target macs=0.7 {options} -q -o {{}}/{name}.onnx"),
        );
        assert!(code == 0, "{options}: {text}");
        let output = run(
            path,
            &format!("verify @digits_cnn.onnx {{}}/{name}.onnx {test}"),
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["drift"]["outputs"][0]["relative_l2"]
            .as_f64()
            .unwrap()
    };
    let one = drift("one", "--no-verify --stats {}/whole.stats");
    let shards = drift(
        "shards",
        "--no-verify --stats {}/1.stats --stats {}/2.stats --stats {}/3.stats",
    );
    let bare = drift("bare", "--no-verify --stats {}/whole.stats --recover none");
    assert!(
        (one - shards).abs() < 1e-3 * one.max(1e-3) && one < bare,
        "{one}, {shards}, {bare}"
    );
}

#[test]
fn every_score_prunes_with_and_without_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let data = "--data @digits_calibration.npz --samples 24";
    for score in ["l1", "l2", "bn", "lamp", "geometric-median", "random"] {
        let (code, text) = code(
            path,
            &format!(
                "@digits_cnn.onnx --target macs=0.7 --score {score} --no-verify -q -o {{}}/{score}.onnx"
            ),
        );
        assert!(code == 0, "{score}: {text}");
    }
    for score in ["obs", "variance", "wanda", "l2", "bn", "geometric-median"] {
        let line = format!(
            "@digits_cnn.onnx --target macs=0.7 --score {score} {data} --recover least-squares -q --report {{}}/{score}.json -o {{}}/{score}.onnx"
        );
        let (code, text) = code(path, &line);
        assert!(code == 0, "{score}: {text}");
        assert_eq!(
            json(&path.join(format!("{score}.json")))["exactness"]["verdict"],
            "exact",
            "{score}"
        );
    }
}

/// The user's scores decide which groups are cut, and which units go first.
#[test]
fn scores_of_the_user_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let inspected: Value =
        serde_json::from_slice(&run(path, "inspect @digits_cnn.onnx --json").stdout).unwrap();
    let groups = inspected["groups"].as_array().unwrap();
    let group = groups
        .iter()
        .max_by_key(|group| group["units"].as_u64())
        .unwrap();
    let (id, units) = (
        group["id"].as_str().unwrap(),
        group["units"].as_u64().unwrap(),
    );
    let write = |scores: &[u64], id: &str| {
        let text = serde_json::json!({"groups": [{"id": id, "scores": scores}]}).to_string();
        std::fs::write(path.join("scores.json"), text).unwrap();
    };
    // The last units are worth least.
    write(&(0..units).rev().collect::<Vec<_>>(), id);
    for options in ["--no-verify", "--data @digits_calibration.npz --samples 24"] {
        let line = format!(
            "@digits_cnn.onnx --score {{}}/scores.json --target params=0.9 --force {options} -q --plan-out {{}}/p.json -o {{}}/x.onnx"
        );
        let (_, text) = code(path, &line);
        let plan = json(&path.join("p.json"));
        let cut = plan["groups"].as_array().unwrap();
        assert!(cut.len() == 1 && cut[0]["id"] == id, "{text} {plan}");
        let removed: Vec<u64> = cut[0]["removed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|unit| unit.as_u64().unwrap())
            .collect();
        assert_eq!(
            removed,
            (units - removed.len() as u64..units).collect::<Vec<_>>()
        );
    }
    let refused = |named: &str| {
        let (code, text) = code(
            path,
            "@digits_cnn.onnx --score {}/scores.json --target params=0.9 --no-verify -o {}/y.onnx",
        );
        assert!(code == 2 && text.contains(named), "{text}");
    };
    write(&[1, 2], id);
    refused("2 scores are given");
    write(&[1, 2], "nothing:0");
    refused("'nothing:0', which the model has not");
}
