//! Positions that a mask switches off: they count nowhere.

use std::path::Path;

use onnx_prune::inputs::{Tensors, write_npz};
use onnx_prune::model::{TensorRef, save, text};
use serde_json::Value;

use super::{json, run};

/// One layer of a transformer over token ids; names do not tell which input is the mask.
const NET: &str = "opset 17\ninput first i64[n,s]\ninput second i64[n,s]\nconst table f32[40,16]\nconst wq f32[16,16]\nconst wk f32[16,16]
    const wv f32[16,16]\nconst wo f32[16,16]\nconst w1 f32[16,32]\nconst b1 f32[32]\nconst w2 f32[32,16]\nconst wc f32[16,5]
    const one f32[] = 1\nconst far f32[] = -10000\nconst at1 i64[1] = 1\nconst at2 i64[1] = 2
    x = Gather(table, first)\nm = Cast(second) {to=1}\noff = Sub(one, m)\nbig = Mul(off, far)\nbias = Unsqueeze(big, at1)
    q = MatMul(x, wq)\nk = MatMul(x, wk)\nv = MatMul(x, wv)\nkt = Transpose(k) {perm=[0,2,1]}\ns = MatMul(q, kt)\nsm = Add(s, bias)
    p = Softmax(sm) {axis=-1}\na = MatMul(p, v)\no = MatMul(a, wo)\nr = Add(x, o)\nh = MatMul(r, w1)\nhb = Add(h, b1)\ng = Relu(hb)
    f = MatMul(g, w2)\nz = Add(r, f)\nmu = Unsqueeze(m, at2)\nzm = Mul(z, mu)\nsum = ReduceSum(zm, at1) {keepdims=0}\ny = MatMul(sum, wc)
    output y\noutput z";
const SAMPLES: usize = 64;
const LONGEST: usize = 9;

/// How many tokens a sentence has.
fn length(sample: usize) -> usize {
    3 + sample * 5 % (LONGEST - 2)
}

/// Sentences stored so wide; `filler` is behind them.
fn sentences(width: usize, filler: impl Fn(usize) -> i64) -> Tensors {
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for sample in 0..SAMPLES {
        for at in 0..width {
            let counts = at < length(sample);
            ids.push(if counts {
                ((sample * 31 + at * 17 + sample * at) % 40) as i64
            } else {
                filler(sample + at)
            });
            mask.push(i64::from(counts));
        }
    }
    Tensors::from_iter([
        (
            "first".to_owned(),
            TensorRef::from_i64(vec![SAMPLES, width], &ids),
        ),
        (
            "second".to_owned(),
            TensorRef::from_i64(vec![SAMPLES, width], &mask),
        ),
    ])
}

fn write_net(folder: &Path) {
    save(&text::model(NET).unwrap(), &folder.join("net.onnx")).unwrap();
}

/// The pruned model's bytes, what was cut, and the report.
fn pruned(folder: &Path, data: &Tensors, options: &str) -> (Vec<u8>, Value, Value) {
    write_npz(&folder.join("data.npz"), data).unwrap();
    let line = "{}/net.onnx -o {}/x.onnx --data {}/data.npz --target macs=0.7 --force --plan-out {}/p.json --report {}/r.json";
    let output = run(folder, &format!("{line} {options}"));
    assert!(
        output.status.code().is_some_and(|code| code < 2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let [plan, report] = ["p.json", "r.json"].map(|name| json(&folder.join(name)));
    let bytes = std::fs::read(folder.join("x.onnx")).unwrap();
    (bytes, plan["groups"].clone(), report)
}

#[test]
fn padding_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_net(path);
    let (model, cuts, report) = pruned(path, &sentences(LONGEST, |_| 0), "--threads 1");
    assert!(cuts.as_array().is_some_and(|cuts| !cuts.is_empty()));
    let remark = report["remarks"].to_string();
    assert!(
        remark.contains("positions that 'second' switches off do not count"),
        "{remark}"
    );
    for (width, factor, threads) in [(LONGEST, 7, 2), (14, 0, 1), (14, 11, 2)] {
        let data = sentences(width, |at| ((at * factor) % 40) as i64);
        let (other, other_cuts, other_report) =
            pruned(path, &data, &format!("--threads {threads}"));
        assert_eq!(cuts, other_cuts, "stored {width} wide");
        assert!(model == other, "stored {width} wide");
        assert_eq!(report["drift"]["outputs"], other_report["drift"]["outputs"]);
    }
}

#[test]
fn training_and_statistics_take_sentences_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_net(path);
    let trained = |data: &Tensors| pruned(path, data, "--recover distill --steps 3");
    let (model, _, report) = trained(&sentences(14, |_| 0));
    assert_eq!(report["fit"]["method"], "distill");
    let (other, _, _) = trained(&sentences(LONGEST, |at| at as i64 % 40));
    assert!(
        model == other,
        "what is behind sentences is not learnt from"
    );
    let calibrate = "calibrate {}/net.onnx --data {}/data.npz -o {}/s.stats";
    let statistics = |filler: i64| {
        write_npz(&path.join("data.npz"), &sentences(14, |_| filler)).unwrap();
        let output = run(path, calibrate);
        assert_eq!(output.status.code(), Some(0));
        std::fs::read(path.join("s.stats")).unwrap()
    };
    assert!(statistics(0) == statistics(9));
}

#[test]
fn single_weights_go_by_what_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_net(path);
    let line = "sparsify {}/net.onnx -o {}/x.onnx --sparsity 0.5 --data {}/data.npz --force --report {}/r.json";
    let sparse = |width: usize, filler: i64| {
        write_npz(&path.join("data.npz"), &sentences(width, |_| filler)).unwrap();
        let output = run(path, line);
        assert!(output.status.code().is_some_and(|code| code < 2));
        std::fs::read(path.join("x.onnx")).unwrap()
    };
    let first = sparse(LONGEST, 0);
    let said = json(&path.join("r.json"))["remarks"].to_string();
    assert!(said.contains("do not count"), "{said}");
    assert!(first == sparse(14, 7));
}
