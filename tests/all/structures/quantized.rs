//! Quantized weights and other precisions.

use super::Structure;

#[test]
fn quantize_and_dequantize_per_tensor_and_per_channel() {
    let text = "input x f32[n,3,6,6]\nconst s f32[] = 0.02\nconst z u8[] = 128\nconst zi i8[] = 0
        const a i8[8,3,3,3]\nconst sa f32[8] = positive\nconst za i8[8] = 0\nconst b i8[4,8,1,1]
        x0 = QuantizeLinear(x, s, z)\nx1 = DequantizeLinear(x0, s, z)\naw = DequantizeLinear(a, sa, za) {axis=0}\nf = Conv(x1, aw)\nf1 = Relu(f)\nf2 = QuantizeLinear(f1, s, z)\nf3 = DequantizeLinear(f2, s, z)\nbw = DequantizeLinear(b, s, zi)\ny = Conv(f3, bw)\noutput y";
    Structure::new(text, 95.0).coarse(&[8]).holds();
}

/// A tensor is quantized anew from what is left of it: removed numbers count as zeros, which its range spans anyway.
#[test]
fn dynamic_quantization_of_products() {
    let text = "input x f32[n,4]\nconst a i8[4,8] = full\nconst b i8[8,3] = full\nconst s f32[] = 0.1
        q, qs, qz = DynamicQuantizeLinear(x)\nm = MatMulInteger(q, a, qz)\nm1 = Cast(m) {to=1}\nm2 = Mul(m1, qs)\nr = Relu(m2)\nq2, qs2, qz2 = DynamicQuantizeLinear(r)\nn2 = MatMulInteger(q2, b, qz2)\nn3 = Cast(n2) {to=1}\nn4 = Mul(n3, qs2)\ny = Mul(n4, s)\noutput y";
    Structure::new(text, 90.0).coarse(&[8]).fine(&[8]).holds();
}

#[test]
fn dynamic_quantization_of_convolutions() {
    let text = "input x f32[n,3,6,6]\nconst a u8[8,3,3,3] = full\nconst az u8[] = 128\nconst as f32[] = 0.01\nconst c f32[1,8,1,1]\nconst b u8[4,8,3,3] = full\nconst bz u8[] = 120\nconst bs f32[] = 0.02
        q, qs, qz = DynamicQuantizeLinear(x)\nm = ConvInteger(q, a, qz, az) {pads=[1,1,1,1], kernel_shape=[3,3]}\nm1 = Cast(m) {to=1}\ns1 = Mul(qs, as)\nm2 = Mul(m1, s1)\nm3 = Add(m2, c)\nr = Relu(m3)
        q2, qs2, qz2 = DynamicQuantizeLinear(r)\nk = ConvInteger(q2, b, qz2, bz) {kernel_shape=[3,3]}\nk1 = Cast(k) {to=1}\ns2 = Mul(qs2, bs)\ny = Mul(k1, s2)\noutput y";
    Structure::new(text, 90.0).coarse(&[8]).fine(&[8]).holds();
}

#[test]
fn quantized_operators_in_a_chain() {
    // Scales of weights for each output channel and for all of them, a residual sum, a grouped convolution.
    let convolutions = "input x f32[n,3,6,6]\nconst s f32[] = 0.02\nconst z u8[] = 128\nconst ys f32[] = 0.2
        const a i8[8,3,3,3] = full\nconst as f32[8] = 0.01,0.02,0.03,0.02,0.015,0.025,0.02,0.01\nconst az i8[8] = 0\nconst ab i32[8] = 100,-200,300,0,50,-50,10,20
        const b u8[8,8,1,1] = full\nconst bs f32[] = 0.01\nconst bz u8[] = 130\nconst g i8[8,2,3,3] = full\nconst gs f32[8] = 0.02\nconst gz i8[8] = 0\nconst d i8[5,8,3,3] = full\nconst ds f32[5] = 0.01\nconst dz i8[5] = 0
        x0 = QuantizeLinear(x, s, z)\nx1 = QLinearConv(x0, s, z, a, as, az, ys, z, ab) {pads=[1,1,1,1], kernel_shape=[3,3]}
        x2 = QLinearConv(x1, ys, z, b, bs, bz, ys, z) {kernel_shape=[1,1]}\nx3 = com.microsoft.QLinearAdd(x1, ys, z, x2, ys, z, ys, z)
        x4 = QLinearConv(x3, ys, z, g, gs, gz, ys, z) {pads=[1,1,1,1], kernel_shape=[3,3], group=4}\nx5 = QLinearConv(x4, ys, z, d, ds, dz, ys, z) {kernel_shape=[3,3]}\ny = DequantizeLinear(x5, ys, z)\noutput y";
    Structure::new(convolutions, 95.0)
        .coarse(&[4])
        .fine(&[2, 2])
        .holds();
    let products = "input x f32[n,4]\nconst s f32[] = 0.02\nconst z u8[] = 128\nconst ys f32[] = 0.1
        const a i8[4,8] = full\nconst as f32[8] = 0.03\nconst az i8[8] = 0\nconst b i8[4,8] = full\nconst bs f32[] = 0.02\nconst bz i8[] = 3\nconst c i8[8,6] = full\nconst cs f32[6] = 0.01\nconst cz i8[6] = 0\nconst d i8[6,3] = full
        x0 = QuantizeLinear(x, s, z)\nx1 = QLinearMatMul(x0, s, z, a, as, az, ys, z)\nx2 = QLinearMatMul(x0, s, z, b, bs, bz, ys, z)\nx3 = com.microsoft.QLinearAdd(x1, ys, z, x2, ys, z, ys, z)
        x4 = QLinearMatMul(x3, ys, z, c, cs, cz, ys, z)\nx5 = QLinearMatMul(x4, ys, z, d, bs, bz, ys, z)\ny = DequantizeLinear(x5, ys, z)\noutput y";
    Structure::new(products, 80.0)
        .coarse(&[6, 8])
        .fine(&[6, 8])
        .holds();
}

/// Weights whose scales stand for blocks: along the axis of the blocks these go whole, along the other one by one.
#[test]
fn weights_quantized_in_blocks() {
    for (kind, zero) in [("i8", "0"), ("i8", "full"), ("i4", "0"), ("u4", "full")] {
        let text = format!(
            "opset 21\nir 10\ninput x f32[n,32]\nconst a {kind}[32,48] = full\nconst as f32[2,48] = positive\nconst az {kind}[2,48] = {zero}\nconst b {kind}[48,64] = full\nconst bs f32[48,4] = positive\nconst bz {kind}[48,4] = {zero}\nconst c {kind}[64,5] = full\nconst cs f32[4,5] = positive
            aw = DequantizeLinear(a, as, az) {{axis=0, block_size=16}}\nh = MatMul(x, aw)\nr = Relu(h)\nbw = DequantizeLinear(b, bs, bz) {{axis=1, block_size=16}}\nh2 = MatMul(r, bw)\nr2 = Relu(h2)\ncw = DequantizeLinear(c, cs) {{axis=0, block_size=16}}\ny = MatMul(r2, cw)\noutput y"
        );
        Structure::new(&text, 95.0)
            .coarse(&[4, 48])
            .fine(&[4, 48])
            .holds();
    }
}

#[test]
fn weights_of_four_bits_per_channel() {
    let text = "opset 21\nir 10\ninput x f32[n,6]\nconst a i4[6,9] = full\nconst as f32[9] = positive\nconst b u4[9,7] = full\nconst bs f32[] = 0.3\nconst bz u4[] = 8\nconst c i4[7,3] = full\nconst cs f32[7] = positive
        aw = DequantizeLinear(a, as) {axis=1}\nh = MatMul(x, aw)\nr = Relu(h)\nbw = DequantizeLinear(b, bs, bz)\nh2 = MatMul(r, bw)\nr2 = Relu(h2)\ncw = DequantizeLinear(c, cs) {axis=0}\ny = MatMul(r2, cw)\noutput y";
    Structure::new(text, 95.0)
        .coarse(&[7, 9])
        .fine(&[7, 9])
        .holds();
}

/// com.microsoft MatMulNBits: output channels that the next one sums over go in blocks.
#[test]
fn weights_packed_in_nibbles() {
    let text = |scales: [&str; 3], zeros: [&str; 3]| {
        format!(
            "input x f32[n,32]\nconst a u8[64,2,8] = full\nconst as f32[{}] = positive\nconst az u8[64,1] = full\nconst b u8[32,4,8] = full\nconst bs f32[{}] = positive\nconst bz u8[32,2] = full\nconst c u8[5,2,8] = full\nconst cs f32[{}] = positive\nconst o f32[5]
            h = com.microsoft.MatMulNBits(x, a, as{}) {{K=32, N=64, bits=4, block_size=16}}\nr = Relu(h)\nh2 = com.microsoft.MatMulNBits(r, b, bs{}) {{K=64, N=32, bits=4, block_size=16}}\nr2 = Relu(h2)\nh3 = com.microsoft.MatMulNBits(r2, c, cs{}) {{K=32, N=5, bits=4, block_size=16}}\ny = Add(h3, o)\noutput y",
            scales[0], scales[1], scales[2], zeros[0], zeros[1], zeros[2]
        )
    };
    let two = ["64,2", "32,4", "5,2"];
    Structure::new(&text(two, ["", "", ""]), 90.0)
        .coarse(&[2, 4])
        .fine(&[2, 4])
        .holds();
    Structure::new(&text(two, [", az", ", bz", ""]), 90.0)
        .coarse(&[2, 4])
        .fine(&[2, 4])
        .holds();
    // Scales in a row are a product of channels and blocks, of which one is cut.
    Structure::new(&text(["128", "128", "10"], ["", "", ""]), 45.0)
        .coarse(&[2])
        .holds();
}

#[test]
fn other_precisions() {
    for kind in ["f16", "f64", "bf16"] {
        let text = format!(
            "input x {kind}[n,4]\nconst a {kind}[4,8]\nconst c {kind}[8]\nconst b {kind}[8,3]\nf = MatMul(x, a)\ng = Add(f, c)\nh = Relu(g)\ny = MatMul(h, b)\noutput y"
        );
        Structure::new(&text, 99.0).coarse(&[8]).holds();
    }
}
