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
