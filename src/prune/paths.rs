//! The ways down that curves lead to.

use crate::allocate::{Choice, Path, Target, Width};
use crate::analysis::Selection;
use crate::score::Curve;
use crate::workspace::Workspace;

/// Curves of the groups that a round may cut.
#[derive(Clone)]
pub(super) struct Curves {
    /// Numbers in the original and in the model so far.
    pub matched: Vec<(usize, usize)>,
    pub widths: Vec<Width>,
    pub curves: Vec<Curve>,
    /// Whether groups of one kind and size keep as many units each.
    pub uniform: bool,
}

impl Curves {
    pub fn path<'a>(&self, prepared: &'a Workspace, targets: &[Target]) -> Path<'a> {
        let groups: Vec<usize> = self.matched.iter().map(|(_, place)| *place).collect();
        Path::new(
            prepared.subject(),
            &groups,
            (&self.curves, &self.widths),
            targets,
            self.uniform,
        )
    }

    pub fn selection(&self, prepared: &Workspace, choice: &Choice) -> Selection {
        prepared.select(&choice.removed)
    }

    /// All units of the original that are gone after a choice, where `before` were gone already.
    pub fn in_original(
        &self,
        choice: &Choice,
        before: &[Vec<u32>],
        original: &Workspace,
    ) -> Vec<Vec<u32>> {
        let mut gone = before.to_vec();
        for (group, place) in &self.matched {
            let before = &before[*group];
            let left: Vec<u32> = (0..original.analysis.groups[*group].units.len() as u32)
                .filter(|unit| before.binary_search(unit).is_err())
                .collect();
            gone[*group].extend(
                choice.removed[*place]
                    .iter()
                    .filter_map(|unit| left.get(*unit as usize)),
            );
            gone[*group].sort_unstable();
        }
        gone
    }
}
