//! The scheduler in a fake world, through a hundred thousand schedules.
//!
//! A schedule is all that can happen to a pool in half a minute or a day of its life: tasks come, workers are
//! slow, answer late, answer twice, freeze, die in every state that they can be in; tasks are sent to them ahead of time,
//! on estimates that are right or wildly wrong, and taken back again; the clock leaps, the pool is shut down in the
//! middle of it all. What happens is thrown by dice (`dice`, `weather`), so one number, the
//! seed, names a schedule, and the same number brings it back.
//!
//! Three parties take part. The *world* (`world`) knows what the processes really do. The *scheduler* hears of
//! it through messages that take their time. The *oracle* (`oracle`) hears the same and works out, with none of
//! the scheduler's code, what it has promised: after every single event, what it answers, what it asks for and
//! what its getters say must be just that, and its own tables must agree with each other. In the end the world
//! goes quiet, and everything that was accepted must have been resolved, once.
//!
//! A check that has never caught anything is not known to work. So the tests ask for the storms to have really
//! happened (`tally`), and for bugs that are planted in the scheduler to be found.
//!
//! A failing test names its seed and shows the events; to see a seed again:
//! `DISTTASK_SEED=<n> cargo test --no-default-features --lib simulation::replay -- --nocapture`.

mod dice;
mod event;
mod oracle;
mod schedule;
mod search;
mod tally;
mod values;
mod weather;
mod whims;
mod world;

use std::env;
use std::io::{self, Write as _};
use std::time::Instant;

use schedule::{Log, Plan};
use search::Failure;
use tally::Tally;

use crate::scheduler::planted::Bug;

/// How many schedules a planted bug may take to be found.
const PATIENCE: u64 = 20_000;

/// A number from the environment.
fn from_env(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Print past the test harness, which keeps to itself what passing tests print.
fn say(text: &str) {
    writeln!(io::stdout().lock(), "{text}").expect("standard output is open");
}

/// `DISTTASK_SCHEDULES` asks for more or fewer of them, `DISTTASK_SEED_BASE` for others.
#[test]
fn a_hundred_thousand_schedules() {
    let base = from_env("DISTTASK_SEED_BASE").unwrap_or(0);
    let count = from_env("DISTTASK_SCHEDULES").unwrap_or(100_000);
    let start = Instant::now();
    let tally = search::search(base, count).unwrap_or_else(|failure| panic!("{}", failure.report()));
    say(&format!("simulated in {:.1?}, from seed {base} on:\n{tally}", start.elapsed()));
    assert_eq!(tally.schedules, count);
    for (label, seen) in tally.rows() {
        assert!(seen > 0, "in all these schedules there was nothing of this: {label}");
    }
}

/// The first schedule to find this bug, and which in the row it was.
fn hunt(bug: Bug, cross_check: bool) -> Option<(u64, Failure)> {
    (0..PATIENCE).find_map(|seed| {
        let plan = Plan { seed, bug: Some(bug), cross_check };
        search::probe(plan, &mut Tally::default()).err().map(|failure| (seed + 1, failure))
    })
}

/// Each one must be found by the whole, and by the oracle alone: it is the oracle that speaks for the promises.
#[test]
fn planted_bugs_are_caught() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        for (cross_check, by) in [(true, "all checks"), (false, "the oracle")] {
            let Some((schedules, failure)) = hunt(bug, cross_check) else {
                missed.push((bug, by));
                continue;
            };
            let (seed, message) = (failure.seed, failure.first_line());
            say(&format!("{bug:?}: caught by {by} after {schedules} schedules, seed {seed}: {message}"));
            let sound = Plan { seed, bug: None, cross_check };
            search::probe(sound, &mut Tally::default())
                .unwrap_or_else(|failure| panic!("{}", failure.report()));
        }
    }
    assert!(missed.is_empty(), "planted, and not caught in {PATIENCE} schedules: {missed:?}");
}

/// Nothing but the seed decides: no hash order, no address, no clock.
#[test]
fn a_seed_names_one_schedule() {
    for seed in 0..500 {
        let play = || {
            let mut log = Log(Some(Vec::new()));
            let plan = Plan { seed, bug: None, cross_check: false };
            let outcome = search::attempt(plan, &mut log, &mut Tally::default());
            (outcome, log.0)
        };
        assert_eq!(play(), play(), "seed {seed}");
    }
}

/// Shows the schedule that `DISTTASK_SEED` names; without one there is nothing to do.
#[test]
fn replay() {
    let Some(seed) = from_env("DISTTASK_SEED") else { return };
    let mut log = Log(Some(Vec::new()));
    let plan = Plan { seed, bug: None, cross_check: true };
    let outcome = search::attempt(plan, &mut log, &mut Tally::default());
    for line in log.0.unwrap_or_default() {
        say(&line);
    }
    if let Err(message) = outcome {
        panic!("seed {seed}: {message}");
    }
    say(&format!("seed {seed} passes"));
}
