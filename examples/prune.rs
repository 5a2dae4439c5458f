//! Prunes a network to 70 % of its operations by what it computes on some inputs, and checks the result.
//!
//! `cargo run --example prune -- MODEL.onnx INPUTS.npz OUT.onnx`; without arguments a small network of the fixtures.

use std::error::Error;
use std::path::PathBuf;

use onnx_prune::{
    Dataset, Limits, Method, Pruner, Request, Scorer, Target, TractRuntime, Verdict, Work, load,
    save,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = |usual: &str| arguments.next().unwrap_or_else(|| usual.into());
    let model = load(&next("fixtures/digits_cnn.onnx"), Limits::default())?;
    let dataset = Dataset::read(&model, &next("fixtures/digits_calibration.npz"), Some(64))?;

    let mut request = Request::default();
    request.targets = vec![Target::Macs(0.7)];
    request.score = Scorer::named("obs", 0).unwrap_or_default();
    request.recover = Some(Method::LeastSquares);
    let runtime = TractRuntime::new(true);
    let outcome = Pruner::new(&model, &dataset, Some(&runtime), Work::new(&())).run(&request)?;

    for note in &outcome.notes {
        println!("{note}");
    }
    let checks = outcome.checks.as_ref().ok_or("nothing was checked")?;
    if checks.exactness.verdict != Verdict::Exact || !outcome.reached {
        return Err("not pruned as asked for".into());
    }
    println!(
        "{} of {} operations remain, the outputs moved by {:.3}",
        outcome.after.macs,
        outcome.before.macs,
        checks.drift().unwrap_or(f64::NAN)
    );
    if let Some(out) = arguments.next() {
        save(&outcome.model, &out)?;
    }
    Ok(())
}
