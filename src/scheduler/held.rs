//! What a worker was sent and has not answered.

use std::collections::VecDeque;

use super::types::{Assignment, Attempt, TaskId};

/// A dispatch that has not been answered: 16 bytes, so that four of them stand in a line of the processor's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) task: TaskId,
    attempt: Attempt,
    /// How long it was expected to take, in nanoseconds. See [`Self::new`].
    estimate: u32,
}

impl Held {
    /// What stands where nothing is: attempts are counted from 1.
    const NOTHING: Self = Self { task: TaskId(0), attempt: Attempt(0), estimate: 0 };

    /// An estimate above four seconds, which is beyond anything that it is compared with, counts as four.
    pub(crate) fn new(run: Assignment, estimate: u64) -> Self {
        let estimate = u32::try_from(estimate).unwrap_or(u32::MAX);
        Self { task: run.task, attempt: run.attempt, estimate }
    }

    pub(crate) fn run(&self) -> Assignment {
        Assignment { task: self.task, attempt: self.attempt }
    }

    /// How long it was expected to take, in nanoseconds.
    pub(crate) fn estimate(&self) -> u64 {
        self.estimate.into()
    }
}

/// A queue whose front stands in place: the answer is nearly always to that, and what it needs has come with the worker.
#[derive(Clone, Debug)]
pub(crate) struct HeldQueue {
    front: Held,
    behind: VecDeque<Held>,
}

impl HeldQueue {
    pub(crate) const EMPTY: Self = Self { front: Held::NOTHING, behind: VecDeque::new() };

    pub(crate) fn len(&self) -> usize {
        usize::from(!self.is_empty()) + self.behind.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.attempt == Held::NOTHING.attempt
    }

    pub(crate) fn front(&self) -> Option<&Held> {
        (!self.is_empty()).then_some(&self.front)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Held> {
        self.front().into_iter().chain(&self.behind)
    }

    pub(crate) fn push_back(&mut self, held: Held) {
        if self.is_empty() {
            self.front = held;
        } else {
            self.behind.push_back(held);
        }
    }

    /// Take this out. Where it was, and what was known of it.
    pub(crate) fn remove(&mut self, run: Assignment) -> Option<(usize, Held)> {
        if self.front()?.run() == run {
            let next = self.behind.pop_front().unwrap_or(Held::NOTHING);
            return Some((0, std::mem::replace(&mut self.front, next)));
        }
        let at = self.behind.iter().position(|held| held.run() == run)?;
        Some((at + 1, self.behind.remove(at)?))
    }

    /// Take the last so many out, or all.
    pub(crate) fn take_last(&mut self, count: usize) -> VecDeque<Held> {
        let mut last = self.behind.split_off(self.behind.len().saturating_sub(count));
        if count > last.len() && !self.is_empty() {
            last.push_front(std::mem::replace(&mut self.front, Held::NOTHING));
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_queue() {
        let mut queue = HeldQueue::EMPTY;
        let mut reference: VecDeque<Held> = VecDeque::new();
        let mut rng = crate::scheduler::rng::Rng::new(1);
        for number in 1..20_000 {
            match rng.below(8) {
                0..4 => {
                    let run = Assignment { task: TaskId(number), attempt: Attempt(1) };
                    queue.push_back(Held::new(run, number));
                    reference.push_back(Held::new(run, number));
                }
                4..7 if !reference.is_empty() => {
                    let some = rng.below(2) * rng.below(reference.len() as u64);
                    let held = reference.remove(some as usize).expect("it is there");
                    assert_eq!(queue.remove(held.run()), Some((some as usize, held)));
                    assert_eq!(queue.remove(held.run()), None);
                }
                _ => {
                    let count = rng.below(4) as usize;
                    let last = reference.split_off(reference.len().saturating_sub(count));
                    assert_eq!(queue.take_last(count), last);
                }
            }
            assert!(queue.iter().eq(&reference));
            assert_eq!((queue.len(), queue.is_empty()), (reference.len(), reference.is_empty()));
            assert_eq!(queue.front(), reference.front());
        }
    }

    #[test]
    fn estimates_do_not_wrap() {
        let run = Assignment { task: TaskId(1), attempt: Attempt(1) };
        assert_eq!(Held::new(run, u64::MAX).estimate(), u64::from(u32::MAX));
    }
}
