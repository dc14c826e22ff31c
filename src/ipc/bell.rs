//! Waking the other side when it sleeps, and costing nothing when it does not.
//!
//! A bell is a word in shared memory. Who wants to be woken says so in it, looks once more whether there is anything to
//! do, and sleeps. Who has made something to do looks at the word *after* that. One of the two sees the other's mark:
//! that is what the sequentially consistent fences are for.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::HostFd;
use super::atomic::Word;
use super::shm::{Backing, Map, create};

const NOBODY: u32 = 0;
/// A thread sleeps on the word itself.
pub(super) const SLEEPER: u32 = 1;
/// The host's driver sleeps in epoll and wants to hear of every result.
const DRIVER: u32 = 2;
/// The sleeper was woken and has not looked since: whoever has more for it need not ring anybody else.
const COMING: u32 = 4;

const BELL_BYTES: usize = 4096;

/// Say that we are about to sleep. Look for work after this, and before [`sleep`].
pub(super) fn announce(word: &impl Word) {
    if word.fetch_or(SLEEPER, Ordering::SeqCst) & COMING != 0 {
        word.fetch_and(!COMING, Ordering::SeqCst); // the look comes after this
    }
    word.fence(Ordering::SeqCst);
}

/// Sleep until woken, for `timeout` at most; wake-ups for no reason are possible.
pub(super) fn sleep(word: &impl Word, timeout: Option<Duration>) {
    let seen = word.load(Ordering::SeqCst);
    if seen & SLEEPER == 0 {
        return;
    }
    word.sleep_on(seen, timeout);
}

/// We are awake. Whether somebody has rung since we said that we sleep: he believes that we come and look after this.
pub(super) fn retire(word: &impl Word) -> bool {
    let rung = word.fetch_and(!(SLEEPER | COMING), Ordering::SeqCst) & SLEEPER == 0;
    word.fence(Ordering::SeqCst);
    rung
}

/// Sleep again and again until `look`, which comes after each announcement and before each sleep, says that there is no need;
/// else it says for how long at most. Whether somebody has rung since the last announcement, and believes that we come.
pub(super) fn sleep_while(word: &impl Word, mut look: impl FnMut() -> Option<Duration>) -> bool {
    loop {
        announce(word);
        let Some(timeout) = look() else { break };
        sleep(word, Some(timeout));
    }
    retire(word)
}

/// Wake the sleeper, if there is one. Call it after the work is visible. Whether it comes and looks, woken by this or before.
pub(super) fn wake(word: &impl Word) -> bool {
    word.fence(Ordering::SeqCst);
    let mut seen = word.load(Ordering::Relaxed);
    while seen & SLEEPER != 0 {
        // In one step: a sleeper that gets up by itself in between would leave a promise that nobody keeps.
        match word.compare_exchange(seen, seen & !SLEEPER | COMING, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => {
                word.wake_one();
                return true;
            }
            Err(now) => seen = now,
        }
    }
    seen & COMING != 0
}

/// There is a result: wake who sleeps, or ring the driver if it wants to hear of every result.
pub(super) fn tell(word: &impl Word, ring_driver: impl FnOnce()) {
    word.fence(Ordering::SeqCst);
    if word.load(Ordering::Relaxed) != NOBODY
        && !wake(word)
        && word.fetch_and(!DRIVER, Ordering::SeqCst) & DRIVER != 0
    {
        ring_driver();
    }
}

/// Have every result ring the driver. Look for results after this.
pub(super) fn arm(word: &impl Word) {
    if word.load(Ordering::Relaxed) & DRIVER == 0 {
        word.fetch_or(DRIVER, Ordering::SeqCst);
    }
    word.fence(Ordering::SeqCst);
}

/// The host's side of the one bell of a pool that all workers ring.
#[derive(Debug)]
pub struct HostBell {
    map: Map,
    file: HostFd,
}

impl HostBell {
    /// A new one.
    pub fn new(backing: Backing) -> rustix::io::Result<Self> {
        let fd = create("disttask-bell", BELL_BYTES, backing)?;
        Ok(Self { map: Map::for_host(&fd, BELL_BYTES)?, file: HostFd::new(fd) })
    }

    pub(super) fn file(&self) -> &HostFd {
        &self.file
    }

    fn word(&self) -> &AtomicU32 {
        self.map.u32(0)
    }

    /// Sleep until `look` finds what it looks for (`None`); it says how long to sleep until the next look, at most.
    /// Whether a worker has rung since the last look began, and believes that this thread comes.
    pub fn sleep_while(&self, look: impl FnMut() -> Option<Duration>) -> bool {
        sleep_while(self.word(), look)
    }

    /// Wake the thread that sleeps, if one does.
    pub fn wake(&self) {
        wake(self.word());
    }

    /// A worker has died, perhaps between its promise to wake the thread that sleeps and the call that does.
    pub fn keep_promise(&self) {
        self.word().wake_one();
    }

    /// Have every result ring the driver, or not any more. Look for results after switching it on.
    pub fn arm_driver(&self, on: bool) {
        if on {
            arm(self.word());
        } else if self.word().load(Ordering::Relaxed) & DRIVER != 0 {
            self.word().fetch_and(!DRIVER, Ordering::SeqCst);
        }
    }

    /// Whether it is on.
    pub fn is_driver_armed(&self) -> bool {
        self.word().load(Ordering::SeqCst) & DRIVER != 0
    }
}

/// A worker's side of it.
#[derive(Debug)]
pub(super) struct WorkerBell {
    map: Map,
    driver: OwnedFd,
}

impl WorkerBell {
    /// From the descriptors that came with the greeting.
    pub(super) fn new(file: impl AsFd, driver: OwnedFd) -> rustix::io::Result<Self> {
        Ok(Self { map: Map::new(file, BELL_BYTES)?, driver })
    }

    /// There is a result: tell who wants to know.
    pub(super) fn tell(&self) {
        tell(self.map.u32(0), || self.ring_driver());
    }

    /// There are results, and this worker waits for something from the host: somebody has to come.
    pub(super) fn call(&self) {
        if !wake(self.map.u32(0)) {
            self.ring_driver();
        }
    }

    fn ring_driver(&self) {
        // EAGAIN: the counter is full, so it has been rung. Other errors: the host is going.
        let _ = rustix::io::write(&self.driver, &1u64.to_ne_bytes());
    }
}
