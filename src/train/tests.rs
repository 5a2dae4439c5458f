//! Networks against the runtime, gradients against finite differences, and training that learns.
