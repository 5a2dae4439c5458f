//! One binary for all integration tests: each links the whole runtime.

mod absences;
mod branches;
mod corpus;
mod dead;
mod directions;
mod docs;
mod engines;
mod exactness;
mod files;
mod fuzz;
mod latency;
mod operators;
mod originals;
mod random_graphs;
mod reasons;
mod rooms;
mod structures;
mod vocabulary;
mod zoo;
