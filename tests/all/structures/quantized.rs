//! Quantized weights and other precisions.

use super::Structure;

#[test]
fn quantize_and_dequantize_per_tensor_and_per_channel() {
    let text = "input x f32[n,3,6,6]\nconst s f32[] = 0.02\nconst z u8[] = 128\nconst zi i8[] = 0
        const a i8[8,3,3,3]\nconst sa f32[8] = positive\nconst za i8[8] = 0\nconst b i8[4,8,1,1]
        x0 = QuantizeLinear(x, s, z)\nx1 = DequantizeLinear(x0, s, z)\naw = DequantizeLinear(a, sa, za) {axis=0}\nf = Conv(x1, aw)\nf1 = Relu(f)\nf2 = QuantizeLinear(f1, s, z)\nf3 = DequantizeLinear(f2, s, z)\nbw = DequantizeLinear(b, s, zi)\ny = Conv(f3, bw)\noutput y";
    Structure::new(text, 95.0).coarse(&[8]).holds();
}

#[test]
fn dynamic_quantization() {
    let text = "input x f32[n,4]\nconst a i8[4,8]\nconst b i8[8,3]\nconst s f32[] = 0.1
        q, qs, qz = DynamicQuantizeLinear(x)\nm = MatMulInteger(q, a, qz)\nm1 = Cast(m) {to=1}\nm2 = Mul(m1, qs)\nr = Relu(m2)\nq2, qs2, qz2 = DynamicQuantizeLinear(r)\nn2 = MatMulInteger(q2, b, qz2)\nn3 = Cast(n2) {to=1}\nn4 = Mul(n3, qs2)\ny = Mul(n4, s)\noutput y";
    Structure::analysed(text, 90.0, &[8]);
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
