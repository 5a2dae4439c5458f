//! Prunes a network by a score of one's own: the largest weight of a unit.

use std::error::Error;
use std::path::Path;

use onnx_prune::{
    Dataset, Evidence, Group, Limits, Pruner, Request, Score, Scorer, Target, Work, load,
};

/// The largest absolute weight of each unit, relative to the largest of its group.
#[derive(Debug)]
struct LargestWeight;

impl Score for LargestWeight {
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        let of_group = |group: &Group| {
            let largest = |weights: Vec<f32>| {
                weights.into_iter().fold(0.0f64, |largest, weight| {
                    largest.max(f64::from(weight.abs()))
                })
            };
            let units: Vec<f64> = evidence.weights(group).into_iter().map(largest).collect();
            let whole = units.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            units.into_iter().map(|unit| unit / whole).collect()
        };
        groups.iter().map(of_group).collect()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = load(Path::new("fixtures/digits_cnn.onnx"), Limits::default())?;
    let mut request = Request::default();
    request.targets = vec![Target::Params(0.5)];
    request.score = Scorer::custom("largest weight", LargestWeight);
    // Without a runtime nothing is run: units go by their weights, and the shapes of the result are checked.
    let dataset = Dataset::default();
    let outcome = Pruner::new(&model, &dataset, None, Work::new(&())).run(&request)?;
    for group in &outcome.plan.groups {
        println!(
            "{}: {} of {} units go",
            group.id,
            group.removed.len(),
            group.units
        );
    }
    assert!(outcome.reached && outcome.after.params <= 0.5 * outcome.before.params + 1.0);
    Ok(())
}
