//! What is said of weights that are out of reach: the reason of the axis that could have gone.

use onnx_prune::analysis::{Group, Kind, Options, analyse, frozen, frozen_beside};
use onnx_prune::constants::Origins;
use onnx_prune::model::text;
use onnx_prune::relation::Reason;
use onnx_prune::workspace::Workspace;

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

/// Reasons with what holds the axes, of the weights that a node reads.
fn held(text: &str, node: &str) -> Vec<(String, Vec<String>)> {
    let of_node = |(other, ..): &(String, String, Vec<String>)| other == node;
    let found = reasons(text).into_iter().filter(of_node);
    found.map(|(_, reason, names)| (reason, names)).collect()
}

#[test]
fn a_recurrent_state_that_callers_hold_is_named_and_not_gates_or_directions() {
    let end = |reason: &str, names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned());
        vec![(reason.to_owned(), names.collect::<Vec<_>>())]
    };
    let last = "input x f32[7,n,6]\nconst w f32[1,24,6]\nconst r f32[1,24,8]\nconst b f32[1,48]\nconst k f32[8,4]\nconst a i64[1] = 1
        s, hn = GRU(x, w, r, b) {hidden_size=8}\nq = Squeeze(s, a)\ny = MatMul(q, k)\noutput y\noutput hn";
    let ends = end("output of the model", &["hn", "y"]);
    assert_eq!((held(last, "s"), held(last, "y")), (ends.clone(), ends));
    let both = "input x f32[7,n,6]\ninput h0 f32[2,n,8]\ninput c0 f32[2,n,8]\nconst w f32[2,32,6]\nconst r f32[2,32,8]\nconst b f32[2,64]\nconst k f32[16,4]\nconst flat i64[3] = 0,0,16
        s, hn, cn = LSTM(x, w, r, b, _, h0, c0) {hidden_size=8, direction=\"bidirectional\"}\nt = Transpose(s) {perm=[0,2,1,3]}\nq = Reshape(t, flat)\ny = MatMul(q, k)\noutput y\noutput hn\noutput cn";
    assert_eq!(held(both, "s"), end("input of the model", &["h0"]));
    assert_eq!(held(both, "y"), end("output of the model", &["y"]));
    // States of both layers in one input.
    let joint = "input x f32[7,n,6]\ninput h f32[2,n,8]\nconst w f32[1,24,6]\nconst r f32[1,24,8]\nconst v f32[1,24,8]\nconst q f32[1,24,8]\nconst a i64[1] = 1\nconst k f32[8,4]
        h0, h1 = Split(h) {axis=0, num_outputs=2}\ns = GRU(x, w, r, _, _, h0) {hidden_size=8}\ns1 = Squeeze(s, a)\nt = GRU(s1, v, q, _, _, h1) {hidden_size=8}\nt1 = Squeeze(t, a)\ny = MatMul(t1, k)\noutput y";
    for node in ["s", "t"] {
        let said = held(&format!("opset 18\n{joint}"), node);
        assert_eq!(said, end("input of the model", &["h"]), "{node}");
    }
}

#[test]
fn an_lstm_that_quantizes_by_range_holds_its_units_and_not_its_directions() {
    let text = "input x f32[7,n,6]\nconst w i8[2,6,32]\nconst r i8[2,8,32]\nconst b f32[2,64]\nconst ws f32[2]\nconst wz i8[2]\nconst rs f32[2]\nconst rz i8[2]\nconst k f32[16,4]\nconst flat i64[3] = 0,0,16
        s = com.microsoft.DynamicQuantizeLSTM(x, w, r, b, _, _, _, _, ws, wz, rs, rz) {hidden_size=8, direction=\"bidirectional\"}\nt = Transpose(s) {perm=[0,2,1,3]}\nq = Reshape(t, flat)\ny = MatMul(q, k)\noutput y";
    let ranges = "quantizes the hidden state by the range of all units";
    let node = |reason: &str| (reason.to_owned(), vec!["s".to_owned()]);
    assert_eq!(held(text, "y"), [node(ranges)]);
    // Scales and zero points are one for each direction.
    assert_eq!(
        held(text, "s"),
        [node(ranges), node("directions of a recurrence")]
    );
}

#[test]
fn a_window_over_maps_of_one_channel_is_too_narrow() {
    const NARROW: &str = "a single number, or a width of one";
    let text = |weight: &str| {
        format!(
            "opset 17\ninput x f32[n,3,8,8]\nconst a f32[8,3,3,3]\n{weight}\nconst b f32[4,8,1,1]\nf = Conv(x, a) {{pads=[1,1,1,1]}}\nm = ReduceMean(f) {{axes=[1]}}\nt = ReduceMax(f) {{axes=[1]}}\nj = Concat(m, t) {{axis=1}}\ng = Conv(j, w) {{pads=[3,3,3,3]}}\ns = Sigmoid(g)\no = Mul(f, s)\ny = Conv(o, b)\noutput y"
        )
    };
    for weight in [
        "const w f32[1,2,7,7]",
        "const q i8[1,2,7,7]\nconst scale f32[]\nw = DequantizeLinear(q, scale)",
    ] {
        let text = text(weight);
        let reader = if weight.contains("scale") { "w" } else { "g" };
        assert_eq!(reason_of(&text, reader), NARROW, "{weight}");
    }
    // A filter over neighbouring channels, as efficient channel attention has it.
    let neighbours =
        "input x f32[n,1,16]\nconst w f32[1,1,3]\ny = Conv(x, w) {pads=[1,1]}\noutput y";
    assert_eq!(reason_of(neighbours, "y"), NARROW);
    // Two maps that callers feed are channels that could have gone.
    let fed = "input x f32[n,2,8,8]\nconst w f32[1,2,7,7]\ny = Conv(x, w)\noutput y";
    let said = vec![("input of the model".to_owned(), vec!["x".to_owned()])];
    assert_eq!(held(fed, "y"), said);
    // Nor is a window that the model computes any weight of its operator alone.
    let computed = "input x f32[1,1,8,8]\ninput c f32[1,6]\nconst k f32[6,9]\nconst b f32[9]\nconst to i64[4] = 1,1,3,3\nh = MatMul(c, k)\nl = Add(h, b)\nw = Reshape(l, to)\ny = Conv(x, w)\noutput y";
    assert_eq!(reason_of(computed, "l"), "positions within the window");
}

#[test]
fn rows_that_are_looked_up_come_after_what_is_looked_up() {
    let text = "input i i64[n,5]\nconst t f32[100,12]\ne = Gather(t, i)\ny = ReduceMean(e) {axes=[1], keepdims=0}\noutput y";
    let said = vec![("output of the model".to_owned(), vec!["y".to_owned()])];
    assert_eq!(held(text, "e"), said);
}

#[test]
fn a_weight_stays_where_one_of_its_readers_needs_it_whole() {
    let text = "input x f32[n,8]\nconst w f32[8,12]\nconst v f32[12,4]\na = MatMul(x, w)\nr = Relu(a)\ny = MatMul(r, v)\nb = MatMul(x, w)\nz = Tanh(b)\noutput y\noutput z";
    let workspace = Workspace::new(&text::model(text).unwrap(), &Options::default()).unwrap();
    let (working, analysis) = (&workspace.working, &workspace.analysis);
    let groups = &analysis.groups;
    assert_eq!(groups.len(), 1);
    let (prunable, kept) = frozen(working, analysis, &workspace.origins, groups);
    let rows: Vec<_> = kept
        .iter()
        .map(|frozen| (frozen.reason.clone(), frozen.params, frozen.nodes.join(",")))
        .collect();
    assert_eq!(prunable, 48);
    assert_eq!(rows, [(Reason::GraphOutput, 96, "b".to_owned())]);
    // All but one unit: what is left is more than what belongs to no unit.
    let units: Vec<u32> = (1..12).collect();
    let selection = analysis.select([(0, units.as_slice())]);
    let left = workspace.cost.of(&analysis.classes, &selection).params;
    assert_eq!(left, (96 + 8 + 4) as f64);
    assert!(left >= workspace.cost.original().params - prunable as f64);
    // Where all readers let the same units go, there is one tensor still.
    let tied = "input x f32[n,8]\nconst w f32[8,12]\nconst v f32[12,4]\na = MatMul(x, w)\nr = Relu(a)\nb = MatMul(x, w)\nz = Tanh(b)\ns = Add(r, z)\ny = MatMul(s, v)\noutput y";
    let workspace = Workspace::new(&text::model(tied).unwrap(), &Options::default()).unwrap();
    let Workspace {
        working,
        analysis,
        origins,
        ..
    } = &workspace;
    assert_eq!(frozen(working, analysis, origins, &analysis.groups).0, 144);
}
