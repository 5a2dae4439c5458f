//! Rows of many runs: what a product is fitted to, or judged by.

use std::borrow::Cow;

use super::rows::Rows;

/// Rows, each group's by itself.
#[derive(Clone, Debug)]
pub(super) struct Sample<'a>(pub Vec<SampleGroup<'a>>);

/// Rows of one group.
#[derive(Clone, Debug, Default)]
pub(super) struct SampleGroup<'a> {
    /// rows × columns, in as many pieces as they came in.
    pub inputs: Vec<Cow<'a, [f32]>>,
    /// As in [`Rows`].
    pub aims: Vec<f32>,
    pub added: Vec<f32>,
}

impl<'a> Sample<'a> {
    /// No rows yet, of so many groups.
    pub fn new(groups: usize) -> Self {
        Sample(vec![SampleGroup::default(); groups])
    }

    /// Puts the rows of a run below those that are there, into one piece, so that nothing is held twice.
    pub fn add(&mut self, run: &Rows) {
        let groups = self.0.len();
        for (group, into) in self.0.iter_mut().enumerate() {
            let inputs = part(&run.inputs, group, groups);
            match into.inputs.last_mut() {
                Some(piece) => piece.to_mut().extend_from_slice(inputs),
                None => into.inputs.push(Cow::Owned(inputs.to_vec())),
            }
            into.aim(run, group, groups);
        }
    }

    /// Puts rows below those that are there, their inputs as a piece that lies where it is.
    pub fn lend(&mut self, inputs: &'a [f32], aims: &Rows) {
        let groups = self.0.len();
        for (group, into) in self.0.iter_mut().enumerate() {
            into.inputs.push(Cow::Borrowed(part(inputs, group, groups)));
            into.aim(aims, group, groups);
        }
    }

    /// Puts rows below those that are there, their inputs as a piece of their own.
    pub fn give(&mut self, rows: Rows) {
        let groups = self.0.len();
        for (group, into) in self.0.iter_mut().enumerate() {
            into.inputs
                .push(Cow::Owned(part(&rows.inputs, group, groups).to_vec()));
            into.aim(&rows, group, groups);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|group| group.aims.is_empty())
    }
}

impl SampleGroup<'_> {
    fn aim(&mut self, rows: &Rows, group: usize, groups: usize) {
        self.aims.extend_from_slice(part(&rows.aims, group, groups));
        self.added
            .extend_from_slice(part(&rows.added, group, groups));
    }
}

fn part(list: &[f32], group: usize, groups: usize) -> &[f32] {
    let size = list.len() / groups;
    &list[group * size..(group + 1) * size]
}
