//! What the user asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use globset::GlobMatcher;

use super::patterns::Pattern;

use crate::allocate::{Align, Target, Width, least_cuts};
use crate::analysis::{Allowed, Granularity, Group, KeptTokens, Kind, Options, Pins, branch_ends};
use crate::cost::Cost;
use crate::inputs::Augment;
use crate::model::Model;
use crate::plan::Plan;
use crate::recover::Method;
use crate::relation::Reason;
use crate::score::{Needs, Scorer};
use crate::train::Training;
use crate::workspace::Workspace;

/// What is asked for. By default nothing but channels and heads may go, by the norms of their weights.
///
/// ```
/// use onnx_prune::{Request, Scorer, Target};
///
/// let mut request = Request::default();
/// request.targets = vec![Target::Macs(0.6), Target::Bytes(0.5)];
/// request.score = Scorer::named("lamp", 0).unwrap_or_default();
/// request.exclude = vec!["head.*".parse()?];
/// assert!(request.verify && request.drift.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// Fractions of the original that may remain.
    pub targets: Vec<Target>,
    /// The relative output error allowed; then the model is made as small as possible within it.
    pub drift: Option<f64>,
    /// The least share of inputs kept apart that keep their class (for embeddings: the least correlation of the ranks of pairwise
    /// similarities); then the model is made as small as possible with it.
    pub agreement: Option<f64>,
    /// Whether nobody asked for that drift: then less goes where little is known of the inputs, and nothing where no cut keeps
    /// within it on inputs kept apart.
    pub cautious: bool,
    /// How units are ranked.
    pub score: Scorer,
    /// How the weights that stay are mended; `None`: they are not.
    pub recover: Option<Method>,
    /// How the mended weights are trained, with the original as teacher; `None`: they are not.
    pub training: Option<Training>,
    /// In which views of pictures weights are fitted to.
    pub augment: Augment,
    /// The seed of views.
    pub seed: u64,
    /// How often to score, cut and recover on the way to the targets.
    pub rounds: usize,
    /// The kinds of groups that may be cut.
    pub kinds: Vec<Kind>,
    /// Whether groups of one kind and size keep as many units each.
    pub uniform: bool,
    /// Only groups whose weights or nodes match one of these (all, if empty).
    pub only: Vec<Pattern>,
    /// No group whose weights or nodes match one of these.
    pub exclude: Vec<Pattern>,
    /// Axes of graph inputs and outputs that may shrink; those that a plan names need not stand here.
    pub allowed: BTreeSet<(String, usize)>,
    /// Rounding of widths.
    pub align: Align,
    /// The file that keeps measured latencies of operators; `None`: they are not kept.
    pub latency_table: Option<PathBuf>,
    /// A plan to apply instead of making one.
    pub plan: Option<Plan>,
    /// Tokens that stay of the vocabulary: the others go first. Where nothing else is asked for, nothing else goes.
    #[doc(hidden)]
    pub tokens: Option<KeptTokens>,
    /// What the model cost before its vocabulary was cut: fractions are of that.
    pub(crate) before: Option<Cost>,
    /// Whether the plan is wanted as a file, with the digest of the model.
    pub keep_plan: bool,
    /// Input shapes at which operations are counted.
    pub pins: BTreeMap<String, Vec<i64>>,
    /// Whether to check exactness and drift, and measure latency.
    pub verify: bool,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            targets: Vec::new(),
            drift: None,
            agreement: None,
            cautious: false,
            score: Scorer::norm(),
            recover: None,
            training: None,
            augment: Augment::Auto,
            seed: 0,
            rounds: 1,
            kinds: vec![Kind::Channels, Kind::Heads],
            uniform: false,
            only: Vec::new(),
            exclude: Vec::new(),
            allowed: Allowed::new(),
            align: Align::ByWidth,
            latency_table: None,
            plan: None,
            tokens: None,
            before: None,
            keep_plan: false,
            pins: Pins::new(),
            verify: true,
        }
    }
}

impl Request {
    /// Heads are whole factors; their dimensions are the inner ones.
    pub(super) fn granularity(&self) -> Granularity {
        let dims = self.kinds.contains(&Kind::HeadDims) && !self.kinds.contains(&Kind::Heads);
        if dims || self.directions() {
            Granularity::Fine
        } else {
            Granularity::Coarse
        }
    }

    /// What analysis may assume.
    #[doc(hidden)]
    pub(crate) fn options(&self) -> Options {
        let planned = self.plan.iter().flat_map(Plan::allowed);
        let allowed = self.allowed.iter().cloned().chain(planned).collect();
        let tokens = self.tokens.as_ref().map(|tokens| tokens.ends.clone());
        let planned = self.plan.as_ref().and_then(|plan| plan.vocabulary.as_ref());
        let tokens = tokens.or_else(|| Some(planned?.ends()));
        Options {
            granularity: self.granularity(),
            directions: self.directions(),
            allowed,
            tokens: tokens.unwrap_or_default(),
            pins: self.pins.clone(),
            ..Default::default()
        }
    }

    /// Whether a latency is aimed at.
    pub(crate) fn aims_at_latency(&self) -> bool {
        self.targets
            .iter()
            .any(|target| matches!(target, Target::Latency(_)))
    }

    /// Whether inputs decide what goes, or weights are fitted to them: in this run, or in that which made its plan.
    /// `measured`: whether they are the user's, or there are statistics of such.
    pub(crate) fn chooses(&self, measured: bool) -> bool {
        let curves = self.score.needs() != Needs::Weights || (measured && self.layers());
        if self.plan.is_none() && self.tokens.is_some() && !self.asks_for_units() {
            return false;
        }
        self.plan.is_some() || self.targets.is_empty() || self.recover.is_some() || curves
    }

    /// Whether other units than tokens are to go.
    pub(crate) fn asks_for_units(&self) -> bool {
        let quality = self.drift.is_some() || self.agreement.is_some();
        !self.targets.is_empty() || quality
    }

    /// Whether it says by itself what goes.
    pub(super) fn is_decided(&self) -> bool {
        self.plan.is_some() || self.tokens.is_some()
    }

    pub(super) fn needs_digest(&self) -> bool {
        self.plan.is_some() || self.keep_plan
    }

    /// The groups that may be cut, as numbers into the analysis.
    #[doc(hidden)]
    pub(crate) fn candidates(&self, prepared: &Workspace) -> Vec<usize> {
        let matchers = |globs: &[Pattern]| -> Vec<GlobMatcher> {
            globs.iter().map(Pattern::matcher).collect()
        };
        let (only, exclude) = (matchers(&self.only), matchers(&self.exclude));
        let matches = |globs: &[GlobMatcher], group: &Group| {
            names(&prepared.working, group)
                .iter()
                .any(|name| globs.iter().any(|glob| glob.is_match(name)))
        };
        let named =
            |group: &Group| (only.is_empty() || matches(&only, group)) && !matches(&exclude, group);
        // The user's scores say which groups go: those that they name.
        let scored = |group: &Group| self.score.score().covers(group);
        let admitted = |at: usize, group: &Group| {
            self.kinds.contains(&group.kind)
                || (group.kind == Kind::Directions && self.directions())
                || self.goes_whole(prepared, at)
        };
        let groups = prepared.analysis.groups.iter().enumerate();
        let found: Vec<usize> = groups
            .filter(|(at, group)| named(group) && scored(group) && admitted(*at, group))
            .map(|(at, _)| at)
            .collect();
        // Nor such as could only make the model larger.
        let least = least_cuts(prepared.subject(), &found);
        found
            .into_iter()
            .zip(least)
            .filter(|(_, least)| least.is_some())
            .map(|(at, _)| at)
            .collect()
    }

    /// Why a group that could be cut is not among the [`candidates`](Self::candidates), or not cut for all that. `ran`: whether
    /// the inputs reach it.
    #[doc(hidden)]
    pub(crate) fn left_out(&self, working: &Model, group: &Group, ran: bool) -> Reason {
        const UNSCORED: Reason =
            Reason::operator("left out: the scores that are given do not name it");
        const UNRUN: Reason = Reason::operator("left out: its branch never ran on these inputs");
        const COPIED: Reason =
            Reason::operator("left out: copies for other readers would take more than goes");
        let names = names(working, group);
        let matches = |globs: &[Pattern]| {
            globs
                .iter()
                .map(Pattern::matcher)
                .any(|glob| names.iter().any(|name| glob.is_match(name)))
        };
        match () {
            () if matches(&self.exclude) => Reason::Excluded,
            () if !self.only.is_empty() && !matches(&self.only) => Reason::NotNamed,
            () if !ran => UNRUN,
            () if !self.score.score().covers(group) => UNSCORED,
            () if self.kinds.contains(&group.kind) => COPIED,
            () => group
                .lossy
                .clone()
                .unwrap_or(Reason::OtherKind(group.kind.name())),
        }
    }

    /// Whether groups whose basis may be changed are directions: where that is asked for, or a plan says so.
    pub(super) fn directions(&self) -> bool {
        let rotated = |plan: &Plan| !plan.rotations.is_empty();
        self.kinds.contains(&Kind::Directions) || self.plan.as_ref().is_some_and(rotated)
    }

    /// Whether whole branches may go.
    pub(super) fn layers(&self) -> bool {
        self.kinds.contains(&Kind::Layers)
    }

    /// Whether all units of a group may go together.
    #[doc(hidden)]
    pub(crate) fn goes_whole(&self, prepared: &Workspace, group: usize) -> bool {
        self.layers() && branch_ends(&prepared.working, &prepared.analysis, &[group]).is_some()
    }

    /// What widths a group (of a model that may have been cut before) may have, counted in the original's units.
    pub(super) fn width(&self, prepared: &Workspace, group: usize, original: &Group) -> Width {
        let (width, whole) = (self.align.width(original), self.goes_whole(prepared, group));
        match self.kinds.contains(&original.kind) {
            true => Width { whole, ..width },
            // All or nothing.
            false => Width {
                align: original.units.len() as u32,
                least: original.units.len(),
                whole,
                ..width
            },
        }
    }

    /// What the user should know of groups that the score has nothing to say of: `silent` of so many.
    pub(super) fn remark(&self, silent: &[&str]) -> Option<String> {
        /// Names said, at most.
        const SAID: usize = 3;
        let (first, more) = (silent.first()?, silent.len().saturating_sub(SAID));
        let names = silent
            .iter()
            .take(SAID)
            .skip(1)
            .fold((*first).to_owned(), |names, name| {
                format!("{names}, {name}")
            });
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let why = self.score.why_silent();
        Some(format!(
            "score {} ranks by the norm of the weights in {names}{more}: {why}",
            self.score
        ))
    }

    /// What is recorded in the pruned model.
    pub(super) fn notes(&self, plan: &Plan) -> Vec<(&'static str, String)> {
        vec![
            ("onnx_prune.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("onnx_prune.plan", plan.digest()),
        ]
    }
}

/// The names that a group answers to: its id, its weights and the nodes that read them.
pub(super) fn names(working: &Model, group: &Group) -> Vec<String> {
    let mut names = vec![group.id.clone()];
    for (value, _) in &group.weights {
        let entry = working.index().value(*value);
        names.push(entry.name.clone());
        names.extend(
            entry
                .readers
                .iter()
                .map(|(node, _)| working.node_label(*node).to_owned()),
        );
    }
    names
}
