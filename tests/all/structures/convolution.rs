//! Convolutions: gates, shuffles, groups, decoders, detection heads.

use onnx_prune::analysis::{Kind, Options};
use onnx_prune::model::text;
use onnx_prune::workspace::Workspace;

use super::Structure;

#[test]
fn a_chain_of_concatenations_with_gates() {
    let text = "input x f32[n,3,6,6]\nconst a f32[6,3,3,3]\nconst b f32[4,6,3,3]\nconst c f32[5,10,3,3]\nconst p f32[3,15,1,1]\nconst q f32[15,3,1,1]\nconst h f32[5,15]
        f = Conv(x, a) {pads=[1,1,1,1]}\ng = Relu(f)\ni = Conv(g, b) {pads=[1,1,1,1]}\nj = Concat(g, i) {axis=1}\nk = Conv(j, c) {pads=[1,1,1,1]}\nl = Concat(j, k) {axis=1}
        m = GlobalAveragePool(l)\nr = Conv(m, p)\ns = Relu(r)\nt = Conv(s, q)\nu = Sigmoid(t)\nv = Mul(l, u)
        w = GlobalAveragePool(v)\ny0 = Flatten(w)\ny = Gemm(y0, h) {transB=1}\noutput y";
    Structure::new(text, 99.0).coarse(&[3, 4, 5, 6]).holds();
}

#[test]
fn channel_attention_and_spatial_attention() {
    let text = "input x f32[n,3,6,6]\nconst a f32[8,3,3,3]\nconst p f32[4,8,1,1]\nconst q f32[8,4,1,1]\nconst z f32[1,2,3,3]\nconst h f32[5,8]
        f = Conv(x, a) {pads=[1,1,1,1]}
        m = GlobalAveragePool(f)\nm1 = Conv(m, p)\nm2 = Relu(m1)\nm3 = Conv(m2, q)\no = GlobalMaxPool(f)\no1 = Conv(o, p)\no2 = Relu(o1)\no3 = Conv(o2, q)
        g = Add(m3, o3)\ngs = Sigmoid(g)\nf2 = Mul(f, gs)
        s = ReduceSum(f2, ax)\nt = Abs(f2)\nt1 = ReduceSum(t, ax)\nu = Concat(s, t1) {axis=1}\nv = Conv(u, z) {pads=[1,1,1,1]}\nvs = Sigmoid(v)\nw = Mul(f2, vs)
        e = GlobalAveragePool(w)\ne1 = Flatten(e)\ny = Gemm(e1, h) {transB=1}\noutput y\nconst ax i64[1] = 1";
    // The two branches share their weights, and are cut as one.
    Structure::new(text, 90.0).coarse(&[4, 8]).holds();
}

#[test]
fn shuffled_grouped_convolutions_of_different_group_counts() {
    let text = "input x f32[n,3,4,4]\nconst s f32[24,3,1,1]\nconst a f32[12,12,1,1]\nconst d f32[12,1,3,3]\nconst b f32[24,6,1,1]\nconst a3 f32[12,8,1,1]\nconst b3 f32[24,4,1,1]\nconst h f32[5,24]
        const apart i64[5] = 0,2,6,4,4\nconst apart3 i64[5] = 0,3,4,4,4\nconst back i64[4] = 0,12,4,4
        x0 = Conv(x, s)\nf = Conv(x0, a) {group=2}\nf0 = Relu(f)\nf1 = Reshape(f0, apart)\nf2 = Transpose(f1) {perm=[0,2,1,3,4]}\nf3 = Reshape(f2, back)\nf4 = Conv(f3, d) {group=12, pads=[1,1,1,1]}\nf5 = Conv(f4, b) {group=2}\nx1 = Add(x0, f5)
        g = Conv(x1, a3) {group=3}\ng0 = Relu(g)\ng1 = Reshape(g0, apart3)\ng2 = Transpose(g1) {perm=[0,2,1,3,4]}\ng3 = Reshape(g2, back)\ng5 = Conv(g3, b3) {group=3}\nx2 = Add(x1, g5)
        e = GlobalAveragePool(x2)\ne1 = Flatten(e)\ny = Gemm(e1, h) {transB=1}\noutput y";
    // Of 24 channels read as 2 × 12 and as 3 × 8 both readers agree on steps of four.
    Structure::new(text, 80.0).coarse(&[3, 4]).holds();
}

#[test]
fn depth_to_space_decodes_blocks_of_channels() {
    for mode in ["DCR", "CRD"] {
        let text = format!(
            "input x f32[n,3,4,4]\nconst a f32[24,3,3,3]\nconst b f32[4,6,3,3]\nf = Conv(x, a) {{pads=[1,1,1,1]}}\ng = Relu(f)\nh = DepthToSpace(g) {{blocksize=2, mode=\"{mode}\"}}\ny = Conv(h, b)\noutput y"
        );
        Structure::new(&text, 99.0).coarse(&[6]).holds();
    }
}

#[test]
fn a_decoder_with_skips() {
    let text = "input x f32[n,2,8,8]\nconst a f32[6,2,3,3]\nconst b f32[8,6,3,3]\nconst u f32[8,5,2,2]\nconst c f32[4,11,3,3]\nconst o f32[2,4,1,1]
        d0 = Conv(x, a) {pads=[1,1,1,1]}\nd1 = Relu(d0)\ne0 = MaxPool(d1) {kernel_shape=[2,2], strides=[2,2]}\ne1 = Conv(e0, b) {pads=[1,1,1,1]}\ne2 = Relu(e1)
        f0 = ConvTranspose(e2, u) {strides=[2,2]}\nf1 = Concat(d1, f0) {axis=1}\nf2 = Conv(f1, c) {pads=[1,1,1,1]}\nf3 = Relu(f2)\ny = Conv(f3, o)\noutput y";
    Structure::new(text, 99.0).coarse(&[4, 5, 6, 8]).holds();
}

#[test]
fn transposed_convolutions_with_groups() {
    let text = "input x f32[n,3,4,4]\nconst a f32[12,3,1,1]\nconst u f32[12,5,2,2]\nconst c f32[4,15,1,1]\nd = Conv(x, a)\ne = Relu(d)\nf = ConvTranspose(e, u) {group=3, strides=[2,2]}\ng = Relu(f)\ny = Conv(g, c)\noutput y";
    Structure::new(text, 99.0)
        .coarse(&[3])
        .fine(&[4, 5])
        .holds();
}

#[test]
fn a_detection_head_concatenates_anchors() {
    let text = "input x f32[n,3,8,8]\nconst a f32[6,3,3,3]\nconst b f32[8,6,3,3]\nconst p f32[12,6,1,1]\nconst q f32[12,8,1,1]\nconst s i64[3] = 0,-1,4
        c0 = Conv(x, a) {pads=[1,1,1,1]}\nc1 = Relu(c0)\nd0 = Conv(c1, b) {pads=[1,1,1,1], strides=[2,2]}\nd1 = Relu(d0)
        e0 = Conv(c1, p)\ne1 = Transpose(e0) {perm=[0,2,3,1]}\ne2 = Reshape(e1, s)\nf0 = Conv(d1, q)\nf1 = Transpose(f0) {perm=[0,2,3,1]}\nf2 = Reshape(f1, s)\ny = Concat(e2, f2) {axis=1}\noutput y";
    Structure::new(text, 99.0).coarse(&[6, 8]).holds();
}

#[test]
fn channels_that_look_at_their_neighbours() {
    // Efficient channel attention: a filter slides along the channels of the pooled map.
    let text = "input x f32[n,3,6,6]\nconst a f32[12,3,3,3]\nconst e f32[1,1,3]\nconst b f32[12,12,3,3]\nconst h f32[12,5]\nconst row i64[3] = 0,1,12\nconst map i64[4] = 0,12,1,1
        f = Conv(x, a) {pads=[1,1,1,1]}\nr = Relu(f)\nc = Conv(r, b) {pads=[1,1,1,1]}\np = GlobalAveragePool(c)\np1 = Reshape(p, row)\np2 = Conv(p1, e) {pads=[1,1]}\np3 = Sigmoid(p2)\np4 = Reshape(p3, map)\nd = Mul(c, p4)\nj = Add(r, d)\ng = GlobalAveragePool(j)\nk = Flatten(g)\ny = MatMul(k, h)\noutput y";
    Structure::new(text, 95.0).coarse(&[12]).fine(&[12]).holds();
}

#[test]
fn channels_among_the_positions_of_a_filter() {
    // Triplet attention: the greatest and the mean along the rows are filtered along channels and columns, turned by a right angle.
    let text = "opset 18\ninput x f32[1,3,6,6]\nconst a f32[12,3,3,3]\nconst e f32[1,2,3,3]\nconst b f32[5,12,1,1]\nconst one i64[1] = 1
        f = Conv(x, a) {pads=[1,1,1,1]}\nr = Relu(f)\nt = Transpose(r) {perm=[0,2,1,3]}\nm = ReduceMax(t, one) {keepdims=1}\na0 = ReduceMean(t, one) {keepdims=1}\np = Concat(m, a0) {axis=1}\nq = Conv(p, e) {pads=[1,1,1,1]}\ns = Sigmoid(q)\nu = Mul(t, s)\nv = Transpose(u) {perm=[0,2,1,3]}\ny = Conv(v, b)\noutput y";
    Structure::new(text, 95.0).coarse(&[12]).fine(&[12]).holds();
}

#[test]
fn groups_of_channels_merged_with_the_batch() {
    // Spatial group-wise enhancement: each group of channels is weighed by how much it is like its own mean.
    let text = "opset 18\ninput x f32[1,3,4,4]\nconst a f32[12,3,3,3]\nconst b f32[5,12,1,1]\nconst gw f32[1,4,1,1]\nconst gb f32[1,4,1,1]\nconst tiny f32[] = 0.00001\nconst one i64[1] = 1\nconst g i64[4] = 4,3,4,4\nconst flat i64[2] = 4,-1\nconst map i64[4] = 1,4,4,4\nconst single i64[4] = 4,1,4,4\nconst back i64[4] = 1,12,4,4
        f = Conv(x, a) {pads=[1,1,1,1]}\nr = Relu(f)\nx1 = Reshape(r, g)\np = GlobalAveragePool(x1)\nx2 = Mul(x1, p)\nt = ReduceSum(x2, one) {keepdims=1}\nt1 = Reshape(t, flat)\nm = ReduceMean(t1, one) {keepdims=1}\nt2 = Sub(t1, m)\nt3 = Mul(t2, t2)\nv = ReduceMean(t3, one) {keepdims=1}\ns = Sqrt(v)\ns1 = Add(s, tiny)\nt4 = Div(t2, s1)\nt5 = Reshape(t4, map)\nt6 = Mul(t5, gw)\nt7 = Add(t6, gb)\nt8 = Reshape(t7, single)\nw = Sigmoid(t8)\nu = Mul(x1, w)\nu1 = Reshape(u, back)\ny = Conv(u1, b)\noutput y";
    Structure::new(text, 95.0).coarse(&[4]).holds();
}

/// StyleGAN's convolutions: the kernel is scaled by a style for each sample, normalised, and laid out as groups of a batch.
fn modulated(batch: usize) -> String {
    let (flat_in, flat_out, flat_rgb) = (batch * 8, batch * 6, batch * 3);
    format!(
        "input z f32[{batch},5]\ninput x f32[{batch},8,4,4]\nconst sw f32[8,5]\nconst w f32[1,6,8,3,3]\nconst rw f32[6,5]\nconst rgb f32[1,3,6,1,1]
        const style i64[5] = {batch},1,8,1,1\nconst demod i64[5] = {batch},6,1,1,1\nconst kernel i64[4] = {flat_out},8,3,3\nconst map i64[4] = 1,{flat_in},4,4\nconst back i64[4] = {batch},6,4,4
        const rstyle i64[5] = {batch},1,6,1,1\nconst rkernel i64[4] = {flat_rgb},6,1,1\nconst rmap i64[4] = 1,{flat_out},4,4\nconst rback i64[4] = {batch},3,4,4
        const p f32[8,8,1,1]\nconst axes i64[3] = 2,3,4\nconst tiny f32[] = 0.00000001\nconst one f32[] = 1.0\nconst two f32[] = 2.0
        x0 = Conv(x, p)\ns = Gemm(z, sw) {{transB=1}}\ns1 = Reshape(s, style)\nm = Mul(w, s1)\nq = Pow(m, two)\nd0 = ReduceSum(q, axes) {{keepdims=0}}\nd1 = Add(d0, tiny)\nd2 = Sqrt(d1)\nd3 = Div(one, d2)\nd4 = Reshape(d3, demod)\nm1 = Mul(m, d4)
        k = Reshape(m1, kernel)\nx1 = Reshape(x0, map)\nc = Conv(x1, k) {{group={batch}, pads=[1,1,1,1]}}\nc1 = Reshape(c, back)\nr = LeakyRelu(c1)
        t = Gemm(z, rw) {{transB=1}}\nt1 = Reshape(t, rstyle)\nn = Mul(rgb, t1)\nk2 = Reshape(n, rkernel)\nr1 = Reshape(r, rmap)\ne = Conv(r1, k2) {{group={batch}}}\ny = Reshape(e, rback)\noutput y"
    )
}

#[test]
fn modulated_convolutions_have_channels() {
    for batch in [1, 2] {
        let text = modulated(batch);
        Structure::new(&text, 99.0).coarse(&[6, 8]).holds();
        let model = text::model(&text).unwrap();
        let prepared = Workspace::new(&model, &Options::default()).unwrap();
        assert!(
            prepared
                .analysis
                .groups
                .iter()
                .all(|group| group.kind == Kind::Channels),
            "{:?}",
            prepared.analysis.groups
        );
    }
}

#[test]
fn statistics_over_channels_that_flow_on_are_a_loss() {
    let text = "input x f32[n,3,6,6]\nconst a f32[8,3,3,3]\nconst z f32[1,2,3,3]\nconst h f32[5,8]
        f = Conv(x, a) {pads=[1,1,1,1]}\nr = Relu(f)\ns = ReduceMax(r) {axes=[1]}\nt = ReduceMean(r) {axes=[1]}\nu = Concat(s, t) {axis=1}\nv = Conv(u, z) {pads=[1,1,1,1]}\ng = Sigmoid(v)\nw = Mul(r, g)
        e = GlobalAveragePool(w)\ne1 = Flatten(e)\ny = Gemm(e1, h) {transB=1}\noutput y";
    Structure::new(text, 90.0).coarse(&[8]).holds();
    let model = text::model(text).unwrap();
    let prepared = Workspace::new(&model, &Options::default()).unwrap();
    let group = &prepared.analysis.groups[0];
    assert_eq!(
        (
            group.kind,
            group.lossy.as_ref().unwrap().to_string().as_str()
        ),
        (Kind::Width, "a statistic over fewer entries")
    );
}

#[test]
fn sums_over_neighbouring_channels_are_a_loss() {
    let text = "input x f32[n,3,6,6]\nconst a f32[8,3,3,3]\nconst b f32[5,8,1,1]\nf = Conv(x, a) {pads=[1,1,1,1]}\nr = Relu(f)\nl = LRN(r) {size=5, alpha=0.5, beta=0.75, bias=1.0}\ny = Conv(l, b)\noutput y";
    Structure::new(text, 99.0).coarse(&[8]).holds();
}

#[test]
fn maxima_are_put_back_where_they_were() {
    let text = "input x f32[2,3,8,8]\nconst a f32[6,3,3,3]\nconst b f32[6,6,3,3]\nconst c f32[4,6,1,1]
        f = Conv(x, a) {pads=[1,1,1,1]}\nr = Relu(f)\np, i = MaxPool(r) {kernel_shape=[2,2], strides=[2,2]}\ng = Conv(p, b) {pads=[1,1,1,1]}\ns = Add(g, p)\nu = MaxUnpool(s, i) {kernel_shape=[2,2], strides=[2,2]}\ny = Conv(u, c)\noutput y";
    Structure::new(text, 99.0).coarse(&[6]).holds();
    let given = "sh = Shape(r)\nu = MaxUnpool(s, i, sh)";
    Structure::new(&text.replace("u = MaxUnpool(s, i)", given), 99.0)
        .coarse(&[6])
        .holds();
    // Where the numbers are read as such, channels stay.
    Structure::new(&text.replace("output y", "output y\noutput i"), 0.0)
        .coarse(&[])
        .holds();
}
