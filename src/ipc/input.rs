//! What is given to tasks besides their arguments: the value of another task, or an object that was put into the pool once,
//! for many tasks. A task's pickle names it by key; each worker is given it once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::payload::Payload;

/// Numbers inputs, for all pools of this process, from 1.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// Kept for as long as somebody may need it: a dependant, a future's owner who has not loaded it, whoever has put it.
#[derive(Debug)]
pub struct Input {
    key: u64,
    /// The pickle, as soon as it is there.
    value: OnceLock<Payload>,
    constant: bool,
}

impl Input {
    /// The value of a task that may not have ended.
    pub fn awaited() -> Arc<Self> {
        let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { key, value: OnceLock::new(), constant: false })
    }

    /// An object that is here. `constant`: no task can change it, so a worker may give the same object to several.
    pub fn of(value: Payload, constant: bool) -> Arc<Self> {
        let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { key, value: OnceLock::from(value), constant })
    }

    /// What pickles call it.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Its pickle, if it is there.
    pub fn value(&self) -> Option<&Payload> {
        self.value.get()
    }

    /// Here it is.
    pub fn set(&self, value: Payload) {
        let _ = self.value.set(value);
    }

    pub(super) fn is_constant(&self) -> bool {
        self.constant
    }
}
