use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::Rng;

use super::*;
use crate::analysis::{Granularity, Options, analyse};
use crate::model::{TensorRef, text};
use crate::rng::rng;
use crate::run::{Runtime, Tensors, TractRuntime};
use crate::verify::{Verdict, largest_error};
use crate::workspace::{OriginalRuns, Workspace};

/// Attention of `heads` heads of so many dimensions: values of other dimensions than queries, with or without biases.
struct Attention {
    heads: usize,
    queries: usize,
    values: usize,
    biased: bool,
    /// Before the product of queries and keys.
    between: &'static str,
}

impl Attention {
    fn text(&self) -> String {
        let Attention {
            heads,
            queries,
            values,
            biased,
            between,
        } = *self;
        let (wide, broad) = (heads * queries, heads * values);
        let side = |name: &str, width: usize| {
            let bias = match biased {
                true => format!("const b{name} f32[{width}]\n{name}1 = Add(b{name}, {name}0)\n"),
                false => format!("{name}1 = Identity({name}0)\n"),
            };
            format!("const w{name} f32[6,{width}]\n{name}0 = MatMul(x, w{name})\n{bias}")
        };
        let (q, k, v) = (side("q", wide), side("k", wide), side("v", broad));
        format!(
            "input x f32[n,4,6]\n{q}{k}{v}const narrow i64[4] = 0,0,{heads},{queries}\nconst broad i64[4] = 0,0,{heads},{values}\nconst flat i64[3] = 0,0,{broad}\nconst half f32[] = 0.5\nconst o f32[{broad},5]
            q2 = Reshape(q1, narrow)\nq3 = Transpose(q2) {{perm=[0,2,1,3]}}\nk2 = Reshape(k1, narrow)\nk3 = Transpose(k2) {{perm=[0,2,3,1]}}\nv2 = Reshape(v1, broad)\nv3 = Transpose(v2) {{perm=[0,2,1,3]}}
            {between}a = MatMul(q4, k3)\na1 = Mul(a, half)\na2 = Softmax(a1) {{axis=-1}}\na3 = MatMul(a2, v3)\na4 = Transpose(a3) {{perm=[0,2,1,3]}}\na5 = Reshape(a4, flat)\ny = MatMul(a5, o)\noutput y"
        )
    }
}

const PLAIN: Attention = Attention {
    heads: 2,
    queries: 4,
    values: 3,
    biased: true,
    between: "q4 = Identity(q3)\n",
};

/// A linear stream of `width` channels through so many blocks, each with an activation inside.
fn bottlenecks(width: usize, blocks: usize, biased: bool) -> String {
    let bias = |name: &str, channels: usize| match biased {
        true => format!("const {name} f32[{channels}]\n"),
        false => String::new(),
    };
    let with = |name: &str| {
        if biased {
            format!(", {name}")
        } else {
            String::new()
        }
    };
    let mut text = format!(
        "input x f32[n,3,5,5]\nconst w0 f32[{width},3,1,1]\n{}s0 = Conv(x, w0{})\n",
        bias("b0", width),
        with("b0")
    );
    for at in 1..=blocks {
        let last = at - 1;
        text += &format!(
            "const e{at} f32[7,{width},1,1]\nconst p{at} f32[{width},7,1,1]\n{}{}h{at} = Conv(s{last}, e{at}{})\nr{at} = Relu(h{at})\nl{at} = Conv(r{at}, p{at}{})\ns{at} = Add(s{last}, l{at})\n",
            bias(&format!("c{at}"), 7),
            bias(&format!("d{at}"), width),
            with(&format!("c{at}")),
            with(&format!("d{at}"))
        );
    }
    text + &format!("const o f32[4,{width},3,3]\ny0 = Conv(s{blocks}, o)\ny = Relu(y0)\noutput y")
}

fn options() -> Options {
    Options {
        granularity: Granularity::Fine,
        directions: true,
        ..Default::default()
    }
}

fn inputs(dims: &[usize], seed: u64) -> Tensors {
    let mut random = rng(seed, "input");
    let numbers: Vec<f32> = (0..dims.iter().product())
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    let tensor = TensorRef::from_f32(dims.to_vec(), &numbers);
    [("x".to_owned(), tensor)].into_iter().collect()
}

/// Kinds of the groups by the name of each, directions first rotated by what flows on some inputs or by weights alone.
fn directions(model: &Model) -> Vec<String> {
    let mut analysis = analyse(model, &options());
    mark(model, &mut analysis);
    let groups = analysis.groups.iter();
    groups
        .filter(|group| group.kind == Kind::Directions)
        .map(|group| group.id.clone())
        .collect()
}

/// Rotates all that may be, compares with the original, and holds a random cut against the masked model. Gives the number of
/// groups of directions.
fn holds(
    text: &str,
    dims: &[usize],
    seed: u64,
    share: f64,
    weights_alone: bool,
) -> Result<usize, String> {
    let model = text::model(text).map_err(|error| error.to_string())?;
    let mut workspace = Workspace::new(&model, &options()).map_err(|error| error.to_string())?;
    let groups: BTreeSet<usize> = (0..workspace.analysis.groups.len())
        .filter(|group| workspace.analysis.groups[*group].kind == Kind::Directions)
        .collect();
    let runtime = TractRuntime::new(false);
    let batches: Vec<Tensors> = (0..4).map(|at| inputs(dims, seed ^ at)).collect();
    let numbers = [0, 1, 2, 3];
    let on = ChosenRuns {
        batches: &batches,
        numbers: &numbers,
        runtime: &runtime,
    };
    let on = (!weights_alone).then_some(on);
    let work = Work::new(&());
    let (rotated, made) = rotate(&workspace.working, &workspace.analysis, &groups, on, &work)
        .map_err(|error| error.to_string())?;
    let changed: BTreeSet<usize> = made.iter().map(|made| made.group).collect();
    if changed != groups {
        return Err(format!(
            "{groups:?} should have been rotated, {changed:?} were"
        ));
    }
    let run = |model: &Model| {
        let session = runtime
            .prepare(model, &batches[0], &[])
            .map_err(|error| error.to_string())?;
        session.run(&batches[0]).map_err(|error| error.to_string())
    };
    let (before, after) = (run(&workspace.working)?, run(&rotated)?);
    let apart = largest_error(&before, &after, &before);
    if apart > 1e-4 {
        return Err(format!("rotated and original are {apart} apart"));
    }
    workspace.working = rotated;
    let mut random = rng(seed, "units");
    let removed: Vec<Vec<u32>> = workspace
        .analysis
        .groups
        .iter()
        .map(|group| {
            (1..group.units.len() as u32)
                .filter(|_| random.random_bool(share))
                .collect()
        })
        .collect();
    let selection = workspace.select(&removed);
    if selection.is_empty() {
        return Ok(groups.len());
    }
    let pruned = workspace
        .cut(&selection, &[])
        .map_err(|error| error.to_string())?;
    let original = OriginalRuns {
        inputs: &batches[..1],
        outputs: &[before],
        noise: 0.0,
    };
    match workspace.exactness(&selection, &pruned, &runtime, original) {
        found if found.verdict == Verdict::Exact => Ok(groups.len()),
        found => Err(format!("{found:?}")),
    }
}

#[test]
fn values_and_queries_of_heads_are_directions() {
    for biased in [true, false] {
        let text = Attention { biased, ..PLAIN }.text();
        for weights_alone in [true, false] {
            assert_eq!(
                holds(&text, &[2, 4, 6], 1, 0.5, weights_alone),
                Ok(2),
                "{text}"
            );
        }
    }
}

#[test]
fn what_fixes_a_basis_is_left_alone() {
    let queries =
        |between| directions(&text::model(&Attention { between, ..PLAIN }.text()).unwrap());
    assert_eq!(queries(PLAIN.between).len(), 2);
    for between in [
        "q4 = Tanh(q3)\n",
        "const scale f32[4]\nq4 = Mul(q3, scale)\n",
        "const one f32[1]\nq4 = Add(q3, one)\n",
        "const z i64[1] = 0\nconst t i64[1] = 2\nconst f i64[1] = 4\nconst ax i64[1] = 3\nconst cos f32[4,4]\nconst sin f32[4,4]\nr1 = Slice(q3, z, t, ax)\nr2 = Slice(q3, t, f, ax)\nr3 = Neg(r2)\nr4 = Concat(r3, r1) {axis=3}\nr5 = Mul(r4, sin)\nr6 = Mul(q3, cos)\nq4 = Add(r5, r6)\n",
        "q4 = LpNormalization(q3) {axis=-1}\n",
    ] {
        assert_eq!(queries(between).len(), 1, "{between}");
    }
    // Between channels of one convolution and the next there is an activation, or a normalisation, or nothing.
    let pair = |between: &str| {
        format!(
            "input x f32[n,3,5,5]\nconst a f32[6,3,1,1]\nconst b f32[4,6,1,1]\nh = Conv(x, a)\n{between}y = Conv(g, b)\noutput y"
        )
    };
    let stream = |between: &str| directions(&text::model(&pair(between)).unwrap()).len();
    assert_eq!(stream("g = Identity(h)\n"), 1);
    assert_eq!(stream("g = ReduceMean(h) {axes=[2,3]}\n"), 1);
    assert_eq!(stream("g = Relu(h)\n"), 0);
    assert_eq!(stream("g = MaxPool(h) {kernel_shape=[2,2]}\n"), 0);
    assert_eq!(
        stream("const d f32[6,1,1,1]\ng = Conv(h, d) {group=6}\n"),
        0
    );
    let norm = "const s f32[6]\nconst t f32[6]\nconst m f32[6]\nconst v f32[6] = positive\ng = BatchNormalization(h, s, t, m, v)\n";
    assert_eq!(stream(norm), 0);
    let pad = |fill: &str| {
        format!(
            "const pads i64[8] = 0,0,1,1,0,0,1,1\nconst fill f32[] = {fill}\ng = Pad(h, pads, fill)\n"
        )
    };
    assert_eq!((stream(&pad("0")), stream(&pad("1"))), (1, 0));
}

#[test]
fn keys_that_several_query_heads_share_are_rotated_once() {
    let text = "input x f32[2,4,6]\nconst wq f32[6,16]\nconst wk f32[6,8]\nconst wv f32[6,8]\nconst o f32[16,5]\nconst many i64[4] = 0,0,4,4\nconst few i64[4] = 0,0,2,4\nconst flat i64[3] = 0,0,16\nconst two i64[1] = 2\nconst more i64[5] = 1,1,2,1,1\nconst merged i64[4] = 0,4,4,4
        q0 = MatMul(x, wq)\nk0 = MatMul(x, wk)\nv0 = MatMul(x, wv)\nq1 = Reshape(q0, many)\nk1 = Reshape(k0, few)\nv1 = Reshape(v0, few)\nq = Transpose(q1) {perm=[0,2,1,3]}\nk2 = Transpose(k1) {perm=[0,2,1,3]}\nv2 = Transpose(v1) {perm=[0,2,1,3]}
        k3 = Unsqueeze(k2, two)\nk4 = Expand(k3, more)\nk5 = Reshape(k4, merged)\nk = Transpose(k5) {perm=[0,1,3,2]}\nv3 = Unsqueeze(v2, two)\nv4 = Expand(v3, more)\nv = Reshape(v4, merged)
        a = MatMul(q, k)\na1 = Softmax(a) {axis=-1}\nb = MatMul(a1, v)\nb1 = Transpose(b) {perm=[0,2,1,3]}\nb2 = Reshape(b1, flat)\ny = MatMul(b2, o)\noutput y";
    assert_eq!(holds(text, &[2, 4, 6], 3, 0.5, false), Ok(2));
}

#[test]
fn fused_projections_are_rotated_slice_by_slice() {
    // Split before the heads are told apart, so that values have directions of their own.
    let parts = "const sizes i64[3] = 8,8,8\np0, p1, p2 = Split(p, sizes) {axis=-1}\nq0 = Reshape(p0, heads)\nq = Transpose(q0) {perm=[0,2,1,3]}\nk0 = Reshape(p1, heads)\nk = Transpose(k0) {perm=[0,2,1,3]}\nv0 = Reshape(p2, heads)\nv = Transpose(v0) {perm=[0,2,1,3]}\n";
    // Told apart behind one Reshape: one basis serves all three, so it is orthogonal.
    let together = "const five i64[5] = 0,0,3,2,4\nconst i0 i64[] = 0\nconst i1 i64[] = 1\nconst i2 i64[] = 2\np1 = Reshape(p, five)\np2 = Transpose(p1) {perm=[2,0,3,1,4]}\nq = Gather(p2, i0) {axis=0}\nk = Gather(p2, i1) {axis=0}\nv = Gather(p2, i2) {axis=0}\n";
    for (middle, groups) in [(parts, 2), (together, 1)] {
        let text = format!(
            "input x f32[n,4,6]\nconst w f32[6,24]\nconst b f32[24]\nconst heads i64[4] = 0,0,2,4\nconst flat i64[3] = 0,0,8\nconst o f32[8,5]\np3 = MatMul(x, w)\np = Add(p3, b)\n{middle}s = Transpose(k) {{perm=[0,1,3,2]}}\na = MatMul(q, s)\na1 = Softmax(a) {{axis=-1}}\nc = MatMul(a1, v)\nc1 = Transpose(c) {{perm=[0,2,1,3]}}\nc2 = Reshape(c1, flat)\ny = MatMul(c2, o)\noutput y"
        );
        assert_eq!(
            holds(&text, &[2, 4, 6], 5, 0.5, false),
            Ok(groups),
            "{middle}"
        );
    }
}

#[test]
fn half_precision_and_quantized_weights_stay_as_they_are() {
    let text = "input x f16[n,6]\nconst a f16[6,8]\nconst b f16[8,3]\nh = MatMul(x, a)\ny = MatMul(h, b)\noutput y";
    let model = text::model(text).unwrap();
    let (found, refused) = linear_spaces(&model, &analyse(&model, &options()));
    assert!(found.is_empty());
    assert!(
        refused[0].reason.contains("single precision"),
        "{refused:?}"
    );
}

#[test]
fn the_first_directions_carry_what_the_readers_read() {
    // Of eight channels only two carry anything: the others are mixtures of these.
    let text = "input x f32[n,2]\nconst a f32[2,8]\nconst b f32[8,3]\nh = MatMul(x, a)\ny = MatMul(h, b)\noutput y";
    let model = text::model(text).unwrap();
    let mut workspace = Workspace::new(&model, &options()).unwrap();
    let batches: Vec<Tensors> = (0..8).map(|at| inputs(&[16, 2], at)).collect();
    let runtime = TractRuntime::new(false);
    let numbers: Vec<usize> = (0..8).collect();
    let on = ChosenRuns {
        batches: &batches,
        numbers: &numbers,
        runtime: &runtime,
    };
    let groups = [0].into_iter().collect();
    let work = Work::new(&());
    let (rotated, _) = rotate(
        &workspace.working,
        &workspace.analysis,
        &groups,
        Some(on),
        &work,
    )
    .unwrap();
    workspace.working = rotated;
    let rest: Vec<u32> = (2..8).collect();
    let pruned = workspace.cut(&workspace.select(&[rest]), &[]).unwrap();
    let run = |model: &Model| {
        runtime
            .prepare(model, &batches[0], &[])
            .unwrap()
            .run(&batches[0])
            .unwrap()
    };
    let (before, after) = (run(&model), run(&pruned));
    assert!(largest_error(&before, &after, &before) < 1e-5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rotated_models_compute_the_same_and_their_cuts_are_exact(
        heads in 1..4usize,
        queries in 2..6usize,
        values in 2..6usize,
        biased in any::<bool>(),
        stream in any::<bool>(),
        share in 0.2..0.8f64,
        weights_alone in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (text, dims) = match stream {
            true => (bottlenecks(queries + values, heads, biased), vec![2, 3, 5, 5]),
            false => (Attention { heads, queries, values, biased, ..PLAIN }.text(), vec![2, 4, 6]),
        };
        let found = holds(&text, &dims, seed, share, weights_alone);
        prop_assert_eq!(found, Ok(if stream { 1 } else { 2 }), "{}", text);
    }
}
