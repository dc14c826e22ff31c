//! The protocol of lanes and bells, checked: every order in which host and worker may come, up to a bound on how often one
//! interrupts the other. `DISTTASK_INTERRUPTIONS` sets that bound (3 explores for minutes).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loom::sync::{Condvar, Mutex as Checked};
use loom::thread;

use super::atomic::{Counter, Memory};
use super::bell::{arm, sleep_while, tell, wake};
use super::host_lane::HostLane;
use super::lane::{ResultHead, TASK_TAIL, TaskHead};
use super::protocol_model::{Flaw, Futex, Killed, Model};
use super::worker_lane::WorkerLane;
use crate::scheduler::types::{Assignment, Attempt, TaskId};

/// Interruptions of one thread by another that are tried. Two find every bug that is planted here, in seconds.
const INTERRUPTIONS: usize = 2;

/// A worker that never dies.
const IMMORTAL: usize = usize::MAX;

/// Payloads whose frames take one, two and two lines of a ring of four: the third stands behind padding, where the first one
/// stood.
const AROUND: [usize; 3] = [8, 40, 40];

/// Five small frames: the fifth stands exactly where the first one stood.
const FIVE: [usize; 5] = [8; 5];

fn check(scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let bound = std::env::var("DISTTASK_INTERRUPTIONS").ok().and_then(|bound| bound.parse().ok());
    builder.preemption_bound = Some(bound.unwrap_or(INTERRUPTIONS));
    builder.max_branches = 10_000;
    builder.check(scenario);
}

/// What exploring it finds wrong.
fn found(scenario: impl Fn() + Send + Sync + 'static) -> String {
    let found = catch_unwind(AssertUnwindSafe(|| check(scenario))).expect_err("the bug was not found");
    found
        .downcast::<String>()
        .map_or_else(|other| (*other.downcast::<&str>().expect("a text")).to_owned(), |text| *text)
}

fn run(task: u64) -> Assignment {
    Assignment { task: TaskId(task), attempt: Attempt(1) }
}

const WORK: u32 = 1;
const STOP: u32 = 2;
/// Has no result, as the definition of a function.
const QUIET: u32 = 3;

fn head(task: u64, kind: u32) -> TaskHead {
    TaskHead { run: run(task), kind, function: 0, bytes: 0 }
}

/// The driver's eventfd.
#[derive(Default)]
struct Event {
    rung: Checked<bool>,
    bell: Condvar,
}

impl Event {
    fn ring(&self) {
        *self.rung.lock().expect("no panic") = true;
        self.bell.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().expect("no panic");
        while !std::mem::take(&mut *rung) {
            rung = self.bell.wait(rung).expect("no panic");
        }
    }
}

/// What both sides share besides the lane.
struct World {
    bell: Futex,
    driver: Event,
    /// Tasks that the worker has begun to run: what the host must never believe it has back. No part of the model.
    ran: Mutex<Vec<u64>>,
}

impl World {
    fn new(flaw: Flaw) -> Arc<Self> {
        Arc::new(Self { bell: Futex::new(flaw), driver: Event::default(), ran: Mutex::default() })
    }
}

/// The worker's loop, until it is told to stop; `answer` bytes in each result. What it does besides the lane's own is what
/// `WorkerLink` does.
fn work(mut lane: WorkerLane<Model>, world: &World, answer: usize, may_sleep: bool) {
    let call = || {
        if !wake(&world.bell) {
            world.driver.ring();
        }
    };
    let mut payload = Vec::new();
    loop {
        let Some(frame) = lane.take().expect("not garbled") else {
            if !may_sleep {
                return;
            }
            lane.sleep_for_task(call);
            continue;
        };
        payload.clear();
        lane.payload(&frame, &mut payload);
        lane.release(&frame);
        if frame.head.kind == STOP {
            return;
        }
        if frame.head.kind == QUIET {
            continue;
        }
        let task = frame.head.run.task.0;
        assert_eq!(payload, vec![task as u8; frame.head.bytes], "torn");
        world.ran.lock().expect("no panic").push(task);
        let head = ResultHead { run: frame.head.run, kind: 1, nanos: task, bytes: answer };
        while !lane.publish(head, &[&vec![task as u8; answer]]) {
            lane.sleep_for_room(call);
        }
        tell(&world.bell, || world.driver.ring());
    }
}

/// What the host has come to know.
#[derive(Default)]
struct Known {
    done: Vec<u64>,
    back: Vec<u64>,
}

fn receive(lane: &mut HostLane<Model>, known: &mut Known) -> bool {
    let before = known.done.len();
    let mut payload = Vec::new();
    while let Some(result) = lane.receive(&mut payload).expect("not garbled") {
        assert_eq!(payload, vec![result.nanos as u8; result.bytes], "torn");
        assert_eq!(result.run, run(result.nanos));
        known.done.push(result.nanos);
        payload.clear();
    }
    known.done.len() > before
}

/// Receive, sleeping as the leader of the waiting threads does, until `enough`.
fn wait(
    lane: &mut HostLane<Model>,
    world: &World,
    known: &mut Known,
    enough: impl Fn(&HostLane<Model>, &Known) -> bool,
) {
    sleep_while(&world.bell, || {
        if receive(lane, known) {
            wake(lane.bell()); // as `Core::pump` does
        }
        (!enough(lane, known)).then_some(Duration::MAX)
    });
}

fn send(lane: &mut HostLane<Model>, world: &World, known: &mut Known, head: TaskHead, bytes: usize) {
    while !lane.send(head, &vec![head.run.task.0 as u8; bytes]) {
        // As the pool does: whoever comes for results, or is rung, looks whether what waits for room has some.
        wait(lane, world, known, |lane, _| lane.has_more_room());
    }
    wake(lane.bell());
}

/// The host sends these and takes `retracted` of them back if it can; each must be done or taken back, and not both.
fn send_and_take_back(flaw: Flaw, lengths: &'static [usize], retracted: &'static [u64], answer: usize) {
    let (ours, theirs) = Model::pair(flaw, IMMORTAL);
    let world = World::new(flaw);
    let mut lane = HostLane::new(ours, 1);
    let there = Arc::clone(&world);
    let worker = thread::spawn(move || work(WorkerLane::new(theirs), &there, answer, true));
    let mut known = Known::default();
    for (task, &bytes) in (1..).zip(lengths) {
        send(&mut lane, &world, &mut known, head(task, WORK), bytes);
        if retracted.contains(&task) && lane.retract(run(task)) {
            known.back.push(task);
        }
    }
    let all = lengths.len();
    wait(&mut lane, &world, &mut known, |_, known| known.done.len() + known.back.len() == all);
    send(&mut lane, &world, &mut known, head(0, STOP), 0);
    worker.join().expect("the worker found nothing wrong");
    let ran = world.ran.lock().expect("no panic").clone();
    assert_eq!(ran, known.done, "what ran is what is done, in order");
    let mut each = [known.done, known.back].concat();
    each.sort_unstable();
    assert_eq!(each, (1..=all as u64).collect::<Vec<_>>(), "each done or taken back, once");
}

/// The worker is killed in its `life`th touch of the memory. What it began is answered or charged; the rest is free.
fn die(flaw: Flaw, life: usize) {
    let (ours, theirs) = Model::pair(flaw, life);
    let world = World::new(flaw);
    let mut lane = HostLane::new(ours, 1);
    let there = Arc::clone(&world);
    let worker = thread::spawn(move || {
        let worked = catch_unwind(AssertUnwindSafe(|| work(WorkerLane::new(theirs), &there, 8, false)));
        if let Err(panic) = worked
            && !panic.is::<Killed>()
        {
            std::panic::resume_unwind(panic);
        }
    });
    let mut known = Known::default();
    let mut sent = 0;
    for &bytes in &AROUND {
        if lane.send(head(sent + 1, WORK), &vec![sent as u8 + 1; bytes]) {
            sent += 1;
            wake(lane.bell());
        }
        receive(&mut lane, &mut known);
    }
    if lane.retract(run(sent)) {
        known.back.push(sent);
    }
    worker.join().expect("the worker found nothing wrong");
    receive(&mut lane, &mut known);
    let begun = lane.begun().map(|run| run.task.0);
    for task in 1..=sent {
        let ran = world.ran.lock().expect("no panic").contains(&task);
        let fates = [known.done.contains(&task), known.back.contains(&task), begun == Some(task)];
        let fates = fates.iter().filter(|&&fate| fate).count();
        assert!(fates <= 1, "task {task} has two fates");
        let is_free = !known.done.contains(&task) && begun != Some(task);
        assert!(!(ran && is_free), "task {task} has run, and would run again for free");
    }
}

/// Two tasks and the end, sent before the worker looks.
fn two_are_sent(flaw: Flaw) -> (HostLane<Model>, WorkerLane<Model>) {
    let (ours, theirs) = Model::pair(flaw, IMMORTAL);
    let mut lane = HostLane::new(ours, 1);
    for task in 1..=2 {
        assert!(lane.send(head(task, WORK), &[task as u8; 8]));
    }
    assert!(lane.send(head(0, STOP), &[]));
    (lane, WorkerLane::new(theirs))
}

/// A result may come while the driver decides to sleep until it is rung.
fn driver_hears_of_results(flaw: Flaw) {
    let (mut lane, theirs) = two_are_sent(flaw);
    let (world, mut known) = (World::new(flaw), Known::default());
    let there = Arc::clone(&world);
    let worker = thread::spawn(move || work(theirs, &there, 8, true));
    loop {
        arm(&world.bell);
        receive(&mut lane, &mut known);
        if known.done.len() == 2 {
            break;
        }
        world.driver.wait();
    }
    worker.join().expect("the worker found nothing wrong");
}

/// The leader waits for one result, and goes. What came while it was on its way to look, it brings; of the rest the driver hears,
/// which is armed once and no more.
fn leader_brings_what_it_was_woken_for(flaw: Flaw) {
    let (mut lane, theirs) = two_are_sent(flaw);
    let (world, mut known) = (World::new(flaw), Known::default());
    let there = Arc::clone(&world);
    arm(&world.bell);
    let worker = thread::spawn(move || work(theirs, &there, 8, true));
    let rung = sleep_while(&world.bell, || {
        receive(&mut lane, &mut known);
        known.done.is_empty().then_some(Duration::MAX)
    });
    if rung && flaw != Flaw::NoLastLook {
        receive(&mut lane, &mut known);
    }
    while known.done.len() < 2 {
        world.driver.wait();
        arm(&world.bell);
        receive(&mut lane, &mut known);
    }
    worker.join().expect("the worker found nothing wrong");
}

/// User code has turned the tail back, and the host takes back a task that is done and whose place has a new one.
fn reused_place(flaw: Flaw) {
    let (ours, theirs) = Model::pair(flaw, IMMORTAL);
    let scribbler = ours.another();
    let mut lane = HostLane::new(ours, 1);
    let mut worker = WorkerLane::new(theirs);
    for task in 1..=4 {
        assert!(lane.send(head(task, WORK), &[]));
    }
    let frame = worker.take().expect("not garbled").expect("the first");
    worker.release(&frame);
    assert!(lane.send(head(5, WORK), &[]), "where the first one stood");
    let worker = thread::spawn(move || scribbler.u64(TASK_TAIL).store(0, Ordering::Release));
    assert!(!lane.retract(run(1)), "it is done");
    worker.join().expect("no panic");
    assert!(!lane.retract(run(1)), "it is done");
    assert!(lane.retract(run(5)));
}

#[test]
fn each_task_is_taken_or_taken_back() {
    check(|| send_and_take_back(Flaw::None, &AROUND, &[2, 3], 8));
}

/// A frame without a result makes room as well, and the host has to hear of it.
fn quiet_frames(flaw: Flaw) {
    let (ours, theirs) = Model::pair(flaw, IMMORTAL);
    let world = World::new(flaw);
    let mut lane = HostLane::new(ours, 1);
    let there = Arc::clone(&world);
    let worker = thread::spawn(move || work(WorkerLane::new(theirs), &there, 8, true));
    let mut known = Known::default();
    for _ in 0..3 {
        send(&mut lane, &world, &mut known, head(0, QUIET), 90);
    }
    send(&mut lane, &world, &mut known, head(0, STOP), 0);
    worker.join().expect("the worker found nothing wrong");
}

#[test]
fn room_is_heard_of_without_a_result() {
    check(|| quiet_frames(Flaw::None));
}

#[test]
fn a_place_is_used_again() {
    check(|| send_and_take_back(Flaw::None, &FIVE, &[5], 8));
}

/// Results of half a ring each: the worker waits for room, the host for results, and each wakes the other.
#[test]
fn full_rings_lose_no_wake_up() {
    check(|| send_and_take_back(Flaw::None, &[8, 8, 8], &[], 90));
}

#[test]
fn the_driver_hears_of_every_result() {
    check(|| driver_hears_of_results(Flaw::None));
}

#[test]
fn the_leader_brings_what_it_was_woken_for() {
    check(|| leader_brings_what_it_was_woken_for(Flaw::None));
}

#[test]
fn a_worker_may_die_at_any_touch() {
    for life in 0..70 {
        check(move || die(Flaw::None, life));
    }
}

#[test]
fn a_tail_turned_back_takes_back_nothing_that_is_done() {
    check(|| reused_place(Flaw::None));
}

/// The checker can fail: each of these breaks one thing that the protocol relies on.
#[test]
fn planted_bugs_are_found() {
    let take_back = |flaw| found(move || send_and_take_back(flaw, &[8, 8], &[2], 8));
    let lost = "deadlock";
    let outcomes = [
        (take_back(Flaw::TornSwap), "not garbled"), // a result of what was taken back
        (take_back(Flaw::RelaxedHeads), "Causality violation"),
        (take_back(Flaw::NoFences), lost),
        (take_back(Flaw::NoSecondLook), lost),
        (found(|| driver_hears_of_results(Flaw::NoFences)), lost),
        (found(|| leader_brings_what_it_was_woken_for(Flaw::NoFences)), lost),
        (found(|| leader_brings_what_it_was_woken_for(Flaw::NoLastLook)), lost),
        (found(|| reused_place(Flaw::NoGeneration)), "it is done"),
    ];
    for (found, expected) in outcomes {
        assert!(found.contains(expected), "{found}, and not {expected}");
    }
}
