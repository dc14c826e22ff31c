//! What workers write to descriptor 2: the last lines are kept for the error that may follow, and everything is
//! passed on to the host's own stderr. The driver never waits for that: a thread of its own may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::ipc::block_all_signals;
use crate::supervisor::write_to_stderr;

/// What is kept of each worker: a faulthandler stack of a deep recursion with some lines before it.
const TAIL_BYTES: usize = 8 * 1024;

/// Bytes that may wait for the host's stderr. Beyond it output is dropped, and said to be: a terminal that somebody has
/// stopped with Ctrl-S must not stop the pool.
const PUMP_BYTES: usize = 16 << 20;

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
    waiting: Arc<AtomicUsize>,
    dropped: usize,
}

impl Pump {
    pub(super) fn start() -> std::io::Result<Self> {
        let (chunks, incoming) = unbounded::<Vec<u8>>();
        let (ending, ended) = bounded(1);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        std::thread::Builder::new().name("disttask-stderr".into()).spawn(move || {
            block_all_signals();
            for chunk in incoming {
                let written = write_to_stderr(&chunk);
                counter.fetch_sub(chunk.len(), Ordering::Relaxed);
                if written.is_err() {
                    break; // the host has closed its stderr: nobody wants to read this
                }
            }
            drop(ending);
        })?;
        Ok(Self { chunks, ended, waiting, dropped: 0 })
    }

    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        if self.waiting.load(Ordering::Relaxed) + bytes.len() > PUMP_BYTES {
            self.dropped += bytes.len();
            return;
        }
        self.tell_dropped();
        self.send(bytes);
    }

    fn tell_dropped(&mut self) {
        if self.dropped > 0 {
            let notice = format!("\n[disttask: {} bytes of worker stderr dropped]\n", self.dropped);
            self.dropped = 0;
            self.send(notice.into_bytes());
        }
    }

    fn send(&self, bytes: Vec<u8>) {
        self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        let _ = self.chunks.send(bytes); // fails when the thread has given up, for good
    }

    /// Let the thread write what is waiting, for a bounded time.
    pub(super) fn close(mut self) {
        self.tell_dropped();
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
