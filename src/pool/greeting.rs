//! What a worker says of itself when it has started.

use std::sync::Arc;

use super::core::Core;
use crate::scheduler::types::WorkerId;

/// Begins what a worker says of itself when it cannot be made ready; then come a line that says what failed, and why. No
/// version begins like this.
const UNFIT: &[u8] = b"unfit\n";

impl Core {
    /// The control socket of this worker can be read: it shakes hands, or its end is closed.
    pub(super) fn greeted(&mut self, id: WorkerId) {
        let waker = Arc::clone(&self.waker);
        let now = self.now();
        let (newest, output) = (self.scheduler.submitted(), Arc::clone(&self.output));
        let Some(seat) = self.seat(id) else { return };
        let Some(link) = seat.link.as_mut() else { return };
        let greeted = link.greeted();
        if matches!(greeted, Ok(Some(_))) {
            seat.hear_start(newest, &output);
        }
        match greeted {
            Ok(None) => {}
            Ok(Some(hello)) if hello.starts_with(UNFIT) => self.unfit(id, &hello),
            Ok(Some(hello)) if hello == self.hello => self.scheduler.handle_ready(id, now),
            Ok(Some(hello)) => {
                let problem = format!(
                    "the worker is {}, the host is {}: both must be the same",
                    String::from_utf8_lossy(&hello),
                    String::from_utf8_lossy(&self.hello)
                );
                if let Some(seat) = self.seat(id) {
                    seat.give_up(&problem);
                }
            }
            Err(error) => {
                let Some(seat) = self.seat(id) else { return };
                if let Some(error) = error {
                    seat.give_up(&error.to_string());
                }
                // Its end of the socket is closed, by its death or by its doing; either way it is of no more use.
                seat.hang_up(&waker);
            }
        }
        self.run_actions(now);
    }

    /// It cannot be made ready: that breaks the pool.
    pub(super) fn unfit(&mut self, id: WorkerId, hello: &[u8]) {
        let pid = self.seat(id).and_then(|seat| seat.pid_of(id)).unwrap_or_default();
        let text = String::from_utf8_lossy(&hello[UNFIT.len()..]);
        let (what, why) = text.split_once('\n').unwrap_or((&text, ""));
        let why = format!("the pool is broken: {what} in worker pid {pid}: {why}");
        let now = self.now();
        if self.scheduler.is_starting(id) {
            self.broken.get_or_insert_with(|| why.into());
        }
        self.scheduler.handle_unfit(id, now);
    }

    /// A process has ended. If the last that it said was that it is unfit, that counts.
    pub(super) fn last_word(&mut self, id: WorkerId) {
        let Some(link) = self.seat(id).and_then(|seat| seat.link.as_mut()) else { return };
        if let Ok(Some(hello)) = link.greeted()
            && hello.starts_with(UNFIT)
        {
            self.unfit(id, &hello);
            let now = self.now();
            self.run_actions(now);
        }
    }
}
