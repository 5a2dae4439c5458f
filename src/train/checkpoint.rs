//! The state of training in a file, so that a run that was stopped or killed can be gone on with.
//!
//! Everything before training is computed again, for it comes out the same; what the file holds is what steps have changed.
//! Layout: the length of the head (eight bytes, little end first), the head (JSON: whose state it is, and all single numbers,
//! floats as their bits), then the arrays as floats, little end first: weights, best weights, mean, moments.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::course::Course;
use super::lessons::CourseState;
use super::place::Checkpoint;
use super::{Lesson, TrainError, Training, TrainingData};
use crate::files;
use crate::gradient::FloatArray;
use crate::hash::{hex, sha256_hex};
use crate::inputs::Views;
use crate::progress::Work;

const FORMAT: u32 = 2;

/// Whose state it is: what has to be the same for training to go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StateIdentity {
    tool: String,
    /// SHA-256 of shapes and numbers of the weights before the first step: of model and plan, and of what was fitted.
    weights: String,
    /// What was asked for.
    settings: String,
    /// How many inputs there are and how they are seen, their classes, and the error on those that are not learnt from, as
    /// bits: of inputs, original and runtime.
    inputs: String,
}

impl StateIdentity {
    pub fn of(
        course: &Course,
        (steps, views, held_out): (usize, &Views, f64),
        data: TrainingData,
        training: &Training,
    ) -> Self {
        let mut hash = Sha256::new();
        for weight in &course.student.weights {
            hash.update(format!("{:?}", weight.dims));
            weight
                .data
                .iter()
                .for_each(|number| hash.update(number.to_le_bytes()));
        }
        let ids = course.classes.iter().flat_map(|classes| classes.ids());
        let ids: Vec<u8> = ids.flat_map(|id| id.to_le_bytes()).collect();
        StateIdentity {
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            weights: hex(&hash.finalize()),
            settings: format!(
                "{steps} steps of {}, seed {}, loss {:?}, zeros kept {}, labels {}",
                course.batch,
                training.seed,
                training.loss,
                training.keeps_zeros,
                course.classes.is_some()
            ),
            inputs: format!(
                "{} {views} {} {:016x}",
                data.inputs.count(),
                sha256_hex(&ids),
                held_out.to_bits()
            ),
        }
    }

    /// What of another run's is not as here; `None`: all is.
    fn differs(&self, other: &StateIdentity) -> Option<String> {
        match () {
            () if self.tool != other.tool => Some(format!("it is of version {}", other.tool)),
            () if self.settings != other.settings => Some(format!(
                "it is of other settings: {} here, {} there",
                self.settings, other.settings
            )),
            () if self.weights != other.weights => {
                Some("it is of another model or plan: training began with other weights".to_owned())
            }
            () if self.inputs != other.inputs => {
                Some("it is of other inputs, labels, views or runtime".to_owned())
            }
            () => None,
        }
    }
}

/// The head of the file.
#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    of: StateIdentity,
    step: usize,
    rate: u64,
    least: u64,
    loss: (u64, usize),
    averaged: usize,
    /// Step, loss, held-out error, that of the mean.
    curve: Vec<(usize, Option<u64>, u64, Option<u64>)>,
}

impl Head {
    fn of(state: &CourseState, identity: &StateIdentity) -> Self {
        let point = |lesson: &Lesson| {
            let bits = |number: Option<f64>| number.map(f64::to_bits);
            let held_out = lesson.held_out.to_bits();
            (
                lesson.step,
                bits(lesson.loss),
                held_out,
                bits(lesson.averaged),
            )
        };
        Head {
            format: FORMAT,
            of: identity.clone(),
            step: state.step,
            rate: state.adam.largest.to_bits(),
            least: state.least.to_bits(),
            loss: (state.loss.0.to_bits(), state.loss.1),
            averaged: state.mean.count,
            curve: state.curve.iter().map(point).collect(),
        }
    }

    /// Puts the single numbers into a state.
    fn restore(&self, state: &mut CourseState) {
        let number = |bits: Option<u64>| bits.map(f64::from_bits);
        state.step = self.step;
        state.adam.done = self.step;
        state.adam.largest = f64::from_bits(self.rate);
        state.least = f64::from_bits(self.least);
        state.loss = (f64::from_bits(self.loss.0), self.loss.1);
        state.mean.count = self.averaged;
        let points = self.curve.iter();
        state.curve = points
            .map(|(step, loss, held_out, averaged)| Lesson {
                step: *step,
                loss: number(*loss),
                held_out: f64::from_bits(*held_out),
                averaged: number(*averaged),
            })
            .collect();
    }
}

/// Keeps the state of one training.
pub(super) struct Keeper<'a> {
    to: Option<&'a Checkpoint>,
    identity: StateIdentity,
    last: Instant,
    /// Whether there is a file of this run.
    has_kept: bool,
}

impl<'a> Keeper<'a> {
    pub fn new(to: Option<&'a Checkpoint>, identity: StateIdentity) -> Self {
        Keeper {
            to,
            identity,
            last: Instant::now(),
            has_kept: false,
        }
    }

    pub fn is_due(&self) -> bool {
        self.to.is_some_and(|to| self.last.elapsed() >= to.every)
    }

    /// Writes the state. Where that fails, training goes on without.
    pub fn keep(&mut self, state: &CourseState, weights: &[FloatArray], work: &Work) {
        let Some(to) = self.to else { return };
        match save(&to.path, &Head::of(state, &self.identity), state, weights) {
            Ok(()) => {
                self.has_kept = true;
                work.progress.kept(&to.path);
            }
            Err(error) => work
                .progress
                .remark(&format!("the state of training was not kept: {error}")),
        }
        self.last = Instant::now();
    }

    /// Keeps what long training came to, too: what comes after it may be stopped as well.
    pub fn end(&mut self, state: &CourseState, weights: &[FloatArray], work: &Work) {
        if self.has_kept {
            self.keep(state, weights, work);
        }
    }

    /// The state to go on from, weights in their place; `None` where it begins anew. Errors: a file that is of another run.
    pub fn found(
        &mut self,
        fresh: &CourseState,
        weights: &mut [FloatArray],
    ) -> Result<Option<CourseState>, TrainError> {
        let Some(to) = self.to.filter(|to| to.resumes && to.path.exists()) else {
            return Ok(None);
        };
        let found = load(&to.path, &self.identity, fresh, weights);
        self.has_kept = true;
        found.map(Some).map_err(|problem| TrainError::Checkpoint {
            path: to.path.clone(),
            problem,
        })
    }
}

fn save(
    path: &Path,
    head: &Head,
    state: &CourseState,
    weights: &[FloatArray],
) -> Result<(), files::FileError> {
    files::write(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 16, file);
        let head = serde_json::to_vec(head).map_err(io::Error::other)?;
        out.write_all(&(head.len() as u64).to_le_bytes())?;
        out.write_all(&head)?;
        let arrays = [weights, &state.best, &state.mean.weights];
        let arrays = arrays.into_iter().flatten().map(|array| &array.data);
        let (first, second) = state.adam.moments();
        for numbers in arrays.chain(first).chain(second) {
            for number in numbers {
                out.write_all(&number.to_le_bytes())?;
            }
        }
        out.flush()
    })
}

/// Reads a state of training like a fresh one. Errors: no such file, or one of another run.
fn load(
    path: &Path,
    identity: &StateIdentity,
    fresh: &CourseState,
    weights: &mut [FloatArray],
) -> Result<CourseState, String> {
    let (bytes, _) = files::bytes(path).map_err(|error| error.to_string())?;
    let torn = || "this is no state of training".to_owned();
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(torn)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| torn())?;
    let (head, arrays) = rest.split_at_checked(length).ok_or_else(torn)?;
    let head: Head = serde_json::from_slice(head).map_err(|_| torn())?;
    if head.format != FORMAT {
        return Err(torn());
    }
    if let Some(problem) = identity.differs(&head.of) {
        return Err(problem);
    }
    let mut state = fresh.clone();
    head.restore(&mut state);
    if head.averaged > 0 {
        state.mean.weights = weights.to_vec();
    }
    let (numbers, []) = arrays.as_chunks::<4>() else {
        return Err(torn());
    };
    let mut numbers = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let (first, second) = state.adam.moments_mut();
    let arrays = weights
        .iter_mut()
        .chain(&mut state.best)
        .chain(&mut state.mean.weights)
        .map(|array| &mut array.data);
    for number in arrays.chain(first).chain(second).flatten() {
        *number = numbers.next().ok_or_else(torn)?;
    }
    match numbers.next() {
        None => Ok(state),
        Some(_) => Err(torn()),
    }
}
