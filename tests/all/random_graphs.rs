//! The property of the whole tool on graphs that nobody wrote: for any graph and any plan, the pruned model equals the masked
//! original.

use onnx_prune::allocate::{Align, Ranking};
use onnx_prune::analysis::{Granularity, Options};
use onnx_prune::model::{TensorRef, text};
use onnx_prune::rng::rng;
use onnx_prune::run::{Runtime, Tensors, TractRuntime};
use onnx_prune::score::{Evidence, Random, Score};
use onnx_prune::verify::Verdict;
use onnx_prune::workspace::{OriginalRuns, Workspace};
use proptest::prelude::*;
use rand::Rng;

/// A value on the way: images `[1,c,h,w]` or sequences `[1,t,c]`.
#[derive(Clone)]
struct Value {
    name: String,
    channels: usize,
    side: usize,
}

/// A graph as it grows; each operator is a line of text.
struct Graph {
    lines: Vec<String>,
    numbers: usize,
    images: Vec<Value>,
}

impl Graph {
    fn name(&mut self, prefix: &str) -> String {
        self.numbers += 1;
        format!("{prefix}{}", self.numbers)
    }

    fn constant(&mut self, kind: &str, dims: &[usize], fill: &str) -> String {
        let name = self.name("k");
        let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
        let fill = if fill.is_empty() {
            String::new()
        } else {
            format!(" = {fill}")
        };
        self.lines
            .push(format!("const {name} {kind}[{}]{fill}", dims.join(",")));
        name
    }

    fn weight(&mut self, dims: &[usize]) -> String {
        self.constant("f32", dims, "")
    }

    fn positive(&mut self, dims: &[usize]) -> String {
        self.constant("f32", dims, "positive")
    }

    fn ints(&mut self, numbers: &[i64]) -> String {
        let text: Vec<String> = numbers.iter().map(i64::to_string).collect();
        self.constant("i64", &[numbers.len()], &text.join(","))
    }

    /// `y = CALL`; gives y's name.
    fn node(&mut self, call: String) -> String {
        let name = self.name("y");
        self.lines.push(format!("{name} = {call}"));
        name
    }

    fn conv(
        &mut self,
        x: &Value,
        channels: usize,
        groups: usize,
        kernel: usize,
        bias: bool,
    ) -> Value {
        let w = self.weight(&[channels, x.channels / groups, kernel, kernel]);
        let bias = if bias {
            format!(", {}", self.weight(&[channels]))
        } else {
            String::new()
        };
        let pad = kernel / 2;
        let name = self.node(format!(
            "Conv({}, {w}{bias}) {{group={groups}, pads=[{pad},{pad},{pad},{pad}]}}",
            x.name
        ));
        Value {
            name,
            channels,
            side: x.side,
        }
    }

    fn with(&self, x: &Value, name: String) -> Value {
        Value { name, ..x.clone() }
    }

    /// One step on `x`, the kind and its numbers from `pick` and `a`, `b`.
    fn image_step(&mut self, x: &Value, pick: u8, a: usize, b: usize) -> Value {
        let (c, s, n) = (x.channels, x.side, x.name.clone());
        match pick % 18 {
            0 | 1 => self.conv(
                x,
                2 + a % 9,
                1,
                if b.is_multiple_of(2) { 3 } else { 1 },
                a.is_multiple_of(3),
            ),
            2 => self.conv(x, c, c, 3, b.is_multiple_of(2)),
            3 => self.conv(x, c * 2, c, 3, true),
            4 => {
                let groups = divisor(c, a);
                self.conv(x, groups * (1 + b % 3), groups, 1, true)
            }
            5 => {
                let (scale, bias, mean, var) = (
                    self.weight(&[c]),
                    self.weight(&[c]),
                    self.weight(&[c]),
                    self.positive(&[c]),
                );
                let name = self.node(format!(
                    "BatchNormalization({n}, {scale}, {bias}, {mean}, {var})"
                ));
                self.with(x, name)
            }
            6 => {
                let operator = ["Relu", "Sigmoid", "Tanh", "LeakyRelu"][a % 4];
                let name = self.node(format!("{operator}({n})"));
                self.with(x, name)
            }
            7 => {
                // Squeeze and excite.
                let pooled = self.node(format!("GlobalAveragePool({n})"));
                let narrow = self.conv(
                    &Value {
                        name: pooled,
                        channels: c,
                        side: 1,
                    },
                    1 + a % 4,
                    1,
                    1,
                    true,
                );
                let active = self.node(format!("Relu({})", narrow.name));
                let wide = self.conv(&self.with(&narrow, active), c, 1, 1, true);
                let gate = self.node(format!("Sigmoid({})", wide.name));
                let name = self.node(format!("Mul({n}, {gate})"));
                self.with(x, name)
            }
            8 => {
                let inner = self.conv(x, c, 1, 3, false);
                let name = self.node(format!("Add({n}, {})", inner.name));
                self.with(x, name)
            }
            9 | 10 => {
                let other = self.images[a % self.images.len()].clone();
                if other.side != s || other.channels + c > 24 {
                    return x.clone();
                }
                let pair = if b.is_multiple_of(2) {
                    format!("{n}, {}", other.name)
                } else {
                    format!("{}, {n}", other.name)
                };
                let name = self.node(format!("Concat({pair}) {{axis=1}}"));
                Value {
                    name,
                    channels: c + other.channels,
                    side: s,
                }
            }
            11 if c > 1 => {
                let first = 1 + a % (c - 1);
                let sizes = self.ints(&[first as i64, (c - first) as i64]);
                let (left, right) = (self.name("y"), self.name("y"));
                self.lines
                    .push(format!("{left}, {right} = Split({n}, {sizes}) {{axis=1}}"));
                let left = Value {
                    name: left,
                    channels: first,
                    side: s,
                };
                let right = Value {
                    name: right,
                    channels: c - first,
                    side: s,
                };
                let (next, other) = if b.is_multiple_of(2) {
                    (left, right)
                } else {
                    (right, left)
                };
                self.images.push(other);
                next
            }
            12 if c > 1 => {
                let (start, step) = (a % (c - 1), 1 + b % 2);
                let end = (start + 1 + b % c).min(c);
                let (starts, ends, axes, steps) = (
                    self.ints(&[start as i64]),
                    self.ints(&[end as i64]),
                    self.ints(&[1]),
                    self.ints(&[step as i64]),
                );
                let name = self.node(format!("Slice({n}, {starts}, {ends}, {axes}, {steps})"));
                Value {
                    name,
                    channels: (end - start).div_ceil(step),
                    side: s,
                }
            }
            13 => {
                // Channel shuffle.
                let groups = divisor(c, a) as i64;
                let (s, c) = (s as i64, c as i64);
                let (apart, together) = (
                    self.ints(&[1, groups, c / groups, s, s]),
                    self.ints(&[1, if b.is_multiple_of(2) { c } else { -1 }, s, s]),
                );
                let apart = self.node(format!("Reshape({n}, {apart})"));
                let swapped = self.node(format!("Transpose({apart}) {{perm=[0,2,1,3,4]}}"));
                let name = self.node(format!("Reshape({swapped}, {together})"));
                self.with(x, name)
            }
            14 if c < 16 => {
                let (before, after) = (a % 3, b % 3);
                let pads = self.ints(&[0, before as i64, 0, 0, 0, after as i64, 0, 0]);
                let name = self.node(format!("Pad({n}, {pads})"));
                Value {
                    name,
                    channels: c + before + after,
                    side: s,
                }
            }
            15 if s > 2 => {
                let operator = ["MaxPool", "AveragePool"][a % 2];
                let name = self.node(format!(
                    "{operator}({n}) {{kernel_shape=[2,2], strides=[2,2]}}"
                ));
                Value {
                    name,
                    channels: c,
                    side: s / 2,
                }
            }
            16 => {
                let k = if b.is_multiple_of(2) {
                    self.weight(&[c, 1, 1])
                } else {
                    self.weight(&[1])
                };
                let name = self.node(format!("{}({n}, {k})", ["Add", "Mul", "Sub"][a % 3]));
                self.with(x, name)
            }
            17 => {
                let found = self
                    .images
                    .iter()
                    .rev()
                    .find(|other| other.side == s && other.channels == c && other.name != n)
                    .cloned();
                let Some(other) = found else { return x.clone() };
                let name = self.node(format!(
                    "{}({n}, {})",
                    ["Add", "Mul", "Max"][a % 3],
                    other.name
                ));
                self.with(x, name)
            }
            _ => x.clone(),
        }
    }

    /// One step on a sequence; `side` is its length.
    fn sequence_step(&mut self, x: &Value, pick: u8, a: usize, b: usize) -> Value {
        let (c, t, n) = (x.channels, x.side, x.name.clone());
        match pick % 7 {
            0 | 1 => {
                let channels = 2 + a % 9;
                self.linear(x, channels, b.is_multiple_of(2))
            }
            2 => {
                let (scale, bias) = (self.weight(&[c]), self.weight(&[c]));
                let name = self.node(format!("LayerNormalization({n}, {scale}, {bias})"));
                self.with(x, name)
            }
            3 => {
                let wide = self.linear(x, c * 2, true);
                let active = self.node(format!("Relu({})", wide.name));
                let narrow = self.linear(&self.with(&wide, active), c, true);
                let name = self.node(format!("Add({n}, {})", narrow.name));
                self.with(x, name)
            }
            4 => {
                // Attention with heads of two to four.
                let (heads, width) = ((1 + a % 3) as i64, (2 + b % 3) as i64);
                let apart = self.ints(&[1, t as i64, heads, width]);
                let projected: Vec<String> = (0..3)
                    .map(|part| {
                        let projected = self.linear(x, (heads * width) as usize, part != 1);
                        let apart = self.node(format!("Reshape({}, {apart})", projected.name));
                        self.node(format!(
                            "Transpose({apart}) {{perm={}}}",
                            if part == 1 { "[0,2,3,1]" } else { "[0,2,1,3]" }
                        ))
                    })
                    .collect();
                let scores = self.node(format!("MatMul({}, {})", projected[0], projected[1]));
                let weights = self.node(format!("Softmax({scores}) {{axis=-1}}"));
                let mixed = self.node(format!("MatMul({weights}, {})", projected[2]));
                let back = self.node(format!("Transpose({mixed}) {{perm=[0,2,1,3]}}"));
                let together = self.ints(&[1, t as i64, heads * width]);
                let merged = self.node(format!("Reshape({back}, {together})"));
                let out = self.linear(
                    &Value {
                        name: merged,
                        channels: (heads * width) as usize,
                        side: t,
                    },
                    c,
                    true,
                );
                let name = self.node(format!("Add({n}, {})", out.name));
                self.with(x, name)
            }
            5 => {
                let name = self.node(format!("{}({n})", ["Relu", "Tanh", "Sigmoid"][a % 3]));
                self.with(x, name)
            }
            _ => {
                // A gated pair out of one projection.
                let both = self.linear(x, c * 2, true);
                let sizes = self.ints(&[c as i64, c as i64]);
                let (left, right) = (self.name("y"), self.name("y"));
                self.lines.push(format!(
                    "{left}, {right} = Split({}, {sizes}) {{axis=2}}",
                    both.name
                ));
                let gate = self.node(format!("Sigmoid({left})"));
                let name = self.node(format!("Mul({gate}, {right})"));
                self.with(x, name)
            }
        }
    }

    fn linear(&mut self, x: &Value, channels: usize, bias: bool) -> Value {
        let w = self.weight(&[x.channels, channels]);
        let mut name = self.node(format!("MatMul({}, {w})", x.name));
        if bias {
            let bias = self.weight(&[channels]);
            name = self.node(format!("Add({name}, {bias})"));
        }
        Value {
            name,
            channels,
            ..x.clone()
        }
    }

    /// The end: what becomes of the last value.
    fn head(&mut self, x: &Value, pick: u8, sequence: bool) {
        let axes = if sequence { "[1]" } else { "[2,3]" };
        let (flat, width) = match pick % 4 {
            0 => (
                self.node(format!(
                    "ReduceMean({}) {{axes={axes}, keepdims=0}}",
                    x.name
                )),
                x.channels,
            ),
            1 => (
                self.node(format!("Flatten({})", x.name)),
                x.channels * x.side * if sequence { 1 } else { x.side },
            ),
            2 if !sequence => {
                let pooled = self.node(format!("GlobalAveragePool({})", x.name));
                (
                    self.node(format!("Flatten({pooled}) {{axis=1}}")),
                    x.channels,
                )
            }
            _ => {
                let target = self.ints(&[1, -1]);
                (
                    self.node(format!("Reshape({}, {target})", x.name)),
                    x.channels * x.side * if sequence { 1 } else { x.side },
                )
            }
        };
        let (w, bias) = (self.weight(&[5, width]), self.weight(&[5]));
        let name = self.node(format!("Gemm({flat}, {w}, {bias}) {{transB=1}}"));
        self.lines.push(format!("output {name}"));
    }
}

fn divisor(number: usize, pick: usize) -> usize {
    let divisors: Vec<usize> = (1..=number)
        .filter(|divisor| number.is_multiple_of(*divisor))
        .collect();
    divisors[pick % divisors.len()]
}

type Step = (u8, u8, u8);

/// The text of a graph, and the dims of its input.
fn graph(sequence: bool, steps: &[Step], head: u8) -> (String, Vec<usize>) {
    let dims = if sequence {
        vec![1, 5, 4]
    } else {
        vec![1, 3, 6, 6]
    };
    let input: Vec<String> = dims.iter().map(usize::to_string).collect();
    let mut graph = Graph {
        lines: vec![format!("input x f32[{}]", input.join(","))],
        numbers: 0,
        images: Vec::new(),
    };
    let mut x = Value {
        name: "x".into(),
        channels: if sequence { 4 } else { 3 },
        side: if sequence { 5 } else { 6 },
    };
    x = if sequence {
        graph.linear(&x, 6, true)
    } else {
        graph.conv(&x, 6, 1, 3, true)
    };
    graph.images.push(x.clone());
    for (pick, a, b) in steps {
        let (a, b) = (usize::from(*a), usize::from(*b));
        let next = if sequence {
            graph.sequence_step(&x, *pick, a, b)
        } else {
            graph.image_step(&x, *pick, a, b)
        };
        x = next;
        if x.channels > 32 {
            x = if sequence {
                graph.linear(&x, 8, false)
            } else {
                graph.conv(&x, 8, 1, 1, false)
            };
        }
        graph.images.push(x.clone());
        // Some steps branch off from an earlier value.
        if !sequence && a % 7 == 6 {
            let at = b % graph.images.len();
            x = graph.images[at].clone();
        }
    }
    graph.head(&x, head, sequence);
    (graph.lines.join("\n"), dims)
}

/// Cuts a random share and compares; an error is the graph, the plan and what went wrong.
fn check(
    sequence: bool,
    steps: &[Step],
    head: u8,
    fine: bool,
    share: f64,
    seed: u64,
) -> Result<(), String> {
    let (text, dims) = graph(sequence, steps, head);
    let fail = |what: String| {
        Err(format!(
            "{what}\nfine {fine} share {share} seed {seed}\n{text}\n"
        ))
    };
    let model = match text::model(&text) {
        Ok(model) => model,
        Err(error) => return fail(format!("the test's own graph is wrong: {error}")),
    };
    let mut random = rng(seed, "input");
    let numbers: Vec<f32> = (0..dims.iter().product())
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    let inputs: Tensors = [("x".to_owned(), TensorRef::from_f32(dims, &numbers))]
        .into_iter()
        .collect();
    let granularity = if fine {
        Granularity::Fine
    } else {
        Granularity::Coarse
    };
    let prepared = Workspace::new(
        &model,
        &Options {
            granularity,
            ..Default::default()
        },
    )
    .map_err(|error| format!("{error}\n{text}"))?;
    let analysis = &prepared.analysis;
    let groups: Vec<usize> = (0..analysis.groups.len()).collect();
    if groups.is_empty() {
        return Ok(());
    }
    let saliency = Random { seed }.score(
        Evidence {
            model: &prepared.working,
            analysis,
        },
        &analysis.groups,
    );
    let ranking = Ranking::new(prepared.subject(), &groups, &saliency, &Align::Multiple(1));
    let mut choice = ranking.remove(((ranking.len() as f64 * share) as usize).max(1));
    if seed.is_multiple_of(2) {
        crate::branches::take(&prepared, &mut choice, seed);
    }
    let selection = ranking.selection(&choice);
    let removed = format!("removed {:?}", choice.removed);
    let pruned = match prepared.cut(&selection, &[]) {
        Ok(pruned) => pruned,
        Err(error) => return fail(format!("SURGERY {error}; {removed}")),
    };
    if let Err(error) = prepared.masked(&selection) {
        return fail(format!("MASK {error}; {removed}"));
    }
    let runtime = TractRuntime::new(false);
    let session = match runtime.prepare(&model, &inputs, &[]) {
        Ok(session) => session,
        // What the runtime can not do says nothing of the cut.
        Err(error) => {
            eprintln!("skipped: {error}\n{text}");
            return Ok(());
        }
    };
    let original = vec![
        session
            .run(&inputs)
            .map_err(|error| format!("{error}\n{text}"))?,
    ];
    let outcome = prepared.exactness(
        &selection,
        &pruned,
        &runtime,
        OriginalRuns {
            inputs: &[inputs],
            outputs: &original,
            noise: session.noise(),
        },
    );
    match &outcome.verdict {
        Verdict::Exact => Ok(()),
        verdict => fail(format!(
            "{verdict:?} {:?} {:?}; {removed}",
            outcome.max_relative_error, outcome.reason
        )),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("ONNX_PRUNE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64)))]

    #[test]
    fn random_graphs_are_exact(
        sequence in prop::bool::weighted(0.3),
        steps in prop::collection::vec(any::<Step>(), 1..12),
        head in any::<u8>(),
        fine in any::<bool>(),
        share in 0.05..0.7f64,
        seed in any::<u64>(),
    ) {
        let result = check(sequence, &steps, head, fine, share, seed);
        prop_assert!(result.is_ok(), "{}", result.unwrap_err());
    }
}
