//! What a worker is told of functions, both ends in one process.

use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::arena::{Arena, NO_BUDGET};
use super::bell::HostBell;
use super::definitions::SWEEP_BYTES;
use super::host::{Ends, HostLink};
use super::orders::{Code, Form, Order, Task};
use super::payload::Payload;
use super::shm::Backing;
use super::worker::WorkerLink;
use crate::scheduler::types::{Assignment, Attempt, TaskId};

const CALLED: Task = Task::Run(Form::Call);

struct Both {
    host: HostLink,
    worker: WorkerLink,
    arena: Arc<Arena>,
    calls: u64,
}

impl Both {
    fn new() -> Self {
        let bell = HostBell::new(Backing::Memfd).expect("a bell");
        let driver = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
        let Ends { host, worker, .. } = HostLink::pair(&bell, &driver, Backing::Memfd, &[]).expect("a pair");
        let (worker, ..) = WorkerLink::attach(worker).expect("a worker");
        Self { host, worker, arena: Arena::new(Backing::Memfd, NO_BUDGET), calls: 0 }
    }

    fn code(&self, number: u32, bytes: usize) -> Arc<Code> {
        let range = self.arena.take(bytes).expect("memory");
        Arc::new(Code { number, pickle: Payload::Ours(Arc::new(range)) })
    }

    fn call(&mut self, code: &Arc<Code>) -> bool {
        self.calls += 1;
        let run = Assignment { task: TaskId(self.calls), attempt: Attempt(1) };
        let payload = Payload::copied(&[]);
        self.host.send(&Order::Call { run, form: Form::Call, code, payload: &payload, again: false })
    }

    /// What the worker is told next, if anything.
    fn next(&mut self) -> Option<(Task, u32)> {
        let (taken, _) = self.worker.take(&mut Vec::new()).expect("a frame")?;
        Some((taken.task, taken.function))
    }

    fn all(&mut self) -> Vec<(Task, u32)> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

#[test]
fn a_large_function_takes_the_place_of_one_that_is_dead() {
    let mut both = Both::new();
    let first = both.code(1, SWEEP_BYTES);
    assert!(both.call(&first));
    assert_eq!(both.all(), [(Task::Define, 1), (CALLED, 1)]);
    drop(first);
    let second = both.code(2, SWEEP_BYTES);
    assert!(both.call(&second) && both.call(&second));
    assert_eq!(both.all(), [(Task::Forget, 1), (Task::Define, 2), (CALLED, 2), (CALLED, 2)]);
    let third = both.code(3, 100);
    assert!(both.call(&third));
    assert_eq!(both.all(), [(Task::Define, 3), (CALLED, 3)], "the second one lives");
}

#[test]
fn small_ones_are_forgotten_when_somebody_has_time_and_once() {
    let mut both = Both::new();
    let living = both.code(9, 10);
    assert!(both.call(&living));
    for number in 1..=3 {
        let code = both.code(number, 10);
        assert!(both.call(&code));
    }
    assert!(both.all().iter().all(|(task, _)| *task != Task::Forget));
    assert!(both.host.forget_dead());
    let mut told = both.all();
    told.sort_by_key(|&(_, number)| number);
    assert_eq!(told, [(Task::Forget, 1), (Task::Forget, 2), (Task::Forget, 3)]);
    assert!(both.host.forget_dead());
    assert_eq!(both.all(), []);
}

#[test]
fn a_definition_lives_until_it_was_read() {
    let mut both = Both::new();
    let code = both.code(1, SWEEP_BYTES);
    let there = Arc::downgrade(&code);
    assert!(both.call(&code));
    drop(code);
    assert!(both.host.forget_dead());
    assert_eq!(both.next(), Some((Task::Define, 1)));
    assert!(both.host.forget_dead());
    assert_eq!(there.strong_count(), 1, "it is copied after its frame was taken");
    assert_eq!(both.next(), Some((CALLED, 1)));
    assert!(both.host.forget_dead());
    assert_eq!(there.strong_count(), 0);
    assert_eq!(both.all(), [(Task::Forget, 1)]);
}

#[test]
fn what_found_no_room_is_forgotten_later() {
    let mut both = Both::new();
    let code = both.code(1, 10);
    assert!(both.call(&code));
    assert_eq!(both.all().len(), 2);
    let other = both.code(2, 10);
    while both.call(&other) {}
    drop(code);
    assert!(!both.host.forget_dead(), "the ring is full");
    let read = both.all();
    assert!(!read.contains(&(Task::Forget, 1)));
    assert!(both.host.forget_dead());
    assert_eq!(both.all(), [(Task::Forget, 1)]);
}
