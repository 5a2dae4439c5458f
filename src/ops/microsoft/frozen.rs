//! Operators of ONNX Runtime's domain in which nothing may go, each with the reason. What follows them keeps the shape that
//! the file declares.

use crate::ops::Rule;
use crate::ops::frozen::{FrozenOperator, outputs, same, scalar, unknown};
use crate::proto::Dtype;

const fn frozen(reason: &'static str) -> FrozenOperator {
    FrozenOperator {
        reason,
        infer: unknown,
    }
}

static DECODING: FrozenOperator = frozen("a decoding loop with whole models in it");
static CODES: FrozenOperator = frozen("numbers of tokens are the result");
static LAYOUT: FrozenOperator = frozen("numbers in an order that only one device knows");
static PACKED: FrozenOperator = frozen("weights packed in a way of their own");
static RECURRENT: FrozenOperator = frozen("a recurrent state in a layout of its own");
static SELECTED: FrozenOperator = frozen("attention over positions that are chosen at run time");
static RAGGED: FrozenOperator =
    frozen("rows of sequences of different lengths one after the other");
static MIXED: FrozenOperator = frozen("streams that are mixed with each other");
static ROUTED: FrozenOperator = frozen("experts are chosen at run time");
static RANDOM: FrozenOperator = frozen("random numbers are drawn for all entries in order");
static TRANSFORM: FrozenOperator = frozen("a Fourier transform over all positions");
static COMPLEX: FrozenOperator = frozen("pairs of real and imaginary parts");
static ELSEWHERE: FrozenOperator = frozen("a compiled graph of another runtime");
static TEXT: FrozenOperator = frozen("works on text");
static FUSED: FrozenOperator = frozen("a fusion for one device, not described");
static CHOSEN: FrozenOperator = frozen("positions that are chosen at run time");
static WHOLE: FrozenOperator = frozen("reads the axis as a whole");
static SOFTMAX: FrozenOperator = FrozenOperator {
    reason: "softmax over the axis",
    infer: same,
};
static FINITE: FrozenOperator = FrozenOperator {
    reason: "one truth value for all entries",
    infer: |node| Ok(outputs(node, [scalar(Dtype::Bool)])),
};

pub(in crate::ops) static RULES: &[Rule] = &[
    Rule::microsoft("AttnLSTM", &RECURRENT),
    Rule::microsoft("BeamSearch", &DECODING),
    Rule::microsoft("BiasDropout", &RANDOM),
    Rule::microsoft("BiasSoftmax", &SOFTMAX),
    Rule::microsoft("BiasSplitGelu", &FUSED),
    Rule::microsoft("BifurcationDetector", &CODES),
    Rule::microsoft("BitmaskBiasDropout", &RANDOM),
    Rule::microsoft("BitmaskDropout", &RANDOM),
    Rule::microsoft("BranchwiseRMSNorm", &MIXED),
    Rule::microsoft("CDist", &FUSED),
    Rule::microsoft("ComplexMul", &COMPLEX),
    Rule::microsoft("ComplexMulConj", &COMPLEX),
    Rule::microsoft("ConvStateReplay", &RECURRENT),
    Rule::microsoft("ConvTransposeWithDynamicPads", &CHOSEN),
    Rule::microsoft("CropAndResize", &CHOSEN),
    Rule::microsoft("DequantizeBFP", &LAYOUT),
    Rule::microsoft("DequantizeWithOrder", &LAYOUT),
    Rule::microsoft("DynamicSparseAttention", &SELECTED),
    Rule::microsoft("DynamicTimeWarping", &WHOLE),
    Rule::microsoft("EPContext", &ELSEWHERE),
    Rule::microsoft("EngramGate", &FUSED),
    Rule::microsoft("ExpandDims", &FUSED),
    Rule::microsoft("GatedAdd", &FUSED),
    Rule::microsoft("GatedDeltaNet", &RAGGED),
    Rule::microsoft("GatedDeltaNetStateReplay", &RECURRENT),
    Rule::microsoft("GatedRMSNorm", &FUSED),
    Rule::microsoft("GatherPacked", &PACKED),
    Rule::microsoft("GemmFloat8", &PACKED),
    Rule::microsoft("GreedySearch", &DECODING),
    Rule::microsoft("HyperConnectionLowRankMix", &MIXED),
    Rule::microsoft("HyperConnectionPostMix", &MIXED),
    Rule::microsoft("HyperConnectionPreMix", &MIXED),
    Rule::microsoft("Irfft", &TRANSFORM),
    Rule::microsoft("IsAllFinite", &FINITE),
    Rule::microsoft("Mamba2Verify", &RECURRENT),
    Rule::microsoft("MatMulFpQ4", &PACKED),
    Rule::microsoft("MatMulNBitsQLoRA", &PACKED),
    Rule::microsoft("MatMulPacked", &PACKED),
    Rule::microsoft("MaxpoolWithMask", &FUSED),
    Rule::microsoft("MoEGroupRouter", &ROUTED),
    Rule::microsoft("MoEPacked", &ROUTED),
    Rule::microsoft("MulInteger", &FUSED).counts_steps(),
    Rule::microsoft("NGramHashMapping", &CODES),
    Rule::microsoft("PackedSparseAttentionIndexer", &SELECTED),
    Rule::microsoft("PackedSparseAttentionIndexerMerge", &SELECTED),
    Rule::microsoft("QEmbedLayerNormalization", &LAYOUT),
    Rule::microsoft("QOrderedGelu", &LAYOUT),
    Rule::microsoft("QOrderedLayerNormalization", &LAYOUT),
    Rule::microsoft("QOrderedLongformerAttention", &LAYOUT),
    Rule::microsoft("QOrderedMatMul", &LAYOUT),
    Rule::microsoft("QuantizeBFP", &LAYOUT),
    Rule::microsoft("QuantizeWithOrder", &LAYOUT),
    Rule::microsoft("ReduceSumInteger", &FUSED).counts_steps(),
    Rule::microsoft("RemovePadding", &RAGGED),
    Rule::microsoft("RestorePadding", &RAGGED),
    Rule::microsoft("Rfft", &TRANSFORM),
    Rule::microsoft("RouterGateUpProj", &ROUTED),
    Rule::microsoft("SampleOp", &FUSED),
    Rule::microsoft("Sampling", &DECODING),
    Rule::microsoft("ScaledSiLU", &FUSED),
    Rule::microsoft("Snpe", &ELSEWHERE),
    Rule::microsoft("SparseAttentionIndexer", &SELECTED),
    Rule::microsoft("SparsePagedAttention", &SELECTED),
    Rule::microsoft("SparseToDenseMatMul", &PACKED),
    Rule::microsoft("SpeculativePrefixCommit", &CODES),
    Rule::microsoft("Tokenizer", &TEXT),
    Rule::microsoft("TorchEmbedding", &CHOSEN),
    Rule::microsoft("UnfoldTensor", &WHOLE),
    Rule::microsoft("Unique", &CODES),
    Rule::microsoft("VarlenCausalConvWithState", &RAGGED),
    Rule::microsoft("VarlenNGramHashMapping", &RAGGED),
    Rule::microsoft("WhisperBeamSearch", &DECODING),
    Rule::microsoft("WordConvEmbedding", &TEXT),
];
