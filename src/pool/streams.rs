//! Where a worker's output comes in: the records of its Python streams, and the pipes behind descriptors 1 and 2.

use std::os::fd::AsFd;

use super::output::{Output, Piece};
use super::waker::{Topic, Waker};
use crate::ipc::{HostFd, OutputReceiver, Said, Stream};
use crate::scheduler::types::{Assignment, TaskId, WorkerId};
use crate::supervisor::{Pipes, read_pipe};

/// What one read takes from a pipe: the size of a pipe.
const READ_BYTES: usize = 64 * 1024;

/// Reads of one source in a row, after which others have their turn: about what a socket or a pipe holds.
const READS: usize = 16;

/// Messages in a row: what a socket's buffer holds of the smallest ones, so that all that was printed before an answer is
/// taken before it.
const MESSAGES: usize = 1024;

/// What is kept of each worker's stderr: a faulthandler stack of a deep recursion with some lines before it.
const TAIL_BYTES: usize = 8 * 1024;

/// What is kept of the stacks that a worker shows when it dies: a hundred frames, which is the most that `faulthandler`
/// shows of a thread, several times. The main thread, where tasks run, comes last.
const STACK_BYTES: usize = 32 * 1024;

/// Begins the report of a fatal signal, in a message of its own.
const FATAL: &[u8] = b"Fatal Python error: ";

/// The last bytes of a stream.
#[derive(Debug)]
pub(super) struct Tail<const BYTES: usize = TAIL_BYTES>(Vec<u8>);

impl<const BYTES: usize> Default for Tail<BYTES> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<const BYTES: usize> Tail<BYTES> {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(BYTES);
        self.0.drain(..excess);
    }

    pub(super) fn take_text(&mut self) -> String {
        let bytes = std::mem::take(&mut self.0);
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

/// The report of a fatal signal: its first line, and the stacks.
#[derive(Debug, Default)]
pub(super) struct Fatal {
    title: Vec<u8>,
    stacks: Tail<STACK_BYTES>,
}

impl Fatal {
    /// A piece of a stack has come. `false`: it is not of such a report.
    fn push(&mut self, text: &[u8]) -> bool {
        if text.starts_with(FATAL) {
            *self = Self { title: text.to_vec(), stacks: Tail::default() };
        } else if self.title.is_empty() {
            return false;
        } else if self.title.contains(&b'\n') || self.title.len() > TAIL_BYTES {
            self.stacks.push(text);
        } else {
            self.title.extend_from_slice(text);
        }
        true
    }

    pub(super) fn take_text(&mut self) -> String {
        let title = std::mem::take(&mut self.title);
        let text = format!("{}{}", String::from_utf8_lossy(&title), self.stacks.take_text());
        text.trim_end().to_owned()
    }
}

/// The descriptors of one worker, and what is remembered of what came.
#[derive(Debug, Default)]
pub(super) struct Streams {
    stdout: Option<HostFd>,
    stderr: Option<HostFd>,
    records: Option<OutputReceiver>,
    scratch: Vec<u8>,
    pub(super) tail: Tail,
    /// What it has shown of itself in its last moment.
    pub(super) fatal: Fatal,
    /// A stack on its way.
    pub(super) stack: Option<Vec<u8>>,
}

/// Who prints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaker {
    pub(super) pid: i32,
    /// What it runs: descriptors do not say who wrote to them.
    pub(super) begun: Option<TaskId>,
    /// The last task that there is: what names a later one is garbage.
    pub(super) newest: u64,
}

impl Streams {
    pub(super) fn install(&mut self, pipes: Pipes, records: OutputReceiver, waker: &Waker, id: WorkerId) {
        if let Some(stdout) = &pipes.stdout {
            waker.watch(stdout.as_fd(), Topic::Stdout, id, true);
        }
        waker.watch(pipes.stderr.as_fd(), Topic::Stderr, id, true);
        waker.watch(records.as_fd(), Topic::Output, id, true);
        *self = Self {
            stdout: pipes.stdout,
            stderr: Some(pipes.stderr),
            records: Some(records),
            ..Self::default()
        };
    }

    /// No more of this topic is to come.
    pub(super) fn close(&mut self, topic: Topic, waker: &Waker, id: WorkerId) {
        match topic {
            Topic::Stdout => unwatch(self.stdout.take(), topic, waker, id),
            Topic::Stderr => unwatch(self.stderr.take(), topic, waker, id),
            Topic::Output => unwatch(self.records.take(), topic, waker, id),
            Topic::Link | Topic::Exit | Topic::Asked => {}
        }
    }

    /// Take what is there. `false` once there will be no more.
    pub(super) fn read(&mut self, topic: Topic, speaker: Speaker, output: &Output) -> bool {
        match topic {
            Topic::Stdout => self.read_raw(Stream::Stdout, speaker, output),
            Topic::Stderr => self.read_raw(Stream::Stderr, speaker, output),
            Topic::Output => self.read_records(speaker, output),
            Topic::Link | Topic::Exit | Topic::Asked => true,
        }
    }

    /// Take what is there of everything.
    pub(super) fn read_all(&mut self, speaker: Speaker, output: &Output) {
        for topic in [Topic::Output, Topic::Stdout, Topic::Stderr] {
            self.read(topic, speaker, output);
        }
    }

    fn read_records(&mut self, speaker: Speaker, output: &Output) -> bool {
        let Some(records) = &self.records else { return false };
        for _ in 0..MESSAGES {
            match records.receive(&mut self.scratch) {
                Ok(Some(Said::Text(Assignment { task, .. }, stream, text))) => {
                    if stream == Stream::Stderr {
                        self.tail.push(text);
                    }
                    let known = (1..=speaker.newest).contains(&task.0);
                    let task = if known { Some(task) } else { None };
                    output.push(Piece { task, pid: speaker.pid, stream, raw: false, bytes: text.to_vec() });
                }
                Ok(Some(Said::Stack(from, text))) => {
                    let fatal = if from.is_none_or(|from| from == speaker.pid) {
                        self.fatal.push(text)
                    } else {
                        true // a child's: its parent's end is not told by it
                    };
                    if fatal {
                        // Where such reports go without us.
                        let (task, pid, stream) = (speaker.begun, speaker.pid, Stream::Stderr);
                        output.push(Piece { task, pid, stream, raw: true, bytes: text.to_vec() });
                    } else if let Some(stack) = &mut self.stack {
                        stack.extend_from_slice(text);
                    }
                }
                Ok(None) => return false,
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn read_raw(&mut self, stream: Stream, speaker: Speaker, output: &Output) -> bool {
        let pipe = if stream == Stream::Stdout { &self.stdout } else { &self.stderr };
        let Some(pipe) = pipe else { return false };
        if self.scratch.len() < READ_BYTES {
            self.scratch.resize(READ_BYTES, 0);
        }
        // Never up to the end of the file: a process that a task has started may hold the pipe and write for ever.
        for _ in 0..READS {
            match read_pipe(pipe, &mut self.scratch) {
                Ok(0) => return false,
                Ok(read) => {
                    let bytes = self.scratch[..read].to_vec();
                    if stream == Stream::Stderr {
                        self.tail.push(&bytes);
                    }
                    output.push(Piece { task: speaker.begun, pid: speaker.pid, stream, raw: true, bytes });
                }
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

fn unwatch(fd: Option<impl AsFd>, topic: Topic, waker: &Waker, id: WorkerId) {
    if let Some(fd) = fd {
        waker.watch(fd.as_fd(), topic, id, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_keeps_the_end() {
        let mut tail: Tail = Tail::default();
        for line in 0..2000 {
            tail.push(format!("line {line}\n").as_bytes());
        }
        let text = tail.take_text();
        assert!(text.len() <= TAIL_BYTES);
        assert!(text.ends_with("line 1999"), "{text}");
    }

    #[test]
    fn the_report_of_a_fatal_signal_is_told_from_other_stacks_and_bounded() {
        let mut fatal = Fatal::default();
        assert!(!fatal.push(b"Thread 0x1 (most recent call first):\n"), "somebody has asked for that");
        let pieces: [&[u8]; 4] = [b"Fatal Python error: ", b"Aborted", b"\n\n", b"Current thread\n"];
        for piece in pieces {
            assert!(fatal.push(piece));
        }
        assert_eq!(fatal.take_text(), "Fatal Python error: Aborted\n\nCurrent thread");
        assert!(!fatal.push(b"  File"), "that was it");
        for piece in pieces {
            fatal.push(piece);
        }
        for frame in 0..5000 {
            fatal.push(format!("  File \"x.py\", line {frame} in f\n").as_bytes());
        }
        let text = fatal.take_text();
        assert!(text.starts_with("Fatal Python error: Aborted\n\n") && text.ends_with("line 4999 in f"));
        assert!(text.len() < STACK_BYTES + 100);
    }
}
