//! disttask: Python callables on supervised worker processes.
//!
//! This file is the table of contents; ARCHITECTURE.md is the map, `tests/layers.rs` holds it.

pub mod scheduler;

#[cfg(test)]
mod simulation;
