//! The module `disttask._native`. No logic lives here: each method converts, lets go of the GIL, calls, wraps.
//! The stub `python/disttask/_native.pyi` documents what Python sees.

mod buffer;
mod calls;
mod chunk;
mod codec;
mod defined;
mod error;
mod functions;
mod future;
mod guarded;
mod handlers;
mod helpers;
mod inline;
mod input;
mod memory;
mod nested;
mod numbers;
mod pickling;
mod pool;
mod reply;
mod server;
mod submitter;
mod tracking;
mod wait;
mod worker;

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

/// The native half of disttask. Use the names that the package `disttask` exports instead.
#[pymodule(gil_used = true)]
pub mod _native {
    use super::{PyModule, PyModuleMethods, PyResult, Python};
    use pyo3::Bound;

    #[pymodule_export]
    use super::buffer::mentions;
    #[pymodule_export]
    use super::calls::Calls;
    #[pymodule_export]
    use super::error::{after_shutdown, ending};
    #[pymodule_export]
    use super::functions::Function;
    #[pymodule_export]
    use super::future::Future;
    #[pymodule_export]
    use super::handlers::raised_by_handler;
    #[pymodule_export]
    use super::input::Input;
    #[pymodule_export]
    use super::nested::{Nest, NestedTask};
    #[pymodule_export]
    use super::pickling::Pickling;
    #[pymodule_export]
    use super::pool::Pool;
    #[pymodule_export]
    use super::server::{HttpApi, HttpServer, Pieces};
    #[pymodule_export]
    use super::submitter::Submitter;
    #[pymodule_export]
    use super::tracking::track;
    #[pymodule_export]
    use super::wait::finalizing;
    #[pymodule_export]
    use super::worker::Worker;
    #[pymodule_export]
    use super::{
        after_fork_in_child, after_fork_in_parent, before_fork, soft_signal, stack_signal, usable_cpus,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let _: Python<'_> = module.py();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("ABI3", cfg!(feature = "abi3"))?;
        module.add(
            "HARDENING",
            crate::api::HARDENING
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect::<std::collections::BTreeMap<_, _>>(),
        )?;
        module.add("MAX_WORKERS", crate::pool::MAX_WORKERS)
    }
}

#[pyfunction]
fn usable_cpus() -> usize {
    crate::supervisor::usable_cpus()
}

#[pyfunction]
fn stack_signal() -> i32 {
    crate::ipc::stack_signal().as_raw()
}

#[pyfunction]
fn soft_signal() -> i32 {
    crate::ipc::soft_signal()
}

#[pyfunction]
fn before_fork(py: Python<'_>) -> PyResult<()> {
    // Without the GIL only where there is something to do: it may take milliseconds to have it back.
    if !crate::ipc::before_fork() || py.detach(crate::ipc::make_private) {
        return Ok(());
    }
    let problem =
        "no memory for copies of large arrays: the process that is forked now shares some with this one";
    Err(PyMemoryError::new_err(problem))
}

#[pyfunction]
fn after_fork_in_parent() {
    crate::ipc::after_fork_in_parent();
}

#[pyfunction]
fn after_fork_in_child() {
    crate::ipc::after_fork_in_child();
}
