//! `_native.Pool`.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::functions::Functions;
use super::future::{Future, Home};
use super::memory::new_bytes;
use super::submitter::QueueBound;
use super::wait::{wait_interruptibly, wait_quietly};
use crate::ipc::{Backing, HostFd, MAX_SHARED_FDS, duplicate};
use crate::pool::{Lifetime, Lookup, Piece, PoolConfig, Renewal, RetentionLimits, Shared};
use crate::scheduler::types::{Shutdown, TaskId};
use crate::supervisor::SpawnSpec;

/// How soon a thread that waits for workers to end looks again: they take tens of milliseconds at least.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Pool {
    pub(super) shared: Arc<Shared>,
    pub(super) home: Arc<Home>,
    pub(super) functions: Arc<Functions>,
    pub(super) bound: Option<QueueBound>,
}

/// A pool that Python forgets (Ctrl-C came while its `Executor` was being made) finishes and goes.
impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.shared.shutdown(Shutdown::Drain);
    }
}

/// Copies of the descriptors that workers get: who gave the numbers may close them.
fn shared_fds(numbers: Vec<i32>) -> PyResult<Arc<Vec<HostFd>>> {
    if numbers.len() > MAX_SHARED_FDS {
        let text = format!("initargs hold {} descriptors: at most {MAX_SHARED_FDS}", numbers.len());
        return Err(PyValueError::new_err(text));
    }
    let copies: Result<Vec<_>, _> = numbers.into_iter().map(duplicate).collect();
    Ok(Arc::new(copies.map_err(std::io::Error::from)?))
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (*, workers, executable, args, env, use_pidfd, use_memfd, capture, config, fds, hello, prefix, seed, max_tasks, max_age, max_memory, slow_starts, keep_results, keep_bytes, keep_seconds, arena_bytes, room_seconds, queue_bound=None))]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "keywords only, one call per pool"
    )]
    fn new(
        workers: u32,
        executable: OsString,
        args: Vec<OsString>,
        env: Vec<(OsString, OsString)>,
        use_pidfd: bool,
        use_memfd: bool,
        capture: bool,
        config: Vec<u8>,
        fds: Vec<i32>,
        hello: Vec<u8>,
        prefix: String,
        seed: u64,
        max_tasks: Option<NonZeroU32>,
        max_age: Option<f64>,
        max_memory: Option<u64>,
        slow_starts: bool,
        keep_results: usize,
        keep_bytes: usize,
        keep_seconds: f64,
        arena_bytes: usize,
        room_seconds: f64,
        queue_bound: Option<(usize, bool)>,
    ) -> PyResult<Self> {
        let backing = if use_memfd { Backing::Memfd } else { Backing::File };
        let age = Duration::try_from_secs_f64(keep_seconds).unwrap_or(Duration::MAX);
        let shared = Shared::start(PoolConfig {
            workers,
            spawn: SpawnSpec { executable, args, env, use_pidfd, backing, capture, fds: shared_fds(fds)? },
            config,
            hello,
            prefix,
            seed,
            lifetime: Lifetime {
                tasks: max_tasks,
                age: max_age.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                memory: max_memory,
            },
            slow_starts,
            retention: RetentionLimits { count: keep_results, bytes: keep_bytes, age },
            arena_bytes,
            room_wait: Duration::try_from_secs_f64(room_seconds).unwrap_or(Duration::MAX),
        })?;
        let home = Home::new(&shared);
        let bound = queue_bound.map(|(tasks, waits)| QueueBound { tasks, waits });
        Ok(Self { shared, home, functions: Arc::default(), bound })
    }

    #[getter]
    fn id(&self) -> u64 {
        self.shared.ident().id
    }

    fn shutdown(&self, mode: &str) -> PyResult<()> {
        let mode = match mode {
            "drain" => Shutdown::Drain,
            "cancel" => Shutdown::CancelPending,
            "now" => Shutdown::Now,
            _ => return Err(PyValueError::new_err("mode must be 'drain', 'cancel' or 'now'")),
        };
        Ok(self.shared.shutdown(mode)?)
    }

    fn resize(
        &self,
        workers: NonZeroU32,
        args: Vec<OsString>,
        env: Vec<(OsString, OsString)>,
        config: Vec<u8>,
    ) -> PyResult<()> {
        Ok(self.shared.resize(workers, Renewal { args, env, config })?)
    }

    #[pyo3(signature = (args, env, config, wait))]
    fn restart(
        &self,
        py: Python<'_>,
        args: Vec<OsString>,
        env: Vec<(OsString, OsString)>,
        config: Vec<u8>,
        wait: bool,
    ) -> PyResult<()> {
        let shared = &self.shared;
        let old = shared.restart(Renewal { args, env, config })?;
        if wait {
            wait_interruptibly(py, None, |slice| {
                let left = shared.any_left(&old);
                if left {
                    std::thread::sleep(slice.min(LOOK_AGAIN));
                }
                (!left).then_some(())
            })?;
        }
        Ok(())
    }

    fn terminate(&self) -> PyResult<()> {
        Ok(self.shared.terminate()?)
    }

    #[pyo3(signature = (timeout=None))]
    fn wait_gone(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let shared = &self.shared;
        let deadline = timeout.and_then(Shared::deadline);
        Ok(wait_interruptibly(py, deadline, |slice| shared.wait_gone(slice).then_some(()))?.is_some())
    }

    fn collect(&self, py: Python<'_>) -> PyResult<Option<Vec<u64>>> {
        let shared = &self.shared;
        let batch = wait_interruptibly(py, None, |slice| match shared.collect(slice) {
            Some(batch) if batch.is_empty() => None,
            batch => Some(batch),
        })?;
        Ok(batch.flatten().map(|batch| batch.into_iter().map(|task| task.0).collect()))
    }

    fn wait_output(&self, py: Python<'_>) -> bool {
        let output = &self.home.ident().output;
        wait_quietly(py, |slice| output.wait(slice))
    }

    fn take_output<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(piece) = self.home.ident().output.take() else { return Ok(None) };
        let Piece { task, pid, stream, raw, bytes } = piece;
        let data = new_bytes(py, &bytes)?;
        Ok(Some((task.map(|task| task.0), pid, stream.name(), raw, data).into_pyobject(py)?))
    }

    fn id_text(&self, task: u64) -> String {
        self.shared.id_text(TaskId(task))
    }

    fn has_output(&self) -> bool {
        self.home.ident().output.is_pending()
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.shared.check_owner()?;
        let status = py.detach(|| self.shared.status());
        Ok(pythonize::pythonize(py, &status)?)
    }

    fn lookup(&self, task_id: &str) -> PyResult<(&'static str, Option<Future>)> {
        let Some(task) = self.shared.parse_id(task_id) else { return Ok(("unknown", None)) };
        Ok(match self.shared.lookup(task)? {
            Lookup::Kept(slot) => ("kept", Some(Future::attached(slot, &self.home))),
            Lookup::Evicted => ("evicted", None),
            Lookup::Unknown => ("unknown", None),
        })
    }

    fn retained_finished(&self) -> PyResult<Vec<Future>> {
        let slots = self.shared.retained_finished()?;
        Ok(slots.into_iter().map(|slot| Future::attached(slot, &self.home)).collect())
    }

    fn retained_pending(&self) -> PyResult<Vec<Future>> {
        let slots = self.shared.retained_pending()?;
        Ok(slots.into_iter().map(|slot| Future::attached(slot, &self.home)).collect())
    }

    #[getter]
    fn submitted(&self) -> PyResult<u64> {
        self.shared.check_owner()?;
        Ok(self.shared.submitted())
    }

    #[getter]
    fn queuing(&self) -> usize {
        self.shared.queuing()
    }

    fn stop_from(&self, py: Python<'_>, first: u64) -> PyResult<()> {
        Ok(py.detach(|| self.shared.stop_from(TaskId(first)))?)
    }

    fn forget_functions(&self) {
        self.functions.clear();
    }

    fn pids(&self) -> Vec<i32> {
        self.shared.pids()
    }

    fn is_foreign(&self) -> bool {
        self.shared.is_foreign()
    }
}
