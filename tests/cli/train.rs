//! Retraining from the command line.

use std::path::Path;

use super::{code, json, run};

/// Zeros of all initializers.
fn zeros(path: &Path) -> usize {
    let model = onnx_prune::load(path, onnx_prune::Limits::default()).unwrap();
    let graph = model.proto.graph.as_ref().unwrap();
    let numbers = graph
        .initializer
        .iter()
        .filter_map(|tensor| onnx_prune::TensorRef::from_proto(tensor).ok()?.to_f32());
    numbers.flatten().filter(|number| *number == 0.0).count()
}

#[test]
fn weights_are_trained_and_the_report_says_how() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/NAME.onnx --target macs=0.3 --data @digits_calibration.npz --samples 160 --force --report {}/r.json \
                --plan-out {}/p.json --recover distill --steps 6 --threads THREADS";
    for (name, threads) in [("a", "1"), ("b", "2")] {
        let output = run(
            path,
            &line.replace("NAME", name).replace("THREADS", threads),
        );
        assert!(output.status.code().is_some_and(|code| code < 2));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.contains("trained for 6 steps of 64 inputs (views: mix; rate 1e-3)"),
            "{said}"
        );
    }
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert!(read("a.onnx") == read("b.onnx"));
    let report = json(&path.join("r.json"));
    let curve = report["training"]["curve"].as_array().unwrap();
    assert_eq!(
        (report["fit"]["method"].as_str(), curve.len()),
        (Some("distill"), 7)
    );
    // The plan says that they were, so that the same inputs make the same file again.
    let again = "@digits_cnn.onnx -o {}/c.onnx --plan {}/p.json --data @digits_calibration.npz --samples 160 --force";
    assert!(run(path, again).status.code().is_some_and(|code| code < 2));
    assert!(read("a.onnx") == read("c.onnx"));
}

#[test]
fn zeros_stay_while_the_other_weights_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "sparsify @digits_cnn.onnx -o {}/NAME.onnx --sparsity 0.9 --data @digits_calibration.npz --samples 160 --force";
    assert_eq!(code(path, &line.replace("NAME", "fitted")).0, 0);
    let trained = format!(
        "{} --recover distill --steps 30",
        line.replace("NAME", "trained")
    );
    assert_eq!(code(path, &trained).0, 0);
    let [fitted, trained] = ["fitted", "trained"].map(|name| path.join(format!("{name}.onnx")));
    assert_eq!(zeros(&fitted), zeros(&trained));
    assert!(std::fs::read(fitted).unwrap() != std::fs::read(trained).unwrap());
}

#[test]
fn training_needs_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let said = |line: &str| code(folder.path(), line);
    for command in ["", "sparsify --sparsity 0.5 "] {
        let (code, text) = said(&format!(
            "{command}@digits_cnn.onnx -o {{}}/x.onnx --recover distill"
        ));
        assert!(
            code == 2 && text.contains("learns from inputs; give them with --data"),
            "{text}"
        );
        for option in ["--steps 5", "--loss kl", "--resume"] {
            let (code, text) = said(&format!(
                "{command}@digits_cnn.onnx -o {{}}/x.onnx {option}"
            ));
            assert!(
                code == 2 && text.contains("goes with --recover distill"),
                "{text}"
            );
        }
    }
}

#[test]
fn the_loss_is_chosen_and_the_plan_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/a.onnx --target macs=0.3 --data @digits_calibration.npz --samples 160 --force \
                --report {}/r.json --report {}/r.html --plan-out {}/p.json --recover distill --steps 6 --loss kl";
    let output = run(path, line);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("KL divergence of the outputs on"), "{said}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("train: step 6 of 6, loss") && told.contains("inputs/s, 0 s left"),
        "{told}"
    );
    assert_eq!(json(&path.join("p.json"))["fit"]["loss"], "kl");
    let page = std::fs::read_to_string(path.join("r.html")).unwrap();
    assert!(page.contains("<h2>Learning curve</h2>") && page.contains("<polyline class=\"held\""));
    let again = "@digits_cnn.onnx -o {}/c.onnx --plan {}/p.json --data @digits_calibration.npz --samples 160 --force -q";
    let quiet = String::from_utf8(run(path, again).stderr).unwrap();
    assert!(!quiet.contains("train:"), "{quiet}");
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert!(read("a.onnx") == read("c.onnx"));
    assert!(!path.join("a.checkpoint").exists());
}

#[test]
fn labels_of_the_data_are_learnt_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/NAME.onnx --target macs=0.08 --data @digits_test.npz --samples 160 --force --recover distill \
                --steps 12 --report {}/NAME.json";
    let trained = |name: &str, more: &str| {
        let output = run(path, &format!("{} {more}", line.replace("NAME", name)));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code().is_some_and(|code| code < 2), "{told}");
        let report = json(&path.join(format!("{name}.json")));
        let accuracy = report["drift"]["labelled"]["pruned"].as_f64();
        let model = std::fs::read(path.join(format!("{name}.onnx"))).unwrap();
        (model, report["training"]["labelled"].as_u64(), accuracy)
    };
    let (plain, none, _) = trained("plain", "");
    let (labelled, some, measured) = trained("labelled", "--labels @digits_test_labels.npy");
    // What is kept apart is measured on, and has no part in it.
    assert_eq!((none, some), (Some(0), Some(140)));
    assert!(measured.is_some() && plain != labelled);
    // Beside other inputs they are the labels of those, unless these have their own.
    let beside = "--verify-data @digits_test.npz --labels @digits_test_labels.npy";
    assert_eq!(trained("beside", beside).1, Some(0));
    let both = format!("{beside} --verify-labels @digits_test_labels.npy");
    assert_eq!(trained("both", &both).1, Some(160));
    let (code, text) = code(
        path,
        &format!("@digits_cnn.onnx -o {{}}/x.onnx --data @digits_test.npz {both}"),
    );
    assert!(
        code == 2 && text.contains("they go with --recover distill"),
        "{text}"
    );
}

#[cfg(unix)]
#[test]
fn what_was_stopped_is_gone_on_with() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = |name: &str| {
        format!(
            "{} -o {}/{name}.onnx --target macs=0.3 --data {} --samples 160 --force --recover distill --steps 60",
            super::fixture("digits_cnn.onnx").display(),
            path.display(),
            super::fixture("digits_calibration.npz").display()
        )
    };
    let mut child = super::program()
        .args(line("a").split_whitespace())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stderr.take().unwrap());
    let mut lines = told.lines().map(|line| line.unwrap());
    let first = lines.find(|line| line.starts_with("train: step 3 of 60"));
    assert!(first.is_some());
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let last = lines.last().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(
        last.starts_with("error: interrupted by SIGTERM; no model written; --resume goes on from"),
        "{last}"
    );
    assert!(path.join("a.checkpoint").exists() && !path.join("a.onnx").exists());
    // Another number of steps is another run.
    let other = line("a").replace("--steps 60", "--steps 50 --resume");
    let (refused, text) = code(path, &other);
    assert!(
        refused == 2 && text.contains("it is of other settings"),
        "{text}"
    );
    let (ended, text) = code(path, &format!("{} --resume", line("a")));
    assert!(ended < 2 && !text.contains("train: step 3 of"), "{text}");
    assert!(!path.join("a.checkpoint").exists());
    let (ended, text) = code(path, &format!("{} --resume", line("b")));
    assert!(ended < 2 && text.contains("training begins anew"), "{text}");
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert!(read("a.onnx") == read("b.onnx"));
}

#[test]
fn weights_are_trained_between_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_transformer.onnx -o {}/NAME.onnx --target macs=0.4 --data @digits_calibration.npz --samples 160 --force \
                --recover distill --steps 12 --rounds 3 --report {}/NAME.json --threads THREADS";
    for (name, threads) in [("a", "1"), ("b", "2")] {
        let line = line.replace("NAME", name).replace("THREADS", threads);
        let (code, text) = code(path, &line);
        assert!(code < 2, "{text}");
    }
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert!(read("a.onnx") == read("b.onnx"));
    let report = json(&path.join("a.json"));
    let training = &report["training"];
    let earlier = training["earlier"].as_array().unwrap();
    assert_eq!((earlier.len(), training["steps"].as_u64()), (2, Some(4)));
    assert_eq!(report["fit"]["steps"], 12);
    assert_eq!(report["exactness"]["verdict"], "exact");
    let macs = |of: &str| report[of]["macs"].as_f64().unwrap();
    assert!(macs("pruned") <= 0.4 * macs("original"));
    // Most goes in the first round.
    let tradeoff: Vec<f64> = report["tradeoff"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|point| point["estimated"] == false)
        .map(|point| point["macs"].as_f64().unwrap() / macs("original"))
        .collect();
    assert_eq!(tradeoff.len(), 3);
    assert!(
        1.0 - tradeoff[0] > tradeoff[0] - tradeoff[2],
        "{tradeoff:?}"
    );
}

#[test]
fn units_are_ranked_by_derivatives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/NAME.onnx --target macs=0.8 --data @digits_calibration.npz --samples 120 --force \
                --score SCORE --recover none --report {}/NAME.json --threads THREADS";
    let drift = |name: &str, score: &str, threads: &str| {
        let line = line.replace("NAME", name).replace("SCORE", score);
        let (code, text) = code(path, &line.replace("THREADS", threads));
        assert!(code < 2, "{text}");
        let report = json(&path.join(format!("{name}.json")));
        assert_eq!(report["exactness"]["verdict"], "exact");
        let outputs = report["drift"]["outputs"].as_array().unwrap();
        outputs[0]["relative_l2"].as_f64().unwrap()
    };
    let (one, two) = (drift("a", "taylor", "1"), drift("b", "taylor", "2"));
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert!(one == two && read("a.onnx") == read("b.onnx"));
    let random = drift("c", "random", "2");
    assert!(one < 0.8 * random, "{one} against {random}");
    let (code, text) = code(
        path,
        "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --score taylor",
    );
    assert!(
        code == 2 && text.contains("give inputs with --data"),
        "{text}"
    );
}
