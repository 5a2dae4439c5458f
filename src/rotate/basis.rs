//! The matrices: directions in the order of what they carry.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, Par};

use super::moments::SecondMoments;

/// A change of basis: what stands on one side is multiplied by `primal`, what stands on the other by `dual`.
#[derive(Clone, Debug)]
pub(super) struct Basis {
    pub primal: Mat<f64>,
    /// The inverse of `primal`, transposed.
    pub dual: Mat<f64>,
}

/// What is added to the diagonal of the second moments, as a share of its mean: directions that seem empty are not trusted to be.
const DAMPING: f64 = 1e-3;
/// The least that a direction counts for, as a share of the most, where both sides are given the same scale.
const LEAST: f64 = 1e-6;

/// The basis of each block.
pub(super) fn bases(both: &SecondMoments, orthogonal: bool) -> Vec<Basis> {
    let blocks = both.primal.iter().zip(&both.dual);
    blocks
        .map(|(primal, dual)| match orthogonal {
            true => Basis::orthogonal(primal),
            false => Basis::balanced(primal, dual),
        })
        .collect()
}

impl Basis {
    /// The eigenvectors of what flows, the largest first.
    fn orthogonal(moments: &Mat<f64>) -> Self {
        let (_, vectors) = eigen(moments);
        let primal = vectors.transpose().to_owned();
        Basis {
            dual: primal.clone(),
            primal,
        }
    }

    /// With A and B the second moments of both sides and B^½ A B^½ = V D Vᵀ: D^-¼ Vᵀ B^½, and its inverse transposed. What is
    /// multiplied then has the same diagonal second moments D^½ on both sides: to keep the first directions is to keep the best
    /// approximation of that rank.
    fn balanced(primal: &Mat<f64>, dual: &Mat<f64>) -> Self {
        let size = dual.nrows();
        let damping = DAMPING * mean_diagonal(dual);
        let damped = Mat::from_fn(size, size, |row, column| {
            dual[(row, column)] + if row == column { damping } else { 0.0 }
        });
        let (values, vectors) = eigen(&damped);
        let least = damping.max(f64::MIN_POSITIVE);
        let power = |exponent: f64| {
            let scaled = Mat::from_fn(size, size, |row, column| {
                vectors[(row, column)] * values[column].max(least).powf(exponent)
            });
            &scaled * vectors.transpose()
        };
        let (root, inverse) = (power(0.5), power(-0.5));
        let (carried, directions) = eigen(&(&root * primal * &root));
        let most = carried.first().copied().unwrap_or(0.0);
        if most <= 0.0 || !most.is_finite() || damping <= 0.0 {
            return Basis::orthogonal(primal);
        }
        let scale =
            |at: usize, exponent: f64| (carried[at].max(most * LEAST) / most).powf(exponent);
        let scaled = |exponent: f64| {
            Mat::from_fn(size, size, |row, column| {
                directions[(column, row)] * scale(row, exponent)
            })
        };
        Basis {
            primal: scaled(-0.25) * root,
            dual: scaled(0.25) * inverse,
        }
    }
}

fn mean_diagonal(matrix: &Mat<f64>) -> f64 {
    let sum: f64 = (0..matrix.nrows()).map(|at| matrix[(at, at)]).sum();
    sum / matrix.nrows().max(1) as f64
}

/// Eigenvalues, descending, and eigenvectors as columns, each with its largest entry positive. One thread computes them, so
/// that they are the same whatever the number of threads. What is no finite matrix gives the basis that there is.
fn eigen(matrix: &Mat<f64>) -> (Vec<f64>, Mat<f64>) {
    let size = matrix.nrows();
    let (mut vectors, mut values) = (Mat::zeros(size, size), Diag::zeros(size));
    let scratch = self_adjoint_evd_scratch::<f64>(
        size,
        ComputeEigenvectors::Yes,
        Par::Seq,
        Default::default(),
    );
    let done = self_adjoint_evd(
        matrix.as_ref(),
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    );
    let finite = |matrix: &Mat<f64>| {
        matrix
            .col_iter()
            .all(|column| column.iter().all(|x| x.is_finite()))
    };
    if done.is_err() || !finite(&vectors) {
        return (vec![0.0; size], Mat::identity(size, size));
    }
    let sign = |column: usize| {
        let entries = (0..size).map(|row| vectors[(row, column)]);
        let largest = entries.fold(
            0.0f64,
            |most, x| if x.abs() > most.abs() { x } else { most },
        );
        if largest < 0.0 { -1.0 } else { 1.0 }
    };
    let signs: Vec<f64> = (0..size).map(sign).collect();
    // They come ascending.
    let at = |column: usize| size - 1 - column;
    let sorted = Mat::from_fn(size, size, |row, column| {
        vectors[(row, at(column))] * signs[at(column)]
    });
    let values = (0..size)
        .map(|column| values.column_vector()[at(column)])
        .collect();
    (values, sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(size: usize, seed: usize) -> Mat<f64> {
        let entry = |row: usize, column: usize| ((row * 7 + column * 3 + seed) % 11) as f64 - 5.0;
        let root = Mat::from_fn(size, size + 2, entry);
        &root * root.transpose()
    }

    fn near(one: &Mat<f64>, two: &Mat<f64>) -> bool {
        (one - two).norm_l2() < 1e-9 * two.norm_l2()
    }

    #[test]
    fn both_sides_of_a_basis_cancel_and_are_sorted_by_what_they_carry() {
        let (one, two) = (sample(5, 0), sample(5, 4));
        let basis = Basis::balanced(&one, &two);
        let product = basis.primal.transpose() * &basis.dual;
        assert!(near(&product, &Mat::identity(5, 5)));
        let carried = &basis.primal * &one * basis.primal.transpose();
        for at in 1..5 {
            assert!(carried[(at, at)] <= carried[(at - 1, at - 1)] * (1.0 + 1e-9));
            assert!(carried[(at, 0)].abs() < 1e-9 * carried[(0, 0)]);
        }
    }

    #[test]
    fn eigenvectors_are_orthogonal_descending_and_of_one_sign() {
        let matrix = sample(6, 1);
        let (values, vectors) = eigen(&matrix);
        assert!(near(
            &(vectors.transpose() * &vectors),
            &Mat::identity(6, 6)
        ));
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        let again = Mat::from_fn(6, 6, |row, column| vectors[(row, column)] * values[column]);
        assert!(near(&(&matrix * &vectors), &again));
        let empty = Basis::balanced(&matrix, &Mat::zeros(6, 6));
        assert!(near(
            &(empty.primal.transpose() * &empty.dual),
            &Mat::identity(6, 6)
        ));
    }
}
