//! Models of which nothing goes and which take long to run: there is nothing that a run could tell.

use super::{Note, Outcome, PruneError, Request};
use crate::analysis::Options;
use crate::calibrate::Dataset;
use crate::evaluate::Checks;
use crate::model::Model;
use crate::progress::{Phase, Work};
use crate::run::work_of_a_run;
use crate::workspace::Workspace;

/// Multiplications and elements of a run beyond which it is spared where it could show nothing: about a second of one core.
const LONG: f64 = (1u64 << 28) as f64;

/// Whether the model is written as it was read, a run takes long, and there are only made-up inputs for it.
///
/// Errors: inputs that cannot be made up, a model that does not hold together.
pub(super) fn is(
    model: &Model,
    request: &Request,
    dataset: &Dataset,
    work: &Work,
) -> Result<bool, PruneError> {
    let given = !dataset.measured_on_made_up() || dataset.statistics.is_some();
    if given || request.is_decided() || request.aims_at_latency() {
        return Ok(false);
    }
    let Some(example) = dataset.inputs.example()? else {
        return Ok(false);
    };
    if work_of_a_run(model, &example) < LONG {
        return Ok(false);
    }
    work.progress.begin(Phase::Analyse, 0);
    let options = Options {
        memory: work.memory,
        ..request.options()
    };
    let workspace = Workspace::new(model, &options)?;
    if !request.candidates(&workspace).is_empty() {
        return Ok(false);
    }
    let mut written = workspace.cleaned(&[])?.proto;
    written
        .metadata_props
        .clone_from(&model.proto.metadata_props);
    Ok(written == model.proto)
}

/// The outcome of a run in which no model ran: what is written computes what was read.
pub(super) fn told(mut outcome: Outcome) -> Outcome {
    outcome.checks = Some(Checks::default());
    outcome.notes.push(Note::Other(
        "the model is written as it was read, so it was not run: a run takes long and could show nothing"
            .to_owned(),
    ));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;
    use crate::run::{Runtime, Session, Tensors, Unverifiable};
    use crate::verify::Verdict;

    /// A runtime that must not be asked.
    struct Idle;

    impl Runtime for Idle {
        fn name(&self) -> &str {
            "idle"
        }

        fn version(&self) -> &str {
            "0"
        }

        fn prepare(
            &self,
            _: &Model,
            _: &Tensors,
            _: &[String],
        ) -> Result<Box<dyn Session>, Unverifiable> {
            Err(Unverifiable::new("asked"))
        }
    }

    /// Each node gives twice what it reads.
    fn doubling(times: usize, before: &str) -> Model {
        let nodes: String = (0..times)
            .map(|at| format!("c{} = Concat(c{at}, c{at}) {{axis=1}}\n", at + 1))
            .collect();
        text::model(&format!(
            "input x f32[1,4]\n{before}c0 = Relu(x)\n{nodes}output c{times}"
        ))
        .unwrap()
    }

    fn outcome(model: &Model) -> Result<Outcome, PruneError> {
        let dataset = Dataset::made_up(model, 2, 0).unwrap();
        let request = Request {
            drift: Some(0.1),
            ..Default::default()
        };
        super::super::Pruner::new(model, &dataset, Some(&Idle), Work::new(&())).run(&request)
    }

    #[test]
    fn what_stays_as_it_is_and_takes_long_is_not_run() {
        let long = outcome(&doubling(26, "")).unwrap();
        assert!(long.reached && long.engine.is_none());
        assert_eq!(long.checks.unwrap().exactness.verdict, Verdict::Exact);
        assert_eq!(long.before.params, long.after.params);
        // A short one is run, which costs nothing.
        let short = outcome(&doubling(3, "")).unwrap();
        let verdict = short.checks.unwrap().exactness.verdict;
        assert_eq!(verdict, Verdict::Unverifiable("asked".to_owned()));
        // One that is cleaned on the way is another model, so it is run.
        let cleaned = outcome(&doubling(26, "const unused f32[4] = 1, 2, 3, 4\n")).unwrap();
        let verdict = cleaned.checks.unwrap().exactness.verdict;
        assert_eq!(verdict, Verdict::Unverifiable("asked".to_owned()));
    }
}
