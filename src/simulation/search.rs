//! Running many schedules, and saying all that is needed about the one that fails.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::schedule::{self, Log, Plan};
use super::tally::Tally;

const THREADS: u64 = 2;

thread_local! {
    /// A panic on this thread is an expected outcome: not a word about it.
    static SEARCHING: Cell<bool> = const { Cell::new(false) };
    /// Where the last such panic was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A schedule that broke a promise.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) message: String,
    pub(super) log: Vec<String>,
}

impl Failure {
    /// Everything, for the reader of a failed test.
    pub(super) fn report(&self) -> String {
        let mut text = format!("seed {}: {}\n\n", self.seed, self.message);
        for line in &self.log {
            let _ = writeln!(text, "{line}");
        }
        let _ = write!(
            text,
            "\nreplay: DISTTASK_SEED={} cargo test --no-default-features --lib simulation::replay -- --nocapture",
            self.seed
        );
        text
    }

    pub(super) fn first_line(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

/// Silence, on threads that search, what a panic prints. The other tests of this process keep their messages.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if SEARCHING.get() {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                PLACE.with_borrow_mut(|slot| *slot = place);
            } else {
                loud(info);
            }
        }));
    });
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

/// Run one schedule; what it broke, if anything. The log is written as it happens, so it ends with the event
/// that failed.
pub(super) fn attempt(plan: Plan, log: &mut Log, tally: &mut Tally) -> Result<(), String> {
    hush();
    let before = SEARCHING.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| schedule::run(plan, log, tally)));
    SEARCHING.set(before);
    outcome.map_err(|payload| {
        let place = PLACE.with_borrow(Clone::clone);
        format!("{} (at {place})", words(&*payload))
    })
}

/// As [`attempt`], without a log; a failing seed is run again with one.
pub(super) fn probe(plan: Plan, tally: &mut Tally) -> Result<(), Failure> {
    attempt(plan, &mut Log(None), tally).map_err(|message| {
        let mut log = Log(Some(Vec::new()));
        let again = attempt(plan, &mut log, &mut Tally::default());
        assert_eq!(again.as_ref(), Err(&message), "seed {} is not repeatable", plan.seed);
        Failure { seed: plan.seed, message, log: log.0.unwrap_or_default() }
    })
}

/// Run all schedules with these seeds, on all threads, until one fails.
pub(super) fn search(base: u64, count: u64) -> Result<Tally, Failure> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut tally = Tally::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(tally);
            }
            let plan = Plan { seed: base.wrapping_add(index), bug: None, cross_check: true };
            if let Err(failure) = probe(plan, &mut tally) {
                next.store(count, Ordering::Relaxed);
                return Err(failure);
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut total = Tally::default();
        for thread in threads {
            total.add(&thread.join().expect("a search thread does not panic")?);
        }
        Ok(total)
    })
}
