//! What is said of weights that are out of reach: the reason of the axis that could have gone.

use onnx_prune::analysis::{Group, Kind, Options, analyse, frozen, frozen_beside};
use onnx_prune::model::{Origins, text};
use onnx_prune::relation::Reason;

/// Reasons by node that reads the weight, of a model in which channels and heads are asked for.
fn reasons(text: &str) -> Vec<(String, String, Vec<String>)> {
    let model = text::model(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let analysis = analyse(&model, &Options::default());
    let chosen = analysis
        .groups
        .iter()
        .filter(|group| matches!(group.kind, Kind::Channels | Kind::Heads));
    let (_, frozen) = frozen(&model, &analysis, &Origins::default(), chosen);
    frozen
        .into_iter()
        .flat_map(|frozen| {
            let (reason, held_by) = (frozen.reason.to_string(), frozen.held_by);
            frozen
                .nodes
                .into_iter()
                .map(move |node| (node, reason.clone(), held_by.clone()))
        })
        .collect()
}

fn reason_of(text: &str, node: &str) -> String {
    reasons(text)
        .into_iter()
        .find(|(other, ..)| other == node)
        .map(|(_, reason, _)| reason)
        .unwrap_or_default()
}

#[test]
fn a_norm_that_holds_channels_is_named_and_not_the_window() {
    let text = "input x f32[n,3,6,6]\nconst a f32[8,3,3,3]\nconst ab f32[8]\nconst b f32[5,8,3,3]
        f = Conv(x, a, ab) {pads=[1,1,1,1]}\nm = ReduceMean(f) {axes=[1]}\nc = Sub(f, m)\ny = Conv(c, b) {pads=[1,1,1,1]}\noutput y";
    assert_eq!(reason_of(text, "f"), "a statistic over fewer entries");
    assert_eq!(reason_of(text, "y"), "a statistic over fewer entries");
}

#[test]
fn what_holds_a_first_layer_is_not_its_input() {
    let offsets = "input x f32[1,3,6,6]\nconst a f32[8,3,3,3]\nconst o f32[36,3,3,3]\nconst d f32[6,8,3,3]\nconst b f32[4,6,1,1]
        f = Conv(x, a) {pads=[1,1,1,1]}\noff = Conv(x, o) {pads=[1,1,1,1]}\ng = DeformConv(f, d, off) {kernel_shape=[3,3], offset_group=2, pads=[1,1,1,1]}\ny = Conv(g, b)\noutput y";
    assert_eq!(
        reason_of(&format!("opset 19\n{offsets}"), "f"),
        "channels in offset groups"
    );
    assert_eq!(
        reason_of(&format!("opset 19\n{offsets}"), "off"),
        "sampling offsets"
    );
    let held = reasons(&format!("opset 19\n{offsets}"))
        .into_iter()
        .find(|(node, ..)| node == "f")
        .unwrap()
        .2;
    assert_eq!(held, ["g"]);
    let neighbours = "input x f32[1,3,6,6]\nconst a f32[8,3,3,3]\nconst b f32[4,8,1,1]\nf = Conv(x, a) {pads=[1,1,1,1]}\ng = LRN(f) {size=3}\ny = Conv(g, b)\noutput y";
    assert_eq!(
        reason_of(neighbours, "f"),
        "each channel is divided by a sum over its neighbours"
    );
    let sorted = "input x f32[n,3]\nconst a f32[3,8]\nconst b f32[8,4]\nconst k i64[1] = 8\nf = MatMul(x, a)\nv, i = TopK(f, k)\ny = MatMul(v, b)\noutput y";
    let reason = reason_of(sorted, "f");
    assert!(
        !reason.contains("input of the model") && !reason.is_empty(),
        "{reason}"
    );
    // Between what callers feed and what they read there is nothing else to say.
    assert_eq!(
        reason_of(
            "input x f32[n,3]\nconst a f32[3,8]\ny = MatMul(x, a)\noutput y",
            "y"
        ),
        "output of the model"
    );
}

#[test]
fn what_no_node_reads_is_unused() {
    let text = "input x f32[n,3]\nconst a f32[3,8]\nconst b f32[8,4]\nconst dead f32[100,10]\nf = MatMul(x, a)\ny = MatMul(f, b)\noutput y";
    let model = text::model(text).unwrap();
    let analysis = analyse(&model, &Options::default());
    let (prunable, frozen) = frozen(&model, &analysis, &Origins::default(), &analysis.groups);
    assert_eq!((prunable, frozen.len(), frozen[0].params), (56, 1, 1000));
    assert_eq!(frozen[0].reason, Reason::Unused);
}

#[test]
fn what_is_left_out_says_so() {
    let text = "input x f32[n,3]\nconst a f32[3,8]\nconst b f32[8,4]\nconst c f32[4,4]\nf = MatMul(x, a)\ng = Relu(f)\nh = MatMul(g, b)\ny = MatMul(h, c)\noutput y";
    let model = text::model(text).unwrap();
    let analysis = analyse(&model, &Options::default());
    let first = analysis
        .groups
        .iter()
        .find(|group| group.id.starts_with("b:"))
        .unwrap();
    let (_, frozen) = frozen_beside(
        &model,
        &analysis,
        &Origins::default(),
        [first],
        &|_: &Group| Reason::Excluded,
    );
    assert_eq!(
        (
            frozen.len(),
            frozen[0].params,
            frozen[0].reason.to_string().as_str()
        ),
        (1, 16, "excluded")
    );
}

#[test]
fn axes_too_long_to_be_listed_stay_whole() {
    for repeats in [1i64 << 28, 1 << 40, i64::MAX] {
        let text = format!(
            "input x f32[n,3]\nconst a f32[3,8]\nconst k i64[2] = 1,{repeats}\nconst b f32[8,4]\nf = MatMul(x, a)\nt = Tile(f, k)\nm = ReduceMax(t) {{axes=[1]}}\ny = MatMul(f, b)\noutput y\noutput m"
        );
        let reason = reason_of(&text, "f");
        assert_eq!(reason, "more indices than can be told apart", "{repeats}");
    }
}

#[test]
fn an_extent_below_zero_is_no_extent() {
    let text = "input x f32[n,3]\nconst a f32[3,8]\nconst depth i64[] = -9223372036854775808\nconst pair f32[2]\nconst b f32[8,4]\nf = MatMul(x, a)\ni = ArgMax(f) {axis=1, keepdims=0}\nh = OneHot(i, depth, pair)\nr = Relu(h)\ny = MatMul(f, b)\noutput y\noutput r";
    let model = text::model(text).unwrap();
    let analysis = analyse(&model, &Options::default());
    let problems: Vec<&String> = analysis.facts.problems.values().collect();
    assert_eq!(
        problems,
        ["its output would have the extent -9223372036854775808"]
    );
}
