//! The two rings of shared memory between the host and one worker: tasks down, results up.
//!
//! A ring is a run of frames; a position counts bytes since the beginning and never turns back, so it is also the
//! generation of the frame that stands there. Each ring has one writer and one reader:
//!
//! ```text
//!            tail (reader)              head (writer)
//!   ...free...  | taken | ready | ready |  ...free...
//! ```
//!
//! A frame is written whole, then the writer's head moves over it with one release store: whoever is killed in the middle
//! leaves nothing torn. A task frame has a state word besides. The worker takes it by compare-and-swap from *ready*
//! to *taken*, the host retracts it by compare-and-swap to *retracted*: one of the two wins, and a position in the word
//! keeps a swap that comes late from hitting the next frame in the same place.
//!
//! The worker is not trusted with the host's safety: the host copies a header once and checks it before it believes it.

use super::atomic::Memory;
use crate::scheduler::types::{Assignment, Attempt, TaskId};

/// Bytes of each ring: thousands of small frames, or a few of the largest that go through a ring. Not more, because a ring
/// is written from one end to the other whatever it carries, and so should fit a cache, and be warm soon.
pub(super) const RING_BYTES: u64 = 1 << 19;

/// The largest payload that goes through a ring: a quarter, so that several fit. A larger one stands in an arena.
pub const MAX_INLINE_BYTES: usize = RING_BYTES as usize / 4;

/// A cache line: two sides never write to the same one.
pub(super) const LINE: usize = 64;

pub(super) const HEADER_BYTES: usize = 4096;
pub(super) const LANE_BYTES: usize = lane_bytes(RING_BYTES);

/// Counted up by a native thread of the worker.
pub(super) const BEAT: usize = 0;
/// Written by that thread: the most bytes that the worker had in memory when it looked last; and what the kernel's own count
/// of that began with, which is the host's.
pub(super) const PEAK: usize = 8;
pub(super) const PEAK_FLOOR: usize = 16;
/// Where the worker sleeps.
pub(super) const WORKER_BELL: usize = LINE;
/// Written by the host: the end of the task ring, and where the worker is to call for more.
pub(super) const TASK_HEAD: usize = 2 * LINE;
pub(super) const REFILL_AT: usize = 2 * LINE + 8;
/// Also by the host, once: the number of this link.
pub(super) const LINK: usize = 2 * LINE + 16;
/// And: how many tasks have ended that tasks of this worker submitted. It is slept on.
pub(super) const NESTED: usize = 2 * LINE + 20;
/// Written by the worker: the beginning of the task ring, the frame it took last (its position plus one), when.
pub(super) const TASK_TAIL: usize = 3 * LINE;
pub(super) const TAKEN: usize = 3 * LINE + 8;
/// Written by the worker: how many items of a chunk it has begun.
pub(super) const ITEMS: usize = 3 * LINE + 16;
pub(super) const RESULT_HEAD: usize = 4 * LINE;
pub(super) const RESULT_TAIL: usize = 5 * LINE;

const TASKS: usize = HEADER_BYTES;

/// state and position u64, payload bytes u32, kind u32, task u64, attempt u32, function u32
pub(super) const TASK_HEADER: usize = 32;
/// Positions of task frames are multiples of this, which leaves room for the state.
pub(super) const TASK_ALIGN: u64 = 64;

/// payload bytes u32, kind u32, task u64, attempt u32, nothing u32, nanoseconds u64
pub(super) const RESULT_HEADER: usize = 32;
pub(super) const RESULT_ALIGN: u64 = 32;

pub(super) const READY: u64 = 1;
pub(super) const IS_TAKEN: u64 = 2;
pub(super) const RETRACTED: u64 = 3;
/// The rest of the ring up to its end.
pub(super) const PAD: u64 = 4;

/// As [`PAD`], in the result ring.
pub(super) const RESULT_PAD: u32 = 0;

/// No frame: the worker need not call for more.
pub(super) const NEVER: u64 = u64::MAX;

pub(super) fn size(header: usize, payload: usize, align: u64) -> u64 {
    ((header + payload) as u64).next_multiple_of(align)
}

/// Header and both rings.
pub(super) const fn lane_bytes(ring: u64) -> usize {
    HEADER_BYTES + 2 * ring as usize
}

/// Where the task frame at this position stands.
pub(super) fn task_at<M: Memory>(position: u64) -> usize {
    TASKS + (position & (M::RING_BYTES - 1)) as usize
}

/// Where the result frame at this position stands.
pub(super) fn result_at<M: Memory>(position: u64) -> usize {
    TASKS + M::RING_BYTES as usize + (position & (M::RING_BYTES - 1)) as usize
}

/// Bytes from this position to the end of the ring.
pub(super) fn rest<M: Memory>(position: u64) -> u64 {
    M::RING_BYTES - (position & (M::RING_BYTES - 1))
}

/// What a task frame says besides its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskHead {
    pub(super) run: Assignment,
    /// What is to be done; see `frame`.
    pub(super) kind: u32,
    /// Which function, for those that travel by number.
    pub(super) function: u32,
    pub(super) bytes: usize,
}

/// What a result frame says besides its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResultHead {
    pub(super) run: Assignment,
    pub(super) kind: u32,
    /// How long the function ran.
    pub(super) nanos: u64,
    pub(super) bytes: usize,
}

/// Something in the shared memory makes no sense: user code has written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

pub(super) fn u32_at(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(header: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"))
}

pub(super) fn decode_result(header: &[u8; RESULT_HEADER]) -> ResultHead {
    ResultHead {
        bytes: u32_at(header, 0) as usize,
        kind: u32_at(header, 4),
        run: Assignment { task: TaskId(u64_at(header, 8)), attempt: Attempt(u32_at(header, 16)) },
        nanos: u64_at(header, 24),
    }
}
