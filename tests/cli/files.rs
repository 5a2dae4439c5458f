//! Files: what is refused before the work, what is written and how, what a stop or a kill leaves behind.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use onnx_prune::inputs::read_npz;
use onnx_prune::model::{Limits, load, text};
use onnx_prune::proto::tensor_proto::DataLocation;
use onnx_prune::proto::{ModelProto, StringStringEntryProto};
use prost::Message;

use super::{SIZE_ONLY, code, fixture, program};

/// Quick, and writes a model.
const CUT: &str = "--target macs=0.5 --no-verify --score l2 -q";

/// Two products with wide weights, as a message.
pub fn wide(width: usize) -> ModelProto {
    let text = format!(
        "input x f32[n,16]\nconst a f32[16,{width}]\nconst b f32[{width},{width}]\nconst c f32[{width},4]\nh = MatMul(x, a)\nr = Relu(h)\nk = MatMul(r, b)\ns = Relu(k)\ny = MatMul(s, c)\noutput y"
    );
    text::message(&text).unwrap()
}

/// A model with its weights in `NAME.bin` beside it.
pub fn external(folder: &Path, name: &str, width: usize) -> PathBuf {
    let mut message = wide(width);
    let (mut data, location) = (Vec::new(), format!("{name}.bin"));
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value),
    };
    for tensor in &mut message.graph.as_mut().unwrap().initializer {
        let raw = tensor.raw_data.take().unwrap();
        tensor.external_data = vec![
            entry("location", location.clone()),
            entry("offset", data.len().to_string()),
            entry("length", raw.len().to_string()),
        ];
        tensor.data_location = Some(DataLocation::External as i32);
        data.extend_from_slice(&raw);
    }
    std::fs::write(folder.join(&location), data).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, message.encode_to_vec()).unwrap();
    path
}

/// All files of a folder with their contents.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Exits with 2 within seconds, saying this in one line.
fn refused(folder: &Path, line: &str, said: &str) {
    let start = Instant::now();
    let (code, text) = code(folder, line);
    let problems: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("warning: "))
        .collect();
    assert!(
        code == 2 && problems.len() == 1 && problems[0].contains(said),
        "{line}: {code} {text}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{line} took {:?}",
        start.elapsed()
    );
}

#[test]
fn outputs_are_regular_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    pipe(&path.join("pipe.json"));
    std::fs::create_dir(path.join("folder.json")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket.json")).unwrap();
    symlink("/dev/null", path.join("device.json")).unwrap();
    for (name, what) in [
        ("pipe", "a pipe"),
        ("folder", "a folder"),
        ("socket", "a socket"),
        ("device", "a device"),
    ] {
        for line in [
            "@digits_cnn.onnx -o {}/F.json",
            "@digits_cnn.onnx -o {}/x.onnx --plan-out {}/F.json",
            "clean @digits_cnn.onnx -o {}/F.json",
        ] {
            refused(path, &line.replace('F', name), &format!("this is {what}"));
        }
        for option in ["--report", "--latency-table"] {
            refused(
                path,
                &format!("@digits_cnn.onnx -o {{}}/x.onnx {option} {{}}/{name}.json {SIZE_ONLY}"),
                &format!("this is {what}"),
            );
        }
        refused(
            path,
            &format!("calibrate @digits_cnn.onnx --data @digits_test.npz -o {{}}/{name}.json"),
            &format!("this is {what}"),
        );
        refused(
            path,
            &format!("verify @digits_cnn.onnx @digits_cnn.onnx --report {{}}/{name}.json"),
            &format!("this is {what}"),
        );
    }
    let kind = |name: &str| {
        std::fs::symlink_metadata(path.join(name))
            .unwrap()
            .file_type()
    };
    assert!(
        kind("pipe.json").is_fifo()
            && kind("socket.json").is_socket()
            && kind("device.json").is_symlink()
    );
    refused(
        path,
        "@digits_cnn.onnx -o {}/no/x.onnx",
        "there is no folder",
    );
    refused(
        path,
        "@digits_cnn.onnx -o {}/x.onnx --report {}/no/r.json",
        "there is no folder",
    );
    assert_eq!(names(path).len(), 4, "{:?}", names(path));
}

/// What cannot be written is said before the model is even read, and nothing else is written.
#[test]
fn outputs_are_checked_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("text.onnx"), "no model").unwrap();
    refused(
        path,
        "{}/text.onnx -o {}/x.onnx --plan-out {}",
        "this is a folder",
    );
    // Writing fails in the middle: the disk is full, as far as files of this process go.
    let limited = format!(
        "ulimit -f 1; {} {} -o {} {CUT} --plan-out {}",
        program().get_program().display(),
        fixture("digits_cnn.onnx").display(),
        path.join("x.onnx").display(),
        path.join("p.json").display()
    );
    let output = Command::new("bash")
        .arg("-c")
        .arg(format!("trap '' XFSZ; {limited}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && said.contains("cannot write"),
        "{said}"
    );
    assert_eq!(names(path), ["text.onnx"]);
    // A terminal that takes nothing is an error, so nothing is written either.
    let mut command = program();
    command
        .arg(fixture("digits_cnn.onnx"))
        .args(CUT.replace(" -q", "").split(' '))
        .arg("-o")
        .arg(path.join("x.onnx"));
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    assert_eq!(
        command
            .stdout(full)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .code(),
        Some(2)
    );
    assert_eq!(names(path), ["text.onnx"]);
}

#[test]
fn files_that_are_read_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in [
        "digits_cnn.onnx",
        "digits_test.npz",
        "digits_test_labels.npy",
    ] {
        std::fs::copy(fixture(name), path.join(name)).unwrap();
    }
    std::fs::hard_link(path.join("digits_cnn.onnx"), path.join("hard.onnx")).unwrap();
    symlink("digits_cnn.onnx", path.join("link.onnx")).unwrap();
    symlink("digits_test.npz", path.join("data.json")).unwrap();
    external(path, "m.onnx", 64);
    std::fs::rename(path.join("m.onnx.bin"), path.join("out.onnx.data")).unwrap();
    // Its weights lie in a file that has an output's name.
    let bytes = std::fs::read(path.join("m.onnx")).unwrap();
    let mut message = ModelProto::decode(bytes.as_slice()).unwrap();
    for tensor in &mut message.graph.as_mut().unwrap().initializer {
        tensor.external_data[0].value = Some("out.onnx.data".to_owned());
    }
    std::fs::write(path.join("m.onnx"), message.encode_to_vec()).unwrap();
    assert_eq!(
        code(
            path,
            &format!("{{}}/digits_cnn.onnx -o {{}}/x.onnx {CUT} --plan-out {{}}/p.json")
        )
        .0,
        0
    );
    assert_eq!(
        code(
            path,
            "calibrate {}/digits_cnn.onnx --data {}/digits_test.npz --samples 8 -q -o {}/s.json"
        )
        .0,
        0
    );
    let before = contents(path);
    let model = "{}/digits_cnn.onnx -o";
    for (line, said) in [
        (format!("{model} {{}}/digits_cnn.onnx"), "this is the model"),
        (format!("{model} {{}}/hard.onnx"), "this is the model"),
        (format!("{model} {{}}/link.onnx"), "this is the model"),
        (
            format!("{model} {{}}/y.onnx --latency-table {{}}/link.onnx"),
            "this is the model",
        ),
        (
            format!("{model} {{}}/y.onnx --data {{}}/digits_test.npz --report {{}}/data.json"),
            "this is one of the inputs",
        ),
        (
            format!(
                "{model} {{}}/digits_test_labels.npy --data {{}}/digits_test.npz --labels {{}}/digits_test_labels.npy"
            ),
            "this is the labels",
        ),
        (
            format!("{model} {{}}/y.onnx --plan {{}}/p.json --plan-out {{}}/p.json"),
            "this is the plan",
        ),
        (
            format!("{model} {{}}/s.json --stats {{}}/s.json"),
            "this is one of the statistics",
        ),
        (
            format!("{model} {{}}/y.onnx --score {{}}/p.json --plan-out {{}}/p.json"),
            "this is the file of scores",
        ),
        (
            "{}/m.onnx -o {}/out.onnx.data".to_owned(),
            "this is the model's external data",
        ),
        (
            "clean {}/m.onnx -o {}/out.onnx.data".to_owned(),
            "this is the model's external data",
        ),
        (
            format!("{model} {{}}/y.onnx --report {{}}/r.json --plan-out {{}}/r.json"),
            "would be the same file",
        ),
        (
            format!("{model} {{}}/y.onnx --report {{}}/r.json --report {{}}/./r.json"),
            "would be the same file",
        ),
        (
            format!("{model} {{}}/y.json --latency-table {{}}/y.json"),
            "would be the same file",
        ),
    ] {
        refused(path, &line, said);
        assert!(contents(path) == before, "{line}");
    }
    // The input's weights lie where those of the output used to go.
    assert_eq!(
        code(path, &format!("{{}}/m.onnx -o {{}}/out.onnx {CUT}")).0,
        0
    );
    let after = contents(path);
    assert!(
        before
            .iter()
            .all(|(file, bytes)| after.get(file) == Some(bytes))
    );
    assert!(
        load(&path.join("out.onnx"), Limits::default()).is_ok()
            && load(&path.join("m.onnx"), Limits::default()).is_ok()
    );
}

/// Images and test sets are files that are read; what else lies in their folder is not.
#[test]
fn files_of_a_folder_of_inputs_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let set = path.join("test_data_set_0");
    std::fs::create_dir(&set).unwrap();
    let (_, tensor) = read_npz(&fixture("digits_test.npz"))
        .unwrap()
        .into_iter()
        .next()
        .unwrap();
    let size = tensor.bytes.len() / tensor.dims[0];
    let dims = std::iter::once(1)
        .chain(tensor.dims[1..].iter().copied())
        .collect();
    let one = onnx_prune::model::TensorRef {
        dtype: tensor.dtype,
        dims,
        bytes: tensor.bytes.slice(..size),
    };
    std::fs::write(set.join("input_0.pb"), one.to_proto("x").encode_to_vec()).unwrap();
    symlink("test_data_set_0/input_0.pb", path.join("r.json")).unwrap();
    refused(
        path,
        "@digits_cnn.onnx -o {}/x.onnx --data {} --report {}/r.json",
        "this is one of the inputs",
    );
    std::fs::write(path.join("x.onnx"), "of a run before").unwrap();
    assert_eq!(code(path, "@digits_cnn.onnx -o {}/x.onnx --data {} --target macs=0.9 --score l2 --recover none --force -q").0, 0);
    assert!(load(&path.join("x.onnx"), Limits::default()).is_ok());
}

#[test]
fn links_are_followed_and_modes_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("real")).unwrap();
    std::fs::write(path.join("real/old.onnx"), "old").unwrap();
    std::fs::set_permissions(
        path.join("real/old.onnx"),
        std::fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    symlink("real/old.onnx", path.join("link.onnx")).unwrap();
    symlink("link.onnx", path.join("twice.onnx")).unwrap();
    symlink("real/new.json", path.join("plan.json")).unwrap();
    assert_eq!(
        code(
            path,
            &format!("@digits_cnn.onnx -o {{}}/twice.onnx {CUT} --plan-out {{}}/plan.json")
        )
        .0,
        0
    );
    for link in ["link.onnx", "twice.onnx", "plan.json"] {
        assert!(
            std::fs::symlink_metadata(path.join(link))
                .unwrap()
                .is_symlink(),
            "{link}"
        );
    }
    assert!(
        load(&path.join("real/old.onnx"), Limits::default()).is_ok()
            && path.join("real/new.json").is_file()
    );
    let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().mode() & 0o777;
    assert_eq!(mode("real/old.onnx"), 0o640);
    // New files are as the user wants new files to be.
    for (umask, wanted) in [("077", 0o600), ("027", 0o640), ("022", 0o644)] {
        let model = external(path, "m.onnx", 64);
        let line = format!(
            "umask {umask}; {} {} -o {} {CUT}",
            program().get_program().display(),
            model.display(),
            path.join("n.onnx").display()
        );
        assert!(
            Command::new("bash")
                .arg("-c")
                .arg(line)
                .status()
                .unwrap()
                .success()
        );
        let written: Vec<String> = names(path)
            .into_iter()
            .filter(|name| name.starts_with("n.onnx"))
            .collect();
        assert_eq!(written.len(), 2, "{written:?}");
        written
            .iter()
            .for_each(|name| assert_eq!(mode(name), wanted, "{name} under {umask}"));
        written
            .iter()
            .for_each(|name| std::fs::remove_file(path.join(name)).unwrap());
    }
    // Through a link into another folder, the weights are found as well.
    symlink("real/weights.onnx", path.join("weights.onnx")).unwrap();
    assert_eq!(
        code(path, &format!("{{}}/m.onnx -o {{}}/weights.onnx {CUT}")).0,
        0
    );
    assert_eq!(code(path, "inspect {}/weights.onnx").0, 0);
    assert_eq!(code(path, "inspect {}/real/weights.onnx").0, 0);
    // A file that may not be written is not replaced (root may write all).
    std::fs::set_permissions(
        path.join("real/old.onnx"),
        std::fs::Permissions::from_mode(0o444),
    )
    .unwrap();
    if std::fs::OpenOptions::new()
        .write(true)
        .open(path.join("real/old.onnx"))
        .is_err()
    {
        refused(
            path,
            &format!("@digits_cnn.onnx -o {{}}/link.onnx {CUT}"),
            "cannot write",
        );
    }
}

#[test]
fn inputs_are_regular_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    pipe(&path.join("pipe"));
    std::fs::create_dir(path.join("folder")).unwrap();
    external(path, "m.onnx", 64);
    std::fs::remove_file(path.join("m.onnx.bin")).unwrap();
    pipe(&path.join("m.onnx.bin"));
    refused(path, "inspect {}/m.onnx", "external data file");
    refused(path, "inspect {}/m.onnx", "this is a pipe");
    symlink("/dev/zero", path.join("device")).unwrap();
    let model = "@digits_cnn.onnx -o {}/x.onnx";
    for (name, what) in [
        ("pipe", "this is a pipe"),
        ("device", "this is a device"),
        ("folder", ""),
    ] {
        for line in [
            format!("inspect {{}}/{name}"),
            format!("{{}}/{name} -o {{}}/x.onnx"),
            format!("verify @digits_cnn.onnx {{}}/{name}"),
            format!("{model} --data {{}}/{name}"),
            format!("{model} --data @digits_test.npz --labels {{}}/{name}"),
            format!("{model} --plan {{}}/{name}"),
            format!("{model} --target macs=0.5 --stats {{}}/{name}"),
        ] {
            refused(path, &line, if what.is_empty() { "folder" } else { what });
        }
    }
    // A pipe by its number, as shells write `<(command)`.
    let mut command = program();
    let mut child = command
        .args(["inspect", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.code() == Some(2)
            && String::from_utf8_lossy(&output.stderr).contains("this is a pipe")
    );
}

/// A model or a plan is there if and only if the exit code says so.
#[test]
fn plans_are_written_as_models_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let missed = "@digits_cnn.onnx --data @digits_test.npz --samples 16 --target macs=0.3 --score random --recover none --max-drift 0.0001 -q";
    let files = "-o {}/x.onnx --plan-out {}/p.json --report {}/r.json";
    assert_eq!(code(path, &format!("{missed} {files}")).0, 1);
    assert_eq!(names(path), ["r.json"]);
    assert_eq!(code(path, &format!("{missed} {files} --dry-run")).0, 1);
    assert_eq!(names(path), ["r.json"]);
    assert_eq!(code(path, &format!("{missed} {files} --force")).0, 1);
    assert_eq!(names(path), ["p.json", "r.json", "x.onnx"]);
}

/// The data of the model before go, unless another model refers to them or the run reads them.
#[test]
fn a_model_and_its_data_are_switched_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = external(path, "m.onnx", 64);
    let cut = |from: &str, target: f64| {
        code(
            path,
            &format!("{{}}/{from} -o {{}}/x.onnx --target macs={target} --no-verify --score l2 -q"),
        )
        .0
    };
    let data = || {
        names(path)
            .into_iter()
            .filter(|name| name.starts_with("x.onnx.") && name.ends_with(".data"))
            .collect::<Vec<_>>()
    };
    assert_eq!(cut("m.onnx", 0.5), 0);
    let first = data();
    assert!(first.len() == 1 && load(&path.join("x.onnx"), Limits::default()).is_ok());
    let written = contents(path);
    assert_eq!(cut("m.onnx", 0.5), 0);
    assert!(
        contents(path) == written,
        "the same run writes the same files"
    );
    assert_eq!(cut("m.onnx", 0.7), 0);
    assert!(data().len() == 1 && data() != first);
    // A copy of the model keeps its data.
    std::fs::copy(path.join("x.onnx"), path.join("kept.onnx")).unwrap();
    assert_eq!(cut("kept.onnx", 0.6), 0);
    assert_eq!(data().len(), 2);
    assert!(
        ["x.onnx", "kept.onnx"]
            .iter()
            .all(|name| load(&path.join(name), Limits::default()).is_ok())
    );
    std::fs::remove_file(path.join("kept.onnx")).unwrap();
    // Somebody else's file that is called like data is left alone, for the model does not name it.
    std::fs::write(path.join("x.onnx.0123456789abcdef.data"), "mine").unwrap();
    std::fs::copy(fixture("digits_cnn.onnx"), path.join("whole.onnx")).unwrap();
    assert_eq!(cut("whole.onnx", 0.5), 0);
    assert_eq!(
        data().len(),
        2,
        "one that nobody names any more, and somebody else's: {:?}",
        data()
    );
    assert!(load(&model, Limits::default()).is_ok());
}
