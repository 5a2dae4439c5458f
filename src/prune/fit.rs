//! What the weights of a pruned model were fitted to, for its plan to tell.

use crate::calibrate::{Dataset, Viewed};
use crate::inputs::{DataError, digest};
use crate::plan::{Fit, FitInputs};

/// How weights were fitted by a method; the digest of what they were fitted to only where it is asked for, for all inputs
/// are read for it. Errors: inputs that cannot be read.
pub(super) fn fit(
    data: &Dataset,
    method: Option<String>,
    with_digest: bool,
) -> Result<Fit, DataError> {
    let Some(method) = method else {
        return Ok(Fit::none());
    };
    let statistics = data.statistics.as_ref().filter(|_| data.statistics_alone());
    let digest = match statistics {
        _ if !with_digest => String::new(),
        Some(statistics) => statistics.digest(),
        None => digest(data.whole())?,
    };
    let number = statistics.map_or(data.inputs.count(), |statistics| statistics.samples);
    let synthetic = data.synthetic && statistics.is_none();
    let inputs = FitInputs {
        number,
        digest,
        synthetic,
        preprocessing: data.preparation.clone(),
        labels: None,
        views: data
            .views
            .as_ref()
            .map_or_else(String::new, Viewed::to_string),
    };
    Ok(Fit {
        method,
        steps: None,
        loss: None,
        augment: None,
        inputs: Some(inputs),
    })
}
