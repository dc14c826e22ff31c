//! A lane and a bell in the memory of a model checker, `loom`: it tries every order of what two threads do, up to a bound, and
//! every value that a load may see by the language's memory model, so that a missing fence is found on a processor that
//! would forgive it. Bytes that one side writes while the other may look at them are found, too.
//!
//! The protocol's own code runs over it. What can be switched off here is what that code relies on: see [`Flaw`].
#![allow(unsafe_code)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64 as Plain, Ordering};
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::{Condvar, Mutex};

use super::atomic::{Counter, Memory, Word};
use super::lane::{
    BEAT, HEADER_BYTES, ITEMS, LINK, REFILL_AT, RESULT_HEAD, RESULT_TAIL, TAKEN, TASK_ALIGN, TASK_HEAD,
    TASK_TAIL, WORKER_BELL, lane_bytes,
};

/// Room for four of the smallest frames, so that a third or fifth task stands where the first one stood.
pub(super) const RING: u64 = 256;

/// Bytes that are watched as one.
const CELL: usize = 32;

/// A bug, made by breaking what the protocol relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// State words do not tell a frame from a later one in the same place.
    NoGeneration,
    /// A swap is a look and then a store.
    TornSwap,
    /// Fences do nothing.
    NoFences,
    /// Heads and tails may move before what was written in front of them.
    RelaxedHeads,
    /// A worker that has said that it sleeps does not look again whether there is a task.
    NoSecondLook,
    /// A leader that was woken goes without looking.
    NoLastLook,
}

/// The bits of a state word that are no position.
const STATE_BITS: u64 = TASK_ALIGN - 1;

pub(super) struct Number {
    value: AtomicU64,
    is_state: bool,
    flaw: Flaw,
    /// What was seen last, and whether the next look is left out.
    last: Plain,
    skip: Option<Arc<AtomicBool>>,
}

impl Number {
    fn keep(&self, value: u64) -> u64 {
        if self.is_state && self.flaw == Flaw::NoGeneration { value & STATE_BITS } else { value }
    }

    /// What is stored in place of a position is the state alone; the reader must find what it expects.
    fn see(&self, value: u64, expected: u64) -> u64 {
        if self.is_state && self.flaw == Flaw::NoGeneration { value | expected & !STATE_BITS } else { value }
    }
}

impl Counter for Number {
    fn load(&self, order: Ordering) -> u64 {
        if self.skip.as_ref().is_some_and(|skip| skip.swap(false, Ordering::Relaxed)) {
            return self.last.load(Ordering::Relaxed);
        }
        let order = if self.flaw == Flaw::RelaxedHeads { Ordering::Relaxed } else { order };
        let value = self.value.load(order);
        self.last.store(value, Ordering::Relaxed);
        value
    }

    fn store(&self, value: u64, order: Ordering) {
        let order = if self.flaw == Flaw::RelaxedHeads { Ordering::Relaxed } else { order };
        self.value.store(self.keep(value), order);
    }

    fn compare_exchange(&self, from: u64, to: u64, done: Ordering, not: Ordering) -> Result<u64, u64> {
        let (want, new) = (self.keep(from), self.keep(to));
        let swapped = if self.flaw == Flaw::TornSwap {
            let found = self.value.load(Ordering::Acquire);
            if found == want {
                self.value.store(new, Ordering::Release);
                Ok(found)
            } else {
                Err(found)
            }
        } else {
            self.value.compare_exchange(want, new, done, not)
        };
        swapped.map_err(|found| self.see(found, from))
    }
}

/// A word with a futex's queue beside it: the kernel compares and queues under one lock, and wakes under the same.
pub(super) struct Futex {
    word: AtomicU32,
    queue: Mutex<()>,
    woken: Condvar,
    flaw: Flaw,
    announced: Option<Arc<AtomicBool>>,
}

impl Futex {
    pub(super) fn new(flaw: Flaw) -> Self {
        Self { word: AtomicU32::new(0), queue: Mutex::new(()), woken: Condvar::new(), flaw, announced: None }
    }
}

impl Word for Futex {
    fn load(&self, order: Ordering) -> u32 {
        self.word.load(order)
    }

    fn store(&self, value: u32, order: Ordering) {
        self.word.store(value, order);
    }

    fn fetch_or(&self, bits: u32, order: Ordering) -> u32 {
        if let Some(announced) = &self.announced {
            announced.store(true, Ordering::Relaxed);
        }
        self.word.fetch_or(bits, order)
    }

    fn fetch_and(&self, bits: u32, order: Ordering) -> u32 {
        self.word.fetch_and(bits, order)
    }

    fn compare_exchange(&self, from: u32, to: u32, done: Ordering, not: Ordering) -> Result<u32, u32> {
        self.word.compare_exchange(from, to, done, not)
    }

    fn fence(&self, order: Ordering) {
        if self.flaw != Flaw::NoFences {
            loom::sync::atomic::fence(order);
        }
    }

    /// Never for no reason and never for a time only, so that a wake-up that does not come is a deadlock.
    fn sleep_on(&self, seen: u32, _: Option<Duration>) {
        let queue = self.queue.lock().expect("no panic under it");
        if self.word.load(Ordering::SeqCst) == seen {
            drop(self.woken.wait(queue).expect("no panic under it"));
        }
    }

    fn wake_one(&self) {
        let _queue = self.queue.lock().expect("no panic under it");
        self.woken.notify_one();
    }
}

struct Lane {
    numbers: BTreeMap<usize, Number>,
    words: BTreeMap<usize, Futex>,
    bytes: Vec<UnsafeCell<[u8; CELL]>>,
}

// SAFETY: `loom` runs one thread at a time, and fails where two of them would touch a cell at once.
unsafe impl Send for Lane {}
// SAFETY: as above.
unsafe impl Sync for Lane {}

/// One side's view of a lane.
pub(super) struct Model {
    lane: Arc<Lane>,
    /// How often this side may still touch it before it is killed.
    life: Cell<usize>,
}

/// What a killed side unwinds with.
pub(super) struct Killed;

impl Model {
    /// Host's view and worker's; the worker dies in its `life`th touch.
    pub(super) fn pair(flaw: Flaw, life: usize) -> (Self, Self) {
        let skip = (flaw == Flaw::NoSecondLook).then(|| Arc::new(AtomicBool::new(false)));
        let frames = (0..RING / TASK_ALIGN).map(|frame| HEADER_BYTES + (frame * TASK_ALIGN) as usize);
        let heads = [BEAT, TASK_HEAD, REFILL_AT, TASK_TAIL, TAKEN, RESULT_HEAD, RESULT_TAIL];
        let number = |at| {
            let skip = skip.clone().filter(|_| at == TASK_HEAD);
            let (value, is_state) = (AtomicU64::new(0), at >= HEADER_BYTES);
            (at, Number { value, is_state, flaw, last: Plain::new(0), skip })
        };
        let word = |at| {
            let announced = skip.clone().filter(|_| at == WORKER_BELL);
            (at, Futex { announced, ..Futex::new(flaw) })
        };
        let lane = Arc::new(Lane {
            numbers: frames.chain(heads).map(number).collect(),
            words: [WORKER_BELL, LINK, ITEMS].into_iter().map(word).collect(),
            bytes: (0..2 * RING as usize / CELL).map(|_| UnsafeCell::new([0; CELL])).collect(),
        });
        let side = |life| Self { lane: Arc::clone(&lane), life: Cell::new(life) };
        (side(usize::MAX), side(life))
    }

    /// Another view of it, for user code that writes where it should not.
    pub(super) fn another(&self) -> Self {
        Self { lane: Arc::clone(&self.lane), life: Cell::new(usize::MAX) }
    }

    fn touch(&self) {
        let left = self.life.get();
        if left == 0 {
            std::panic::resume_unwind(Box::new(Killed));
        }
        self.life.set(left - 1);
    }

    /// Each piece of the bytes there that lies in one cell: the cell, where in it, and where in the bytes.
    fn pieces(
        &self,
        at: usize,
        bytes: usize,
    ) -> impl Iterator<Item = (&UnsafeCell<[u8; CELL]>, usize, usize, usize)> {
        self.touch();
        let start = at - HEADER_BYTES;
        let mut done = 0;
        std::iter::from_fn(move || {
            let (place, from) = (start + done, done);
            let inside = place % CELL;
            let here = (CELL - inside).min(bytes - done);
            done += here;
            (here > 0).then(|| (&self.lane.bytes[place / CELL], inside, from, here))
        })
    }
}

impl Memory for Model {
    const RING_BYTES: u64 = RING;
    type Counter = Number;
    type Word = Futex;

    fn len(&self) -> usize {
        lane_bytes(RING)
    }

    fn u64(&self, at: usize) -> &Number {
        self.touch();
        &self.lane.numbers[&at]
    }

    fn u32(&self, at: usize) -> &Futex {
        self.touch();
        &self.lane.words[&at]
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        for (cell, inside, from, here) in self.pieces(at, bytes.len()) {
            // SAFETY: `loom` lends the cell to this thread alone; the piece lies in it.
            cell.with_mut(|cell| unsafe {
                (&mut *cell)[inside..][..here].copy_from_slice(&bytes[from..][..here]);
            });
        }
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        for (cell, inside, from, here) in self.pieces(at, into.len()) {
            // SAFETY: as above, among readers.
            cell.with(|cell| unsafe {
                into[from..][..here].copy_from_slice(&(&*cell)[inside..][..here]);
            });
        }
    }

    fn append_to(&self, at: usize, bytes: usize, vector: &mut Vec<u8>) {
        let mut copy = vec![0; bytes];
        self.read(at, &mut copy);
        vector.extend(copy);
    }
}
