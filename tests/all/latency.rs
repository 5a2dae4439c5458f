//! Latency as a target, by a clock that is a known function of the model, so that the tests depend on no machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use onnx_prune::allocate::{Align, Target};
use onnx_prune::calibrate::Dataset;
use onnx_prune::cost::cost;
use onnx_prune::inputs::read_npz;
use onnx_prune::model::{Limits, Model, TensorRef, load};
use onnx_prune::progress::Work;
use onnx_prune::prune::{Outcome, Pruner, Request};
use onnx_prune::run::{RunError, Runtime, Session, Tensors, TractRuntime, Unverifiable};

/// A runtime whose runs take what a function of multiply-accumulates and nodes says.
struct Clockwork {
    runtime: TractRuntime,
    milliseconds: Box<dyn Fn(f64, usize) -> f64 + Sync>,
}

struct Timed {
    session: Box<dyn Session>,
    milliseconds: f64,
}

impl Clockwork {
    fn timed(
        &self,
        model: &Model,
        example: &Tensors,
        session: Box<dyn Session>,
    ) -> Box<dyn Session> {
        let pins = example.iter().map(|(name, tensor)| {
            (
                name.clone(),
                tensor.dims.iter().map(|dim| *dim as i64).collect(),
            )
        });
        let milliseconds = (self.milliseconds)(
            cost(model, &pins.collect()).macs,
            model.index().nodes().len(),
        );
        Box::new(Timed {
            session,
            milliseconds,
        })
    }
}

impl Runtime for Clockwork {
    fn name(&self) -> &str {
        "clockwork"
    }

    fn version(&self) -> &str {
        "1"
    }

    fn prepare(
        &self,
        model: &Model,
        example: &Tensors,
        taps: &[String],
    ) -> Result<Box<dyn Session>, Unverifiable> {
        Ok(self.timed(model, example, self.runtime.prepare(model, example, taps)?))
    }

    fn prepare_variant(
        &self,
        model: &Model,
        example: &Tensors,
    ) -> Result<Box<dyn Session>, Unverifiable> {
        Ok(self.timed(
            model,
            example,
            self.runtime.prepare_variant(model, example)?,
        ))
    }
}

impl Session for Timed {
    fn run(&self, inputs: &Tensors) -> Result<Vec<TensorRef>, RunError> {
        self.session.run(inputs)
    }

    fn time(&self, _: &Tensors) -> Result<f64, RunError> {
        Ok(self.milliseconds)
    }

    fn noise(&self) -> f64 {
        self.session.noise()
    }
}

/// What becomes of a small network under a target of latency, and the network's multiply-accumulates.
fn pruned_to(wanted: f64, milliseconds: impl Fn(f64, usize) -> f64 + Sync + 'static) -> Outcome {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let model = load(&fixtures.join("digits_cnn.onnx"), Limits::default()).unwrap();
    let images = read_npz(&fixtures.join("digits_test.npz")).unwrap()["input"]
        .to_f32()
        .unwrap();
    let input = |pixels: &[f32]| {
        Tensors::from_iter([(
            "input".to_owned(),
            TensorRef::from_f32(vec![1, 1, 8, 8], pixels),
        )])
    };
    let inputs: Vec<Tensors> = images.chunks(64).take(8).map(input).collect();
    let pins = BTreeMap::from([("input".to_owned(), vec![1, 1, 8, 8])]);
    let mut request = Request::default();
    request.targets = vec![Target::Latency(wanted)];
    request.align = Align::Multiple(1);
    request.pins = pins;
    let runtime = Clockwork {
        runtime: TractRuntime::new(false),
        milliseconds: Box::new(milliseconds),
    };
    // Made-up inputs, as far as pruning knows: units go by their norms, which is quick.
    let mut data = Dataset::new(Arc::new(inputs));
    data.synthetic = true;
    Pruner::new(&model, &data, Some(&runtime), Work::new(&()))
        .run(&request)
        .unwrap()
}

#[test]
fn what_is_foreseen_is_what_the_clock_shows() {
    // Calls cost something, as in every runtime; the more they do, the less of the time is in the widths.
    for each in [1e-4, 1e-2] {
        let outcome = pruned_to(0.6, move |macs, nodes| macs * 1e-6 + each * nodes as f64);
        let (foreseen, latency) = (
            outcome.forecast.unwrap(),
            outcome.checks.unwrap().latency.unwrap(),
        );
        assert!(outcome.reached, "{foreseen:?}");
        assert_eq!(
            (foreseen.original, foreseen.measured),
            (latency.original, latency.pruned)
        );
        let off = foreseen.predicted / foreseen.measured - 1.0;
        assert!(off.abs() <= 0.05, "foreseen {off:+.3} off: {foreseen:?}");
        let fraction = latency.pruned / latency.original;
        assert!(
            (fraction / 0.6 - 1.0).abs() <= 0.05,
            "{fraction} and not 0.6: {foreseen:?}"
        );
        assert!(outcome.after.macs < outcome.before.macs * 0.61);
    }
}

#[test]
fn a_result_that_is_slower_than_the_original_is_refused() {
    // Single operators gain by narrower widths, the whole loses: what a kernel's slow path would do.
    let slower = |macs: f64, nodes: usize| if nodes > 3 { 1e8 / macs } else { macs * 1e-6 };
    let outcome = pruned_to(0.6, slower);
    let latency = outcome.checks.as_ref().unwrap().latency.unwrap();
    assert!(
        outcome.after.macs < outcome.before.macs,
        "something was tried"
    );
    assert!(
        latency.pruned > latency.original && !outcome.reached,
        "{latency:?}"
    );
}
