//! `_native.Calls`: calls of one function that `map` has submitted together, each a task, or a few of them one.
//!
//! What `map(chunksize=1)` costs per item is what happens here; Python comes by once for many of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyListMethods, PyType};

use super::future::{Future, Home};
use super::tracking::untrack;
use super::wait::wait_interruptibly;
use super::{codec, numbers};
use crate::ipc::{Form, Payload};
use crate::pool::{Outcome, Shared, Slot};

#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Calls {
    slots: Vec<Arc<Slot>>,
    home: Arc<Home>,
    new_future: NewFuture,
    name: Arc<str>,
    form: Form,
    /// The first task whose outcome nobody has taken.
    next: AtomicUsize,
    /// How long the chunks took that were taken, in nanoseconds.
    ran: AtomicU64,
}

/// What stands in a slot, for whoever takes it.
enum Ready {
    Not,
    /// Taken before.
    Taken,
    Value(Payload),
    Values(Payload, u64),
    /// An error, or the end of the task by other means.
    Odd,
    /// As before, and what follows in order depends on it: calls of this task may have to be made again.
    Failed,
}

/// An outcome that needs Python: where its values belong among the others, the task's index, its future.
type Odd<'py> = (usize, usize, Bound<'py, PyAny>);

impl Calls {
    pub(super) fn new(
        slots: Vec<Arc<Slot>>,
        home: Arc<Home>,
        new_future: NewFuture,
        name: Arc<str>,
        form: Form,
    ) -> Self {
        Self { slots, home, new_future, name, form, next: AtomicUsize::new(0), ran: AtomicU64::new(0) }
    }

    /// `None`: it is gone, and all calls have ended.
    fn pool(&self) -> PyResult<Option<Arc<Shared>>> {
        self.home.pool()
    }

    /// Tasks that nobody has taken the outcome of (among others, where the order does not matter).
    fn left(&self) -> &[Arc<Slot>] {
        &self.slots[self.next.load(Ordering::Relaxed)..]
    }

    /// Tasks whose end is worth waking up for: the first `count` that nobody has taken, or the last one where only the
    /// end of all matters (0). `None`: there is something to take, or to know, already.
    fn worth_waiting_for(&self, count: usize) -> Option<Vec<&Arc<Slot>>> {
        if count == 0 {
            return self.left().iter().rfind(|slot| !slot.is_resolved()).map(|slot| vec![slot]);
        }
        let first: Vec<_> = self.left().iter().filter(|slot| !is_taken(slot)).take(count).collect();
        (!first.is_empty() && first.iter().all(|slot| !slot.is_resolved())).then_some(first)
    }
}

fn nanos(ran: Duration) -> u64 {
    u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX / 2)
}

fn look(slot: &Slot) -> Ready {
    if !slot.is_resolved() {
        return Ready::Not;
    }
    slot.with_outcome(|outcome| match outcome {
        None => Ready::Not,
        Some(Outcome::Released) => Ready::Taken,
        Some(Outcome::Value(payload)) => Ready::Value(payload.clone()),
        Some(Outcome::Values(payload, ran)) => Ready::Values(payload.clone(), nanos(*ran)),
        Some(Outcome::Failed(_)) => Ready::Failed,
        Some(Outcome::Error(_) | Outcome::Described(_) | Outcome::Cancelled) => Ready::Odd,
    })
}

fn is_taken(slot: &Slot) -> bool {
    slot.is_resolved() && slot.with_outcome(|outcome| matches!(outcome, Some(Outcome::Released)))
}

#[pymethods]
impl Calls {
    fn __len__(&self) -> usize {
        self.slots.len()
    }

    /// Values that are there, and what needs Python to become values.
    fn _take<'py>(&self, py: Python<'py>, ordered: bool) -> PyResult<(Bound<'py, PyList>, Vec<Odd<'py>>)> {
        if let Some(pool) = self.pool()? {
            pool.turn();
        }
        let values = PyList::empty(py);
        let mut odd = Vec::new();
        let mut next = self.next.load(Ordering::Relaxed);
        let mut gap = false;
        for (index, slot) in self.slots.iter().enumerate().skip(next) {
            let mut refuse = || -> PyResult<()> {
                odd.push((values.len(), index, self.new_future.attached(py, Arc::clone(slot), &self.home)?));
                Ok(())
            };
            match look(slot) {
                Ready::Not if ordered => break,
                Ready::Not => {
                    gap = true;
                    continue;
                }
                Ready::Taken => {}
                Ready::Value(payload) => {
                    match payload.as_private().and_then(|bytes| codec::decode(py, bytes)) {
                        Some(value) => {
                            values.append(value)?;
                            slot.release();
                        }
                        None => refuse()?,
                    }
                }
                Ready::Values(payload, ran) => {
                    self.ran.fetch_add(ran, Ordering::Relaxed);
                    let list = match payload.as_private() {
                        Some(bytes) => numbers::decode(py, bytes),
                        None => numbers::decode(py, &payload.to_vec()),
                    };
                    match list {
                        Some(list) => {
                            for value in &list {
                                values.append(value)?;
                            }
                            slot.release();
                        }
                        None => refuse()?,
                    }
                }
                Ready::Odd => refuse()?,
                Ready::Failed => {
                    refuse()?;
                    if !gap {
                        next = index + 1;
                    }
                    break;
                }
            }
            if !gap {
                next = index + 1;
            }
        }
        self.next.store(next, Ordering::Relaxed);
        Ok((values, odd))
    }

    /// Whether every task has ended.
    fn _is_resolved(&self) -> PyResult<bool> {
        if !self.left().iter().all(|slot| slot.is_resolved())
            && let Some(pool) = self.pool()?
        {
            pool.turn();
        }
        Ok(self.left().iter().all(|slot| slot.is_resolved()))
    }

    /// Whether every outcome was taken.
    fn _is_taken(&self) -> bool {
        self.left().iter().all(|slot| is_taken(slot))
    }

    /// How long all this took, in nanoseconds: what chunks say; of single calls, by what the function took lately.
    fn _nanos(&self) -> PyResult<Option<u64>> {
        if self.form == Form::Chunk {
            let left = self.left().iter().map(|slot| {
                slot.with_outcome(|outcome| match outcome {
                    Some(Outcome::Values(_, ran)) => nanos(*ran),
                    _ => 0,
                })
            });
            return Ok(Some(self.ran.load(Ordering::Relaxed) + left.sum::<u64>()).filter(|&nanos| nanos > 0));
        }
        let one = self.pool()?.and_then(|pool| pool.usual(&self.name, self.form));
        Ok(one.map(|one| one.saturating_mul(self.slots.len() as u64)))
    }

    /// Bytes of the outcomes that could be taken now.
    fn _ready_bytes(&self) -> usize {
        let size = |slot: &Slot| slot.with_outcome(|outcome| outcome.map_or(0, Outcome::size));
        self.left().iter().filter(|slot| slot.is_resolved()).map(|slot| size(slot)).sum()
    }

    /// Wait until it is worth to look again: until one of the first so many of these calls has ended, or (0) all have.
    /// `False`: the time is over.
    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "the signature that pyo3 calls")]
    fn _wait_any(
        py: Python<'_>,
        calls: Vec<(Bound<'_, Self>, usize)>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let mut slots = Vec::with_capacity(calls.len());
        let mut pool = None;
        for (calls, count) in &calls {
            let calls = calls.get();
            let Some(more) = calls.worth_waiting_for(*count) else { return Ok(true) };
            slots.extend(more.into_iter().cloned());
            pool = calls.pool()?;
        }
        let Some(pool) = pool else { return Ok(true) };
        let deadline = timeout.and_then(Shared::deadline);
        let wait = |slice| pool.wait_first(&slots, 1, slice).then_some(());
        Ok(wait_interruptibly(py, deadline, wait)?.is_some())
    }

    /// What `_wait_any` would wait for, as futures; `None`: it would not.
    fn _worth_waiting_for<'py>(
        &self,
        py: Python<'py>,
        count: usize,
    ) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
        let Some(slots) = self.worth_waiting_for(count) else { return Ok(None) };
        slots
            .into_iter()
            .map(|slot| self.new_future.attached(py, Arc::clone(slot), &self.home))
            .collect::<PyResult<_>>()
            .map(Some)
    }

    /// Take back what no worker has begun; the last first, so that nothing moves up meanwhile.
    fn _cancel(&self) -> PyResult<()> {
        let Some(pool) = self.pool()? else { return Ok(()) };
        for slot in self.left().iter().rev().filter(|slot| !slot.is_resolved()) {
            pool.cancel(slot.id())?;
        }
        Ok(())
    }
}

/// `disttask.Future`, and its `__new__`.
pub(super) struct NewFuture(Py<PyAny>, Py<PyType>);

impl NewFuture {
    pub(super) fn of(future: Bound<'_, PyType>) -> PyResult<Self> {
        Ok(Self(future.getattr(intern!(future.py(), "__new__"))?.unbind(), future.unbind()))
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py), self.1.clone_ref(py))
    }

    /// The future of a task.
    pub(super) fn attached<'py>(
        &self,
        py: Python<'py>,
        slot: Arc<Slot>,
        home: &Arc<Home>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let future = self.0.bind(py).call1((self.1.bind(py),))?;
        let attached = future.cast::<Future>()?;
        attached.get().attach(slot, Arc::clone(home));
        untrack(attached);
        Ok(future)
    }
}
