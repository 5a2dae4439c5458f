//! tract's optimizer, kept from what it does wrongly: a step of it that fails is left out, and a product never loses an axis.
//!
//! Every step of an optimizer is optional, since the model computes the same without it; tract gives up the whole model where
//! one fails. One step is wrong: an `Expand` before a product is dropped, although no other operand has the axis (`mk, kn -> mn`
//! with `m` expanded), or although the axis is summed.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_onnx::prelude::{TractResult, TypedModel};
use tract_onnx::tract_core::internal::{InOut, TypedModelPatch, TypedNode};
use tract_onnx::tract_core::ops::array::MultiBroadcastTo;
use tract_onnx::tract_core::ops::dummy::Dummy;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::optim::{Optimizer, OptimizerSession, TypedPass};

use super::patch::{NodeNames, apply};

/// How much is optimized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// All passes.
    Full,
    /// Only what looks at one node at a time: no pass that moves axes, slices or concatenations about.
    NodeByNode,
}

/// The model in operators that run fast. Errors: a step that was found to go is refused as it is made.
pub(super) fn optimized(mut model: TypedModel, extent: Extent) -> TractResult<TypedModel> {
    for optimizer in [Optimizer::declutter(), Optimizer::codegen()] {
        run(&careful(optimizer, extent), &mut model)?;
    }
    Ok(model)
}

/// Runs all passes until none finds anything more to change, as tract's own session does but for the time it takes.
fn run(optimizer: &Optimizer, model: &mut TypedModel) -> TractResult<()> {
    let _proofs = model.symbols.proof_cache_session();
    let mut session = optimizer.session();
    let mut seen = HashSet::new();
    model.compact()?;
    loop {
        let mut changed = false;
        for pass in &mut optimizer.passes.clone() {
            while changes(pass.as_mut(), &mut session, &mut seen, model)? {
                changed = true;
                model.compact()?;
            }
            model.compact()?;
        }
        if !changed {
            return Ok(());
        }
    }
}

/// Makes all changes that a pass finds on one way through the model, and says whether there were any. `seen`: changes that are
/// not to be made twice.
fn changes(
    pass: &mut dyn TypedPass,
    session: &mut OptimizerSession,
    seen: &mut HashSet<String>,
    model: &mut TypedModel,
) -> TractResult<bool> {
    let (mut names, mut changed) = (NodeNames::of(model), false);
    pass.reset()?;
    while let Some(mut patch) = pass.next(session, model)? {
        let once = patch.dont_apply_twice.take();
        if once.is_none_or(|once| seen.insert(once)) {
            apply(patch, model, &mut names)?;
            changed = true;
        }
    }
    pass.run_direct(model)?;
    Ok(changed)
}

/// The same passes, in which a step that fails is left out.
pub(super) fn careful(mut optimizer: Optimizer, extent: Extent) -> Optimizer {
    // Passes are told apart by how they print, having no other names; tract's version is pinned.
    let passes = std::mem::take(&mut optimizer.passes)
        .into_iter()
        .filter_map(|pass| {
            let name = format!("{pass:?}");
            let step = match name.as_str() {
                "declutter" => Some(Step::Declutter),
                "codegen" => Some(Step::Codegen),
                "fuse" => Some(Step::Fuse),
                _ => None,
            };
            match step {
                Some(step) => Some(Box::new(EachNode { step, next: 0 }) as Box<dyn TypedPass>),
                None if extent == Extent::Full || name.starts_with("PropConst") => {
                    Some(Box::new(WholeModel {
                        direct: name.starts_with("MergeConsecutiveSameRoleAxes"),
                        pass,
                    }))
                }
                None => None,
            }
        });
    optimizer.passes = passes.collect();
    optimizer
}

/// What a step gives; nothing where it fails, by an error or a panic.
fn attempt<T>(step: impl FnOnce() -> TractResult<Option<T>>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(made)) => made,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a step of tract's optimizer is left out");
            None
        }
        Err(_) => None,
    }
}

/// What operators know to do with a node of theirs.
#[derive(Clone, Copy, Debug)]
enum Step {
    Declutter,
    Codegen,
    Fuse,
}

/// One step, tried at every node in turn.
#[derive(Clone, Debug)]
struct EachNode {
    step: Step,
    next: usize,
}

impl TypedPass for EachNode {
    fn reset(&mut self) -> TractResult<()> {
        self.next = 0;
        Ok(())
    }

    fn next(
        &mut self,
        session: &mut OptimizerSession,
        model: &TypedModel,
    ) -> TractResult<Option<TypedModelPatch>> {
        for node in model
            .nodes
            .iter()
            .skip(self.next)
            .filter(|node| !node.op_is::<Dummy>())
        {
            let made = attempt(|| match self.step {
                Step::Declutter if loses_an_axis(model, node)? => Ok(None),
                Step::Declutter => node.op.declutter_with_session(session, model, node),
                Step::Codegen => node.op.codegen(model, node),
                Step::Fuse => node.op.fuse(model, node),
            });
            if let Some(patch) = made {
                self.next = node.id + usize::from(patch.dont_apply_twice.is_some());
                return Ok(Some(patch));
            }
        }
        Ok(None)
    }
}

/// Whether a product reads a value that is expanded along an axis which it sums over or finds in no other operand in full:
/// without the expansion it would compute something else.
fn loses_an_axis(model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
    let Some(product) = node.op_as::<EinSum>() else {
        return Ok(false);
    };
    for (slot, outlet) in node.inputs.iter().enumerate() {
        let producer = model.node(outlet.node);
        let (true, Some(source)) = (
            producer.op_is::<MultiBroadcastTo>(),
            producer.inputs.first(),
        ) else {
            continue;
        };
        let (before, after) = (
            &model.outlet_fact(*source)?.shape,
            &model.outlet_fact(*outlet)?.shape,
        );
        if before.rank() != after.rank() {
            return Ok(true);
        }
        for (axis, extent) in after
            .iter()
            .enumerate()
            .filter(|(axis, extent)| before.get(*axis) != Some(*extent))
        {
            let label = product.axes.axis((InOut::In(slot), axis))?;
            let summed = label.outputs.first().is_none_or(|places| places.is_empty());
            let others = label
                .inputs
                .iter()
                .zip(&node.inputs)
                .enumerate()
                .filter(|(other, _)| *other != slot);
            let mut carried = false;
            for (_, (places, outlet)) in others {
                let shape = &model.outlet_fact(*outlet)?.shape;
                carried |= places.iter().any(|place| shape.get(*place) == Some(extent));
            }
            let once = label
                .inputs
                .get(slot)
                .is_some_and(|places| places.len() == 1);
            if summed || !carried || !once {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A pass over the whole model, which ends where it fails.
#[derive(Clone, Debug)]
struct WholeModel {
    pass: Box<dyn TypedPass>,
    /// Whether it changes the model in place and can fail half way.
    direct: bool,
}

impl TypedPass for WholeModel {
    fn reset(&mut self) -> TractResult<()> {
        self.pass.reset()
    }

    fn next(
        &mut self,
        session: &mut OptimizerSession,
        model: &TypedModel,
    ) -> TractResult<Option<TypedModelPatch>> {
        Ok(attempt(|| self.pass.next(session, model)))
    }

    fn run_direct(&mut self, model: &mut TypedModel) -> TractResult<bool> {
        if !self.direct {
            return self.pass.run_direct(model);
        }
        // What a failing pass leaves behind is dropped with the copy; weights are shared.
        let mut copy = model.clone();
        let changed = attempt(|| self.pass.run_direct(&mut copy).map(Some));
        if changed.is_some() {
            *model = copy;
        }
        Ok(changed.unwrap_or(false))
    }
}
