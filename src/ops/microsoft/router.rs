//! The router of a mixture of experts: what it says of each, and how many it takes.

use crate::facts::Dim;
use crate::ops::fit::freeze_port;
use crate::ops::{Cut, NodeView, RewriteError};
use crate::relation::{Builder, LabelId, Port, Reason, Routing};

/// Why tokens stay, and experts where nothing can be said of their number.
pub(super) const ROUTED: Reason = Reason::operator("experts that a router picks");
/// Why all experts stay where a router has no choice.
const ALL_USED: Reason = Reason::operator("experts all of which a router takes");
/// What is lost with an expert.
const FEWER: Reason = Reason::operator("a router chooses from it");

/// How many experts work on a token.
pub(super) fn used(node: &NodeView) -> i64 {
    node.int("k").unwrap_or(1)
}

/// The experts, of which a router chooses by input 1. As many as it takes at a time stay.
pub(super) fn routed(builder: &mut Builder, node: &NodeView, experts: Dim) -> LabelId {
    let least = u32::try_from(used(node)).ok().filter(|least| *least > 0);
    match (experts.num(), least) {
        (Some(all), Some(least)) if all > i64::from(least) => builder.routed(
            "E",
            experts,
            Routing {
                by: Port::In(1),
                least,
                reason: FEWER,
            },
        ),
        (Some(_), Some(_)) => builder.fixed("E", experts, ALL_USED),
        _ => builder.fixed("E", experts, ROUTED),
    }
}

/// The numbers by which a router chooses, for each token and expert, or with which it weighs what they give.
pub(super) fn of_router(
    builder: &mut Builder,
    node: &NodeView,
    (input, name): (u32, &'static str),
    experts: LabelId,
) {
    let Some([tokens, _]) = node.shape(input as usize) else {
        return;
    };
    let tokens = builder.fixed("", tokens.clone(), ROUTED);
    builder.port(Port::In(input), name, [tokens, experts]);
}

/// Errors: fewer experts than a router takes.
pub(super) fn enough(node: &NodeView, cut: &Cut) -> Result<(), RewriteError> {
    let left = cut.extent_of("E").and_then(|experts| experts.num());
    match left.filter(|left| *left < used(node)) {
        Some(left) => Err(RewriteError(format!(
            "{left} experts, of which a router takes {}",
            used(node)
        ))),
        None => Ok(()),
    }
}

/// Scales of which there is one, or one for each expert.
const EACH: [(usize, &str); 4] = [(15, "global1"), (16, "global2"), (17, "act1"), (18, "act2")];
/// Scales of blocks of activations.
const BLOCKS: [usize; 2] = [19, 20];

/// Whether something is said of experts in a way that is not described.
pub(super) fn blocks_of_activations(node: &NodeView) -> bool {
    BLOCKS.iter().any(|input| node.has_input(*input))
}

/// Whether what there is for each token and expert, and for each expert, is for as many experts.
pub(super) fn is_of_each(node: &NodeView, experts: &Dim) -> bool {
    let router = |input: usize| match node.shape(input) {
        Some([_, extent]) => !extent.differs(experts),
        other => other.is_none(),
    };
    let each = |input: usize| match node.shape(input) {
        Some([extent]) => extent.is_one() || !extent.differs(experts),
        other => other.is_none(),
    };
    router(1) && router(14) && EACH.iter().all(|(input, _)| each(*input))
}

/// Describes the scales of which there is one, or one for each expert.
pub(super) fn scales_of_each(builder: &mut Builder, node: &NodeView, experts: LabelId) {
    for (input, name) in EACH {
        match node.shape(input) {
            Some([extent]) if !extent.is_one() => {
                builder.port(Port::In(input as u32), name, [experts]);
            }
            _ => freeze_port(builder, node, input, name, &ROUTED),
        }
    }
}
