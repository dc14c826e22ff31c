//! disttask: Python callables on supervised worker processes.
//!
//! This file is the table of contents. ARCHITECTURE.md is the map; `tests/layers.rs` holds it true.

pub mod api;
#[cfg(feature = "python")]
pub mod bindings;
pub mod ipc;
pub mod pool;
pub mod scheduler;
#[cfg(test)]
mod simulation;
pub mod supervisor;
pub mod worker;

#[cfg(feature = "python")]
pub use bindings::_native;
