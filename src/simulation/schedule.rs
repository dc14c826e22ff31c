//! One schedule: scheduler, world and oracle, and the dice that decide what happens next.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::dice::Dice;
use super::event::{Answer, Event};
use super::oracle::{Oracle, Terms};
use super::tally::Tally;
use super::values::Values;
use super::weather::{Weather, Whim};
use super::world::{Move, Process, World};
use crate::scheduler::Scheduler;
use crate::scheduler::planted::Bug;
use crate::scheduler::types::{Action, Completion, Shutdown, Time, WorkerId, WorkerPhase};

/// A quiet world must come to its end within so many steps: several times what the longest of the first hundred thousand
/// schedules takes, where hundreds of tasks raise and are tried again, and each process is given one or two of them.
const QUIET_STEPS: usize = 20_000;

/// So many actions in a row come to an end: far more than tasks at once in any schedule.
const AT_ONCE: usize = 10_000;

/// Said messages that are remembered, to be said again.
const ECHOES: usize = 24;

/// What happened, if somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Log(pub(super) Option<Vec<String>>);

impl Log {
    fn note(&mut self, now: Time, line: fmt::Arguments<'_>) {
        if let Some(lines) = &mut self.0 {
            lines.push(format!("{now:>12.3?}  {line}"));
        }
    }
}

/// Which schedule, of which scheduler.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) bug: Option<Bug>,
    /// Let the scheduler check its own tables, too. Without, the oracle is on its own.
    pub(super) cross_check: bool,
}

/// What is next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Process(usize, Move),
    Whim(Whim),
}

pub(super) struct Schedule<'a> {
    pub(super) now: Time,
    pub(super) dice: Dice,
    pub(super) weather: Weather,
    pub(super) scheduler: Scheduler,
    pub(super) world: World,
    pub(super) oracle: Oracle,
    pub(super) tally: &'a mut Tally,
    /// Asked for, and not yet carried out: the driver takes its time, too.
    pub(super) pending: VecDeque<Action>,
    /// What processes said and was heard, the last few.
    pub(super) said: VecDeque<Event>,
    pub(super) shut_down: Option<Shutdown>,
    pub(super) values: Values,
    cross_check: bool,
    log: &'a mut Log,
    choices: Vec<(u64, Choice)>,
}

/// Run a schedule to its end.
///
/// # Panics
/// Where a promise is broken.
pub(super) fn run(plan: Plan, log: &mut Log, tally: &mut Tally) {
    let mut schedule = Schedule::new(plan, log, tally);
    let steps = 40 + schedule.dice.below(81);
    for _ in 0..steps {
        schedule.step();
    }
    schedule.note(format_args!("the world goes quiet"));
    schedule.quiet();
    schedule.oracle.check_quiet(&schedule.scheduler);
    schedule.feed(Event::Shutdown(Shutdown::Drain));
    schedule.quiet();
    schedule.oracle.check_end(&schedule.scheduler);
    schedule.tally.schedules += 1;
    schedule.tally.count_corners(&schedule.oracle.corners);
    schedule.tally.retried += schedule.scheduler.totals().retried;
}

impl<'a> Schedule<'a> {
    fn new(plan: Plan, log: &'a mut Log, tally: &'a mut Tally) -> Self {
        let mut dice = Dice::new(plan.seed);
        let now = dice.up_to(Duration::from_secs(1));
        let workers = 1 + dice.below(4) as u32;
        let weather = Weather::roll(&mut dice);
        let mut scheduler = Scheduler::new(workers, dice.seed(), now);
        scheduler.planted = plan.bug;
        let terms = Terms { tasks: dice.one_in(4).then(|| 1 + dice.below(6) as u32), slow: dice.one_in(5) };
        if let Some(limit) = terms.tasks.and_then(NonZeroU32::new) {
            scheduler.limit_tasks(limit);
        }
        if terms.slow {
            scheduler.allow_slow_starts();
        }
        let mut schedule = Self {
            now,
            dice,
            weather,
            scheduler,
            world: World::default(),
            oracle: Oracle::new(workers, terms, now),
            tally,
            pending: VecDeque::new(),
            said: VecDeque::new(),
            shut_down: None,
            values: Values::default(),
            cross_check: plan.cross_check,
            log,
            choices: Vec::new(),
        };
        schedule.note(format_args!("{workers} workers, {terms:?}, {weather:?}"));
        schedule.settle();
        schedule.carry_out();
        schedule
    }

    pub(super) fn note(&mut self, line: fmt::Arguments<'_>) {
        self.log.note(self.now, line);
    }

    /// Tell the scheduler and the oracle, and hold what they say against each other. The actions are seen after
    /// each event, so that the oracle knows what they follow from; they are carried out after the batch.
    pub(super) fn feed(&mut self, event: Event) -> Answer {
        self.note(format_args!("{event:?}"));
        self.tally.events += 1;
        let expected = self.oracle.hear(event, self.now);
        let answer = event.feed(&mut self.scheduler, self.now);
        assert!(answer == expected, "{event:?} is answered with {answer:?} instead of {expected:?}");
        self.tally.count_answer(answer);
        if answer != Answer::Nothing {
            self.note(format_args!("  = {answer:?}"));
        }
        self.settle();
        self.follow(event, answer);
        answer
    }

    fn settle(&mut self) {
        while let Some(action) = self.scheduler.poll_action() {
            self.note(format_args!("  -> {action:?}"));
            self.tally.count_action(action);
            self.oracle.see(action, self.now);
            self.pending.push_back(action);
        }
        self.oracle.settle(&self.scheduler, self.now);
        if self.cross_check {
            self.scheduler.sanity_check();
        }
    }

    pub(super) fn carry_out(&mut self) {
        for _ in 0..AT_ONCE {
            if self.tell_of_a_value() {
                continue;
            }
            let Some(action) = self.pending.pop_front() else { return };
            if let Action::Fail(id, _) = action {
                self.values.ended(id, false);
            }
            if let Action::Retract(id, count) = action {
                let back = self.world.retract(id, count);
                self.feed(Event::Retracted(id, back));
                continue;
            }
            let birth = self.weather.birth(&mut self.dice);
            self.world.carry_out(action, birth);
        }
        panic!("one action leads to the next, and no end of it: {:?}", self.pending);
    }

    fn step(&mut self) {
        self.tally.steps += 1;
        if self.dice.one_in(30) {
            self.weather = Weather::roll(&mut self.dice);
        }
        if self.dice.one_in(2) {
            self.now += self.dice.up_to(self.weather.pace);
        }
        match self.choose() {
            Choice::Process(index, what) => self.act(index, what),
            Choice::Whim(whim) => self.indulge(whim),
        }
        if self.is_due() && !self.dice.one_in(4) {
            self.time_out();
        }
        if self.dice.below(8) >= self.weather.lag {
            self.carry_out();
        }
    }

    fn choose(&mut self) -> Choice {
        self.choices.clear();
        for (index, process) in self.world.processes.iter().enumerate() {
            let weigh = |what| (self.weather.weigh_move(process, what), Choice::Process(index, what));
            self.choices.extend(Move::ALL.into_iter().map(weigh));
        }
        let accepting = self.scheduler.is_accepting();
        let weigh = |what| (self.weather.weigh_whim(what, accepting), Choice::Whim(what));
        self.choices.extend(Whim::ALL.into_iter().map(weigh));
        let total = self.choices.iter().map(|(weight, _)| weight).sum();
        let mut rest = self.dice.below(total);
        for &(weight, choice) in &self.choices {
            match rest.checked_sub(weight) {
                Some(less) => rest = less,
                None => return choice,
            }
        }
        unreachable!("the dice fall below the total")
    }

    /// Told to leave, or sentenced to.
    fn is_doomed(&self, worker: WorkerId) -> bool {
        let mut workers = self.scheduler.workers();
        workers.any(|(id, phase, _)| id == worker && phase == WorkerPhase::Draining)
    }

    fn is_due(&self) -> bool {
        self.scheduler.poll_timeout().is_some_and(|at| at <= self.now)
    }

    pub(super) fn time_out(&mut self) {
        self.tally.timeouts += 1;
        self.feed(Event::Timeout);
    }

    /// A process, or the system around it, does something.
    fn act(&mut self, index: usize, what: Move) {
        let process = &mut self.world.processes[index];
        let id = process.id;
        self.log.note(self.now, format_args!("{what:?} {id:?}"));
        match what {
            Move::Miscarry => self.miscarry(index),
            Move::Boot => process.boot(),
            Move::Begin => {
                let run = process.begin();
                self.tally.begun += 1;
                self.oracle.begun(id, run);
            }
            Move::Finish => {
                let run = process.running().expect("it is at work");
                let function = self.oracle.function(run.task);
                process.finish(self.weather.ran(function, &mut self.dice));
            }
            Move::Raise => {
                let run = process.running().expect("it is at work");
                let function = self.oracle.function(run.task);
                process.raise(self.weather.ran(function, &mut self.dice));
            }
            Move::Leave => {
                process.die();
                self.tally.left += 1;
            }
            Move::Die => {
                let death = process.die();
                self.tally.count_death(death);
            }
            Move::Fall => drop(process.die()),
            Move::Deliver => {
                let message = process.deliver();
                self.say(message);
            }
            Move::Reap => self.reap(index, false),
            Move::ReapDeaf => self.reap(index, true),
            Move::Freeze => {
                process.freeze();
                self.tally.frozen += 1;
            }
            Move::Thaw => process.thaw(self.dice.up_to(World::BEAT), self.now),
        }
    }

    fn miscarry(&mut self, index: usize) {
        let (transient, message) = self.world.miscarry(index);
        self.tally.count_failed_start(transient);
        self.say(message);
    }

    /// The driver sees for itself which processes cannot be started.
    pub(super) fn miscarry_all(&mut self) {
        let stillborn = |process: &Process| process.can(Move::Miscarry);
        while let Some(index) = self.world.processes.iter().position(stillborn) {
            self.miscarry(index);
        }
    }

    /// What the process still had to say counts if it is heard before the exit, and only then.
    fn reap(&mut self, index: usize, deaf: bool) {
        let (messages, exit) = self.world.reap(index);
        if deaf {
            self.world.late.extend(messages);
        } else {
            for message in messages {
                self.say(message);
            }
        }
        self.say(exit);
    }

    fn say(&mut self, message: Event) {
        let killed =
            matches!(message, Event::Completed(id, ..) | Event::Raised(id, ..) if self.is_doomed(id));
        if self.feed(message) == Answer::Completion(Completion::Final) {
            self.tally.last_words += u64::from(killed);
        }
        if self.said.len() == ECHOES {
            self.said.pop_front();
        }
        self.said.push_back(message);
    }

    /// Let everything come to rest: nobody dies of himself any more, and time passes only where nothing else
    /// can happen.
    fn quiet(&mut self) {
        self.world.calm_down(self.now);
        for _ in 0..QUIET_STEPS {
            self.tally.steps += 1;
            self.carry_out();
            self.choices.clear();
            for (index, process) in self.world.processes.iter().enumerate() {
                let harmless = |what| match what {
                    Move::Die | Move::Freeze | Move::ReapDeaf => false,
                    Move::Miscarry
                    | Move::Boot
                    | Move::Begin
                    | Move::Finish
                    | Move::Raise
                    | Move::Leave
                    | Move::Fall
                    | Move::Deliver
                    | Move::Reap
                    | Move::Thaw => process.can(what),
                };
                let possible = Move::ALL.into_iter().filter(|&what| harmless(what));
                self.choices.extend(possible.map(|what| (1, Choice::Process(index, what))));
            }
            if !self.world.late.is_empty() {
                self.deliver_late();
            } else if !self.choices.is_empty() {
                let (_, choice) = self.choices[self.dice.index(self.choices.len())];
                if let Choice::Process(index, what) = choice {
                    self.act(index, what);
                }
            } else if let Some(at) = self.scheduler.poll_timeout() {
                self.now = self.now.max(at);
                self.time_out();
            } else {
                return;
            }
        }
        panic!("a quiet world does not come to rest: the next timer is {:?}", self.scheduler.poll_timeout());
    }
}
