//! The one thread of a pool that waits for the world: answers, exits, deadlines. It never wants the GIL.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shared;
use super::core::Core;
use super::evidence::Baseline;
use super::waker::{Event, Topic};
use crate::ipc::block_all_signals;
use crate::supervisor::{OomCounters, SpawnSpec, spawn};

/// Waking this much later than planned means that the whole process (or machine) stood still.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread's body.
pub(super) fn run(shared: &Arc<Shared>, spec: SpawnSpec) {
    block_all_signals();
    let mut driver = Driver { shared: Arc::clone(shared), spec, counters: OomCounters::default() };
    let why = match catch_unwind(AssertUnwindSafe(|| driver.work())) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!(
            "the pool is broken: its descriptors are gone ({error}); something in this process has closed them"
        )),
        Err(_) => Some("the pool is broken by a bug in disttask (see stderr): please report it".to_owned()),
    };
    if let Some(why) = why {
        shared.core.lock().abandon(&why);
    }
    shared.ident.output.close();
    drop(driver); // with the descriptors that new workers would get
    shared.arena.dissolve();
    let mut gone = shared.gone.lock();
    *gone = true;
    shared.went.notify_all();
}

struct Driver {
    shared: Arc<Shared>,
    spec: SpawnSpec,
    counters: OomCounters,
}

impl Driver {
    fn work(&mut self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut events = Vec::new();
        while self.spawn_one() {
            let (until, timeout) = {
                let mut core = shared.core.lock();
                let until = if core.spawns.is_empty() { core.next_wake() } else { Some(core.now()) };
                core.sleeps_until = until;
                (until, until.map(|until| until.saturating_sub(core.now())))
            };
            let timeout = if self.may_sleep() { timeout } else { Some(Duration::ZERO) };
            shared.waker.wait(timeout, &mut events)?;
            let mut core = shared.core.lock();
            let now = core.now();
            core.sleeps_until = Some(now); // nobody needs to ring while we are awake
            if let Some(gap) = until.map(|until| now.saturating_sub(until)).filter(|&gap| gap > PAUSE) {
                core.scheduler.handle_pause(gap);
            }
            for event in &events {
                handle(&mut core, event);
            }
            // Answers first: what is done in time is not late.
            let now = core.now();
            core.look_at_all(now);
            core.scheduler.handle_timeout(now);
            core.look_at_memory(now);
            core.results.evict(now);
            core.run_actions(now);
            if core.next_tick().is_some_and(|due| due <= now) {
                core.tick();
            }
            let rest_due = std::mem::take(&mut core.rest_due);
            drop(core);
            if rest_due {
                shared.arena.rest();
            }
        }
        Ok(())
    }

    /// Have answers wake us, if anybody wants that; those that came before do not, so look again.
    fn may_sleep(&self) -> bool {
        let wanted = self.shared.attention.load(Ordering::SeqCst) > 0;
        self.shared.bell.arm_driver(wanted);
        if !wanted && self.shared.attention.load(Ordering::SeqCst) > 0 {
            return false; // whoever came meanwhile has found us armed, perhaps, and not rung
        }
        !wanted || !self.shared.core.lock().has_news()
    }

    /// Start one of the processes that are wanted: without the lock, since it takes milliseconds, and one at a time, so
    /// that answers do not wait for all of them. `false` at the end.
    fn spawn_one(&mut self) -> bool {
        let mut core = self.shared.core.lock();
        let Some(id) = core.spawns.pop_front() else { return !core.finished };
        let doomed = core.seat(id).is_none_or(|seat| seat.doomed);
        if doomed {
            core.spawn_failed(id, &std::io::Error::other("no longer wanted"));
            return true;
        }
        core.renew(&mut self.spec);
        drop(core);
        let spawned = spawn(&self.spec, &self.shared.bell, self.shared.waker.bell());
        let baseline =
            spawned.as_ref().ok().map(|spawned| Baseline::of(spawned.process.pid(), &mut self.counters));
        let mut core = self.shared.core.lock();
        match spawned {
            Ok(spawned) => core.install(id, spawned, baseline),
            Err(error) => core.spawn_failed(id, &error),
        }
        true
    }
}

fn handle(core: &mut Core, event: &Event) {
    let worker = event.worker;
    match event.topic {
        Topic::Exit => core.reap(worker),
        Topic::Asked => core.asked(worker),
        Topic::Stdout | Topic::Stderr | Topic::Output => core.hear(worker, event.topic),
        Topic::Link => {
            if event.writable {
                core.flush(worker);
            }
            if event.readable {
                core.greeted(worker);
            }
        }
    }
}
