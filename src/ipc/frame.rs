//! Frames of the control socket, over which both sides get to know each other: a fixed header, then the payload.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::LinkError;
use crate::scheduler::types::{Assignment, Attempt, TaskId};

/// Far beyond what a greeting holds, near enough to catch a length that is garbage.
const MAX_PAYLOAD_BYTES: u64 = 1 << 30;

/// kind u32, attempt u32, task u64, length u64; little-endian.
pub(super) const HEADER_BYTES: usize = 24;

/// One read takes up to this much: the default of a Linux socket buffer is a little over 200 kB, and a batch of
/// small frames rarely fills this.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// From a worker, over the socket: it shakes hands, with a description of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ready(pub(super) Vec<u8>);

const NOBODY: Assignment = Assignment { task: TaskId(0), attempt: Attempt(0) };

/// A frame whose meaning is the reader's business.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) kind: u32,
    pub(super) assignment: Assignment,
    pub(super) payload: Vec<u8>,
}

pub(super) const KIND_CONFIG: u32 = 1;
pub(super) const KIND_READY: u32 = 2;

/// A header of a frame that speaks of no task.
pub(super) fn greeting(kind: u32, payload_bytes: usize) -> [u8; HEADER_BYTES] {
    header(kind, NOBODY, payload_bytes)
}

pub(super) fn header(kind: u32, assignment: Assignment, payload_bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&kind.to_le_bytes());
    header[4..8].copy_from_slice(&assignment.attempt.0.to_le_bytes());
    header[8..16].copy_from_slice(&assignment.task.0.to_le_bytes());
    header[16..24].copy_from_slice(&(payload_bytes as u64).to_le_bytes());
    header
}

impl TryFrom<Raw> for Ready {
    type Error = LinkError;

    fn try_from(raw: Raw) -> Result<Self, LinkError> {
        match raw.kind {
            KIND_READY => Ok(Self(raw.payload)),
            _ => Err(LinkError::Malformed("unknown kind")),
        }
    }
}

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// This many bytes; look for frames.
    Bytes(usize),
    /// Nothing now (non-blocking sockets only).
    Nothing,
    /// The other side is gone.
    Closed,
}

/// Cuts a stream into frames. Serves both sides; whether a read waits is the socket's business.
#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have been handed out.
    taken: usize,
    /// A payload too large for the buffer, on its way in.
    partial: Option<Raw>,
    /// How many bytes `partial` still wants.
    missing: usize,
}

impl FrameReader {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::with_capacity(READ_BUFFER_BYTES), taken: 0, partial: None, missing: 0 }
    }

    /// Read once.
    pub(super) fn fill(&mut self, socket: impl AsFd) -> Result<Read, LinkError> {
        let got = if let Some(frame) = self.partial.as_mut() {
            debug_assert!(self.missing > 0);
            let spare = frame.payload.spare_capacity_mut();
            let limit = self.missing.min(spare.len());
            let got = read_into(&socket, &mut spare[..limit]);
            if let Ok(read) = got {
                super::shm::assume_filled(&mut frame.payload, read);
                self.missing -= read;
            }
            got
        } else {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            rustix::io::read(socket, spare_capacity(&mut self.buffer))
        };
        match got {
            Ok(0) | Err(Errno::CONNRESET) => Ok(Read::Closed),
            Ok(read) => Ok(Read::Bytes(read)),
            Err(Errno::AGAIN) => Ok(Read::Nothing),
            Err(Errno::INTR) => Ok(Read::Bytes(0)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next whole frame among what was read.
    pub(super) fn next_frame(&mut self) -> Result<Option<Raw>, LinkError> {
        if self.partial.is_some() {
            return Ok(if self.missing == 0 { self.partial.take() } else { None });
        }
        let unread = &self.buffer[self.taken..];
        let Some((header, rest)) = unread.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let (mut frame, length) = decode(header)?;
        let here = length.min(rest.len());
        if here < length && length + HEADER_BYTES <= READ_BUFFER_BYTES {
            return Ok(None); // it will fit the buffer whole
        }
        if frame.payload.try_reserve_exact(length).is_err() {
            return Err(LinkError::NoMemory(length as u64));
        }
        frame.payload.extend_from_slice(&rest[..here]);
        self.taken += HEADER_BYTES + here;
        if here == length {
            return Ok(Some(frame));
        }
        self.missing = length - here;
        self.partial = Some(frame);
        Ok(None)
    }
}

fn read_into(socket: impl AsFd, spare: &mut [MaybeUninit<u8>]) -> rustix::io::Result<usize> {
    let (read, _) = rustix::io::read(socket, spare)?;
    Ok(read.len())
}

fn decode(header: &[u8; HEADER_BYTES]) -> Result<(Raw, usize), LinkError> {
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let kind = u32_at(0);
    if !(KIND_CONFIG..=KIND_READY).contains(&kind) {
        return Err(LinkError::Malformed("unknown kind"));
    }
    let length = u64_at(16);
    if length > MAX_PAYLOAD_BYTES {
        return Err(LinkError::Malformed("impossible length"));
    }
    let assignment = Assignment { task: TaskId(u64_at(8)), attempt: Attempt(u32_at(4)) };
    Ok((Raw { kind, assignment, payload: Vec::new() }, length as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::OwnedFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).expect("socketpair")
    }

    fn job(task: u64) -> Assignment {
        Assignment { task: TaskId(task), attempt: Attempt(3) }
    }

    /// Send `stream` in pieces of `step` bytes and collect the frames.
    fn through(stream: &[u8], step: usize) -> Result<Vec<Raw>, LinkError> {
        let (tx, rx) = pair();
        let mut reader = FrameReader::new();
        let mut frames = Vec::new();
        for piece in stream.chunks(step) {
            assert_eq!(rustix::io::write(&tx, piece), Ok(piece.len()));
            while let Read::Bytes(_) = reader.fill(&rx)? {
                while let Some(frame) = reader.next_frame()? {
                    frames.push(frame);
                }
            }
        }
        drop(tx);
        assert_eq!(reader.fill(&rx)?, Read::Closed);
        Ok(frames)
    }

    #[test]
    fn frames_survive_any_cut() {
        let sizes = [0, 1, 23, 5000, READ_BUFFER_BYTES - HEADER_BYTES, READ_BUFFER_BYTES, 300_001, 7];
        let mut stream = Vec::new();
        for (task, &size) in (0..).zip(&sizes) {
            stream.extend(header(KIND_READY, job(task), size));
            stream.extend((0..size).map(|i| (i * 7 + size) as u8));
        }
        for step in [1, 7, 24, 1000, 65_536, 100_000] {
            let frames = through(&stream, step).expect("well-formed");
            assert_eq!(frames.len(), sizes.len(), "cut into {step}s");
            for ((task, &size), frame) in (0..).zip(&sizes).zip(frames) {
                assert_eq!(frame.assignment, job(task));
                assert!(frame.payload.iter().enumerate().all(|(i, &byte)| byte == (i * 7 + size) as u8));
                assert_eq!(frame.payload.len(), size);
            }
        }
    }

    #[test]
    fn garbage_is_an_error_and_not_an_allocation() {
        let mut long = header(KIND_READY, job(1), 0);
        for length in [MAX_PAYLOAD_BYTES + 1, 1 << 63, u64::MAX] {
            long[16..24].copy_from_slice(&length.to_le_bytes());
            assert!(matches!(through(&long, 24), Err(LinkError::Malformed(_))));
        }
        assert!(matches!(through(&[0xFF; 24], 24), Err(LinkError::Malformed(_))));
        assert!(matches!(through(&[0; 24], 24), Err(LinkError::Malformed(_))));
    }

    #[test]
    fn a_truncated_frame_is_no_frame() {
        let mut stream = header(KIND_READY, job(1), 10).to_vec();
        stream.extend([1; 10]);
        for cut in 0..stream.len() {
            assert_eq!(through(&stream[..cut], 1000).expect("no garbage"), []);
        }
    }
}
