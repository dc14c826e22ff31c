//! The native half of a future: where a finished task's bytes land, with no interpreter involved.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::failure::Failure;
use crate::ipc::{Input, Payload};
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
            Self::Failed(failure) => failure.size(),
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
    /// See [`Self::is_killed_by_cancel`].
    kill_on_cancel: bool,
    /// See [`Self::observe`].
    observed: AtomicU8,
    /// Set after the outcome: whoever looks at it needs no lock.
    done: AtomicBool,
    place: Mutex<Place>,
    resolved: Condvar,
}

/// What is known of a task's end, and who has it.
#[derive(Debug, Default)]
struct Place {
    outcome: Option<Outcome>,
    /// The value as other tasks are given it, while one of them is left that needs it.
    input: Weak<Input>,
    /// Others were given it, or will be.
    shared: bool,
    /// The owner may write to the value where it stands.
    lent: bool,
}

impl Slot {
    pub(super) fn new(id: TaskId, retained: bool, kill_on_cancel: bool) -> Arc<Self> {
        Arc::new(Self {
            id,
            retained,
            kill_on_cancel,
            observed: AtomicU8::new(UNOBSERVED),
            done: AtomicBool::new(false),
            place: Mutex::default(),
            resolved: Condvar::new(),
        })
    }

    /// A slot with no task behind it, for a future whose outcome its owner brings along.
    pub fn detached() -> Arc<Self> {
        let slot = Self::new(TaskId(0), false, false);
        slot.place.lock().outcome = Some(Outcome::Released);
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
        let place = self.place.lock();
        let first = if place.outcome.is_some() { SILENT } else { ANNOUNCED };
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
        let mut place = self.place.lock();
        assert!(place.outcome.is_none(), "{:?} is resolved twice", self.id);
        if let (Outcome::Value(payload), Some(input)) = (&outcome, place.input.upgrade()) {
            input.set(payload.clone());
        }
        place.outcome = Some(outcome);
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
        look(self.place.lock().outcome.as_ref())
    }

    /// Whether its resolution was announced to the collector.
    pub fn is_announced(&self) -> bool {
        self.observe().0
    }

    /// The outcome, if there is one.
    pub fn outcome(&self) -> Option<Outcome> {
        self.place.lock().outcome.clone()
    }

    /// The outcome, to be loaded, and whether a value must be copied because others look at it, too.
    pub fn lend(&self) -> Option<(Outcome, bool)> {
        let mut place = self.place.lock();
        let outcome = place.outcome.clone()?;
        let copied = self.retained || place.shared;
        place.lent = !copied;
        Some((outcome, copied))
    }

    /// The value as other tasks are to be given it, also if it is not there yet. `None`: its owner has it.
    pub fn share(&self) -> Option<Arc<Input>> {
        let mut place = self.place.lock();
        if let Some(input) = place.input.upgrade() {
            return Some(input);
        }
        let input = Input::awaited();
        match &place.outcome {
            Some(Outcome::Value(payload)) if !place.lent => input.set(payload.clone()),
            Some(Outcome::Value(_) | Outcome::Values(..) | Outcome::Described(_) | Outcome::Released) => {
                return None;
            }
            None | Some(Outcome::Error(_) | Outcome::Failed(_) | Outcome::Cancelled) => {}
        }
        place.input = Arc::downgrade(&input);
        place.shared = true;
        Some(input)
    }

    /// Whether its submitter wants `cancel` to stop it where it runs.
    pub fn is_killed_by_cancel(&self) -> bool {
        self.kill_on_cancel
    }

    /// Whether the result store keeps it as well.
    pub fn is_retained(&self) -> bool {
        self.retained
    }

    /// How it ended, if it has.
    pub fn kind(&self) -> Option<&'static str> {
        self.place.lock().outcome.as_ref().map(Outcome::kind)
    }

    /// Wait for an outcome, at most so long.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut place = self.place.lock();
        if place.outcome.is_none() {
            self.resolved.wait_for(&mut place, timeout);
        }
        place.outcome.is_some()
    }

    /// The owner has taken what it wanted: drop the bytes, unless the result store keeps them.
    pub fn release(&self) {
        if self.retained {
            return;
        }
        let mut place = self.place.lock();
        let place = &mut *place;
        match &place.outcome {
            None => {}
            // Whoever needs the value is told of this.
            Some(Outcome::Error(_) | Outcome::Failed(_) | Outcome::Cancelled) if place.shared => {}
            Some(_) => place.outcome = Some(Outcome::Released),
        }
    }
}
