//! The worker's side of a lane: it takes tasks and writes results.

use std::sync::atomic::Ordering;

use super::atomic::{Counter, Memory, Word};
use super::bell::{announce, retire, sleep};
use super::lane::{
    Garbled, IS_TAKEN, ITEMS, LINK, MAX_INLINE_BYTES, PAD, READY, REFILL_AT, RESULT_ALIGN, RESULT_HEAD,
    RESULT_HEADER, RESULT_TAIL, RETRACTED, ResultHead, TAKEN, TASK_ALIGN, TASK_HEAD, TASK_HEADER, TASK_TAIL,
    TaskHead, WORKER_BELL, rest, result_at, size, task_at, u32_at, u64_at,
};
use super::shm::Map;
use crate::scheduler::types::{Assignment, Attempt, TaskId};

/// The worker's side.
#[derive(Debug)]
pub(super) struct WorkerLane<M = Map> {
    map: M,
    tail: u64,
    head_seen: u64,
    result_head: u64,
    result_tail_seen: u64,
    /// The last place at which the host was to be called, and was.
    called_at: u64,
    /// Room has come free since the last result, which would have had the host look.
    freed: bool,
}

/// A frame that was taken; its payload stands in the ring until [`WorkerLane::release`].
#[derive(Debug)]
pub(super) struct TakenFrame {
    pub(super) head: TaskHead,
    /// The host has more, and wants to know that half of what it sent is done.
    pub(super) wants_call: bool,
    at: u64,
}

impl<M: Memory> WorkerLane<M> {
    pub(super) fn new(map: M) -> Self {
        Self {
            map,
            tail: 0,
            head_seen: 0,
            result_head: 0,
            result_tail_seen: 0,
            called_at: u64::MAX,
            freed: false,
        }
    }

    fn bell(&self) -> &M::Word {
        self.map.u32(WORKER_BELL)
    }

    /// The number of this link.
    pub(super) fn link(&self) -> u32 {
        self.map.u32(LINK).load(Ordering::Relaxed)
    }

    /// This many items of the chunk have been begun.
    pub(super) fn set_items(&self, items: u32) {
        self.map.u32(ITEMS).store(items, Ordering::Release);
    }

    /// Whether there is a frame (which may have been retracted).
    pub(super) fn has_task(&mut self) -> bool {
        if self.head_seen == self.tail {
            self.head_seen = self.map.u64(TASK_HEAD).load(Ordering::Acquire);
        }
        self.head_seen != self.tail
    }

    /// Take the next frame, if there is one.
    pub(super) fn take(&mut self) -> Result<Option<TakenFrame>, Garbled> {
        while self.has_task() {
            let at = task_at::<M>(self.tail);
            let state = self.map.u64(at);
            let ready = self.tail | READY;
            let taken = self.tail | IS_TAKEN;
            match state.compare_exchange(ready, taken, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.map.u64(TAKEN).store(self.tail + 1, Ordering::Release);
                    let head = self.read_head(at)?;
                    let refill = self.map.u64(REFILL_AT).load(Ordering::Relaxed);
                    let wants_call = self.tail >= refill && refill != self.called_at; // once
                    if wants_call {
                        self.called_at = refill;
                    }
                    return Ok(Some(TakenFrame { head, wants_call, at: self.tail }));
                }
                Err(state) if state == self.tail | RETRACTED => {
                    let head = self.read_head(at)?;
                    self.advance(size(TASK_HEADER, head.bytes, TASK_ALIGN));
                }
                Err(state) if state == self.tail | PAD => self.advance(rest::<M>(self.tail)),
                Err(_) => return Err(Garbled),
            }
        }
        Ok(None)
    }

    fn read_head(&self, at: usize) -> Result<TaskHead, Garbled> {
        let mut header = [0; TASK_HEADER - 8];
        self.map.read(at + 8, &mut header);
        let head = TaskHead {
            bytes: u32_at(&header, 0) as usize,
            kind: u32_at(&header, 4),
            run: Assignment { task: TaskId(u64_at(&header, 8)), attempt: Attempt(u32_at(&header, 16)) },
            function: u32_at(&header, 20),
        };
        if head.bytes > MAX_INLINE_BYTES { Err(Garbled) } else { Ok(head) }
    }

    /// Copy the payload of a frame that was taken.
    pub(super) fn payload(&self, frame: &TakenFrame, into: &mut Vec<u8>) {
        self.map.append_to(task_at::<M>(frame.at) + TASK_HEADER, frame.head.bytes, into);
    }

    /// The frame's place may be used again.
    pub(super) fn release(&mut self, frame: &TakenFrame) {
        debug_assert_eq!(frame.at, self.tail);
        self.advance(size(TASK_HEADER, frame.head.bytes, TASK_ALIGN));
    }

    /// Sleep until there is a task, or a signal, or for no reason: look again. `call` the host if it has something to fetch,
    /// since nobody has come for it yet and there is nothing else to do: results, or the room of frames that had none.
    pub(super) fn sleep_for_task(&mut self, call: impl FnOnce()) {
        announce(self.bell());
        if self.unread() > 0 || std::mem::take(&mut self.freed) {
            call();
        }
        if !self.has_task() {
            sleep(self.bell(), None);
        }
        retire(self.bell());
    }

    /// Sleep until the host has taken results, after [`Self::publish`] found no room; or for no reason.
    pub(super) fn sleep_for_room(&mut self, call: impl FnOnce()) {
        let before = self.unread();
        announce(self.bell());
        if before > 0 && self.unread() == before {
            call();
            sleep(self.bell(), None);
        }
        retire(self.bell());
    }

    fn advance(&mut self, bytes: u64) {
        self.tail += bytes;
        self.freed = true;
        self.map.u64(TASK_TAIL).store(self.tail, Ordering::Release);
    }

    /// Bytes of results that the host has not taken.
    pub(super) fn unread(&self) -> u64 {
        self.result_head.wrapping_sub(self.map.u64(RESULT_TAIL).load(Ordering::Acquire))
    }

    /// Whether so many bytes fit behind what the host has not taken.
    fn has_room(&mut self, bytes: u64) -> bool {
        // Not a difference that may be negative: user code may have written to what the host counts in.
        let fits = |tail| self.result_head.wrapping_sub(tail).saturating_add(bytes) <= M::RING_BYTES;
        if !fits(self.result_tail_seen) {
            self.result_tail_seen = self.map.u64(RESULT_TAIL).load(Ordering::Acquire);
        }
        fits(self.result_tail_seen)
    }

    /// Write a result and make it visible. `false`: there is no room now.
    pub(super) fn publish(&mut self, head: ResultHead, payload: &[&[u8]]) -> bool {
        let bytes = size(RESULT_HEADER, head.bytes, RESULT_ALIGN);
        let left = rest::<M>(self.result_head);
        let pad = if bytes > left { left } else { 0 };
        if !self.has_room(pad + bytes) {
            return false;
        }
        if pad > 0 {
            self.map.write(result_at::<M>(self.result_head), &[0; RESULT_HEADER]);
            self.result_head += pad;
        }
        let at = result_at::<M>(self.result_head);
        let mut header = [0; RESULT_HEADER];
        header[0..4].copy_from_slice(&(head.bytes as u32).to_le_bytes());
        header[4..8].copy_from_slice(&head.kind.to_le_bytes());
        header[8..16].copy_from_slice(&head.run.task.0.to_le_bytes());
        header[16..20].copy_from_slice(&head.run.attempt.0.to_le_bytes());
        header[24..32].copy_from_slice(&head.nanos.to_le_bytes());
        self.map.write(at, &header);
        let mut next = at + RESULT_HEADER;
        for part in payload {
            self.map.write(next, part);
            next += part.len();
        }
        debug_assert_eq!(next - at - RESULT_HEADER, head.bytes);
        self.result_head += bytes;
        self.map.u64(RESULT_HEAD).store(self.result_head, Ordering::Release);
        self.freed = false;
        true
    }
}
