//! Something that a forked child finds as new.
//!
//! The child has one thread. What another thread of its parent was at in the moment of the fork stays half done in it for
//! ever, and a lock that such a thread held stays locked. So the child leaves its parent's things alone, whatever state
//! they are in, and makes its own when it first needs them.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::fork_generation;

/// A value that each process has for itself. Locks in it should be the standard library's: others keep tables of who
/// sleeps, which have locks of their own.
pub(super) struct PerProcess<T>(AtomicPtr<Made<T>>);

struct Made<T> {
    generation: u32,
    value: T,
}

impl<T: Default> PerProcess<T> {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn get(&self) -> &T {
        let found = self.0.load(Ordering::Acquire);
        // SAFETY: null, or a box that `renewed` has made, which is freed by `drop` at the earliest.
        match unsafe { found.as_ref() } {
            Some(made) if made.generation == fork_generation() => &made.value,
            _ => self.renewed(found),
        }
    }

    /// What stands there is not of this process. It stays in memory: nobody can tell whether it is whole.
    #[cold]
    fn renewed(&self, found: *mut Made<T>) -> &T {
        let new = Box::into_raw(Box::new(Made { generation: fork_generation(), value: T::default() }));
        match self.0.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: as above.
            Ok(_) => unsafe { &(*new).value },
            Err(others) => {
                // SAFETY: nobody else has seen `new`. The other one is of a thread of this process, and so as new.
                unsafe {
                    drop(Box::from_raw(new));
                    &(*others).value
                }
            }
        }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let found = *self.0.get_mut();
        // SAFETY: as above, and nobody borrows from it any more.
        if unsafe { found.as_ref() }.is_some_and(|made| made.generation == fork_generation()) {
            // SAFETY: likewise; it was made by a box.
            drop(unsafe { Box::from_raw(found) });
        }
    }
}

impl<T> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerProcess")
    }
}

// SAFETY: it is a box of a `T`, from which threads only borrow.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for PerProcess<T> {}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn threads_that_come_first_together_get_the_same() {
        let shared = PerProcess::<Mutex<Vec<usize>>>::new();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let shared = &shared;
                scope.spawn(move || shared.get().lock().expect("nobody panics").push(number));
            }
        });
        assert_eq!(shared.get().lock().expect("nobody panics").len(), 8);
    }
}
