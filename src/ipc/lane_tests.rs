//! Both sides of a lane in one process: by dice in one thread, and for real in two.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::host_lane::HostLane;
use super::lane::{LANE_BYTES, MAX_INLINE_BYTES, ResultHead, TaskHead};
use super::shm::{Backing, Map, create};
use super::worker_lane::WorkerLane;
use crate::scheduler::types::{Assignment, Attempt, TaskId};

fn lane() -> (HostLane, WorkerLane) {
    let file = create("test-lane", LANE_BYTES, Backing::Memfd).expect("a file");
    let map = || Map::new(&file, LANE_BYTES).expect("a map");
    (HostLane::new(map(), 7), WorkerLane::new(map()))
}

fn run(task: u64) -> Assignment {
    Assignment { task: TaskId(task), attempt: Attempt(3) }
}

fn task(task: u64) -> TaskHead {
    TaskHead { run: run(task), kind: 2, function: 9, bytes: 0 }
}

/// What the payload of a task is, so that it can be checked at the other end.
fn bytes_of(task: u64, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i as u64 * 31 + task) as u8).collect()
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Mostly small, sometimes as large as it may be.
    fn length(&mut self) -> usize {
        match self.below(20) {
            0 => MAX_INLINE_BYTES - self.below(70) as usize,
            1..4 => self.below(5000) as usize,
            _ => self.below(100) as usize,
        }
    }
}

/// Every task is taken once or taken back once, in order; every result arrives once, whole.
#[test]
fn nothing_is_lost_or_torn_whatever_the_order() {
    for seed in 0..20 {
        let (mut host, mut worker) = lane();
        let mut dice = Dice(seed);
        let (mut next, mut taken_back, mut done) = (1, BTreeSet::new(), Vec::new());
        let mut at_work = None;
        for _ in 0..4000 {
            match dice.below(5) {
                0 | 1 => {
                    if host.send(task(next), &bytes_of(next, dice.length())) {
                        next += 1;
                    }
                }
                2 => {
                    if at_work.is_none()
                        && let Some(frame) = worker.take().expect("not garbled")
                    {
                        let mut payload = Vec::new();
                        worker.payload(&frame, &mut payload);
                        worker.release(&frame);
                        assert_eq!((frame.head.kind, frame.head.function), (2, 9));
                        assert_eq!(payload, bytes_of(frame.head.run.task.0, frame.head.bytes));
                        assert_eq!(host.begun(), Some(frame.head.run));
                        at_work = Some((frame.head.run, payload));
                    } else if let Some((run, payload)) = &at_work {
                        let head = ResultHead { run: *run, kind: 1, nanos: run.task.0, bytes: payload.len() };
                        let (a, b) = payload.split_at(payload.len() / 2);
                        if worker.publish(head, &[a, b]) {
                            at_work = None;
                        }
                    }
                }
                3 => {
                    let mut payload = Vec::new();
                    if let Some(head) = host.receive(&mut payload).expect("not garbled") {
                        assert_eq!(payload, bytes_of(head.run.task.0, head.bytes));
                        assert_eq!(head.nanos, head.run.task.0);
                        done.push(head.run.task.0);
                    }
                }
                _ if dice.below(4) == 0 => {
                    let back = host.retract_last(dice.below(4) as usize);
                    let newest = (1..next).rev().filter(|task| !taken_back.contains(task)).take(back);
                    taken_back.extend(newest.collect::<Vec<_>>());
                }
                _ => {
                    let any = 1 + dice.below(next);
                    if host.retract(run(any)) {
                        assert!(taken_back.insert(any), "taken back twice");
                    }
                }
            }
        }
        assert!(done.len() > 300 && taken_back.len() > 100, "{} {}", done.len(), taken_back.len());
        assert!(done.is_sorted() && done.iter().all(|task| !taken_back.contains(task)), "seed {seed}");
        let missing = (1..=*done.last().expect("some"))
            .filter(|task| !taken_back.contains(task) && !done.contains(task));
        assert_eq!(missing.count(), 0, "seed {seed}");
    }
}

/// The host sends, takes back and receives while the worker works, as fast as both can.
#[test]
fn two_threads_agree_on_who_has_what() {
    const TASKS: u64 = 200_000;
    let (mut host, mut worker) = lane();
    let stop = AtomicBool::new(false);
    let (taken, done, back) = std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            let (mut taken, mut payload) = (0_u64, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let Some(frame) = worker.take().expect("not garbled") else {
                    std::thread::yield_now();
                    continue;
                };
                payload.clear();
                worker.payload(&frame, &mut payload);
                worker.release(&frame);
                assert_eq!(payload, bytes_of(frame.head.run.task.0, frame.head.bytes));
                let head = ResultHead { run: frame.head.run, kind: 1, nanos: 0, bytes: payload.len() };
                while !worker.publish(head, &[&payload]) {
                    std::thread::yield_now();
                }
                taken += 1;
            }
            taken
        });
        let mut dice = Dice(1);
        let (mut next, mut done, mut back, mut payload) = (1, 0_u64, 0_u64, Vec::new());
        while next <= TASKS || done + back < TASKS {
            if next <= TASKS && host.send(task(next), &bytes_of(next, dice.below(200) as usize)) {
                next += 1;
            } else {
                std::thread::yield_now();
            }
            if dice.below(50) == 0 {
                back += host.retract_last(1 + dice.below(3) as usize) as u64;
            }
            payload.clear();
            while let Some(head) = host.receive(&mut payload).expect("not garbled") {
                assert_eq!(payload, bytes_of(head.run.task.0, head.bytes));
                payload.clear();
                done += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        (working.join().expect("no panic"), done, back)
    });
    assert_eq!((taken, done + back), (done, TASKS));
    assert!(back > 100, "{back} were taken back");
}

/// What user code scribbles over is noticed, or harmless; never a panic or a read beyond the ring.
#[test]
fn garbage_in_the_shared_memory_is_an_error_at_worst() {
    let file = create("test-lane", LANE_BYTES, Backing::Memfd).expect("a file");
    for seed in 0..3000 {
        let map = || Map::new(&file, LANE_BYTES).expect("a map");
        map().write(0, &[0; 4096]);
        let (mut host, mut worker) = (HostLane::new(map(), 7), WorkerLane::new(map()));
        let mut dice = Dice(seed);
        for next in 1..20 {
            host.send(task(next), &bytes_of(next, 50));
            if let Ok(Some(frame)) = worker.take() {
                worker.release(&frame);
                worker.publish(ResultHead { run: frame.head.run, kind: 1, nanos: 0, bytes: 3 }, &[b"abc"]);
            }
            let scribble = dice.below(u64::MAX).to_le_bytes();
            let place = if dice.below(2) == 0 { dice.below(600) } else { 4096 + dice.below(2000) };
            map().write(place as usize & !3, &scribble[..4]);
            let mut payload = Vec::new();
            let _ = host.receive(&mut payload);
            let _ = host.begun();
            host.retract_last(1);
        }
    }
}
