//! Times of the steps on a network of ResNet-50's shape (102 MB, BatchNormalization folded): `cargo bench`. What moments of
//! activations make of the machine's speed: `cargo bench --bench prune gram`.

mod gram;

use std::fmt::Write;

use onnx_prune::analysis::{Options, analyse};
use onnx_prune::calibrate::Dataset;
use onnx_prune::model::{Limits, Model, load, save, text};
use onnx_prune::progress::Work;
use onnx_prune::prune::{Outcome, Pruner, Request};
use onnx_prune::workspace::Workspace;

fn main() {
    if std::env::args().any(|argument| argument == "gram") {
        gram::report();
    } else {
        divan::main();
    }
}

/// Prunes by weights alone.
fn pruned(model: &Model, request: &Request) -> Outcome {
    Pruner::new(model, &Dataset::default(), None, Work::new(&()))
        .run(request)
        .unwrap()
}

/// ResNet-50 without its normalisations, as text.
fn resnet50() -> Model {
    let mut lines = String::from("opset 17\ninput x f32[n,3,224,224]\n");
    let mut count = 0;
    let mut conv = |lines: &mut String,
                    from: &str,
                    inputs: usize,
                    outputs: usize,
                    kernel: usize,
                    stride: usize,
                    relu: bool| {
        count += 1;
        let (name, pad) = (format!("c{count}"), kernel / 2);
        writeln!(
            lines,
            "const {name}w f32[{outputs},{inputs},{kernel},{kernel}]\nconst {name}b f32[{outputs}]"
        )
        .unwrap();
        writeln!(lines, "{name} = Conv({from}, {name}w, {name}b) {{pads=[{pad},{pad},{pad},{pad}], strides=[{stride},{stride}]}}").unwrap();
        if relu {
            writeln!(lines, "{name}r = Relu({name})").unwrap();
            return format!("{name}r");
        }
        name
    };
    let mut at = conv(&mut lines, "x", 3, 64, 7, 2, true);
    lines.push_str("p = MaxPool(c1r) {kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]}\n");
    at = if at.is_empty() { at } else { "p".to_owned() };
    let mut width = 64;
    for (stage, (inner, blocks)) in [(64, 3), (128, 4), (256, 6), (512, 3)]
        .into_iter()
        .enumerate()
    {
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let first = conv(&mut lines, &at, width, inner, 1, 1, true);
            let second = conv(&mut lines, &first, inner, inner, 3, stride, true);
            let third = conv(&mut lines, &second, inner, inner * 4, 1, 1, false);
            let short = if block == 0 {
                conv(&mut lines, &at, width, inner * 4, 1, stride, false)
            } else {
                at
            };
            at = format!("s{stage}b{block}");
            writeln!(lines, "{at}a = Add({third}, {short})\n{at} = Relu({at}a)").unwrap();
            width = inner * 4;
        }
    }
    writeln!(
        lines,
        "g = GlobalAveragePool({at})\nf = Flatten(g)\nconst fw f32[1000,2048]\nconst fb f32[1000]"
    )
    .unwrap();
    lines.push_str("y = Gemm(f, fw, fb) {transB=1}\noutput y f32[n,1000]\n");
    text::model(&lines).expect("the bench's own graph")
}

#[divan::bench]
fn analyse_resnet50(bencher: divan::Bencher) {
    let model = resnet50();
    bencher.bench(|| analyse(&model, &Options::default()));
}

#[divan::bench]
fn cut_half_of_resnet50(bencher: divan::Bencher) {
    let model = resnet50();
    let mut request = Request::default();
    request.targets = vec![onnx_prune::allocate::Target::Macs(0.5)];
    request.verify = false;
    bencher.bench(|| pruned(&model, &request));
}

#[divan::bench]
fn load_cut_and_save_resnet50(bencher: divan::Bencher) {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (
        folder.path().join("in.onnx"),
        folder.path().join("out.onnx"),
    );
    save(&resnet50(), &from).unwrap();
    let mut request = Request::default();
    request.targets = vec![onnx_prune::allocate::Target::Macs(0.5)];
    request.verify = false;
    bencher.bench(|| {
        let model = load(&from, Limits::default()).unwrap();
        let outcome = pruned(&model, &request);
        save(&outcome.model, &to).unwrap();
    });
}

#[divan::bench]
fn analyse_again_from_the_file(bencher: divan::Bencher) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.onnx");
    save(&resnet50(), &path).unwrap();
    bencher.bench(|| {
        Workspace::new(
            &load(&path, Limits::default()).unwrap(),
            &Options::default(),
        )
        .unwrap()
    });
}
