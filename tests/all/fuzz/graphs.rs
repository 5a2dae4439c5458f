//! Small graphs that mutations start from: together they hold every family of operators.

use onnx_prune::model::text;
use onnx_prune::proto::ModelProto;

const GRAPHS: &[&str] = &[
    // A residual network with normalisations, pools and a Reshape to a computed shape.
    "input x f32[n,3,8,8]\nconst w f32[8,3,3,3]\nconst s f32[8]\nconst b f32[8]\nconst m f32[8]\nconst v f32[8] = positive\n\
     const u f32[8,8,1,1]\nconst d f32[8,1,3,3]\nconst o f32[8,4]\nconst last i64[1] = -1\nconst zero i64[] = 0\n\
     c = Conv(x, w, _) {pads=[1,1,1,1]}\nt = BatchNormalization(c, s, b, m, v)\nr = Relu(t)\nk = Conv(r, d, _) {group=8, pads=[1,1,1,1]}\n\
     e = Conv(k, u, _)\na = Add(e, r)\np = MaxPool(a) {kernel_shape=[2,2], strides=[2,2]}\ng = GlobalAveragePool(p)\n\
     h = Shape(g)\nn = Gather(h, zero)\nq = Unsqueeze(n, f)\nconst f i64[1] = 0\nj = Concat(q, last) {axis=0}\nz = Reshape(g, j)\n\
     y = MatMul(z, o)\noutput y",
    // Attention as exporters write it.
    "input x f32[n,5,8]\nconst q f32[8,24]\nconst o f32[8,8]\nconst s i64[5] = 0, 0, 3, 2, 4\nconst t i64[3] = 0, 0, 8\nconst g f32[8]\nconst b f32[8]\n\
     const i0 i64[] = 0\nconst i1 i64[] = 1\nconst i2 i64[] = 2\nl = LayerNormalization(x, g, b) {axis=-1}\np = MatMul(l, q)\nr = Reshape(p, s)\n\
     e = Transpose(r) {perm=[2,0,3,1,4]}\nqq = Gather(e, i0)\nkk = Gather(e, i1)\nvv = Gather(e, i2)\nkt = Transpose(kk) {perm=[0,1,3,2]}\n\
     a = MatMul(qq, kt)\nm = Softmax(a) {axis=-1}\nc = MatMul(m, vv)\nd = Transpose(c) {perm=[0,2,1,3]}\nf = Reshape(d, t)\nh = MatMul(f, o)\n\
     y = Add(h, x)\noutput y",
    // Recurrent layers.
    "input x f32[4,n,3]\nconst w f32[1,16,3]\nconst r f32[1,16,4]\nconst b f32[1,32]\nconst gw f32[2,12,4]\nconst gr f32[2,12,4]\nconst o f32[8,2]\n\
     const ax i64[1] = 1\nconst sh i64[3] = 0, 0, -1\ny1, h, c = LSTM(x, w, r, b) {hidden_size=4}\nz = Squeeze(y1, ax)\ny2, h2 = GRU(z, gw, gr) {hidden_size=4, direction=\"bidirectional\"}\n\
     t = Transpose(y2) {perm=[0,2,1,3]}\nu = Reshape(t, sh)\ny = MatMul(u, o)\noutput y",
    // Control flow.
    "input x f32[n,4]\nconst a f32[4,8]\nconst b f32[8,6]\nconst k f32[8,6]\nconst o f32[6,3]\nconst c bool[] = 1\nconst trips i64[] = 3\n\
     h = MatMul(x, a)\nr = Relu(h)\nz = If(c) {then_branch=@one, else_branch=@two}\nw = Loop(trips, c, z) {body=@step}\ny = MatMul(w, o)\noutput y\n\
     graph one\nt = MatMul(r, b)\noutput t\nend\ngraph two\nt = MatMul(r, k)\noutput t\nend\n\
     graph step\ninput i i64[]\ninput on bool[]\ninput s f32[n,6]\non1 = Identity(on)\ns1 = Tanh(s)\noutput on1\noutput s1\nend",
    // Quantized layers.
    "input x f32[n,6]\nconst w i8[6,8] = full\nconst ws f32[8] = positive\nconst wz i8[8] = 0, 0, 0, 0, 0, 0, 0, 0\nconst s f32[] = 0.05\nconst z u8[] = 128\n\
     const o f32[8,3]\nq = QuantizeLinear(x, s, z)\nd = DequantizeLinear(q, s, z)\nv = DequantizeLinear(w, ws, wz) {axis=1}\nh = MatMul(d, v)\n\
     r = Relu(h)\nq2 = QuantizeLinear(r, s, z)\nd2 = DequantizeLinear(q2, s, z)\ny = MatMul(d2, o)\noutput y",
    // Joins, slices, pads, resizes and channel arithmetic.
    "input x f32[2,4,6,6]\nconst w f32[8,4,1,1]\nconst u f32[8,8,1,1]\nconst o f32[2,4,1,1]\nconst st i64[1] = 0\nconst en i64[1] = 4\nconst ax i64[1] = 1\n\
     const pads i64[8] = 0, 0, 1, 1, 0, 0, 1, 1\nconst sc f32[4] = 1, 1, 2, 2\nconst si i64[2] = 4, 4\na = Conv(x, w, _)\nb, c = Split(a, si) {axis=1}\n\
     d = Concat(c, b) {axis=1}\ne = Conv(d, u, _)\nf = Slice(e, st, en, ax)\np = Pad(f, pads) {mode=\"reflect\"}\nr = Resize(p, _, sc) {mode=\"nearest\"}\n\
     s = SpaceToDepth(r) {blocksize=2}\nt = DepthToSpace(s) {blocksize=2}\ny = Conv(t, o, _)\noutput y",
    // Reductions, gathers, scatters, one-hot and sorting.
    "input x i64[n,5]\nconst e f32[10,8]\nconst o f32[8,4]\nconst two i64[1] = 2\nconst one i64[1] = 1\nconst d i64[] = 10\nconst v f32[2] = 0, 1\n\
     g = Gather(e, x)\nm = ReduceMean(g, one) {keepdims=0}\nh = OneHot(x, d, v) {axis=-1}\nk = MatMul(h, e)\nj = ReduceMax(k, one) {keepdims=0}\n\
     s = Add(m, j)\nt = MatMul(s, o)\ntop, at = TopK(t, two) {axis=-1}\na = ArgMax(t) {axis=1}\noutput top\noutput at\noutput a",
    // Einsum, Gemm, Where, Expand, Tile and comparisons.
    "input x f32[3,4]\nconst w f32[6,4]\nconst b f32[6]\nconst u f32[6,5]\nconst s i64[2] = 3, 6\nconst r i64[2] = 1, 2\nconst zero f32[] = 0\n\
     g = Gemm(x, w, b) {transB=1, alpha=0.5}\nk = Greater(g, zero)\ne = Expand(zero, s)\nf = Where(k, g, e)\nh = Einsum(f, u) {equation=\"ij,jk->ik\"}\n\
     t = Tile(h, r)\nc = Clip(t, zero, _)\nd = ReduceSum(c)\nz = Sqrt(d)\ny = Div(t, z)\noutput y",
    // Fused operators.
    "input x f32[n,5,8]\nconst w f32[8,24]\nconst b f32[24]\nconst g f32[8]\nconst o f32[8,8]\nconst q u8[6,1,4] = full\nconst s f32[6] = positive\n\
     a = com.microsoft.Attention(x, w, b) {num_heads=2}\nh, _, _ = com.microsoft.SkipLayerNormalization(a, x, g, g)\nf = com.microsoft.FastGelu(h)\n\
     m = MatMul(f, o)\ny = com.microsoft.MatMulNBits(m, q, s) {K=8, N=6, bits=4, block_size=16}\noutput y",
    // Newer operators.
    "opset 23\ninput x f32[2,5,8]\nconst w f32[8,8]\nconst g f32[8]\nq = MatMul(x, w)\na = Attention(q, q, q) {q_num_heads=2, kv_num_heads=2}\n\
     r = RMSNormalization(a, g) {axis=-1}\nt = Gelu(r)\ny = MatMul(t, w)\noutput y",
    // Sequences and optional values.
    "input x f32[2,6]\nconst sizes i64[2] = 2, 4\nconst last i64[] = -1\nconst first i64[] = 0\nconst w f32[4,3]\nparts = SplitToSequence(x, sizes) {axis=1}\n\
     a = SequenceAt(parts, last)\nb = SequenceAt(parts, first)\ns = SequenceConstruct(a, b)\nc = ConcatFromSequence(s) {axis=1}\nd = MatMul(a, w)\noutput c\noutput d",
    // Signals.
    "opset 20\ninput x f32[1,16,1]\nconst step i64[] = 4\nconst win f32[8]\nconst len i64[] = 8\nconst o f32[2,3]\ns = STFT(x, step, win, len)\ny = MatMul(s, o)\noutput y",
    // Constants computed in the graph, as weight normalisation leaves them.
    "input x f32[n,4]\nconst v f32[6,4]\nconst g f32[6,1] = positive\nconst ax i64[1] = 1\nconst o f32[6,3]\nn = ReduceL2(v, ax) {keepdims=1}\nu = Div(v, n)\n\
     w = Mul(u, g)\nt = Transpose(w) {perm=[1,0]}\nh = MatMul(x, t)\nr = Relu(h)\nk = ConstantOfShape(s) \ns = Shape(r)\nz = Add(r, k)\ny = MatMul(z, o)\noutput y",
    // Transposed and causal convolutions, norms of groups and instances.
    "input x f32[1,4,6,6]\nconst w f32[4,4,2,2]\nconst s f32[8]\nconst b f32[8]\nconst i f32[8]\nconst o f32[8,2,3,3]\nconst sl f32[8,1,1]\n\
     c = ConvTranspose(x, w, _) {group=2, strides=[2,2], output_padding=[0,0]}\nt = Concat(c, c) {axis=1}\nn = InstanceNormalization(t2, s, b)\n\
     const e f32[8,8,1,1]\nt2 = Conv(t, e, _) {dilations=[1,1]}\np = PRelu(n, sl)\na = AveragePool(p) {kernel_shape=[3,3], pads=[1,1,1,1], ceil_mode=1}\n\
     y = ConvTranspose(a, o, _) {pads=[1,1,1,1]}\nl = LRN(y) {size=3}\noutput l",
];

/// All of them. Panics where one cannot be read, which is a fault of this file.
pub fn graphs() -> Vec<ModelProto> {
    GRAPHS
        .iter()
        .map(|graph| text::message(graph).unwrap_or_else(|problem| panic!("{problem}")))
        .collect()
}
