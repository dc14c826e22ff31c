//! The native half of a future: where a finished task's bytes land, with no interpreter involved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::failure::Failure;
use crate::ipc::Payload;
use crate::scheduler::types::TaskId;

/// How a task ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It returned: the pickled value.
    Value(Payload),
    /// It was a chunk of `map`: this became of each item, and so long it took.
    Values(Payload, Duration),
    /// It returned: the value with a description that needs no unpickling (see `pool::answer`).
    Described(Payload),
    /// It raised: the pickled description of the exception (`disttask._pickling` knows the format).
    Error(Payload),
    /// It ended without an answer of its own.
    Failed(Arc<Failure>),
    /// It was cancelled before it ran.
    Cancelled,
    /// The future's owner has loaded the value and asked for the bytes to be dropped.
    Released,
}

impl Outcome {
    /// Its name, as the Python side tells outcomes apart.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Value(_) | Self::Described(_) => "value",
            Self::Values(..) => "values",
            Self::Error(_) => "error",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
            Self::Released => "released",
        }
    }

    /// Bytes that it keeps in memory, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Value(bytes) | Self::Values(bytes, _) | Self::Described(bytes) | Self::Error(bytes) => {
                bytes.len()
            }
            Self::Failed(failure) => failure.stderr.len(),
            Self::Cancelled | Self::Released => 0,
        }
    }
}

/// Nobody looks.
const UNOBSERVED: u8 = 0;
/// Somebody looked before it was resolved: the resolution is announced.
const ANNOUNCED: u8 = 1;
/// It was resolved before somebody looked: there is nothing to announce.
const SILENT: u8 = 2;

/// One per submitted task; shared by the pool, until the task is resolved, and the future.
#[derive(Debug)]
pub struct Slot {
    id: TaskId,
    /// Kept by the result store as well, which must find the bytes whatever the future does.
    retained: bool,
    /// See [`Self::observe`].
    observed: AtomicU8,
    /// Set after the outcome: whoever looks at it needs no lock.
    done: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
    resolved: Condvar,
}

impl Slot {
    pub(super) fn new(id: TaskId, retained: bool) -> Arc<Self> {
        Arc::new(Self {
            id,
            retained,
            observed: AtomicU8::new(UNOBSERVED),
            done: AtomicBool::new(false),
            outcome: Mutex::new(None),
            resolved: Condvar::new(),
        })
    }

    /// A slot with no task behind it, for a future whose outcome its owner brings along.
    pub fn detached() -> Arc<Self> {
        let slot = Self::new(TaskId(0), false);
        *slot.outcome.lock() = Some(Outcome::Released);
        slot.done.store(true, Ordering::Release);
        slot
    }

    /// The task.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// From now on somebody looks at the future in ways that only Python can serve (callbacks, waiters). Returns
    /// whether its resolution is announced to the collector: not if it was resolved before anybody looked. Every
    /// caller gets the same answer; the second value is `true` for the first who is told so.
    pub(super) fn observe(&self) -> (bool, bool) {
        let outcome = self.outcome.lock();
        let first = if outcome.is_some() { SILENT } else { ANNOUNCED };
        let seen = self.observed.compare_exchange(UNOBSERVED, first, Ordering::AcqRel, Ordering::Acquire);
        let announced = seen.err().unwrap_or(first) == ANNOUNCED;
        (announced, announced && seen.is_ok())
    }

    /// Whether [`Self::observe`] was called.
    pub fn is_observed(&self) -> bool {
        self.observed.load(Ordering::Acquire) != UNOBSERVED
    }

    /// Set the outcome, once. Returns whether it must be announced.
    pub(super) fn resolve(&self, outcome: Outcome) -> bool {
        let mut place = self.outcome.lock();
        assert!(place.is_none(), "{:?} is resolved twice", self.id);
        *place = Some(outcome);
        self.done.store(true, Ordering::Release);
        self.resolved.notify_all();
        self.observed.load(Ordering::Acquire) == ANNOUNCED
    }

    /// Whether there is an outcome.
    pub fn is_resolved(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Look at the outcome where it stands. The lock is held meanwhile: `look` must not run anybody's code.
    pub fn with_outcome<T>(&self, look: impl FnOnce(Option<&Outcome>) -> T) -> T {
        look(self.outcome.lock().as_ref())
    }

    /// Whether its resolution was announced to the collector.
    pub fn is_announced(&self) -> bool {
        self.observe().0
    }

    /// The outcome, if there is one.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.lock().clone()
    }

    /// Whether the result store keeps it as well.
    pub fn is_retained(&self) -> bool {
        self.retained
    }

    /// How it ended, if it has.
    pub fn kind(&self) -> Option<&'static str> {
        self.outcome.lock().as_ref().map(Outcome::kind)
    }

    /// Wait for an outcome, at most so long.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut outcome = self.outcome.lock();
        if outcome.is_none() {
            self.resolved.wait_for(&mut outcome, timeout);
        }
        outcome.is_some()
    }

    /// The owner has taken what it wanted: drop the bytes, unless the result store keeps them.
    pub fn release(&self) {
        if self.retained {
            return;
        }
        let mut place = self.outcome.lock();
        if place.is_some() {
            *place = Some(Outcome::Released);
        }
    }
}
