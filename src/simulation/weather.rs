//! How likely what is. Each schedule rolls its own, and rolls again on the way: a storm in which everything
//! happens at once never gets into the corners that one cause alone leads to.

use std::num::NonZeroU32;
use std::time::Duration;

use super::dice::Dice;
use super::world::{Birth, Move, Process};
use crate::scheduler::types::{Backoff, FunctionId, TaskSpec};

/// What the application, the clock or the network does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whim {
    Submit,
    /// Many tasks at once, of one kind.
    Burst,
    Cancel,
    /// Somebody wants a task stopped that runs, or has just ended.
    Stop,
    Restart,
    /// What a process runs, or has just said to have ended, was seen to take too much memory.
    Swell,
    /// One worker is replaced when it is done, or all are, or there are to be more or fewer.
    Turnover,
    Shutdown,
    /// A message arrives for the second time.
    Echo,
    /// A message arrives after its sender's exit.
    Late,
    /// The driver reads all heartbeats.
    Beats,
    /// Some time passes; the driver keeps up with it.
    Wait,
    /// As `Wait`, for as long as limits are.
    Sleep,
    /// A leap in time that the driver slept through.
    Pause,
    /// `handle_timeout`, due or not.
    Timeout,
}

impl Whim {
    pub(super) const ALL: [Self; 15] = [
        Self::Submit,
        Self::Burst,
        Self::Cancel,
        Self::Stop,
        Self::Swell,
        Self::Restart,
        Self::Turnover,
        Self::Shutdown,
        Self::Echo,
        Self::Late,
        Self::Beats,
        Self::Wait,
        Self::Sleep,
        Self::Pause,
        Self::Timeout,
    ];
}

#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a cause of its own")]
pub(super) struct Weather {
    deaths: u64,
    frost: u64,
    work: u64,
    load: u64,
    meddling: u64,
    turnover: u64,
    noise: u64,
    raises: u64,
    closing: u64,
    time: u64,
    /// Processes die before they are ready, all of them.
    cursed: bool,
    /// They die as soon as they are ready, and there is little to do.
    sickly: bool,
    /// Of eight new processes so many never shake hands.
    hanging: u64,
    /// Of eight so many cannot even be started.
    failing: u64,
    /// Initializers fail now and then.
    unfit: bool,
    /// The reason is one that may pass.
    transient: bool,
    /// So much time goes by between two things that happen, at most. Workers that are heard of often are sent more.
    pub(super) pace: Duration,
    bursts: u64,
    /// In so many of eight moments the driver does not come to what it is to do. What happens in between it has to bear:
    /// an answer may be out of date before it is given.
    pub(super) lag: u64,
    /// Low: what workers say is heard late, when they have long gone on.
    hearing: u64,
    /// Of so many tasks one takes far longer, or shorter, than others of its function. 0: none does.
    surprises: u64,
}

impl Weather {
    pub(super) fn roll(dice: &mut Dice) -> Self {
        Self {
            deaths: dice.pick(&[0, 1, 1, 2, 4, 8]),
            frost: dice.pick(&[0, 0, 0, 1, 4]),
            work: dice.pick(&[5, 15, 40]),
            load: dice.pick(&[1, 5, 15]),
            meddling: dice.pick(&[0, 1, 3]),
            turnover: dice.pick(&[0, 0, 1, 4]),
            noise: dice.pick(&[0, 1, 4]),
            raises: dice.pick(&[0, 0, 1, 3]),
            closing: u64::from(dice.one_in(6)),
            time: dice.pick(&[1, 3, 8]),
            cursed: dice.one_in(25),
            sickly: dice.one_in(25),
            hanging: dice.pick(&[0, 0, 0, 0, 1, 5]),
            failing: dice.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 8]),
            unfit: dice.one_in(30),
            transient: dice.one_in(2),
            pace: Duration::from_micros(dice.pick(&[2, 20, 300, 3000, 3000])),
            bursts: dice.pick(&[0, 1, 3]),
            lag: dice.pick(&[1, 1, 1, 4, 7]),
            hearing: dice.pick(&[1, 10, 10, 10, 40]),
            surprises: dice.pick(&[0, 5, 50]),
        }
    }

    /// What becomes of the next process that is asked for.
    pub(super) fn birth(&self, dice: &mut Dice) -> Birth {
        if dice.below(8) < self.failing {
            Birth::Fails { transient: self.transient }
        } else if dice.below(8) < self.hanging {
            Birth::Hangs
        } else if self.unfit && dice.one_in(4) {
            Birth::Unfit
        } else {
            Birth::Sound
        }
    }

    /// Zero where the process cannot do this.
    pub(super) fn weigh_move(&self, process: &Process, what: Move) -> u64 {
        match what {
            _ if !process.can(what) => 0,
            Move::Miscarry => 20,
            Move::Boot if self.cursed => 0,
            Move::Deliver => self.hearing,
            Move::Boot => self.work.max(10),
            Move::Begin | Move::Finish => self.work,
            Move::Raise => self.raises,
            Move::Leave | Move::Fall => 4,
            Move::Reap => 10,
            Move::ReapDeaf => self.noise,
            Move::Die if self.cursed => 20,
            Move::Die if self.sickly && process.is_up() => 20,
            Move::Die if process.is_at_work() => 4 * self.deaths,
            Move::Die => self.deaths,
            Move::Freeze => self.frost,
            Move::Thaw => 1,
        }
    }

    /// Once the pool takes no more tasks, less of the time is spent on being refused.
    pub(super) fn weigh_whim(&self, what: Whim, accepting: bool) -> u64 {
        match what {
            Whim::Submit if !accepting || self.sickly => 1,
            Whim::Burst if !accepting || self.sickly => 0,
            Whim::Burst => self.bursts,
            Whim::Submit => 2 * self.load,
            Whim::Cancel | Whim::Stop | Whim::Restart => self.meddling,
            Whim::Swell => 2 * self.meddling,
            Whim::Turnover => self.turnover,
            Whim::Shutdown => self.closing,
            Whim::Echo | Whim::Late => 2 * self.noise,
            Whim::Beats => 1 + 3 * self.frost,
            Whim::Wait => self.time,
            Whim::Sleep if self.cursed || self.sickly || self.frost > 0 || self.failing > 4 => 2 + self.time,
            Whim::Sleep => self.time / 2,
            Whim::Pause | Whim::Timeout => self.noise.min(1),
        }
    }
}

/// How long the functions of the simulation take, in nanoseconds. What the first takes nobody is told. What a worker
/// says that one took, and how long the schedule lets it run, have nothing to do with each other: the estimates of the
/// scheduler are often right, and often wrong.
const USUAL: [u64; 6] = [1, 800, 15_000, 45_000, 400_000, 3_000_000];

impl Weather {
    /// How long a worker says that a task of this function took, if it does.
    pub(super) fn ran(&self, function: FunctionId, dice: &mut Dice) -> Option<Duration> {
        let usual = USUAL[function.0 as usize];
        let ran = match dice.below(20) {
            0 => return None,
            _ if self.surprises > 0 && dice.one_in(self.surprises) => usual * dice.pick(&[0, 20, 1000]),
            _ => usual + dice.below(usual),
        };
        Some(Duration::from_nanos(ran))
    }
}

/// Any task, the extremes included.
pub(super) fn any_spec(dice: &mut Dice) -> TaskSpec {
    let timeout = match dice.below(15) {
        0..9 => None,
        9 => Some(Duration::ZERO),
        10 => Some(dice.up_to(Duration::from_millis(2))),
        11 => Some(dice.up_to(Duration::from_millis(50))),
        12 => Some(dice.up_to(Duration::from_secs(5))),
        13 => Some(dice.up_to(Duration::from_secs(100))),
        _ => Some(Duration::MAX),
    };
    TaskSpec {
        function: FunctionId(dice.index(USUAL.len()) as u32),
        priority: dice.pick(&[0, 0, 0, 0, 1, 1, -1, 7, i32::MAX, i32::MIN]),
        retries: dice.pick(&[0, 0, 0, 1, 1, 2, 3, 5, 8, u32::MAX]),
        crash_limit: NonZeroU32::new(dice.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 3, u32::MAX])),
        timeout,
        retry_timeouts: dice.one_in(3),
        max_memory: dice.one_in(5).then_some(1),
        retry_over_memory: dice.one_in(3),
        backoff: Backoff {
            base_ms: dice.pick(&[100, 100, 0, 3, 40_000]),
            cap_ms: dice.pick(&[30_000, 0, 700]),
        },
    }
}
