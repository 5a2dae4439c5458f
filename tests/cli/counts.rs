//! One model has one count of operations, and every command says for which shapes it holds.

use onnx_prune::model::{save, text};
use serde_json::Value;

use super::{json, run};

#[test]
fn all_commands_count_alike_and_say_for_which_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model =
        "input ids i64[batch,seq]\nconst e f32[40,16]\nconst a f32[16,32]\nconst b f32[32,5]
        x = Gather(e, ids)\nh = MatMul(x, a)\nr = Relu(h)\ny = MatMul(r, b)\noutput y";
    save(&text::model(model).unwrap(), &path.join("m.onnx")).unwrap();
    let read = |line: &str| -> Value { serde_json::from_slice(&run(path, line).stdout).unwrap() };
    let prune = |options: &str| {
        run(
            path,
            &format!("{{}}/m.onnx -o {{}}/p.onnx --target macs=0.5 --report {{}}/r.json {options}"),
        );
        json(&path.join("r.json"))
    };
    let (default, pinned) = (32 * (16 * 32 + 32 * 5), 2 * 7 * (16 * 32 + 32 * 5));
    for (pin, macs, shape) in [("", default, [1, 32]), ("--input ids=2x7", pinned, [2, 7])] {
        let reports = [
            prune(&format!("{pin} --no-verify")),
            prune(&format!("{pin} --score l2 --force")),
            read(&format!("inspect {{}}/m.onnx --json {pin}")),
            read(&format!("bench {{}}/m.onnx {{}}/p.onnx --json -q {pin}")),
            read(&format!("verify {{}}/m.onnx {{}}/p.onnx --json -q {pin}")),
        ];
        for report in &reports {
            assert_eq!(report["original"]["macs"], macs, "{pin}: {report:#}");
            assert_eq!(report["counted_at"]["ids"], serde_json::json!(shape));
        }
        assert_eq!(
            reports[3]["models"][1]["macs"],
            reports[0]["pruned"]["macs"]
        );
        assert_eq!(reports[4]["pruned"]["macs"], reports[0]["pruned"]["macs"]);
    }
    let text = String::from_utf8(run(path, "inspect {}/m.onnx").stdout).unwrap();
    assert!(text.contains("MACs are of one run with ids 1×32"), "{text}");
    let text = String::from_utf8(run(path, "bench {}/m.onnx -q").stdout).unwrap();
    assert!(text.contains("MACs are of one run with ids 1×32"), "{text}");
}

#[test]
fn what_can_go_is_no_more_than_a_run_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // The first reader of a weight lets its columns go, the second needs them all.
    let model = "input x f32[n,8]\nconst w f32[8,12]\nconst v f32[12,64]\nconst u f32[64,4]
        a = MatMul(x, w)\nr = Relu(a)\nb = MatMul(r, v)\ns = Relu(b)\ny = MatMul(s, u)\nc = MatMul(x, w)\nz = Tanh(c)\noutput y\noutput z";
    save(&text::model(model).unwrap(), &path.join("m.onnx")).unwrap();
    let known: Value =
        serde_json::from_slice(&run(path, "inspect {}/m.onnx --json").stdout).unwrap();
    let (all, goes) = (8 * 12 + 12 * 64 + 64 * 4, 12 * 64 + 64 * 4);
    assert_eq!(known["original"]["params"], all);
    assert_eq!(known["params_prunable"], goes);
    let row = &known["frozen"][0];
    assert_eq!(
        (&row["reason"], &row["params"]),
        (&"output of the model".into(), &96.into())
    );
    assert_eq!(
        (&row["nodes"], &row["held_by"]),
        (&serde_json::json!(["c"]), &serde_json::json!(["z"]))
    );
    let line = "{}/m.onnx -o {}/p.onnx --target params=0.01 --align 1 --no-verify --force --report {}/r.json";
    run(path, line);
    let left = json(&path.join("r.json"))["pruned"]["params"].as_u64();
    // Nor does it leave more than the first reader's columns and one unit of the others.
    let bounds = all - goes..=96 + 12 + 4;
    assert!(
        left.is_some_and(|left| bounds.contains(&left)),
        "{left:?}, {bounds:?}"
    );
}

#[test]
fn a_group_whose_cut_would_only_copy_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = "input x f32[n,1]\ninput u f32[n,12]\nconst s f32[12]\nconst a i64[1] = 1\nm = Mul(x, s)\nr = ReduceSum(m, a) {keepdims=0}\nz = Add(u, s)\noutput r\noutput z";
    save(&text::model(model).unwrap(), &path.join("m.onnx")).unwrap();
    let known: Value =
        serde_json::from_slice(&run(path, "inspect {}/m.onnx --json").stdout).unwrap();
    assert_eq!(
        known["frozen"][0]["reason"],
        "left out: copies for other readers would take more than goes"
    );
}

/// A recurrence on what a condition on shapes makes of the input, so that its rank is known at given shapes alone; which of two
/// such parts runs, another input decides.
fn conditional() -> String {
    let part = |name: &str| {
        format!(
            "graph {name}\nc = Conv(x, k{name})\nt = Transpose(c) {{perm=[2,0,1]}}\ns = Shape(t)\nd = Gather(s, one)\nq = Equal(d, number)
            u = If(q) {{then_branch=@{name}_as, else_branch=@{name}_more}}\nl, m = LSTM(u, w{name}, r{name}) {{hidden_size=6}}\noutput m\nend
            graph {name}_as\ni = Identity(t)\noutput i\nend\ngraph {name}_more\ni = Unsqueeze(t, number)\noutput i\nend\n"
        )
    };
    let weights = |name: &str, window: i64, channels: i64| {
        format!(
            "const k{name} f32[{channels},1,{window}]\nconst w{name} f32[1,24,{channels}]\nconst r{name} f32[1,24,6]\n"
        )
    };
    format!(
        "input x f32[n,1,frames]\ninput rate bool[]\nconst one i64[] = 1\nconst number i64[1] = 1\n{}{}
        y = If(rate) {{then_branch=@high, else_branch=@low}}\noutput y\n{}{}",
        weights("low", 4, 5),
        weights("high", 8, 7),
        part("low"),
        part("high")
    )
}

#[test]
fn what_only_shapes_tell_and_what_runs_in_branches_counts_alike_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    save(&text::model(&conditional()).unwrap(), &path.join("m.onnx")).unwrap();
    let read = |line: &str| -> Value { serde_json::from_slice(&run(path, line).stdout).unwrap() };
    let part = |steps: i64, window: i64, channels: i64| {
        steps * (window * channels + 24 * channels + 24 * 6)
    };
    // Where both branches take the input each counts half; one that does not take it does not run.
    for (frames, macs, mean) in [
        (16, (part(13, 4, 5) + part(9, 8, 7)) / 2, true),
        (6, part(3, 4, 5), false),
    ] {
        let pin = format!("--input x=1x1x{frames}");
        let (line, m) = ("--target macs=0.9 --no-verify --force", "{}/m.onnx");
        run(
            path,
            &format!("{m} -o {{}}/p.onnx {line} --report {{}}/r.json {pin}"),
        );
        let reports = [
            read(&format!("inspect {m} --json {pin}")),
            read(&format!("verify {m} {m} --json -q {pin}")),
            read(&format!("bench {m} --json -q {pin}")),
            json(&path.join("r.json")),
        ];
        for report in &reports {
            assert_eq!(report["original"]["macs"], macs, "{frames}: {report:#}");
            assert_eq!(report["mean_of_branches"].as_bool().unwrap_or(false), mean);
        }
        let said = String::from_utf8(run(path, &format!("inspect {m} {pin}")).stdout).unwrap();
        assert_eq!(said.contains("the branches count in equal parts"), mean);
    }
}
