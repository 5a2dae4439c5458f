//! Operators of ONNX Runtime's own domain, as its tools write them.

use onnx_prune::analysis::{Granularity, Kind, Options};
use onnx_prune::model::text;
use onnx_prune::workspace::Workspace;

use super::Structure;

/// Projections of `x` to queries, keys and values of these widths, an attention that gives `c`, and a projection of it.
fn attention(shape: &str, [q, k, v, c]: [usize; 4], node: &str) -> String {
    format!(
        "opset 21\nir 10\ninput x f32[{shape},6]\nconst wq f32[6,{q}]\nconst wk f32[6,{k}]\nconst wv f32[6,{v}]\nconst o f32[{c},5]\nq = MatMul(x, wq)\nk = MatMul(x, wk)\nv = MatMul(x, wv)\n{node}\ny = MatMul(c, o)\noutput y"
    )
}

const PAST: &str = "const pk f32[2,4,3,4]\nconst pv f32[2,4,3,4]\n";

#[test]
fn a_past_that_is_a_constant_shrinks_too() {
    let node = format!(
        "{PAST}c, nk, nv = com.microsoft.MultiHeadAttention(q, k, v, _, _, _, pk, pv) {{num_heads=4}}"
    );
    let text = attention("2,3", [16, 16, 16, 16], &node);
    Structure::new(&text, 100.0).coarse(&[4]).fine(&[4]).holds();
    // Keys and values of one head size go together, also in what comes out of the projections.
    let prepared = Workspace::new(
        &text::model(&text).unwrap(),
        &Options {
            granularity: Granularity::Fine,
            ..Default::default()
        },
    )
    .unwrap();
    let [group] = prepared.analysis.groups.as_slice() else {
        panic!("{:?}", prepared.analysis.groups)
    };
    assert_eq!((group.kind, group.weights.len()), (Kind::HeadDims, 6));
}

#[test]
fn heads_with_a_bias_that_callers_give_stay() {
    let node = "input add f32[1,4,3,3]\nc = com.microsoft.MultiHeadAttention(q, k, v, _, _, add) {num_heads=4}";
    let text = attention("2,3", [16, 16, 24, 24], node);
    let kinds = |allowed: &[(&str, usize)]| -> Vec<Kind> {
        let allowed = allowed
            .iter()
            .map(|(name, axis)| ((*name).to_owned(), *axis))
            .collect();
        let prepared = Workspace::new(
            &text::model(&text).unwrap(),
            &Options {
                allowed,
                ..Default::default()
            },
        )
        .unwrap();
        prepared
            .analysis
            .groups
            .iter()
            .map(|group| group.kind)
            .collect()
    };
    assert_eq!(kinds(&[]), [Kind::HeadDims, Kind::HeadDims]);
    assert_eq!(kinds(&[("add", 1)]), [Kind::Heads]);
    Structure::new(&text, 100.0).coarse(&[4, 6]).holds();
}

#[test]
fn heads_with_biases_and_sinks_of_their_own() {
    let grouped = |lists: &str, inputs: &str| {
        let node = format!(
            "{lists}const sl i32[2] = 2, 2\nconst ts i32[] = 3\nc, nk, nv = com.microsoft.GroupQueryAttention(q, k, v, _, _, sl, ts, _, _, _{inputs}) {{num_heads=8, kv_num_heads=2}}"
        );
        attention("2,3", [64, 16, 16, 64], &node)
    };
    for (lists, inputs) in [
        ("", ""),
        ("const add f32[1,8,3,3]\n", ", add"),
        ("const sink f32[8]\n", ", _, sink"),
        ("const add f32[2,8,3,3]\nconst sink f32[8]\n", ", add, sink"),
    ] {
        Structure::new(&grouped(lists, inputs), 75.0)
            .coarse(&[2])
            .fine(&[4])
            .holds();
    }
}

#[test]
fn one_query_at_a_time() {
    let plain = "c = com.microsoft.DecoderMaskedMultiHeadAttention(q, k, v) {num_heads=4}";
    Structure::new(&attention("2,1", [16, 16, 16, 16], plain), 100.0)
        .coarse(&[4])
        .fine(&[4])
        .holds();
    let cache = "const pk f32[2,4,8,4]\nconst pv f32[2,4,8,4]\nconst at i32[1] = 3\nconst b f32[48]\nc, nk, nv = com.microsoft.DecoderMaskedMultiHeadAttention(q, k, v, _, _, pk, pv, at, _, _, b) {num_heads=4, past_present_share_buffer=1}";
    Structure::new(&attention("2,1", [16, 16, 16, 16], cache), 99.0)
        .coarse(&[4])
        .holds();
}

#[test]
fn recurrences_with_heads_in_groups() {
    let gates = |heads: usize| {
        format!(
            "const wd f32[6,{heads}]\nconst wb f32[6,{heads}]\nd0 = MatMul(x, wd)\nd1 = Softplus(d0)\nd = Neg(d1)\nb0 = MatMul(x, wb)\nb = Sigmoid(b0)\n"
        )
    };
    // Queries, keys and values of as many heads, of 4 dimensions each.
    for (queries, keys, values, units) in [(8, 4, 4, 4), (4, 4, 4, 4), (2, 2, 8, 2), (4, 2, 8, 2)] {
        let node = format!(
            "{}c, st = com.microsoft.LinearAttention(q, k, v, _, d, b) {{q_num_heads={queries}, kv_num_heads={values}, update_rule=\"gated_delta\"}}",
            gates(values)
        );
        let text = attention(
            "1,3",
            [queries * 4, keys * 4, values * 4, queries.max(values) * 4],
            &node,
        );
        Structure::new(&text, 40.0).coarse(&[units]).holds();
    }
    let node = "c, st = com.microsoft.LinearAttention(q, k, v) {q_num_heads=8, kv_num_heads=4, update_rule=\"linear\"}";
    Structure::new(&attention("1,3", [32, 16, 16, 32], node), 40.0)
        .coarse(&[4])
        .holds();
}

/// Three products in blocks of 16 with zero points, of 48, 80 and 48 summed numbers: odd numbers of blocks, in bytes that two
/// of them share.
#[test]
fn zero_points_are_packed_anew() {
    for (bits, zeros) in [(4, [2, 3, 2]), (2, [1, 2, 1]), (8, [3, 5, 3])] {
        let bytes = 2 * bits;
        let weight = |name: &str, rows: usize, blocks: usize, zero: usize| {
            format!(
                "const {name} u8[{rows},{blocks},{bytes}] = full\nconst {name}s f32[{rows},{blocks}] = positive\nconst {name}z u8[{rows},{zero}] = full\n"
            )
        };
        let layer = |y: &str, x: &str, name: &str, sum: usize, rows: usize| {
            format!(
                "{y} = com.microsoft.MatMulNBits({x}, {name}, {name}s, {name}z) {{K={sum}, N={rows}, bits={bits}, block_size=16}}\n"
            )
        };
        let text = format!(
            "input x f32[n,48]\n{}{}{}{}r = Relu(h)\n{}r2 = Relu(h2)\n{}output y",
            weight("a", 80, 3, zeros[0]),
            weight("b", 48, 5, zeros[1]),
            weight("c", 5, 3, zeros[2]),
            layer("h", "x", "a", 48, 80),
            layer("h2", "r", "b", 80, 48),
            layer("y", "r2", "c", 48, 5),
        );
        Structure::new(&text, 100.0)
            .coarse(&[3, 5])
            .fine(&[3, 5])
            .holds();
    }
}

#[test]
fn products_give_whole_blocks() {
    let text = "input x f32[n,6]\nconst w f32[6,96]\nconst b f32[96]\nconst a u8[5,3,16] = full\nconst as f32[5,3] = positive\nconst az u8[5,2] = full
        p = MatMul(x, w)\ns = Add(p, b)\nr = Relu(s)\ny = com.microsoft.MatMulNBits(r, a, as, az) {K=96, N=5, bits=4, block_size=32}\noutput y";
    Structure::new(text, 100.0).coarse(&[3]).fine(&[3]).holds();
}

#[test]
fn one_set_of_zero_points_for_two_products() {
    let text = "input x f32[n,6]\nconst v f32[6,48]\nconst w f32[6,48]\nconst a u8[5,3,8] = full\nconst as f32[5,3] = positive\nconst b u8[5,3,8] = full\nconst bs f32[5,3] = positive\nconst z u8[5,2] = full
        p = MatMul(x, v)\np1 = Relu(p)\nq = MatMul(x, w)\nq1 = Relu(q)\nc = com.microsoft.MatMulNBits(p1, a, as, z) {K=48, N=5, bits=4, block_size=16}\nd = com.microsoft.MatMulNBits(q1, b, bs, z) {K=48, N=5, bits=4, block_size=16}\ny = Add(c, d)\noutput y";
    Structure::new(text, 100.0)
        .coarse(&[3, 3])
        .fine(&[3, 3])
        .holds();
}

#[test]
fn tables_in_blocks() {
    let text = "input ids i64[n]\nconst t u8[9,24] = full\nconst ts f32[9,3] = positive\nconst tz u8[9,2] = full\nconst w f32[48,5]
        e = com.microsoft.GatherBlockQuantized(t, ids, ts, tz) {block_size=16, quantize_axis=1, gather_axis=0, bits=4}\ny = MatMul(e, w)\noutput y";
    Structure::new(text, 100.0).coarse(&[3]).holds();
}

#[test]
fn neurons_of_packed_experts() {
    let layers = |bits: usize, block: usize, fusion: usize| {
        let (rows, scales) = (if fusion > 0 { 96 } else { 48 }, |of: usize| {
            of.checked_div(block)
                .map_or_else(String::new, |blocks| format!(",{blocks}"))
        });
        let blocks = if block > 0 {
            format!(", block_size={block}")
        } else {
            String::new()
        };
        let kind = if fusion > 0 {
            format!("\"swiglu\", swiglu_fusion={fusion}")
        } else {
            "\"relu\"".to_owned()
        };
        format!(
            "input x f32[5,32]\nconst r f32[32,3]\nconst a u8[3,{rows},{}] = full\nconst as f32[3,{rows}{}] = positive\nconst ab f32[3,{rows}]\nconst b u8[3,32,{}] = full\nconst bs f32[3,32{}] = positive\nconst bb f32[3,32]\np = MatMul(x, r)\ny = com.microsoft.QMoE(x, p, a, as, ab, b, bs, bb) {{k=2, expert_weight_bits={bits}, activation_type={kind}{blocks}}}\noutput y",
            32 * bits / 8,
            scales(32),
            48 * bits / 8,
            scales(48)
        )
    };
    // Those of one byte go together; one of the experts may go.
    for (bits, units) in [(4, [3, 24]), (8, [3, 48])] {
        Structure::new(&layers(bits, 0, 0), 90.0)
            .coarse(&units)
            .holds();
        Structure::new(&layers(bits, 0, 1), 90.0)
            .coarse(&units)
            .holds();
        Structure::new(&layers(bits, 16, 0), 90.0)
            .coarse(&[3, 3])
            .holds();
    }
}

#[test]
fn causal_convolutions_with_channels_last() {
    let text = "input x f32[1,5,6]\nconst v f32[6,8]\nconst w f32[8,1,4]\nconst b f32[8]\nconst p f32[1,6,8]\nconst o f32[8,3]
        h = MatMul(x, v)\nc, st = com.microsoft.CausalConvWithState(h, w, b, p) {channels_last=1, dilation=2, activation=\"silu\"}\ny = MatMul(c, o)\noutput y";
    Structure::new(text, 100.0).coarse(&[8]).holds();
}
