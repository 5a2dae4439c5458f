//! Whole branches: which groups may lose all their units, what is left of them, and that it is right.

use onnx_prune::allocate::Choice;
use onnx_prune::analysis::{Options, branch_ends};
use onnx_prune::model::{Index, Model, text};
use onnx_prune::rng::rng;
use onnx_prune::workspace::Workspace;
use rand::Rng;

/// Lets about a third of the groups that may go altogether go, as far as they may together.
pub fn take(prepared: &Workspace, choice: &mut Choice, seed: u64) {
    let mut random = rng(seed, "branches");
    let mut gone = Vec::new();
    for (group, removed) in choice.removed.iter_mut().enumerate() {
        if !random.random_bool(0.34) {
            continue;
        }
        gone.push(group);
        match branch_ends(&prepared.working, &prepared.analysis, &gone) {
            Some(_) => *removed = (0..prepared.analysis.groups[group].units.len() as u32).collect(),
            None => {
                gone.pop();
            }
        }
    }
}

/// The kinds of operators left once all groups that may go altogether are gone, and how many those are.
fn without_branches(graph: &str) -> (Vec<String>, usize) {
    let model = text::model(graph).unwrap();
    let prepared = Workspace::new(&model, &Options::default()).unwrap();
    let groups = &prepared.analysis.groups;
    let whole: Vec<usize> = (0..groups.len())
        .filter(|group| branch_ends(&prepared.working, &prepared.analysis, &[*group]).is_some())
        .collect();
    let mut removed = vec![Vec::new(); groups.len()];
    whole
        .iter()
        .for_each(|group| removed[*group] = (0..groups[*group].units.len() as u32).collect());
    let pruned: Model = prepared.cut(&prepared.select(&removed), &[]).unwrap();
    (
        pruned
            .graph(Index::MAIN)
            .node
            .iter()
            .map(|node| node.op_type().to_owned())
            .collect(),
        whole.len(),
    )
}

const BLOCK: &str = "opset 17\ninput x f32[n,6,4,4]\nconst a f32[8,6,3,3]\nconst ab f32[8]\nconst b f32[6,8,3,3]\nconst bb f32[6]
    c = Conv(x, a, ab) {pads=[1,1,1,1]}\nd = Relu(c)\ne = Conv(d, b, bb) {pads=[1,1,1,1]}\nf = Add(x, e)\n";

#[test]
fn the_branch_of_a_residual_block_goes_and_its_bias_stays() {
    assert_eq!(
        without_branches(&format!("{BLOCK}y = Relu(f)\noutput y")),
        (vec!["Constant".into(), "Add".into(), "Relu".into()], 1)
    );
}

#[test]
fn a_bias_outside_a_norm_and_a_scale_are_constants_then() {
    let graph = "opset 17\ninput x f32[n,5,8]\nconst a f32[8,12]\nconst ab f32[12]\nconst b f32[12,8]\nconst bb f32[8]\nconst g f32[8]
        h = MatMul(x, a)\ni = Add(h, ab)\nj = Gelu(i)\nk = MatMul(j, b)\nl = Add(k, bb)\nm = Mul(l, g)\nz = Add(m, x)\ny = Tanh(z)\noutput y";
    let (left, whole) = without_branches(&graph.replace("opset 17", "opset 20"));
    assert_eq!(
        (left, whole),
        (
            ["Constant", "Add", "Mul", "Add", "Tanh"]
                .map(String::from)
                .to_vec(),
            1
        )
    );
}

#[test]
fn what_gives_the_result_its_shape_or_is_read_elsewhere_is_no_branch() {
    // Nothing runs beside the products.
    assert_eq!(
        without_branches(&format!(
            "{}output f",
            BLOCK.replace("Add(x, e)", "Relu(e)")
        ))
        .1,
        0
    );
    // The hidden channels are seen as well.
    assert_eq!(
        without_branches(&format!(
            "{BLOCK}y = Relu(f)\ns = GlobalAveragePool(d)\noutput y\noutput s"
        ))
        .1,
        0
    );
    // The other summand is stretched by the branch.
    let graph = "opset 17\ninput x f32[n,6,4,4]\ninput p f32[n,6,1,1]\nconst a f32[8,6,1,1]\nconst b f32[6,8,1,1]
        c = Conv(x, a)\nd = Relu(c)\ne = Conv(d, b)\nf = Add(p, e)\noutput f";
    assert_eq!(without_branches(graph).1, 0);
}
