//! What workers write to descriptor 2: the last lines are kept for the error that may follow, and everything is
//! passed on to the host's own stderr. The driver never waits for that: a thread of its own may.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::ipc::block_all_signals;
use crate::supervisor::write_to_stderr;

/// What is kept of each worker: a faulthandler stack of a deep recursion with some lines before it.
const TAIL_BYTES: usize = 8 * 1024;

/// Chunks (of at most 64 kB) that may wait for the host's stderr. Beyond it output is dropped, and said to be:
/// a terminal that somebody has stopped with Ctrl-S must not stop the pool.
const PUMP_CHUNKS: usize = 256;

/// How long the end of the pool waits for the host's stderr to take the rest.
const PUMP_CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(TAIL_BYTES);
        self.0.drain(..excess);
    }

    pub(super) fn take_text(&mut self) -> String {
        let bytes = std::mem::take(&mut self.0);
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

/// The thread that writes to the host's stderr.
#[derive(Debug)]
pub(super) struct Pump {
    chunks: Sender<Vec<u8>>,
    ended: Receiver<()>,
    dropped: usize,
}

impl Pump {
    pub(super) fn start() -> std::io::Result<Self> {
        let (chunks, waiting) = bounded::<Vec<u8>>(PUMP_CHUNKS);
        let (ending, ended) = bounded(1);
        std::thread::Builder::new().name("disttask-stderr".into()).spawn(move || {
            block_all_signals();
            for chunk in waiting {
                if write_to_stderr(&chunk).is_err() {
                    break; // the host has closed its stderr: nobody wants to read this
                }
            }
            drop(ending);
        })?;
        Ok(Self { chunks, ended, dropped: 0 })
    }

    pub(super) fn push(&mut self, mut bytes: Vec<u8>) {
        let length = bytes.len();
        if self.dropped > 0 {
            let mut notice =
                format!("\n[disttask: {} bytes of worker stderr dropped]\n", self.dropped).into_bytes();
            notice.append(&mut bytes);
            bytes = notice;
        }
        match self.chunks.try_send(bytes) {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += length,
        }
    }

    /// Let the thread write what is waiting, for a bounded time.
    pub(super) fn close(self) {
        drop(self.chunks);
        let _ = self.ended.recv_timeout(PUMP_CLOSE_LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_keeps_the_end() {
        let mut tail = Tail::default();
        for line in 0..2000 {
            tail.push(format!("line {line}\n").as_bytes());
        }
        let text = tail.take_text();
        assert!(text.len() <= TAIL_BYTES);
        assert!(text.ends_with("line 1999"), "{text}");
    }
}
