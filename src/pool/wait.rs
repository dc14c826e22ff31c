//! Waiting for a result without a hop to another thread.
//!
//! A waiting thread turns the crank itself. It looks for answers for a short while, since with short tasks the next one is
//! a few microseconds away, and then sleeps on the bell that workers ring. Only one thread can sleep there, the *leader*;
//! others, the *followers*, wait until somebody brings their result: the leader, and when it has left, the driver.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use super::slot::Slot;

/// The longest look for an answer before sleeping: about what it costs to go to sleep and be woken.
pub(super) const MAX_SPIN: Duration = Duration::from_micros(40);

/// The shortest: it is worth so much to notice when looking begins to pay.
const MIN_SPIN: Duration = Duration::from_nanos(500);

/// Of that, with the GIL held: every other Python thread stands still meanwhile.
pub const SPIN_WITH_GIL: Duration = Duration::from_micros(10);

/// A task of this length is worth looking for: one that has just begun is done before a thread would be asleep and awake again.
const SHORT: Duration = MAX_SPIN.saturating_mul(2);

/// How often a thread that waits for one of several results, while another thread brings them, looks for the others.
const FOLLOWER_LOOKS: Duration = Duration::from_millis(1);

/// How long a first result is waited with, for others to come along, by whoever has work queued for longer than that. It is
/// some chunks of `map`; taking them together costs half as much, and the workers keep the processors meanwhile.
const PATIENCE: Duration = Duration::from_millis(2);

/// Looks at the rings between two looks at the clock.
const LOOKS_PER_CLOCK: usize = 8;

/// Of which results a follower hears at once.
#[derive(Clone, Copy)]
pub(super) enum Hope<'a> {
    /// This is all that it waits for.
    One(&'a Slot),
    /// For this, among others.
    Some(&'a Slot),
    /// For room in the queue: some result.
    Room,
}

impl Shared {
    /// Turn the crank: take what workers have answered, and do what follows. Whether there was anything.
    pub fn turn(&self) -> bool {
        self.core.lock().turn()
    }

    /// Look for this result for a short while. Whether it is there.
    pub fn spin(&self, slot: &Slot, limit: Duration) -> bool {
        slot.is_resolved() || self.spin_until(&|| slot.is_resolved(), limit)
    }

    /// Look for answers for a short while, until this holds. Whether it does.
    pub(super) fn spin_until(&self, holds: &impl Fn() -> bool, limit: Duration) -> bool {
        let worth = Duration::from_nanos(self.spin_nanos.load(Ordering::Relaxed)).max(MIN_SPIN);
        let limit = limit.min(worth);
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS_PER_CLOCK {
                self.turn();
                if holds() {
                    self.note_short_wait();
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= limit {
                return false;
            }
        }
    }

    /// Looking has paid, or would have. Where tasks are long that was chance: beside busy workers it costs them the processor.
    fn note_short_wait(&self) {
        // No lock for each of a row of short waits.
        let is_set = self.spin_nanos.load(Ordering::Relaxed) == MAX_SPIN.as_nanos() as u64;
        if !is_set && self.core.lock().ran <= SHORT {
            self.set_spin(MAX_SPIN);
        }
    }

    fn set_spin(&self, spin: Duration) {
        let nanos = spin.as_nanos() as u64;
        if self.spin_nanos.load(Ordering::Relaxed) != nanos {
            self.spin_nanos.store(nanos, Ordering::Relaxed);
        }
    }

    /// Wait for this result, at most so long. Whether it is there.
    pub fn wait(&self, slot: &Slot, timeout: Duration) -> bool {
        if self.spin(slot, MAX_SPIN.min(timeout)) {
            return true;
        }
        self.sleep_until(&|| slot.is_resolved(), Hope::One(slot), timeout)
    }

    /// Wait for the first of these results, or for `count` of them, at most so long. Whether they are there. Where that is
    /// several, the first alone is waited with for a moment.
    pub fn wait_first(&self, slots: &[Arc<Slot>], count: usize, timeout: Duration) -> bool {
        let Some(first) = slots.first() else { return true };
        let start = Instant::now();
        let patience = if count > 1 { PATIENCE } else { Duration::ZERO };
        let enough = || {
            first.is_resolved() && start.elapsed() >= patience
                || slots.iter().filter(|slot| slot.is_resolved()).count() >= count
        };
        loop {
            let waited = start.elapsed();
            let slice = patience.checked_sub(waited).filter(|left| !left.is_zero()).unwrap_or(Duration::MAX);
            let hope = if slots.len() == 1 { Hope::One(first) } else { Hope::Some(first) };
            if self.sleep_until(&enough, hope, slice.min(timeout.saturating_sub(waited))) {
                return true;
            }
            if start.elapsed() >= timeout {
                return first.is_resolved();
            }
        }
    }

    /// Wait until something holds of results, at most so long. Whether it holds.
    pub(super) fn sleep_until(&self, holds: &dyn Fn() -> bool, hope: Hope<'_>, timeout: Duration) -> bool {
        let start = Instant::now();
        while !holds() {
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return false;
            }
            if self.leader.swap(true, Ordering::SeqCst) {
                self.follow(hope, left);
            } else {
                self.lead(holds, left);
            }
        }
        if start.elapsed() < 2 * MAX_SPIN {
            self.note_short_wait(); // a little longer, and there would have been no need to sleep
        } else {
            let worth = self.spin_nanos.load(Ordering::Relaxed);
            self.set_spin(MIN_SPIN.max(Duration::from_nanos(worth / 2)));
        }
        true
    }

    /// Sleep on the bell, and bring everybody's results, until ours are among them.
    fn lead(&self, holds: &dyn Fn() -> bool, timeout: Duration) {
        let start = Instant::now();
        let rung = self.bell.sleep_while(|| {
            // Results that came before we said that we sleep ring for nobody: look once more.
            self.core.lock().turn_as_leader();
            let left = timeout.saturating_sub(start.elapsed());
            (!holds() && !left.is_zero()).then_some(left)
        });
        self.leader.store(false, Ordering::SeqCst);
        if rung {
            self.turn(); // whoever rang has told nobody else
        }
        if self.attention.load(Ordering::SeqCst) > 0 {
            self.arm_driver();
        }
    }

    /// Let the leader bring our result, or the driver.
    fn follow(&self, hope: Hope<'_>, timeout: Duration) {
        self.attend();
        if self.leader.load(Ordering::SeqCst) {
            match hope {
                Hope::One(slot) => {
                    slot.wait(timeout);
                }
                Hope::Some(slot) if !slot.is_resolved() => {
                    slot.wait(timeout.min(FOLLOWER_LOOKS));
                }
                Hope::Some(_) | Hope::Room => std::thread::sleep(timeout.min(FOLLOWER_LOOKS)),
            }
        }
        self.attention.fetch_sub(1, Ordering::SeqCst);
    }

    /// From here on somebody wants to hear of results without looking for them. Whoever ends it counts `attention` down.
    pub(super) fn attend(&self) {
        if self.attention.fetch_add(1, Ordering::SeqCst) <= 0 {
            self.arm_driver();
        }
    }

    /// Have results ring the driver, and have it look for those that came before that.
    fn arm_driver(&self) {
        if !self.bell.is_driver_armed() {
            self.bell.arm_driver(true);
            self.waker.ring();
        }
    }

    /// See [`Slot::observe`]; from then on the driver hears of results at once.
    pub fn observe(&self, slot: &Slot) -> bool {
        let (announced, first) = slot.observe();
        if first {
            self.attend();
        }
        announced
    }
}
