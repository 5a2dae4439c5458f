//! What measurements are made with.

use crate::calibrate::Dataset;
use crate::progress::Work;
use crate::run::Runtime;

/// Inputs, what runs models on them, and who is told of it.
#[derive(Clone, Copy)]
pub struct RunSetup<'a> {
    /// Inputs to run on.
    pub data: &'a Dataset,
    /// What runs the models.
    pub runtime: &'a dyn Runtime,
    /// Who is told, and may ask for a stop.
    pub work: &'a Work<'a>,
}
