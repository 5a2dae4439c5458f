//! Activations that tract lacks.

use super::rule::LoweringRule;

pub(super) const RULES: &[LoweringRule] = &[LoweringRule::text("", "SwiGLU", SWIGLU)];

const SWIGLU: &str = "SwiGLU <alpha: float = 1.0> (gate, value) => (y) {
    factor = Constant <value_float = @alpha> ()
    scaled = Mul (gate, factor)
    open = Sigmoid (scaled)
    opened = Mul (gate, open)
    y = Mul (opened, value)
}";
