//! Decisions per second of the scheduler alone: each is a task submitted, dispatched and completed, with all actions
//! drained, as the driver does it. Workers are as quick as their estimates say, and answer in turn.
//!
//! `cargo bench --no-default-features --bench scheduler`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use disttask::scheduler::Scheduler;
use disttask::scheduler::types::{Action, Assignment, Completion, FunctionId, TaskSpec, Time, WorkerId};

/// Decisions in one measured round: enough that the clock does not matter, and a look at the timers comes up.
const ROUND: u64 = 1_000;

/// How long each task takes: short enough that it is sent ahead, and too long to be packed, so that all workers work.
const RAN: Duration = Duration::from_micros(100);

/// Places between one worker that answers and the next, so that neighbours in memory do not answer in a row. Prime, so
/// that all have their turn.
const STRIDE: usize = 7_919;

#[derive(Clone, Copy)]
enum Load {
    Plain,
    /// Each task has a time-out, so none is sent ahead.
    TimeOuts,
    /// Every other task is more urgent, and has the less urgent ones taken back that were sent ahead.
    TwoPriorities,
}

struct Pool {
    scheduler: Scheduler,
    load: Load,
    now: Time,
    /// So much time goes by in a decision: as fast as all workers together are.
    step: Duration,
    /// What is not answered, in the order of the answers. One queue and not one for each worker: with ten thousand of
    /// those the benchmark would be busy with its own cache misses.
    sent: VecDeque<(WorkerId, Assignment)>,
    urgent: bool,
}

impl Pool {
    /// So many tasks accepted that are not done: with `Load::Plain` so many that every worker is sent all that it takes,
    /// or those who run out of it would ask the others to share.
    fn steady(workers: u32, open: usize, load: Load) -> Self {
        let mut pool = Self {
            scheduler: Scheduler::new(workers, 1, Time::ZERO),
            load,
            now: Time::ZERO,
            step: RAN / workers,
            sent: VecDeque::new(),
            urgent: false,
        };
        let ids: Vec<_> = pool.scheduler.workers().map(|(id, ..)| id).collect();
        for id in ids {
            pool.scheduler.handle_ready(id, Time::ZERO);
        }
        pool.drain();
        pool.submit();
        pool.complete(); // the estimate
        for _ in 0..open {
            pool.submit();
        }
        pool.take_turns(workers as usize);
        // Where it is heading for is the steady state, not where it comes from.
        for _ in 0..4 * open {
            pool.decide();
        }
        pool
    }

    /// Have the workers answer in turn, each what it was sent first. It stays so: who has answered is sent the next.
    fn take_turns(&mut self, workers: usize) {
        let mut lanes = vec![VecDeque::new(); workers];
        for (id, run) in self.sent.drain(..) {
            lanes[id.slot as usize].push_back((id, run));
        }
        while lanes.iter().any(|lane| !lane.is_empty()) {
            let turn = (0..workers).map(|place| place * STRIDE % workers);
            self.sent.extend(turn.filter_map(|slot| lanes[slot].pop_front()));
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.scheduler.poll_action() {
            match action {
                Action::Dispatch(id, run) => self.sent.push_back((id, run)),
                Action::Retract(id, count) => {
                    let back = self.retract(id, count);
                    self.scheduler.handle_retracted(id, back, self.now);
                }
                other => drop(black_box(other)),
            }
        }
    }

    /// That worker gives back its last so many, but what it is at.
    fn retract(&mut self, id: WorkerId, count: usize) -> usize {
        let mine: Vec<_> = (0..self.sent.len()).filter(|&at| self.sent[at].0 == id).skip(1).collect();
        let back = &mine[mine.len().saturating_sub(count)..];
        for &at in back.iter().rev() {
            self.sent.remove(at);
        }
        back.len()
    }

    fn submit(&mut self) {
        let mut spec = TaskSpec { function: FunctionId(1), ..TaskSpec::default() };
        match self.load {
            Load::Plain => {}
            Load::TimeOuts => spec.timeout = Some(Duration::from_secs(60)),
            Load::TwoPriorities => {
                self.urgent = !self.urgent;
                spec.priority = i32::from(self.urgent);
            }
        }
        self.scheduler.submit(spec, self.now).expect("the pool is open");
        self.drain();
    }

    /// The next worker answers.
    fn complete(&mut self) {
        let (id, run) = self.sent.pop_front().expect("every submission was sent to somebody");
        let done = self.scheduler.handle_completed(id, run, Some(RAN), self.now);
        assert_eq!(done, Completion::Final);
        self.drain();
    }

    fn decide(&mut self) {
        self.now += self.step;
        if self.scheduler.poll_timeout().is_some_and(|at| at <= self.now) {
            self.scheduler.handle_timeout(self.now);
            self.drain();
        }
        self.submit();
        self.complete();
    }
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decisions");
    group.throughput(Throughput::Elements(ROUND));
    for (workers, open, load, what) in [
        (2, 32, Load::Plain, "2 workers"),
        (10_000, 160_000, Load::Plain, "10000 workers"),
        (2, 1_000_000, Load::Plain, "2 workers, a million tasks open"),
        (2, 32, Load::TimeOuts, "2 workers, time-outs"),
        (10_000, 160_000, Load::TimeOuts, "10000 workers, time-outs"),
        (2, 32, Load::TwoPriorities, "2 workers, two priorities"),
    ] {
        let mut pool = None;
        group.bench_function(BenchmarkId::from_parameter(what), |bencher| {
            let pool = pool.get_or_insert_with(|| Pool::steady(workers, open, load));
            bencher.iter(|| (0..ROUND).for_each(|_| pool.decide()));
        });
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
