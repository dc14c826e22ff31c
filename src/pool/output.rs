//! What tasks print, on the host's side: kept with the task, and queued for whoever shows it.
//!
//! Native threads put it here and never wait; one Python thread (and whoever is in `result()`) takes it out. Both sides are
//! bounded: what is too much is dropped, and that is said.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::ipc::Stream;
use crate::scheduler::TaskMap;
use crate::scheduler::types::TaskId;

/// Bytes that may wait to be shown: a terminal that somebody has stopped with Ctrl-S must neither stop the pool nor fill
/// the memory.
const LIVE_BYTES: usize = 16 << 20;

/// One piece of it: large enough that a flood takes few calls of Python, small enough to be written in a moment.
const PIECE_BYTES: usize = 64 * 1024;

/// What is kept of one task: the end of a long log. The beginning goes first.
const KEPT_TASK_BYTES: usize = 256 * 1024;

/// What is kept of all tasks together; the task that printed first goes first.
const KEPT_BYTES: usize = 32 << 20;

/// Tasks of which anything is known: as many as results are kept by default.
const KEPT_TASKS: usize = 100_000;

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The task, where that is known.
    pub task: Option<TaskId>,
    /// The worker.
    pub pid: i32,
    /// Where it was written to.
    pub stream: Stream,
    /// It came from descriptor 1 or 2, and may be cut anywhere.
    pub raw: bool,
    /// The text.
    pub bytes: Vec<u8>,
}

/// The output of one pool.
#[derive(Debug, Default)]
pub struct Output {
    state: Mutex<State>,
    arrived: Condvar,
    /// Bytes that have not been shown.
    unshown: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    kept: TaskMap<Kept>,
    /// Tasks in `kept`, in order of their first output.
    order: VecDeque<TaskId>,
    kept_bytes: usize,
    live: VecDeque<Piece>,
    live_bytes: usize,
    /// Bytes of the piece that was taken last.
    in_hand: usize,
    dropped: usize,
    closed: bool,
}

#[derive(Debug, Default)]
struct Kept {
    texts: VecDeque<(Stream, Vec<u8>)>,
    bytes: usize,
    dropped: usize,
}

impl Output {
    /// A worker has said this. It never waits.
    pub(super) fn push(&self, piece: Piece) {
        let mut state = self.state.lock();
        let text = match piece.stream {
            Stream::Stdout | Stream::Stderr => &piece.bytes,
            Stream::Log => log_line(&piece.bytes),
        };
        if let Some(task) = piece.task {
            state.keep(task, piece.stream, text);
        }
        let bytes = piece.bytes.len();
        if state.live_bytes + bytes > LIVE_BYTES {
            state.dropped += bytes;
            return;
        }
        let noticed = state.tell_dropped();
        state.enqueue(piece);
        drop(state);
        self.unshown.fetch_add(bytes + noticed, Ordering::Release);
        self.arrived.notify_all();
    }

    /// Whether something has not been shown. One load.
    pub fn is_pending(&self) -> bool {
        self.unshown.load(Ordering::Acquire) > 0
    }

    /// Wait until there is something to take, at most so long. `false`: there will never be.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        while state.live.is_empty() && !state.closed {
            if self.arrived.wait_until(&mut state, deadline).timed_out() {
                return true;
            }
        }
        !state.live.is_empty()
    }

    /// The next piece. To ask for it says that the one before has been shown: whoever shows them may be cut short between
    /// any two steps, and must not have to say it in another.
    pub fn take(&self) -> Option<Piece> {
        let mut state = self.state.lock();
        let shown = std::mem::take(&mut state.in_hand);
        if state.live.is_empty() {
            let noticed = state.tell_dropped();
            self.unshown.fetch_add(noticed, Ordering::Release);
        }
        self.unshown.fetch_sub(shown, Ordering::Release);
        let piece = state.live.pop_front()?;
        state.in_hand = piece.bytes.len();
        state.live_bytes -= piece.bytes.len();
        Some(piece)
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }

    /// What is kept of a task's output, of one stream or, in order of arrival, of all; and how many bytes before it are not
    /// kept any more.
    pub fn of_task(&self, task: TaskId, stream: Option<Stream>) -> (String, usize) {
        let state = self.state.lock();
        let Some(kept) = state.kept.get(task) else { return (String::new(), 0) };
        let mut bytes = Vec::with_capacity(kept.bytes);
        for (from, text) in &kept.texts {
            if stream.is_none_or(|stream| stream == *from) {
                bytes.extend_from_slice(text);
            }
        }
        let dropped = kept.dropped;
        drop(state);
        (String::from_utf8_lossy(&bytes).into_owned(), dropped)
    }
}

/// What stands before an output whose beginning is not kept.
pub fn dropped_notice(bytes: usize) -> String {
    format!("[disttask: {bytes} bytes before this are not kept]\n")
}

impl State {
    fn enqueue(&mut self, piece: Piece) {
        self.live_bytes += piece.bytes.len();
        if let Some(last) = self.live.back_mut()
            && (last.task, last.pid, last.stream, last.raw)
                == (piece.task, piece.pid, piece.stream, piece.raw)
            && piece.stream != Stream::Log
            && last.bytes.len() + piece.bytes.len() <= PIECE_BYTES
        {
            last.bytes.extend_from_slice(&piece.bytes);
        } else {
            self.live.push_back(piece);
        }
    }

    /// Bytes of the notice.
    fn tell_dropped(&mut self) -> usize {
        if self.dropped == 0 {
            return 0;
        }
        let notice = format!("\n[disttask: {} bytes of task output dropped]\n", self.dropped).into_bytes();
        self.dropped = 0;
        let bytes = notice.len();
        self.enqueue(Piece { task: None, pid: 0, stream: Stream::Stderr, raw: false, bytes: notice });
        bytes
    }

    fn keep(&mut self, task: TaskId, stream: Stream, text: &[u8]) {
        if !self.kept.contains(task) {
            self.kept.insert(task, Kept::default());
            self.order.push_back(task);
        }
        let Some(kept) = self.kept.get_mut(task) else { return };
        self.kept_bytes += text.len();
        self.kept_bytes -= kept.push(stream, text);
        while self.kept_bytes > KEPT_BYTES || self.order.len() > KEPT_TASKS {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(gone) = self.kept.remove(oldest) {
                self.kept_bytes -= gone.bytes;
            }
        }
    }
}

impl Kept {
    /// How many bytes had to go.
    fn push(&mut self, stream: Stream, text: &[u8]) -> usize {
        match self.texts.back_mut() {
            // Short runs, so that the beginning can go in small steps.
            Some((last, run)) if *last == stream && run.len() < KEPT_TASK_BYTES / 16 => {
                run.extend_from_slice(text);
            }
            _ => self.texts.push_back((stream, text.to_vec())),
        }
        self.bytes += text.len();
        let mut gone = 0;
        while self.bytes > KEPT_TASK_BYTES {
            let Some((_, first)) = self.texts.pop_front() else { break };
            self.bytes -= first.len();
            gone += first.len();
        }
        self.dropped += gone;
        gone
    }
}

/// The line of a log record; see [`Stream::Log`].
fn log_line(record: &[u8]) -> &[u8] {
    let line =
        record.split_first_chunk::<4>().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest));
    line.and_then(|(length, rest)| rest.get(..length)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(task: u64, stream: Stream, text: &str) -> Piece {
        Piece { task: Some(TaskId(task)), pid: 1, stream, raw: false, bytes: text.as_bytes().to_vec() }
    }

    fn taken(output: &Output) -> Vec<(Option<u64>, String)> {
        std::iter::from_fn(|| output.take())
            .map(|piece| (piece.task.map(|task| task.0), String::from_utf8_lossy(&piece.bytes).into_owned()))
            .collect()
    }

    #[test]
    fn it_is_kept_by_task_and_stream_and_shown_once() {
        let output = Output::default();
        output.push(piece(1, Stream::Stdout, "a\n"));
        output.push(piece(1, Stream::Stdout, "b\n"));
        output.push(piece(2, Stream::Stderr, "c\n"));
        output.push(piece(1, Stream::Stderr, "d\n"));
        assert!(output.is_pending());
        let shown = taken(&output);
        assert_eq!(shown, [(Some(1), "a\nb\n".into()), (Some(2), "c\n".into()), (Some(1), "d\n".into())]);
        assert!(!output.is_pending());
        assert_eq!(output.of_task(TaskId(1), None), ("a\nb\nd\n".into(), 0));
        assert_eq!(output.of_task(TaskId(1), Some(Stream::Stderr)).0, "d\n");
        assert_eq!(output.of_task(TaskId(3), None), (String::new(), 0));
    }

    #[test]
    fn a_flood_is_dropped_and_that_is_said() {
        let output = Output::default();
        let line = "x".repeat(PIECE_BYTES);
        for _ in 0..2 * LIVE_BYTES / PIECE_BYTES {
            output.push(piece(1, Stream::Stdout, &line));
        }
        let shown = taken(&output);
        let bytes: usize = shown.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes <= LIVE_BYTES + 100, "{bytes}");
        assert_eq!(shown.last().map(|(task, _)| *task), Some(None));
        assert!(shown.last().is_some_and(|(_, text)| text.contains("16777216 bytes")), "{:?}", shown.last());
        assert!(!output.is_pending());
        let (kept, gone) = output.of_task(TaskId(1), None);
        assert!(kept.len() <= KEPT_TASK_BYTES && gone == 2 * LIVE_BYTES - kept.len(), "{gone}");
    }

    #[test]
    fn all_of_it_together_is_bounded() {
        let output = Output::default();
        let text = "x".repeat(KEPT_TASK_BYTES);
        let tasks = (2 * KEPT_BYTES / KEPT_TASK_BYTES) as u64;
        for task in 1..=tasks {
            output.push(piece(task, Stream::Stdout, &text));
            taken(&output);
        }
        assert!(output.state.lock().kept_bytes <= KEPT_BYTES);
        assert_eq!(output.of_task(TaskId(1), None).0, "");
        assert_eq!(output.of_task(TaskId(tasks), None).0.len(), KEPT_TASK_BYTES);
    }

    #[test]
    fn the_line_of_a_log_record_is_kept() {
        let output = Output::default();
        let record = [&9_u32.to_le_bytes()[..], b"INFO:x:y\n{}"].concat();
        output.push(Piece { bytes: record, ..piece(1, Stream::Log, "") });
        output.push(Piece { bytes: vec![255; 8], ..piece(1, Stream::Log, "") }); // somebody else's bytes
        assert_eq!(output.of_task(TaskId(1), None).0, "INFO:x:y\n");
    }

    #[test]
    fn whoever_waits_hears_of_the_end() {
        let output = Output::default();
        assert!(output.wait(Duration::ZERO), "there may be more");
        output.push(piece(1, Stream::Stdout, "a"));
        output.close();
        assert!(output.wait(Duration::ZERO));
        taken(&output);
        assert!(!output.wait(Duration::from_secs(60)));
    }
}
