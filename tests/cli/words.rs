//! What is said: hints for what was meant, and reasons that name the number.

use super::{code, fixture, program, run};

#[test]
fn what_newcomers_write_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (line, hints) in [
        (
            "prune @digits_cnn.onnx --target macs=0.7",
            &["there is no subcommand 'prune': write onnx-prune MODEL.onnx"][..],
        ),
        ("inspec @digits_cnn.onnx", &["is 'inspect' meant"]),
        (
            "@digits_cnn.onnx --sparsity .3",
            &["--target macs=0.7 is meant", "the command sparsify"],
        ),
        ("@digits_cnn.onnx --dataset x.npz", &["--data PATH"]),
        (
            "@digits_cnn.onnx --nonsense 3",
            &["unexpected argument '--nonsense'"],
        ),
        (
            "@digits_cnn.onnx --only *nothing* --target macs=0.7 --no-verify",
            &[
                "no group of units matches '*nothing*'",
                "the nearest names are",
            ],
        ),
    ] {
        let (status, said) = code(path, line);
        let problems: Vec<&str> = said
            .lines()
            .filter(|line| !line.starts_with("warning: "))
            .collect();
        assert!(
            status == 2 && problems.len() == 1 && !said.contains("-- --"),
            "{line}: {said}"
        );
        hints
            .iter()
            .for_each(|hint| assert!(said.contains(hint), "{line}: {said}"));
    }
    let output = run(
        path,
        "@digits_cnn.onnx -o {}/x.onnx --exclude *nothing* --target macs=0.7 --no-verify",
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.code() == Some(0) && said.contains("no group of units matches '*nothing*'"),
        "{said}"
    );
}

#[test]
fn files_of_other_kinds_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (name, bytes, what) in [
        (
            "m.pt",
            &b"PK\x03\x04\x00\x00\x08\x08archive/data.pkl"[..],
            "a PyTorch file",
        ),
        ("m.onnx.gz", b"\x1f\x8b\x08\x00\x00\x00", "a gzip archive"),
        (
            "m.tflite",
            b"\x1c\x00\x00\x00TFL3\x00\x00",
            "a TensorFlow Lite model",
        ),
        ("m.h5", b"\x89HDF\r\n\x1a\n\x00", "a Keras file"),
        ("m.html", b"<!DOCTYPE html>\n<html>", "a web page"),
        (
            "m.lfs",
            b"version https://git-lfs.github.com/spec/v1\n",
            "a git-lfs pointer",
        ),
    ] {
        std::fs::write(path.join(name), bytes).unwrap();
        let (status, said) = code(path, &format!("inspect {{}}/{name}"));
        assert!(
            status == 2 && said.contains(&format!("this is {what}, not an ONNX model (")),
            "{name}: {said}"
        );
    }
}

#[test]
fn a_quiet_gate_names_threshold_and_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(
        code(
            path,
            "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --no-verify -q"
        )
        .0,
        0
    );
    let (status, said) = code(
        path,
        "verify @digits_cnn.onnx {}/x.onnx --data @digits_test.npz --samples 20 --max-drift 0.0001 -q",
    );
    let value = said.trim_end().rsplit(' ').next().unwrap();
    assert!(
        status == 1 && said.contains("--max-drift 0.0001: ") && value.parse::<f64>().is_ok(),
        "{said}"
    );
}

/// Commands of the README, as they are printed.
#[test]
fn commands_of_the_readme_run() {
    let root = fixture("").parent().unwrap().to_owned();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("cargo run --release -- "))
        .collect();
    assert!(!commands.is_empty());
    for command in commands {
        assert!(
            !command.contains("--data fixtures/digits_test"),
            "calibration and test are apart: {command}"
        );
        let output = program()
            .current_dir(&root)
            .args(command.split_whitespace())
            .arg("--dry-run")
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
