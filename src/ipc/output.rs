//! What tasks print: records over a socket that keeps messages apart, so that a worker that is killed in the middle of
//! one, or two threads that print at once, leave nothing torn.
//!
//! A message is a header and some text. One that does not begin like a header is a piece of a stack: the signal handler
//! that writes those (Python's `faulthandler`) knows of no headers.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send, sockopt};

use super::HostFd;
use super::per_process::PerProcess;
use crate::scheduler::types::{Assignment, Attempt, TaskId};

/// The longest text in a message: small enough for any socket buffer, large enough that floods take few calls.
pub const MAX_RECORD_BYTES: usize = 32 * 1024;

/// A partial line is sent on when it is longer than this: a quarter of a record, as buffered streams do.
const LINE_BYTES: usize = 8 * 1024;

/// Begins a header. No stack, which is ASCII, begins so.
const MAGIC: u8 = 0xF5;

/// magic u8, stream u8, nothing u16, attempt u32, task u64
const HEADER_BYTES: usize = 16;

/// Where a text was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `sys.stdout`, or descriptor 1.
    Stdout,
    /// `sys.stderr`, or descriptor 2.
    Stderr,
    /// A record of Python's `logging`: the line's length as u32, the line, and all of it as JSON.
    Log,
}

impl Stream {
    const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Log];

    /// As Python calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Log => "log",
        }
    }

    /// The other way.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }
}

/// The worker's end. Any thread may use it; a send may block until the host has read.
#[derive(Debug)]
pub struct OutputSender {
    socket: OwnedFd,
    task: AtomicU64,
    attempt: AtomicU32,
    /// Something was printed since somebody asked.
    spoke: AtomicBool,
    /// A process that a task forks begins its own: its parent goes on with this one, and a thread of its parent that was
    /// printing holds the lock for ever there.
    partial: PerProcess<Mutex<Vec<u8>>>,
}

impl OutputSender {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            task: AtomicU64::new(0),
            attempt: AtomicU32::new(0),
            spoke: AtomicBool::new(false),
            partial: PerProcess::new(),
        }
    }

    /// From now on what is printed is this task's; the one that it was before.
    pub fn begin(&self, run: Assignment) -> Assignment {
        let before = self.run();
        self.task.store(run.task.0, Ordering::Relaxed);
        self.attempt.store(run.attempt.0, Ordering::Relaxed);
        before
    }

    fn run(&self) -> Assignment {
        Assignment {
            task: TaskId(self.task.load(Ordering::Relaxed)),
            attempt: Attempt(self.attempt.load(Ordering::Relaxed)),
        }
    }

    /// Whether anything was printed since the last call.
    pub fn take_spoke(&self) -> bool {
        self.spoke.load(Ordering::Relaxed) && self.spoke.swap(false, Ordering::Relaxed)
    }

    /// Whether something stands in descriptor 1 or 2 that the host has not read.
    pub fn raw_waits() -> bool {
        let waits = |fd: BorrowedFd<'_>| rustix::io::ioctl_fionread(fd).is_ok_and(|bytes| bytes > 0);
        waits(rustix::stdio::stdout()) || waits(rustix::stdio::stderr())
    }

    /// Print a part of a line that need not be sent yet. `false`: use [`Self::write`], which may block.
    pub fn append(&self, stream: Stream, bytes: &[u8]) -> bool {
        if stream != Stream::Stdout || memchr::memchr(b'\n', bytes).is_some() {
            return false;
        }
        let Ok(mut partial) = self.partial.get().try_lock() else { return false };
        let fits = partial.len() + bytes.len() <= LINE_BYTES;
        if fits {
            self.spoke.store(true, Ordering::Relaxed);
            partial.extend_from_slice(bytes);
        }
        fits
    }

    /// Print: whole lines are sent at once, as is everything to stderr.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        self.spoke.store(true, Ordering::Relaxed);
        match stream {
            Stream::Stdout => {
                let mut partial = self.partial();
                partial.extend_from_slice(bytes);
                let whole =
                    memchr::memrchr(b'\n', bytes).map_or(0, |at| partial.len() - bytes.len() + at + 1);
                let ready = if partial.len() - whole > LINE_BYTES { partial.len() } else { whole };
                self.send_all(stream, &partial[..ready]);
                partial.drain(..ready);
            }
            Stream::Stderr => self.send_all(stream, bytes),
            Stream::Log => self.send(stream, &bytes[..bytes.len().min(MAX_RECORD_BYTES)]),
        }
    }

    /// Send what stands in a partial line.
    pub fn flush(&self) {
        let mut partial = self.partial();
        self.send_all(Stream::Stdout, &partial);
        partial.clear();
    }

    /// The beginning of a line of stdout. Whoever comes here may wait for another thread's write.
    fn partial(&self) -> MutexGuard<'_, Vec<u8>> {
        self.partial.get().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In records that end at line or character boundaries where they can.
    fn send_all(&self, stream: Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = cut(bytes);
            self.send(stream, &bytes[..at]);
            bytes = &bytes[at..];
        }
    }

    fn send(&self, stream: Stream, bytes: &[u8]) {
        let run = self.run();
        let mut message = Vec::with_capacity(HEADER_BYTES + bytes.len());
        message.extend([MAGIC, stream as u8, 0, 0]);
        message.extend(run.attempt.0.to_le_bytes());
        message.extend(run.task.0.to_le_bytes());
        message.extend(bytes);
        // Any other error: the host is gone, and so are we in a moment.
        while send(&self.socket, &message, SendFlags::NOSIGNAL) == Err(Errno::INTR) {}
    }

    /// The descriptor, for the signal handler that writes stacks.
    pub fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Where to cut a text so that the first part fits a record.
fn cut(bytes: &[u8]) -> usize {
    let Some(head) = bytes.get(..MAX_RECORD_BYTES).filter(|head| head.len() < bytes.len()) else {
        return bytes.len();
    };
    if let Some(line) = memchr::memrchr(b'\n', head) {
        return line + 1;
    }
    let is_boundary = |at: &usize| bytes[*at] & 0xC0 != 0x80;
    (head.len() - 3..=head.len()).rev().find(is_boundary).unwrap_or(head.len())
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A task printed this.
    Text(Assignment, Stream, &'a [u8]),
    /// A piece of a stack, and the process that wrote it: a child that a task has forked has the same socket.
    Stack(Option<i32>, &'a [u8]),
}

/// The host's end.
#[derive(Debug)]
pub struct OutputReceiver(HostFd);

impl OutputReceiver {
    pub(super) fn new(socket: OwnedFd) -> Self {
        // Should that fail, what comes is taken for the worker's own.
        let _ = sockopt::set_socket_passcred(&socket, true);
        Self(HostFd::new(socket))
    }

    /// The next message. `Err(WouldBlock)`: none now. `Ok(None)`: there will be no more.
    pub fn receive<'a>(&self, buffer: &'a mut Vec<u8>) -> std::io::Result<Option<Said<'a>>> {
        if buffer.len() < HEADER_BYTES + MAX_RECORD_BYTES {
            buffer.resize(HEADER_BYTES + MAX_RECORD_BYTES, 0); // once
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let read = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut buffer[..])], &mut control, flags) {
                Ok(got) => break got.bytes,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        };
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid.as_raw_nonzero().get()),
            _ => None,
        });
        Ok(if read == 0 { None } else { Some(decode(sender, &buffer[..read])) })
    }
}

fn decode(sender: Option<i32>, message: &[u8]) -> Said<'_> {
    let stream = message.get(1).and_then(|&number| Stream::ALL.get(usize::from(number)));
    match (message.split_first_chunk::<HEADER_BYTES>(), stream) {
        (Some((header, text)), Some(&stream)) if header[0] == MAGIC => {
            let attempt = Attempt(u32::from_le_bytes(header[4..8].try_into().expect("four bytes")));
            let task = TaskId(u64::from_le_bytes(header[8..16].try_into().expect("eight bytes")));
            Said::Text(Assignment { task, attempt }, stream, text)
        }
        _ => Said::Stack(sender, message),
    }
}

impl AsFd for OutputReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OutputSender, OutputReceiver) {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair");
        (OutputSender::new(theirs), OutputReceiver::new(ours))
    }

    fn next(receiver: &OutputReceiver) -> Option<(u64, Stream, String)> {
        match receiver.receive(&mut Vec::new()) {
            Ok(Some(Said::Text(run, stream, text))) => {
                Some((run.task.0, stream, String::from_utf8(text.to_vec()).expect("cut between characters")))
            }
            Ok(Some(Said::Stack(_, text))) => panic!("a stack: {text:?}"),
            Ok(None) | Err(_) => None,
        }
    }

    fn run(task: u64) -> Assignment {
        Assignment { task: TaskId(task), attempt: Attempt(1) }
    }

    #[test]
    fn lines_of_stdout_go_whole_and_stderr_at_once() {
        let (sender, receiver) = pair();
        sender.begin(run(7));
        assert!(!sender.take_spoke());
        sender.write(Stream::Stdout, b"a");
        assert_eq!(next(&receiver), None, "half a line");
        sender.write(Stream::Stderr, b"e");
        sender.write(Stream::Stdout, b"b\nc");
        assert_eq!(next(&receiver), Some((7, Stream::Stderr, "e".to_owned())));
        assert_eq!(next(&receiver), Some((7, Stream::Stdout, "ab\n".to_owned())));
        assert!(sender.take_spoke() && !sender.take_spoke());
        sender.flush();
        assert_eq!(next(&receiver), Some((7, Stream::Stdout, "c".to_owned())));
        assert_eq!(sender.begin(run(8)), run(7));
    }

    #[test]
    fn a_long_text_is_cut_at_lines_or_between_characters() {
        let (sender, receiver) = pair();
        let text = "ä".repeat(MAX_RECORD_BYTES); // an odd number of bytes would cut one in half
        sender.write(Stream::Stderr, format!("x{text}").as_bytes());
        let mut got = String::new();
        while let Some((_, _, piece)) = next(&receiver) {
            got.push_str(&piece);
        }
        assert_eq!(got, format!("x{text}"));
        assert_eq!(cut(&[b"line\n".repeat(MAX_RECORD_BYTES).as_slice(), b"x"].concat()) % 5, 0);
    }

    #[test]
    fn what_has_no_header_is_of_a_stack_and_the_end_is_told() {
        let (sender, receiver) = pair();
        rustix::io::write(&sender.socket, b"Stack (most recent call first):\n").expect("room");
        let mut buffer = Vec::new();
        let said = receiver.receive(&mut buffer).expect("a message");
        let own = Some(std::process::id().cast_signed());
        assert_eq!(said, Some(Said::Stack(own, b"Stack (most recent call first):\n")));
        drop(sender);
        assert_eq!(receiver.receive(&mut buffer).expect("the end"), None);
    }
}
