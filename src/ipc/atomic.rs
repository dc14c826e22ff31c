//! What the protocol of lanes and bells needs of memory that two processes share.
//!
//! Normally that is a [`Map`] and the standard library's atomics. The protocol is generic over it so that the very same
//! code also runs over a model checker's memory (`protocol_check`), which tries the orders in which two sides may come.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use rustix::thread::futex;

use super::lane::RING_BYTES;
use super::shm::Map;

/// A 64-bit number: a position in a ring, or the state of a frame.
pub(super) trait Counter {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn compare_exchange(&self, from: u64, to: u64, done: Ordering, not: Ordering) -> Result<u64, u64>;
}

/// A 32-bit number, upon which a thread may sleep.
pub(super) trait Word {
    fn load(&self, order: Ordering) -> u32;
    fn store(&self, value: u32, order: Ordering);
    fn fetch_or(&self, bits: u32, order: Ordering) -> u32;
    fn fetch_and(&self, bits: u32, order: Ordering) -> u32;
    fn compare_exchange(&self, from: u32, to: u32, done: Ordering, not: Ordering) -> Result<u32, u32>;
    /// Of this side's accesses to all of the memory.
    fn fence(&self, order: Ordering);
    /// Sleep if it still is `seen`, until [`Self::wake_one`], for so long at most, or for no reason.
    fn sleep_on(&self, seen: u32, timeout: Option<Duration>);
    fn wake_one(&self);
}

/// Memory with room for a lane.
pub(super) trait Memory {
    /// Of each ring; a power of two.
    const RING_BYTES: u64;
    type Counter: Counter;
    type Word: Word;

    fn len(&self) -> usize;
    fn u64(&self, at: usize) -> &Self::Counter;
    fn u32(&self, at: usize) -> &Self::Word;
    fn write(&self, at: usize, bytes: &[u8]);
    fn read(&self, at: usize, into: &mut [u8]);
    fn append_to(&self, at: usize, bytes: usize, vector: &mut Vec<u8>);
}

impl Counter for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    #[inline]
    fn compare_exchange(&self, from: u64, to: u64, done: Ordering, not: Ordering) -> Result<u64, u64> {
        self.compare_exchange(from, to, done, not)
    }
}

impl Word for AtomicU32 {
    #[inline]
    fn load(&self, order: Ordering) -> u32 {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: u32, order: Ordering) {
        self.store(value, order);
    }

    #[inline]
    fn fetch_or(&self, bits: u32, order: Ordering) -> u32 {
        self.fetch_or(bits, order)
    }

    #[inline]
    fn fetch_and(&self, bits: u32, order: Ordering) -> u32 {
        self.fetch_and(bits, order)
    }

    #[inline]
    fn compare_exchange(&self, from: u32, to: u32, done: Ordering, not: Ordering) -> Result<u32, u32> {
        self.compare_exchange(from, to, done, not)
    }

    #[inline]
    fn fence(&self, order: Ordering) {
        fence(order);
    }

    fn sleep_on(&self, seen: u32, timeout: Option<Duration>) {
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        let _ = futex::wait(self, futex::Flags::empty(), seen, timeout.as_ref());
    }

    fn wake_one(&self) {
        let _ = futex::wake(self, futex::Flags::empty(), 1);
    }
}

impl Memory for Map {
    const RING_BYTES: u64 = RING_BYTES;
    type Counter = AtomicU64;
    type Word = AtomicU32;

    #[inline]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn u64(&self, at: usize) -> &AtomicU64 {
        self.u64(at)
    }

    #[inline]
    fn u32(&self, at: usize) -> &AtomicU32 {
        self.u32(at)
    }

    #[inline]
    fn write(&self, at: usize, bytes: &[u8]) {
        self.write(at, bytes);
    }

    #[inline]
    fn read(&self, at: usize, into: &mut [u8]) {
        self.read(at, into);
    }

    #[inline]
    fn append_to(&self, at: usize, bytes: usize, vector: &mut Vec<u8>) {
        self.append_to(at, bytes, vector);
    }
}
