//! The host's side of a lane: it writes tasks, takes them back, reads results.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use rustix::thread::futex;

use super::atomic::{Counter, Memory, Word};
use super::lane::{
    BEAT, Garbled, IS_TAKEN, ITEMS, LINK, MAX_INLINE_BYTES, NESTED, NEVER, PAD, PEAK, PEAK_FLOOR, READY,
    REFILL_AT, RESULT_ALIGN, RESULT_HEAD, RESULT_HEADER, RESULT_PAD, RESULT_TAIL, RETRACTED, ResultHead,
    TAKEN, TASK_ALIGN, TASK_HEAD, TASK_HEADER, TASK_TAIL, TaskHead, WORKER_BELL, decode_result, lane_bytes,
    rest, result_at, size, task_at,
};
use super::shm::Map;
use crate::scheduler::types::{Assignment, TaskId};

#[derive(Debug)]
struct Sent {
    run: Assignment,
    at: u64,
}

/// The host's side.
#[derive(Debug)]
pub(super) struct HostLane<M = Map> {
    map: M,
    head: u64,
    result_tail: u64,
    /// Frames whose results have not been received, oldest first.
    sent: VecDeque<Sent>,
    /// Where the last frame stands.
    last_at: u64,
    /// What the worker had read when a frame found no room; `None`: the last one did.
    refused_at: Option<u64>,
}

impl HostLane {
    /// See [`NESTED`].
    pub(super) fn tell_nested(&self) {
        let word = self.map.u32(NESTED);
        word.fetch_add(1, Ordering::SeqCst);
        let _ = futex::wake(word, futex::Flags::empty(), u32::MAX >> 1);
    }
}

impl<M: Memory> HostLane<M> {
    /// Over fresh memory.
    pub(super) fn new(map: M, link: u32) -> Self {
        assert_eq!(map.len(), lane_bytes(M::RING_BYTES));
        map.u32(LINK).store(link, Ordering::Relaxed);
        map.u64(REFILL_AT).store(NEVER, Ordering::Relaxed);
        Self { map, head: 0, result_tail: 0, sent: VecDeque::new(), last_at: 0, refused_at: None }
    }

    pub(super) fn bell(&self) -> &M::Word {
        self.map.u32(WORKER_BELL)
    }

    pub(super) fn beats(&self) -> u64 {
        self.map.u64(BEAT).load(Ordering::Relaxed)
    }

    /// What the worker has noted of its memory: the most that it had, and where the kernel's count of that began.
    pub(super) fn peak(&self) -> (u64, u64) {
        (self.map.u64(PEAK).load(Ordering::Relaxed), self.map.u64(PEAK_FLOOR).load(Ordering::Relaxed))
    }

    /// Items that the worker has begun of the chunk that it is at.
    pub(super) fn items(&self) -> u32 {
        self.map.u32(ITEMS).load(Ordering::Relaxed)
    }

    fn task_tail(&self) -> u64 {
        self.map.u64(TASK_TAIL).load(Ordering::Acquire).min(self.head)
    }

    /// Write a frame and make it visible. `false`: there is no room now.
    pub(super) fn send(&mut self, head: TaskHead, payload: &[u8]) -> bool {
        let bytes = size(TASK_HEADER, payload.len(), TASK_ALIGN);
        let left = rest::<M>(self.head);
        let pad = if bytes > left { left } else { 0 };
        let tail = self.task_tail();
        if self.head + pad + bytes - tail > M::RING_BYTES {
            self.refused_at = Some(tail);
            return false;
        }
        self.refused_at = None;
        if pad > 0 {
            self.map.u64(task_at::<M>(self.head)).store(self.head | PAD, Ordering::Relaxed);
            self.head += pad;
        }
        let at = task_at::<M>(self.head);
        let mut header = [0; TASK_HEADER - 8];
        header[0..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&head.kind.to_le_bytes());
        header[8..16].copy_from_slice(&head.run.task.0.to_le_bytes());
        header[16..20].copy_from_slice(&head.run.attempt.0.to_le_bytes());
        header[20..24].copy_from_slice(&head.function.to_le_bytes());
        self.map.u64(at).store(self.head | READY, Ordering::Relaxed);
        self.map.write(at + 8, &header);
        self.map.write(at + TASK_HEADER, payload);
        if head.run.task != TaskId(0) {
            self.sent.push_back(Sent { run: head.run, at: self.head });
        }
        self.last_at = self.head;
        self.head += bytes;
        self.map.u64(TASK_HEAD).store(self.head, Ordering::Release);
        true
    }

    /// Somebody has seen that.
    pub(super) fn forget_refusal(&mut self) {
        self.refused_at = None;
    }

    /// Take the frame at this position back. `false`: the worker was first.
    fn retract_at(&self, at: u64) -> bool {
        if at < self.task_tail() {
            return false;
        }
        let state = self.map.u64(task_at::<M>(at));
        state.compare_exchange(at | READY, at | RETRACTED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Take back the newest frames, `count` at most, up to the first that the worker has taken. How many.
    pub(super) fn retract_last(&mut self, count: usize) -> usize {
        let mut done = 0;
        while done < count {
            match self.sent.back() {
                Some(sent) if self.retract_at(sent.at) => drop(self.sent.pop_back()),
                Some(_) | None => break,
            }
            done += 1;
        }
        done
    }

    /// Take this one back, wherever it stands.
    pub(super) fn retract(&mut self, run: Assignment) -> bool {
        let Some(index) = self.sent.iter().position(|sent| sent.run == run) else { return false };
        let back = self.retract_at(self.sent[index].at);
        if back {
            self.sent.remove(index);
        }
        back
    }

    /// The dispatch that the worker has taken and not answered. Of a dead worker: what it died of, or with.
    pub(super) fn begun(&self) -> Option<Assignment> {
        self.sent.iter().rev().find(|sent| self.is_taken(sent.at)).map(|sent| sent.run)
    }

    fn is_taken(&self, at: u64) -> bool {
        let taken = self.map.u64(TAKEN).load(Ordering::Acquire);
        if at < self.task_tail() || (taken > at && taken <= self.head) {
            return true;
        }
        self.map.u64(task_at::<M>(at)).load(Ordering::Acquire) == at | IS_TAKEN
    }

    /// Where the last frame that was sent ends.
    pub(super) fn sent_up_to(&self) -> u64 {
        self.head
    }

    /// Up to where the worker has read.
    pub(super) fn taken_up_to(&self) -> u64 {
        self.task_tail()
    }

    /// It need not call.
    pub(super) fn call_never(&self) {
        self.map.u64(REFILL_AT).store(NEVER, Ordering::Relaxed);
    }

    /// Whether the worker has read on since a frame found no room.
    pub(super) fn has_more_room(&self) -> bool {
        self.refused_at.is_some_and(|tail| self.task_tail() != tail)
    }

    /// Have the worker call when it has taken half of the tasks that wait (where there are only gifts: all), or when it
    /// runs out.
    pub(super) fn call_at_half(&self) {
        let half = self.sent.get(self.sent.len() / 2).map_or(self.last_at, |sent| sent.at);
        self.map.u64(REFILL_AT).store(half, Ordering::Relaxed);
    }

    /// Whether there is a result to receive.
    pub(super) fn has_result(&self) -> bool {
        self.map.u64(RESULT_HEAD).load(Ordering::Acquire) != self.result_tail
    }

    /// The next result, its payload appended to `payload`.
    pub(super) fn receive(&mut self, payload: &mut Vec<u8>) -> Result<Option<ResultHead>, Garbled> {
        loop {
            let head = self.map.u64(RESULT_HEAD).load(Ordering::Acquire);
            let waiting = head.wrapping_sub(self.result_tail);
            if waiting == 0 {
                return Ok(None);
            }
            if waiting > M::RING_BYTES || !head.is_multiple_of(RESULT_ALIGN) {
                return Err(Garbled);
            }
            let left = rest::<M>(self.result_tail);
            let at = result_at::<M>(self.result_tail);
            let mut header = [0; RESULT_HEADER];
            self.map.read(at, &mut header);
            let frame = decode_result(&header);
            let bytes =
                if frame.kind == RESULT_PAD { left } else { size(RESULT_HEADER, frame.bytes, RESULT_ALIGN) };
            if bytes > waiting.min(left) || frame.bytes > MAX_INLINE_BYTES {
                return Err(Garbled);
            }
            if frame.kind != RESULT_PAD {
                self.map.append_to(at + RESULT_HEADER, frame.bytes, payload);
            }
            self.result_tail += bytes;
            self.map.u64(RESULT_TAIL).store(self.result_tail, Ordering::Release);
            if frame.kind != RESULT_PAD {
                self.forget(frame.run)?;
                return Ok(Some(frame));
            }
        }
    }

    /// A result came: the frame that it answers is off the list. It is the first one, for the worker takes one at a time.
    fn forget(&mut self, run: Assignment) -> Result<(), Garbled> {
        match self.sent.front() {
            Some(sent) if sent.run == run => drop(self.sent.pop_front()),
            _ => return Err(Garbled),
        }
        Ok(())
    }
}
