//! The alarm of a soft time-out: a signal to the worker's main thread, which alone can be interrupted in a system call.
//!
//! The signal says nothing but "look". Whether what runs now is over its time, and has not been told so, is looked at here
//! when the main thread comes to it; so a signal that is late, or was meant for an earlier task, finds nothing to do.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::signals::soft_signal;

/// The signal is sent again so often until it was heeded. One that comes between the interpreter's last look and a system
/// call does not interrupt that, and there are moments in which nobody may be interrupted.
const AGAIN: Duration = Duration::from_millis(50);

/// A timer of the kernel's, on the monotonic clock: the one interval timer of the process is left to the task.
#[derive(Debug)]
struct Timer(usize);

impl Timer {
    /// Its signals go to the calling thread.
    fn new() -> io::Result<Self> {
        // SAFETY: all of `sigevent` may be zero; the fields that `SIGEV_THREAD_ID` needs are set. `timer_create` reads it, and
        // writes the number of the new timer.
        unsafe {
            let mut event: libc::sigevent = MaybeUninit::zeroed().assume_init();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = soft_signal();
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer: libc::timer_t = std::ptr::null_mut();
            if libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(timer.expose_provenance()))
        }
    }

    /// First after `wait`, then again and again; `None`: no more.
    fn set(&self, wait: Option<Duration>) {
        let spec = |time: Duration| libc::timespec {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // Nothing left to wait is not "no more".
        let first = wait.map_or(Duration::ZERO, |wait| wait.max(Duration::from_nanos(1)));
        let again = if wait.is_some() { AGAIN } else { Duration::ZERO };
        let times = libc::itimerspec { it_interval: spec(again), it_value: spec(first) };
        // SAFETY: the timer is one of this process; the times are read. In a forked child, which has no timers, the number
        // names nothing, and the call fails.
        unsafe {
            libc::timer_settime(
                std::ptr::with_exposed_provenance_mut(self.0),
                0,
                &raw const times,
                std::ptr::null_mut(),
            );
        }
    }
}

/// What the main thread runs, and when that is over its time.
#[derive(Debug, Default)]
pub struct SoftTimer(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Made by the first task that needs it.
    timer: Option<Timer>,
    due: Option<Instant>,
}

impl SoftTimer {
    /// What the calling thread, the main one, begins now is to be interrupted then.
    pub fn arm(&self, due: Instant) -> io::Result<()> {
        let state = &mut *self.0.lock();
        let timer = match &mut state.timer {
            Some(timer) => timer,
            none => none.insert(Timer::new()?),
        };
        timer.set(Some(due.saturating_duration_since(Instant::now())));
        state.due = Some(due);
        Ok(())
    }

    /// It has ended.
    pub fn disarm(&self) {
        let state = &mut *self.0.lock();
        if state.due.take().is_some()
            && let Some(timer) = &state.timer
        {
            timer.set(None);
        }
    }

    /// Whether what runs is over its time, and has not been told. `true` once.
    pub fn claim(&self) -> bool {
        let state = &mut *self.0.lock();
        let due = state.due.is_some_and(|due| due <= Instant::now());
        if due {
            state.due = None;
            if let Some(timer) = &state.timer {
                timer.set(None);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_once_and_not_before_its_time_or_after_its_task() {
        super::super::block_all_signals();
        let soft = SoftTimer::default();
        assert!(!soft.claim(), "nothing runs");
        soft.arm(Instant::now() + Duration::from_secs(60)).expect("a timer");
        assert!(!soft.claim(), "there is a minute left");
        soft.arm(Instant::now()).expect("the same timer");
        assert!(soft.claim());
        assert!(!soft.claim(), "it was told");
        soft.arm(Instant::now()).expect("the same timer");
        soft.disarm();
        assert!(!soft.claim(), "it has ended");
    }
}
