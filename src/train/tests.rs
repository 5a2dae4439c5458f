//! Networks against the runtime, gradients against finite differences, and training that learns.

use std::path::{Path, PathBuf};

use super::network::{Arrays, Network, array};
use super::student::Student;
use super::*;
use crate::analysis::Selection;
use crate::calibrate::Dataset;
use crate::gradient::FloatArray;
use crate::inputs::{Batches, read_npz};
use crate::model::{Index, Limits, Model, load, text};
use crate::progress::{Progress, Work};
use crate::recover::Teacher;
use crate::run::{Runtime, Tensors, TractRuntime, corpus};
use crate::workspace::Workspace;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

fn digits(name: &str) -> (Model, Dataset) {
    let model = load(&fixture(name), Limits::default()).unwrap();
    let data = Dataset::read(&model, &fixture("digits_calibration.npz"), None).unwrap();
    (model, data)
}

/// Outputs that weights have a part in.
fn trainable_outputs(model: &Model, example: &Tensors) -> Vec<String> {
    let outputs = &model.index().graph(Index::MAIN).outputs;
    let names = outputs
        .iter()
        .map(|output| model.index().value(*output).name.clone());
    names
        .filter(|name| Network::new(model, example, std::slice::from_ref(name)).is_ok())
        .collect()
}

/// How far a network's outputs are from the runtime's, relative to the largest; `None` where nothing can be trained.
fn apart(model: &Model, example: &Tensors) -> Option<f64> {
    let names = trainable_outputs(model, example);
    if names.is_empty() {
        return None;
    }
    let runtime = TractRuntime::new(true);
    let student = Student::new(model, std::slice::from_ref(example), &names, &runtime).unwrap();
    let found = student.outputs(example).unwrap();
    let session = runtime.prepare(model, example, &names).unwrap();
    let outputs = model.index().graph(Index::MAIN).outputs.len();
    let given = session.run(example).unwrap();
    let worst = found.iter().zip(&given[outputs..]).map(|(found, given)| {
        let given = array(given).unwrap();
        assert_eq!(found.dims, given.dims);
        let largest = given
            .data
            .iter()
            .fold(1e-30f32, |largest, x| largest.max(x.abs()));
        let off = found
            .data
            .iter()
            .zip(&given.data)
            .map(|(a, b)| (a - b).abs());
        f64::from(off.fold(0.0, f32::max) / largest)
    });
    Some(worst.fold(0.0, f64::max))
}

#[test]
fn fixtures_give_what_the_runtime_gives() {
    for name in [
        "digits_cnn.onnx",
        "digits_transformer.onnx",
        "digits_lstm.onnx",
    ] {
        let (model, data) = digits(name);
        let example = data.inputs.fetch(3).unwrap();
        let worst = apart(&model, &example).unwrap();
        assert!(worst < 1e-5, "{name}: {worst:e}");
    }
}

#[test]
fn real_models_give_what_the_runtime_gives() {
    let Some(corpus) = corpus::corpus() else {
        return;
    };
    // What is trained of each is all, or what lies behind the last node without a derivative.
    let names = [
        "attacut_c",
        "cifar10_resnet20_bn",
        "cifar10_resnet56_fused",
        "minilm_l6_sentence",
        "mtcnn_rnet",
        "ppocr_v2_cls",
    ];
    for name in names {
        let model = load(
            &corpus.join(format!("models/{name}.onnx")),
            Limits::default(),
        )
        .unwrap();
        let inputs = read_npz(&corpus.join(format!("inputs/{name}.npz"))).unwrap();
        let worst = apart(&model, &inputs).unwrap();
        eprintln!("{name:24} {worst:.1e}");
        assert!(worst < 1e-4, "{name}: {worst:e}");
    }
}

#[test]
fn operators_give_what_the_runtime_gives() {
    let head = "opset 18\ninput x f32[2,4,3,4]\nconst k f32[4,4,1,1]\nh = Conv(x, k)\n";
    let tails = [
        "const w f32[4,3,2,2]\nconst b f32[6]\ny = ConvTranspose(h, w, b) {group=2, strides=[2,1], pads=[0,1,0,0], output_padding=[1,0]}",
        "const s f32[4]\nconst b f32[4]\ny = InstanceNormalization(h, s, b)",
        "y = DepthToSpace(h) {blocksize=2}",
        "y = DepthToSpace(h) {blocksize=2, mode=\"CRD\"}",
        "const v f32[4,4,2,1]\ne = Conv(h, v)\ny = SpaceToDepth(e) {blocksize=2}",
        "const r i64[4] = 1,2,1,3\ny = Tile(h, r)",
        "const r f32[4] = 1,1,2,2\ny = Resize(h, _, r) {mode=\"nearest\", coordinate_transformation_mode=\"asymmetric\", nearest_mode=\"floor\"}",
        "const r f32[4] = 1,1,2,2\ny = Resize(h, _, r) {mode=\"linear\", coordinate_transformation_mode=\"half_pixel\"}",
        "const u f32[3,5]\ny = Einsum(h, u) {equation=\"bchw,hk->bkcw\"}",
    ];
    // ClassRows of 12 for attention.
    let rows = "const d i64[3] = 2,4,12\nr = Reshape(h, d)\n";
    let attention = [
        "const w f32[12,36]\nconst b f32[36]\ny = com.microsoft.Attention(r, w, b) {num_heads=3}",
        "const w f32[12,12]\nconst b f32[36]\nz = MatMul(r, w)\ny = com.microsoft.MultiHeadAttention(r, z, r, b) {num_heads=2}",
    ];
    let attention = attention.map(|tail| format!("{rows}{tail}"));
    let tails = tails.iter().map(|tail| (*tail).to_owned()).chain(attention);
    for tail in tails {
        let model = text::model(&format!("{head}{tail}\noutput y")).unwrap();
        let data: Vec<f32> = (0..96).map(|at| (at as f32 * 0.7).sin()).collect();
        let x = crate::model::TensorRef::from_f32(vec![2, 4, 3, 4], &data);
        let example = Tensors::from_iter([("x".to_owned(), x)]);
        let worst = apart(&model, &example).expect(&tail);
        assert!(worst < 1e-5, "{tail}: {worst:e}");
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for name in ["digits_cnn.onnx", "digits_transformer.onnx"] {
        let (model, data) = digits(name);
        let example = data.inputs.fetch(3).unwrap();
        let names = trainable_outputs(&model, &example);
        let student = Student::new(
            &model,
            std::slice::from_ref(&example),
            &names,
            &TractRuntime::new(true),
        )
        .unwrap();
        let given = student.given(&example).unwrap().arrays;
        let network = student.network();
        let run = network.run(&student.weights, &given, true).unwrap();
        let output = network.outputs[0];
        let seed = run.value(output).unwrap().map(|_| 1.0);
        let gradients = network.gradients(&run, &student.weights, &given, vec![(output, seed)]);
        assert!(
            gradients
                .iter()
                .filter(|gradient| gradient.is_some())
                .count()
                > 20
        );
        let sum = |weights: &[FloatArray]| -> f64 {
            let run = network.run(weights, &given, false).unwrap();
            run.value(output)
                .unwrap()
                .data
                .iter()
                .map(|x| f64::from(*x))
                .sum()
        };
        for (at, gradient) in gradients.iter().enumerate().step_by(5) {
            let Some(gradient) = gradient else { continue };
            let norm = gradient.data.iter().map(|x| x * x).sum::<f32>().sqrt();
            if norm < 1e-3 {
                continue;
            }
            // Along the gradient itself the derivative is its norm.
            let step = 5e-4 / norm;
            let moved = |sign: f32| {
                let mut weights = student.weights.clone();
                for (w, g) in weights[at].data.iter_mut().zip(&gradient.data) {
                    *w += sign * step * g;
                }
                sum(&weights)
            };
            let difference = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
            let exact = f64::from(norm).powi(2);
            assert!(
                (difference - exact).abs() < 3e-2 * exact,
                "{name} weight {at}: {difference} against {exact}"
            );
        }
    }
}

#[test]
fn what_has_no_derivative_holds_what_it_reads() {
    let model = text::model(
        "opset 13\ninput x f32[n,4]\nconst w f32[4,4]\nconst v f32[4,4]\na = MatMul(x, w)\nb = Round(a)\ny = MatMul(b, v)\noutput y",
    )
    .unwrap();
    let example = Tensors::from_iter([(
        "x".to_owned(),
        crate::model::TensorRef::from_f32(vec![2, 4], &[0.5; 8]),
    )]);
    let network = Network::new(&model, &example, &["y".to_owned()]).unwrap();
    let name = |value| model.index().value(value).name.clone();
    assert_eq!(
        network
            .weights
            .iter()
            .map(|weight| name(*weight))
            .collect::<Vec<_>>(),
        ["v"]
    );
    assert_eq!(network.given.values().cloned().collect::<Vec<_>>(), ["b"]);
    assert_eq!(network.stops.len(), 1);
    let error = Network::new(&model, &example, &["a".to_owned()])
        .err()
        .unwrap();
    assert!(error.to_string().contains("Round"), "{error}");
}

#[test]
fn extents_of_what_is_trained_do_not_stop_it() {
    let model = text::model(
        "opset 13\ninput x f32[n,4]\nconst w f32[4,6]\nconst two i64[1] = 2\nconst rest i64[1] = -1\nconst zero i64[1] = 0\n\
         a = MatMul(x, w)\ns = Shape(a)\nrows = Gather(s, zero)\nd = Concat(rows, two, rest) {axis=0}\ny = Reshape(a, d)\noutput y",
    )
    .unwrap();
    let example = Tensors::from_iter([(
        "x".to_owned(),
        crate::model::TensorRef::from_f32(vec![3, 4], &[0.5; 12]),
    )]);
    let network = Network::new(&model, &example, &["y".to_owned()]).unwrap();
    assert_eq!((network.weights.len(), network.stops.len()), (1, 0));
    assert!(network.given.values().all(|name| name == "x"));
}

/// A pruned net, as a cut without repair leaves it.
fn cut(workspace: &Workspace) -> (Selection, Model) {
    let groups = workspace.analysis.groups.iter().enumerate();
    let removed: Vec<(usize, Vec<u32>)> = groups
        .map(|(at, group)| (at, (0..group.units.len() as u32 / 3).collect()))
        .collect();
    let selection = workspace
        .analysis
        .select(removed.iter().map(|(at, units)| (*at, units.as_slice())));
    let model = workspace.cut_unshared(&selection, &[]).unwrap();
    (selection, workspace.reshare(model).unwrap())
}

fn trained(name: &str, training: &Training) -> Trained {
    trained_while(name, training, &()).unwrap()
}

/// The same, watched by somebody who may stop it.
fn trained_while(
    name: &str,
    training: &Training,
    progress: &dyn Progress,
) -> Result<Trained, TrainError> {
    let (model, data) = digits(name);
    let workspace = Workspace::new(&model, &crate::analysis::Options::default()).unwrap();
    let (selection, pruned) = cut(&workspace);
    let teacher = Teacher {
        model: &workspace.working,
        analysis: &workspace.analysis,
        selection: &selection,
    };
    // Class ids that are true as far as the original is right.
    let labels = training.labelled.then(|| said(&model, &*data.inputs));
    taught(teacher, pruned, (&data, labels), (training, progress))
}

/// The classes that a model gives, row by row.
fn said(model: &Model, inputs: &dyn Batches) -> Vec<i64> {
    let example = inputs.fetch(0).unwrap();
    let session = TractRuntime::new(true)
        .prepare(model, &example, &[])
        .unwrap();
    let one = |run: usize| {
        let outputs = session.run(&inputs.fetch(run).unwrap()).unwrap();
        let row = outputs[0].to_f32().unwrap();
        let most = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        most.unwrap() as i64
    };
    (0..inputs.count()).map(one).collect()
}

/// A model trained on inputs of the fixtures.
fn taught(
    teacher: Teacher,
    pruned: Model,
    (data, labels): (&Dataset, Option<Vec<i64>>),
    (training, progress): (&Training, &dyn Progress),
) -> Result<Trained, TrainError> {
    let data = TrainingData {
        inputs: &*data.inputs,
        labels: labels.as_deref(),
    };
    let runtime = TractRuntime::new(true);
    distill(
        teacher,
        pruned,
        data,
        &runtime,
        training,
        &Work::new(progress),
    )
}

/// So many steps.
fn steps(count: usize, seed: u64) -> Training {
    Training {
        steps: Some(count),
        seed,
        ..Default::default()
    }
}

#[test]
fn training_brings_back_what_a_cut_took() {
    for name in ["digits_cnn.onnx", "digits_transformer.onnx"] {
        let (before, after) = trained(name, &steps(60, 1)).record.errors();
        assert!(after < 0.5 * before, "{name}: {before} → {after}");
    }
}

#[test]
fn the_same_seed_trains_the_same_weights_on_any_number_of_threads() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| trained("digits_cnn.onnx", &steps(4, 7)).model.proto)
    };
    assert_eq!(on(1), on(2));
}

#[test]
fn every_loss_is_made_small() {
    for (name, loss) in OutputLoss::NAMED {
        let training = Training {
            loss: Some(loss),
            ..steps(30, 3)
        };
        let record = trained("digits_cnn.onnx", &training).record;
        let (before, after) = record.errors();
        assert!(after < 0.8 * before, "{name}: {before} → {after}");
        assert!(!record.loss.is_empty() && record.curve.last().unwrap().averaged.is_some());
    }
}

#[test]
fn true_classes_are_learnt_beside_what_the_original_says() {
    let training = Training {
        labelled: true,
        ..steps(30, 3)
    };
    let taught = trained("digits_cnn.onnx", &training);
    let (before, after) = taught.record.errors();
    assert!(after < 0.6 * before, "{before} → {after}");
    assert!(taught.record.labelled > 0);
    let alone = trained("digits_cnn.onnx", &steps(30, 3));
    assert_ne!(alone.model.proto, taught.model.proto);
    let record = taught.record.to_string();
    assert!(record.contains("and their true classes"), "{record}");
}

/// Stops after so many looks at whether it should.
struct Stopping(std::sync::atomic::AtomicUsize);

impl Progress for Stopping {
    fn stop(&self) -> bool {
        let left = &self.0;
        let order = std::sync::atomic::Ordering::SeqCst;
        left.fetch_update(order, order, |left| left.checked_sub(1))
            .is_err()
    }
}

#[test]
fn what_was_stopped_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.checkpoint");
    let whole = trained("digits_cnn.onnx", &steps(12, 5));
    // Stopped after each number of steps that matters: before a look, and once the mean has begun.
    for stop in [1, 5, 11] {
        let training = |resumes: bool| Training {
            checkpoint: Some(Checkpoint::new(path.clone(), resumes)),
            ..steps(12, 5)
        };
        let stopping = Stopping(std::sync::atomic::AtomicUsize::new(stop));
        // What the round before left is not asked for, and written over.
        let stopped = trained_while("digits_cnn.onnx", &training(false), &stopping);
        assert!(matches!(stopped, Err(TrainError::Cancelled)));
        let resumed = trained("digits_cnn.onnx", &training(true));
        assert_eq!(resumed.record, whole.record);
        assert_eq!(resumed.model.proto, whole.model.proto);
        // What it came to is kept, too, until the whole run is done.
        let again = trained("digits_cnn.onnx", &training(true));
        assert_eq!(again.model.proto, whole.model.proto);
        if stop != 1 {
            training(true).checkpoint.unwrap().remove();
            assert!(!path.exists());
        }
    }
}

#[test]
fn a_state_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.checkpoint");
    let training = |count: usize, resumes: bool| Training {
        checkpoint: Some(Checkpoint::new(path.clone(), resumes)),
        ..steps(count, 5)
    };
    let stopping = Stopping(std::sync::atomic::AtomicUsize::new(2));
    assert!(trained_while("digits_cnn.onnx", &training(9, false), &stopping).is_err());
    let refused = |name: &str, count: usize| {
        let error = trained_while(name, &training(count, true), &()).unwrap_err();
        error.to_string()
    };
    let other = refused("digits_cnn.onnx", 8);
    assert!(
        other.contains("a.checkpoint: it is of other settings: 8 steps"),
        "{other}"
    );
    let other = refused("digits_transformer.onnx", 9);
    assert!(other.contains("another model or plan"), "{other}");
    std::fs::write(&path, b"short").unwrap();
    let other = refused("digits_cnn.onnx", 9);
    assert!(other.contains("this is no state of training"), "{other}");
    // Without being asked to go on, it is written over.
    assert!(trained_while("digits_cnn.onnx", &training(2, false), &()).is_ok());
}

#[test]
fn training_never_ends_worse_than_it_began() {
    // Nothing was removed: the weights are the best already.
    let (model, data) = digits("digits_cnn.onnx");
    let workspace = Workspace::new(&model, &crate::analysis::Options::default()).unwrap();
    let selection = Selection::default();
    let teacher = Teacher {
        model: &workspace.working,
        analysis: &workspace.analysis,
        selection: &selection,
    };
    let pruned = workspace.working.clone();
    let trained = taught(teacher, pruned, (&data, None), (&steps(5, 0), &())).unwrap();
    assert_eq!(trained.record.errors(), (0.0, 0.0));
    assert_eq!(trained.model.proto, workspace.working.proto);
}

#[test]
fn a_value_that_is_read_twice_has_the_sum_of_both_derivatives() {
    let model = text::model("opset 13\ninput x f32[1,2]\nconst w f32[2,2] = 1, 2, 3, 4\na = MatMul(x, w)\ny = Mul(a, a)\noutput y").unwrap();
    let example = Tensors::from_iter([(
        "x".to_owned(),
        crate::model::TensorRef::from_f32(vec![1, 2], &[1.0, 1.0]),
    )]);
    let network = Network::new(&model, &example, &["y".to_owned()]).unwrap();
    let weights = network.weights_of(&model).unwrap();
    let given: Arrays = network
        .given
        .keys()
        .map(|value| (*value, array(&example["x"]).unwrap()))
        .collect();
    let run = network.run(&weights, &given, true).unwrap();
    let seed = FloatArray::new(vec![1, 2], vec![1.0, 1.0]);
    let gradients = network.gradients(&run, &weights, &given, vec![(network.outputs[0], seed)]);
    // y = a², a = (4, 6): dy/dw = 2 a for each row of x.
    assert_eq!(gradients[0].as_ref().unwrap().data, [8.0, 12.0, 8.0, 12.0]);
}

#[test]
fn weights_in_nodes_are_trained_and_keep_their_names() {
    let model = text::model(
        "opset 13\ninput x f32[1,2]\nconst w f32[2,2] = 1, 2, 3, 4\ny = MatMul(x, w)\noutput y",
    )
    .unwrap();
    let mut proto = model.proto.clone();
    let graph = proto.graph.as_mut().unwrap();
    let mut tensor = graph.initializer.remove(0);
    tensor.name = Some("inside".into());
    let constant = crate::proto::NodeProto {
        op_type: Some("Constant".into()),
        output: vec!["w".into()],
        attribute: vec![crate::proto::AttributeProto {
            name: Some("value".into()),
            t: Some(tensor),
            ..Default::default()
        }],
        ..Default::default()
    };
    graph.node.insert(0, constant);
    let mut model = Model::new(proto, model.source.clone()).unwrap();
    let example = Tensors::from_iter([(
        "x".to_owned(),
        crate::model::TensorRef::from_f32(vec![1, 2], &[1.0, 1.0]),
    )]);
    let network = Network::new(&model, &example, &["y".to_owned()]).unwrap();
    let weights = network.weights_of(&model).unwrap();
    let double = |weight: &FloatArray| weight.map(|x| 2.0 * x);
    let doubled: Vec<FloatArray> = weights.iter().map(double).collect();
    network.store(&mut model, &doubled).unwrap();
    let stored = model.tensor_proto(network.weights[0]).unwrap();
    assert_eq!(stored.name(), "inside");
    let found = network.weights_of(&model).unwrap();
    assert_eq!(found[0].data, [2.0, 4.0, 6.0, 8.0]);
}
