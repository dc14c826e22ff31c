//! Forks, and arrays that Python looks at where they stand in the other side's arena.
//!
//! A forked child would share their pages: each would see what the other writes, and the child also what is put there
//! once its parent has let go of the array. So a process that is about to fork first makes such pages its own, at the
//! addresses that they have, and from then on they are as all other memory: the kernel copies them when one of the two
//! writes. That is done once for each array, however many children follow. It keeps its lease, for its place in the
//! arena has no other address here, until it goes.
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::foreign::Foreign;
use super::per_process::PerProcess;

/// Forks under way in this process. What Python is given meanwhile is made private at once.
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// Numbers payloads that Python looks at.
static NEXT: AtomicU64 = AtomicU64::new(0);

static EXPOSED: PerProcess<Exposed> = PerProcess::new();

#[derive(Default)]
struct Exposed {
    /// Those that stand in shared pages.
    shared: Mutex<HashMap<u64, Weak<Foreign>>>,
    /// Held while pages are made private: whoever forks waits for the end of that, even if another thread does it.
    turning: Mutex<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Python is about to be given its address. The number is for [`withdraw`].
pub(super) fn expose(payload: &Arc<Foreign>) -> u64 {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    locked(&EXPOSED.get().shared).insert(number, Arc::downgrade(payload));
    // Either this thread sees that another one forks, or that one finds what was put in here.
    if FORKING.load(Ordering::SeqCst) > 0 {
        make_private();
    }
    number
}

/// Nobody here looks at it any more.
pub(super) fn withdraw(number: u64) {
    locked(&EXPOSED.get().shared).remove(&number);
}

/// This thread is about to fork. [`after_fork_in_parent`] comes, whether there is a child or not. Whether
/// [`make_private`] has to be called first.
pub fn before_fork() -> bool {
    FORKING.fetch_add(1, Ordering::SeqCst);
    let exposed = EXPOSED.get();
    exposed.turning.try_lock().is_err() || !locked(&exposed.shared).is_empty()
}

/// Have all arrays in memory of their own. `false`: there was none for some, which the child will share. Takes some
/// seconds for some gigabytes.
pub fn make_private() -> bool {
    let exposed = EXPOSED.get();
    let _turning = locked(&exposed.turning);
    let found = std::mem::take(&mut *locked(&exposed.shared));
    let mut all = true;
    for (number, payload) in found {
        if payload.upgrade().is_some_and(|payload| !payload.make_private()) {
            locked(&exposed.shared).insert(number, payload); // the next fork tries again
            all = false;
        }
    }
    all
}

/// That is over.
pub fn after_fork_in_parent() {
    // An embedder may call the hooks of only one side.
    let _ = FORKING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |forks| forks.checked_sub(1));
}

pub(super) fn after_fork_in_child() {
    FORKING.store(0, Ordering::SeqCst);
}
