//! Plans and costs speak of the original file, whatever was made of it for analysis.

use onnx_prune::allocate::{Align, Choice, Target};
use onnx_prune::analysis::Options;
use onnx_prune::calibrate::Dataset;
use onnx_prune::model::{Model, Source, text};
use onnx_prune::plan::SliceCut;
use onnx_prune::progress::Work;
use onnx_prune::proto::attribute_proto::AttributeType;
use onnx_prune::proto::{AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto};
use onnx_prune::prune::{Outcome, PruneError, Pruner, Request};
use onnx_prune::score::Scorer;
use onnx_prune::workspace::Workspace;

/// Prunes by weights alone.
fn unrun(model: &Model, request: &Request) -> Result<Outcome, PruneError> {
    Pruner::new(model, &Dataset::default(), None, Work::new(&())).run(request)
}

fn pruned(model: &Model, target: Target) -> Outcome {
    let mut request = Request::default();
    request.targets = vec![target];
    request.align = Align::Multiple(1);
    request.keep_plan = true;
    request.verify = false;
    unrun(model, &request).unwrap()
}

/// Removes these units of groups by their ids.
fn cut(prepared: &Workspace, units: &[(&str, &[u32])]) -> Vec<SliceCut> {
    let of = |id: &str| {
        units
            .iter()
            .find(|(other, _)| *other == id)
            .map_or(Vec::new(), |(_, units)| units.to_vec())
    };
    let removed = prepared
        .analysis
        .groups
        .iter()
        .map(|group| of(&group.id))
        .collect();
    prepared.plan(&Choice { removed }, String::new()).removed
}

fn slice(value: &str, axis: usize, indices: &[u32]) -> SliceCut {
    SliceCut {
        value: value.into(),
        axis,
        indices: indices.to_vec(),
        reader: None,
        computed: false,
    }
}

fn read_by(value: &str, axis: usize, indices: &[u32], node: &str, input: u32) -> SliceCut {
    SliceCut {
        reader: Some((node.into(), input)),
        ..slice(value, axis, indices)
    }
}

fn names(model: &Model) -> Vec<&str> {
    model
        .proto
        .graph
        .as_ref()
        .unwrap()
        .initializer
        .iter()
        .map(|tensor| tensor.name())
        .collect()
}

const USED_TWICE: &str =
    "input x f32[n,10]\nconst a f32[10,16]\nconst b f32[10,16]\nconst w f32[16,8]\nconst v f32[8,16]\nconst c f32[16,4]
    p0 = MatMul(x, a)\np = Relu(p0)\nq0 = MatMul(x, b)\nq = Relu(q0)
    p1 = MatMul(p, w)\np2 = Relu(p1)\np3 = MatMul(p2, v)\nq1 = MatMul(q, w)\nq2 = Relu(q1)\nq3 = MatMul(q2, v)
    s = Add(p3, q3)\ny = MatMul(s, c)\noutput y";

#[test]
fn a_module_used_twice_is_cut_as_one() {
    let model = text::model(USED_TWICE).unwrap();
    for target in [
        Target::Params(0.8),
        Target::Bytes(0.8),
        Target::Params(0.5),
        Target::Macs(0.6),
    ] {
        let outcome = pruned(&model, target);
        assert!(
            outcome.reached
                && target.of(&outcome.after, &outcome.before) <= target.fraction() + 0.01,
            "{target}: {:?}",
            outcome.after
        );
        assert_eq!(outcome.before.params, 640.0);
        assert_eq!(names(&outcome.model), ["a", "b", "w", "v", "c"]);
        assert!(outcome.plan.removed.iter().all(|cut| cut.reader.is_none()));
    }
    let prepared = Workspace::new(&model, &Options::default()).unwrap();
    let plan = cut(&prepared, &[("w:0", &[3, 5])]);
    assert_eq!(
        plan,
        [
            slice("a", 1, &[3, 5]),
            slice("b", 1, &[3, 5]),
            slice("w", 0, &[3, 5])
        ]
    );
}

/// One reader of `w` needs it whole.
const NEEDED_WHOLE: &str = "input x f32[3,8]\nconst w f32[8,12]\nconst v f32[12,4]
    a = MatMul(x, w)\nr = Relu(a)\ny = MatMul(r, v)\nb = MatMul(x, w)\nz = Tanh(b)\noutput y\noutput z";

#[test]
fn a_copy_is_made_where_it_pays_and_priced() {
    let model = text::model(NEEDED_WHOLE).unwrap();
    for target in [Target::Params(0.9), Target::Macs(0.8)] {
        let outcome = pruned(&model, target);
        assert!(outcome.reached, "{target}: {:?}", outcome.notes);
        // 96 for the whole, 8 and 4 for each unit that stays: at most four can.
        assert!(
            outcome.before.params == 144.0 && outcome.after.params <= 144.0,
            "{target}: {:?}",
            outcome.after
        );
        assert!(
            outcome.after.bytes <= outcome.before.bytes,
            "{target}: {:?} of {:?}",
            outcome.after,
            outcome.before
        );
        let removed = &outcome.plan.removed;
        assert_eq!(removed.len(), 2);
        assert_eq!(
            (removed[0].value.as_str(), removed[0].reader.clone()),
            ("w", Some(("a".to_owned(), 1)))
        );
        assert_eq!(
            (removed[1].value.as_str(), &removed[1].reader),
            ("v", &None)
        );
        let workspace = &outcome.workspace;
        let selection = workspace.select(&outcome.choice.removed);
        let classes = &workspace.analysis.classes;
        let foreseen = workspace.cost.of(classes, &selection).params;
        assert!((foreseen - outcome.after.params).abs() < 1e-6, "{foreseen}");
    }
    let tiny = NEEDED_WHOLE
        .replace("[12,4]", "[12,1]")
        .replace("[8,12]", "[80,12]")
        .replace("[3,8]", "[3,80]");
    let prepared = Workspace::new(&text::model(&tiny).unwrap(), &Options::default()).unwrap();
    assert!(
        prepared.analysis.groups.is_empty(),
        "a copy of 960 numbers to save at most 890"
    );
}

#[test]
fn biases_merged_by_an_exporter_are_cut_apart() {
    let text = "input x f32[n,8]\nconst a f32[8,16]\nconst b f32[16,16]\nconst c f32[16,4]\nconst zero f32[16] = 0
        p = MatMul(x, a)\np1 = Add(p, zero)\np2 = Relu(p1)\nq = MatMul(p2, b)\nq1 = Add(q, zero)\nq2 = Relu(q1)\ny = MatMul(q2, c)\noutput y";
    let model = text::model(text).unwrap();
    let prepared = Workspace::new(&model, &Options::default()).unwrap();
    let first = prepared.analysis.groups[0].id.clone();
    let plan = cut(&prepared, &[(&first, &[1])]);
    assert_eq!(
        plan,
        [
            slice("a", 1, &[1]),
            slice("b", 0, &[1]),
            read_by("zero", 0, &[1], "p1", 1)
        ]
    );
    let both: Vec<(String, [u32; 1])> = prepared
        .analysis
        .groups
        .iter()
        .map(|group| (group.id.clone(), [1]))
        .collect();
    let both: Vec<(&str, &[u32])> = both
        .iter()
        .map(|(id, units)| (id.as_str(), units.as_slice()))
        .collect();
    assert!(
        cut(&prepared, &both).contains(&slice("zero", 0, &[1])),
        "all readers lose the same"
    );
    assert_eq!(prepared.cost.original().params, 464.0);
}

#[test]
fn a_weight_that_is_computed_goes_by_the_computed_value() {
    let text = "input x f32[n,3,6,6]\nconst v f32[8,3,3,3]\nconst g f32[8,1,1,1]\nconst u f32[4,8,3,3]
        l = ReduceL2(v) {axes=[1,2,3],keepdims=1}\nk = Div(v, l)\nw = Mul(k, g)\nf = Conv(x, w)\nr = Relu(f)\ny = Conv(r, u)\noutput y";
    let model = text::model(text).unwrap();
    let outcome = pruned(&model, Target::Macs(0.5));
    let named: Vec<(&str, bool)> = outcome
        .plan
        .removed
        .iter()
        .map(|cut| (cut.value.as_str(), cut.computed))
        .collect();
    assert_eq!(named, [("u", false), ("w", true)]);
    // What the file has: v, g and u.
    assert_eq!(outcome.before.params, (8 * 27 + 8 + 4 * 72) as f64);
    let json = outcome.plan.to_json();
    assert!(
        json.contains("\"computed\": true") && !json.contains("reader"),
        "{json}"
    );
}

fn function(name: &str, body: &str) -> FunctionProto {
    let graph = text::message(body).unwrap().graph.unwrap();
    let import = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.into()),
        version: Some(version),
    };
    let node = graph.initializer.iter().map(|tensor| {
        let value = AttributeProto {
            name: Some("value".into()),
            r#type: Some(AttributeType::Tensor as i32),
            t: Some(tensor.clone()),
            ..Default::default()
        };
        NodeProto {
            op_type: Some("Constant".into()),
            output: vec![tensor.name().to_owned()],
            attribute: vec![value],
            ..Default::default()
        }
    });
    FunctionProto {
        name: Some(name.into()),
        domain: Some("local".into()),
        input: graph
            .input
            .iter()
            .map(|input| input.name().to_owned())
            .collect(),
        output: graph
            .output
            .iter()
            .map(|output| output.name().to_owned())
            .collect(),
        node: node.chain(graph.node.clone()).collect(),
        opset_import: vec![import("", 17), import("local", 1)],
        ..Default::default()
    }
}

/// A function with weights and a bias of its own, called twice.
fn with_a_function() -> Model {
    let text = "input x f32[n,4]\nconst a f32[4,64]\nconst b f32[64,64]\nconst c f32[64,3]
        h = MatMul(x, a)\nh1 = local.Shift(h)\ng = MatMul(h1, b)\ng1 = local.Shift(g)\ny = MatMul(g1, c)\noutput y";
    let mut proto = text::message(text).unwrap();
    proto.functions = vec![function(
        "Shift",
        "input x\nconst bias f32[64]\ns = Add(x, bias)\ny = Relu(s)\noutput y",
    )];
    Model::new(proto, Source::default()).unwrap()
}

#[test]
fn a_constant_of_a_function_goes_by_the_function_and_its_readers_by_the_call() {
    let model = with_a_function();
    let prepared = Workspace::new(&model, &Options::default()).unwrap();
    assert_eq!(prepared.analysis.groups.len(), 2);
    let first = prepared.analysis.groups[0].id.clone();
    let plan = cut(&prepared, &[(&first, &[7])]);
    assert_eq!(
        plan,
        [
            slice("a", 1, &[7]),
            slice("b", 0, &[7]),
            read_by("Shift/bias", 0, &[7], "h1/s", 1)
        ]
    );
    // Counted once, though it is called twice.
    let params = (4 * 64 + 64 * 64 + 64 * 3 + 64) as f64;
    assert_eq!(prepared.cost.original().params, params);
    let outcome = pruned(&model, Target::Params(0.5));
    assert!(outcome.reached && outcome.before.params == params);
    assert!(
        names(&outcome.model)
            .iter()
            .all(|name| ["a", "b", "c"].contains(name) || name.starts_with("Shift/bias"))
    );
    let uncut = prepared.cut(&prepared.select(&[]), &[]).unwrap();
    assert_eq!(names(&uncut), ["a", "b", "c", "Shift/bias"]);
}

#[test]
fn plans_are_read_again_and_older_ones_too() {
    let model = with_a_function();
    let outcome = pruned(&model, Target::Params(0.5));
    let apply = |plan: &onnx_prune::plan::Plan| {
        let mut request = Request::default();
        request.plan = Some(plan.clone());
        request.keep_plan = true;
        request.verify = false;
        request.score = Scorer::norm();
        unrun(&model, &request)
    };
    let again = apply(&serde_json::from_str(&outcome.plan.to_json()).unwrap()).unwrap();
    assert_eq!(again.plan.to_json(), outcome.plan.to_json());
    assert_eq!(again.model.proto, outcome.model.proto);
    // Before readers were told apart, plans named what all of them lose.
    let mut older = outcome.plan.clone();
    older.removed.retain(|cut| cut.reader.is_none());
    older
        .removed
        .iter_mut()
        .for_each(|cut| cut.computed = false);
    assert_eq!(apply(&older).unwrap().model.proto, outcome.model.proto);
    // What no unit holds is refused.
    let mut wrong = outcome.plan.clone();
    let reader = wrong
        .removed
        .iter_mut()
        .find_map(|cut| cut.reader.as_mut())
        .unwrap();
    reader.0 = "elsewhere".to_owned();
    assert!(
        apply(&wrong)
            .unwrap_err()
            .to_string()
            .contains("are not those that its units hold")
    );
}
