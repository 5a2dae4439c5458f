//! What commands say of their inputs, their engine and their limits.

use onnx_prune::inputs::{Tensors, write_npz};
use onnx_prune::model::{TensorRef, save, text};

use super::{code, run};

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn verify_names_its_engine() {
    let folder = tempfile::tempdir().unwrap();
    let line = "verify @digits_cnn.onnx @digits_cnn.onnx --data @digits_test.npz --samples 4 --runtime tract";
    let said = stdout(&run(folder.path(), line));
    assert!(said.contains("run in tract 0."), "{said}");
}

#[test]
fn calibrate_says_what_it_feeds_and_doubts_it() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        "calibrate @digits_cnn.onnx --data @digits_calibration.npz --samples 16 -o {}/s.stats";
    let said = stdout(&run(folder.path(), line));
    assert!(
        said.contains("inputs: 16 samples → input 1×1×8×8"),
        "{said}"
    );
    // Constants of 0–255 on numbers of 0–1 leave next to nothing of them.
    let (status, said) = code(folder.path(), &format!("{line} --mean 123 --std 58"));
    assert_eq!(status, 0);
    assert!(said.contains("check --scale, --mean and --std"), "{said}");
}

#[test]
fn every_form_of_report_tells_what_was_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let forms = ["json", "md", "html", "xml"];
    let reports: String = forms
        .iter()
        .map(|form| format!(" --report {{}}/r.{form}"))
        .collect();
    let odd = "--data @digits_calibration.npz --samples 16 --mean 123 --std 58 --runtime tract";
    for command in [
        "@digits_cnn.onnx -o {}/x.onnx --target macs=0.9 --score l2 --recover none --force",
        "verify @digits_cnn.onnx @digits_cnn.onnx",
        "sparsify @digits_cnn.onnx -o {}/s.onnx --sparsity 0.1 --score magnitude --recover none --force",
    ] {
        let (status, said) = code(path, &format!("{command} {odd}{reports}"));
        assert!(
            status < 2 && said.contains("warning: the mean 123"),
            "{said}"
        );
        for form in forms {
            let report = std::fs::read_to_string(path.join(format!("r.{form}"))).unwrap();
            assert!(
                report.contains("the mean 123 does not lie among numbers")
                    && report.contains("check --scale, --mean and --std"),
                "{command}: {form}: {report}"
            );
        }
    }
    // What is said to nobody is told of all the same.
    let line = format!("@digits_cnn.onnx -o {{}}/x.onnx --target macs=0.99 --score l2 -q{reports}");
    assert_eq!(code(path, &line), (0, String::new()));
    for form in forms {
        let report = std::fs::read_to_string(path.join(format!("r.{form}"))).unwrap();
        assert!(report.contains("run on made-up inputs"), "{form}: {report}");
    }
}

/// Writes a model with an operator that nobody knows between its products.
fn write_unknown(folder: &std::path::Path) {
    let net = "input x f32[1,16]\nconst a f32[16,32]\nconst c f32[32,32]\nconst b f32[32,4]\n\
               h = MatMul(x, a)\nr = Relu(h)\nz = MatMul(r, c)\nk = my.dom.Foo(z)\nf = Relu(k)\ny = MatMul(f, b)\noutput y";
    save(&text::model(net).unwrap(), &folder.join("m.onnx")).unwrap();
}

#[test]
fn no_engine_is_named_where_none_ran() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_unknown(path);
    let line = "{}/m.onnx -o {}/x.onnx --target macs=0.7 --score l2 --report {}/r.json --report {}/r.md --report {}/r.html";
    let output = run(path, line);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("unverifiable: my.dom:Foo"), "{said}");
    assert!(!said.contains("run in"), "{said}");
    assert!(super::json(&path.join("r.json"))["runtime"].is_null());
    for form in ["md", "html"] {
        let report = std::fs::read_to_string(path.join(format!("r.{form}"))).unwrap();
        assert!(!report.contains("tract 0."), "{report}");
    }
}

#[test]
fn operations_that_are_not_counted_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_unknown(path);
    let wanted = "MACs are of one run with x 1×16, without 2 nodes whose cost is not known, the first of them 'k' (my.dom:Foo)";
    for line in [
        "inspect {}/m.onnx",
        "{}/m.onnx -o {}/x.onnx --target macs=0.7 --score l2",
        "verify {}/m.onnx {}/m.onnx",
    ] {
        let said = stdout(&run(path, line));
        assert!(said.contains(wanted), "{line}: {said}");
    }
    let found: serde_json::Value =
        serde_json::from_str(&stdout(&run(path, "inspect {}/m.onnx --json"))).unwrap();
    let rows = found["uncounted"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0]["operator"], "my.dom:Foo");
    assert_eq!(rows[1]["node"], "y");
    let known = stdout(&run(path, "inspect @digits_cnn.onnx --json"));
    assert!(known.contains("counted_at") && !known.contains("uncounted"));
}

#[test]
fn a_second_model_and_swapped_words_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (line, wanted) in [
        (
            "a.onnx b.onnx",
            "onnx-prune verify a.onnx b.onnx compares two, onnx-prune bench a.onnx b.onnx times them",
        ),
        ("a.onnx inspect", "onnx-prune inspect a.onnx\n"),
        ("a.onnx prune", "write onnx-prune a.onnx to prune\n"),
        ("a.onnx verify b.onnx", "onnx-prune verify a.onnx b.onnx\n"),
    ] {
        let (status, said) = code(path, line);
        assert_eq!((status, said.lines().count()), (2, 1), "{said}");
        assert!(
            said.starts_with("error: ") && said.contains(wanted),
            "{said}"
        );
    }
}

#[test]
fn a_size_that_needs_runs_is_not_called_a_search_for_a_drift() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = "opset 18\ninput x f32[1,4,6,6]\nconst a f32[8,4,3,3]\nconst b f32[4,8,1,1]\nc = Conv(x, a)\np = LpPool(c) {kernel_shape=[2,2], p=3}\ny = Conv(p, b)\noutput y";
    save(&text::model(model).unwrap(), &path.join("m.onnx")).unwrap();
    let line = "{}/m.onnx -o {}/x.onnx --target macs=0.7 --score obs --runtime tract";
    let (status, said) = code(path, line);
    assert_eq!(status, 3, "{said}");
    assert!(
        said.contains("--score l2") && !said.contains("search for a drift"),
        "{said}"
    );
    assert!(!path.join("x.onnx").exists());
}

#[test]
fn an_input_of_unknown_rank_is_counted_at_the_shape_of_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let net = "input x f32[n,12]\nconst a f32[12,32]\nconst b f32[32,4]\nh = MatMul(x, a)\nr = Relu(h)\ny = MatMul(r, b)\noutput y";
    let mut model = text::model(net).unwrap();
    let input = &mut model.proto.graph.as_mut().unwrap().input[0];
    let Some(onnx_prune::proto::type_proto::Value::TensorType(tensor)) =
        input.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    else {
        panic!("x is a tensor")
    };
    tensor.shape = None;
    save(&model, &path.join("m.onnx")).unwrap();
    let numbers: Vec<f32> = (0..64 * 12).map(|at| (at as f32 * 0.7).sin()).collect();
    let inputs = Tensors::from([("x".to_owned(), TensorRef::from_f32(vec![64, 12], &numbers))]);
    write_npz(&path.join("d.npz"), &inputs).unwrap();
    let said = stdout(&run(
        path,
        "{}/m.onnx -o {}/x.onnx --target macs=0.5 --data {}/d.npz --force",
    ));
    assert!(
        said.contains("MACs are of one run with x 1×12") && said.contains("512"),
        "{said}"
    );
}

#[test]
fn what_is_counted_is_what_is_fed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Windows of 40 on sequences of any length; the state's samples are those of the sequence.
    let net = "input x f32[p,1,q]\ninput h f32[1,m,6]\nconst k f32[5,1,40]\nconst w f32[1,24,5]\nconst r f32[1,24,6]
        c = Conv(x, k)\nt = Transpose(c) {perm=[2,0,1]}\ny, z = LSTM(t, w, r, , , h) {hidden_size=6}\noutput y\noutput z";
    save(&text::model(net).unwrap(), &path.join("m.onnx")).unwrap();
    let output = run(path, "verify {}/m.onnx {}/m.onnx --runtime tract --json -q");
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["counted_at"]["x"], serde_json::json!([1, 1, 512]));
    assert_eq!(report["counted_at"]["h"], serde_json::json!([1, 1, 6]));
    for fed in report["fed"]["inputs"].as_array().unwrap() {
        assert_eq!(
            fed["dims"],
            report["counted_at"][fed["name"].as_str().unwrap()]
        );
    }
    let steps = 512 - 40 + 1;
    assert_eq!(
        report["original"]["macs"],
        steps * (5 * 40 + 24 * 5 + 24 * 6)
    );
}

#[test]
fn a_model_that_does_not_run_at_guessed_shapes_says_which_and_how_to_give_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let net = "input x f32[batch,2,frames]\ninput gain f32[2,1]\nconst k f32[8,2,20000]\ng = Mul(x, gain)\ny = Conv(g, k)\noutput y";
    save(&text::model(net).unwrap(), &path.join("m.onnx")).unwrap();
    let told = "; it was fed gain 2×1, x 1×2×32, shapes that are guessed where the model leaves them open: give others with --input NAME=SHAPE, or inputs with --data";
    for line in [
        "verify {}/m.onnx {}/m.onnx --runtime tract",
        "bench {}/m.onnx --runtime tract",
        "{}/m.onnx -o {}/p.onnx --runtime tract",
        "sparsify {}/m.onnx -o {}/p.onnx --sparsity 0.5 --score obs --runtime tract",
    ] {
        let (status, said) = code(path, line);
        assert_eq!(status, 3, "{line}: {said}");
        assert!(said.contains(told), "{line}: {said}");
    }
    let pinned = "verify {}/m.onnx {}/m.onnx --runtime tract --input x=1x2x32";
    let (status, said) = code(path, pinned);
    assert!(status == 3 && !said.contains("it was fed"), "{said}");
    let longer = "verify {}/m.onnx {}/m.onnx --runtime tract --input x=1x2x20001";
    assert_eq!(code(path, longer).0, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_without_memory_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let tool = env!("CARGO_BIN_EXE_onnx-prune");
    let model = super::fixture("digits_cnn.onnx");
    let mut refused = 0;
    for megabytes in [100, 200, 300, 400] {
        let line = format!(
            "ulimit -v {}; {tool} {} -o {}/x.onnx --target macs=0.7 --samples 4 --threads 2",
            megabytes * 1024,
            model.display(),
            folder.path().display()
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &line])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0..=2)),
            "{megabytes} MB: {:?}: {said}",
            output.status
        );
        if said.contains("out of memory") {
            refused += 1;
            assert_eq!(output.status.code(), Some(2));
        }
    }
    assert!(refused > 0);
}
