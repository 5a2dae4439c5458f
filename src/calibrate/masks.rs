//! Derivatives of the outputs by masks, as scores take them.

/// Derivatives of random sums of the outputs by masks on what products read: factors that are 1 where a column stays.
#[derive(Clone, Debug, Default)]
pub struct MaskDerivatives {
    /// How many sums.
    pub samples: usize,
    /// For each product with constant weights the derivatives by masks on its columns, sum after sum; `None`: not known.
    pub of: Vec<Option<Vec<f32>>>,
}
