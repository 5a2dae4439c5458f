//! The order in which the units of a group go, and what is lost on the way.

/// The way down of one group.
///
/// ```
/// use onnx_prune::Curve;
///
/// let curve = Curve::from_losses(&[0.3, 0.1]);
/// assert_eq!((curve.order, curve.error), (vec![1, 0], vec![0.0, 0.1, 0.4]));
/// ```
///
/// Its units, least salient first, and the error after each removal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Units in the order in which they go. The last to go is at the end, though a group never loses all.
    pub order: Vec<u32>,
    /// `error[k]` is the error once the first `k` units are gone: a share of what the group's readers get from it, never falling.
    pub error: Vec<f64>,
}

impl Curve {
    /// The curve of units whose saliencies add up (squares of norms, energies).
    pub fn from_energy(energy: &[f64]) -> Self {
        let mut curve = Self::from_losses(energy);
        let total = curve.error.last().copied().unwrap_or(0.0);
        if total > 0.0 {
            curve.error.iter_mut().for_each(|error| *error /= total);
        }
        curve
    }

    /// The curve of units whose losses, none of them negative, are errors already.
    pub fn from_losses(losses: &[f64]) -> Self {
        let mut order: Vec<u32> = (0..losses.len() as u32).collect();
        order.sort_by(|a, b| {
            losses[*a as usize]
                .total_cmp(&losses[*b as usize])
                .then(a.cmp(b))
        });
        let mut error = vec![0.0];
        let mut gone = 0.0;
        for unit in &order {
            gone += losses[*unit as usize];
            error.push(gone);
        }
        Curve { order, error }
    }

    /// The same where some units are lost for nothing: these go first.
    pub(crate) fn with_free(self, free: &[u32]) -> Self {
        if free.is_empty() {
            return self;
        }
        let losses = self.error.windows(2).map(|pair| pair[1] - pair[0]);
        let (mut first, rest): (Vec<_>, Vec<_>) = self
            .order
            .iter()
            .copied()
            .zip(losses)
            .partition(|(unit, _)| free.contains(unit));
        first.iter_mut().for_each(|(_, loss)| *loss = 0.0);
        let mut curve = Curve {
            order: Vec::with_capacity(self.order.len()),
            error: vec![0.0],
        };
        let mut gone = 0.0;
        for (unit, loss) in first.into_iter().chain(rest) {
            gone += loss;
            curve.order.push(unit);
            curve.error.push(gone);
        }
        curve
    }

    /// The lower convex envelope, as a slope for each removal: what the next unit costs if whole stretches of the curve are
    /// taken at once. Never falls from one to the next.
    pub(crate) fn slopes(&self) -> Vec<f64> {
        let mut hull: Vec<usize> = Vec::new();
        let slope =
            |from: usize, to: usize| (self.error[to] - self.error[from]) / (to - from) as f64;
        for point in 0..self.error.len() {
            while let [.., before, last] = hull[..]
                && slope(before, last) >= slope(last, point)
            {
                hull.pop();
            }
            hull.push(point);
        }
        hull.windows(2)
            .flat_map(|pair| std::iter::repeat_n(slope(pair[0], pair[1]), pair[1] - pair[0]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_go_from_the_least_on() {
        let curve = Curve::from_energy(&[3.0, 1.0, 4.0]);
        assert_eq!(
            (curve.order.as_slice(), curve.error.as_slice()),
            ([1, 0, 2].as_slice(), [0.0, 0.125, 0.5, 1.0].as_slice())
        );
    }

    #[test]
    fn what_is_lost_for_nothing_goes_first() {
        let curve = Curve::from_losses(&[0.25, 0.5, 1.0]);
        assert_eq!(curve.clone().with_free(&[]), curve);
        let curve = curve.with_free(&[2]);
        assert_eq!(
            (curve.order, curve.error),
            (vec![2, 0, 1], vec![0.0, 0.0, 0.25, 0.75])
        );
    }

    #[test]
    fn slopes_are_those_of_the_convex_envelope() {
        let curve = Curve {
            order: vec![0, 1, 2],
            error: vec![0.0, 2.0, 2.0, 6.0],
        };
        assert_eq!(curve.slopes(), [1.0, 1.0, 4.0]);
    }
}
