//! What a model was fed, in a line that a person can check.

use super::{Batches, DataError, Inputs, Tensors};
use crate::proto::Dtype;

/// Runs whose numbers are looked at, spread over all.
const LOOKED_AT: usize = 16;

/// What a model was fed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fed {
    /// How many of what: `48 pictures`.
    pub what: String,
    /// What was cut out of pictures: `RGB, short side 224, centre crop`; empty for arrays.
    pub geometry: String,
    /// What was done to the numbers: `× 1/255, mean 0.5, std 0.5`; empty where they were taken as they are.
    pub scaling: String,
    /// Input by input.
    pub inputs: Vec<FedInput>,
    /// Why the preparation is doubtful, one sentence each.
    pub doubts: Vec<String>,
}

/// What one input was fed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FedInput {
    /// Its name.
    pub name: String,
    /// Its extents in one run.
    pub dims: Vec<usize>,
    /// The smallest and the largest number, of the runs that were looked at; none where there are none.
    pub range: Option<(f64, f64)>,
    /// Whether they are whole numbers by type.
    pub whole: bool,
}

impl Fed {
    /// Looks at some runs of inputs. `batches`: the same, made ready. Errors: inputs that cannot be read.
    pub fn look(inputs: &Inputs, batches: &dyn Batches) -> Result<Self, DataError> {
        let (what, geometry, scaling) = inputs.describe();
        let mut fed = Fed {
            what,
            geometry,
            scaling,
            ..Default::default()
        };
        let count = batches.count();
        for at in 0..count.min(LOOKED_AT) {
            let tensors = batches.fetch(at * count / count.min(LOOKED_AT))?;
            fed.add(&tensors, inputs.is_hollow());
            if let Some(doubt) = inputs.doubt(&tensors).filter(|_| fed.doubts.is_empty()) {
                fed.doubts.push(doubt);
            }
        }
        Ok(fed)
    }

    /// Adds what is seen of some tensors; `hollow`: their numbers are not looked at.
    fn add(&mut self, tensors: &Tensors, hollow: bool) {
        for (name, tensor) in tensors {
            let at = self
                .inputs
                .iter()
                .position(|input| input.name == *name)
                .unwrap_or_else(|| {
                    let whole = !tensor.dtype.is_float();
                    self.inputs.push(FedInput {
                        name: name.clone(),
                        dims: tensor.dims.clone(),
                        range: None,
                        whole,
                    });
                    self.inputs.len() - 1
                });
            let numbers = if hollow || tensor.dtype == Dtype::String {
                None
            } else {
                tensor.to_f64()
            };
            if let (Some(input), Some(range)) =
                (self.inputs.get_mut(at), numbers.as_deref().and_then(range))
            {
                let (low, high) = input.range.unwrap_or(range);
                input.range = Some((low.min(range.0), high.max(range.1)));
            }
        }
    }

    /// `48 pictures → input 1×3×224×224, RGB, short side 224, centre crop, range −0.99…1.00`.
    pub fn line(&self) -> String {
        /// Inputs named, at most.
        const NAMED: usize = 6;
        let geometry = if self.geometry.is_empty() {
            String::new()
        } else {
            format!(", {}", self.geometry)
        };
        let one = |input: &FedInput| {
            let dims = if input.dims.is_empty() {
                "scalar".to_owned()
            } else {
                super::spec::dims_text(&input.dims)
            };
            let range = input.range.map(|(low, high)| {
                let show = |number: f64| {
                    if input.whole {
                        format!("{number:.0}")
                    } else {
                        show(number)
                    }
                };
                if low == high {
                    format!(", all {}", show(low))
                } else {
                    format!(", range {}…{}", show(low), show(high))
                }
            });
            format!(
                "{} {dims}{geometry}{}",
                input.name,
                range.unwrap_or_default()
            )
        };
        let mut inputs: Vec<String> = self.inputs.iter().take(NAMED).map(one).collect();
        if self.inputs.len() > NAMED {
            inputs.push(format!("{} more", self.inputs.len() - NAMED));
        }
        let scaling = if self.scaling.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.scaling)
        };
        format!("{} → {}{scaling}", self.what, inputs.join("; "))
    }

    /// How the inputs were prepared, in one clause.
    pub fn preparation(&self) -> String {
        [&self.geometry, &self.scaling]
            .into_iter()
            .filter(|part| !part.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The smallest and the largest finite number.
fn range(numbers: &[f64]) -> Option<(f64, f64)> {
    let finite = || numbers.iter().copied().filter(|number| number.is_finite());
    let low = finite().reduce(f64::min)?;
    Some((low, finite().reduce(f64::max)?))
}

/// Two digits behind the point, or three that count.
fn show(number: f64) -> String {
    let size = number.abs();
    let text = match size {
        _ if size != 0.0 && !(1e-3..1e6).contains(&size) => format!("{number:.2e}"),
        _ if size >= 100.0 => format!("{number:.0}"),
        _ if size >= 0.1 || size == 0.0 => format!("{number:.2}"),
        _ => format!("{number:.4}"),
    };
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_fed() {
        let input = FedInput {
            name: "input".to_owned(),
            dims: vec![1, 3, 224, 224],
            range: Some((-0.9921, 1.0)),
            whole: false,
        };
        let mut fed = Fed {
            what: "48 pictures".to_owned(),
            geometry: "RGB, short side 224, centre crop".to_owned(),
            scaling: String::new(),
            inputs: vec![input],
            doubts: Vec::new(),
        };
        assert_eq!(
            fed.line(),
            "48 pictures → input 1×3×224×224, RGB, short side 224, centre crop, range −0.99…1.00"
        );
        fed.inputs.push(FedInput {
            name: "ids".to_owned(),
            dims: vec![],
            range: Some((7.0, 7.0)),
            whole: true,
        });
        (fed.geometry, fed.scaling) = (String::new(), "× 1/255".to_owned());
        assert_eq!(
            fed.line(),
            "48 pictures → input 1×3×224×224, range −0.99…1.00; ids scalar, all 7 (× 1/255)"
        );
    }
}
