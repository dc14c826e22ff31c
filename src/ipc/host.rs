//! The host's end of a control socket: non-blocking, batched.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};

use super::frame::{FrameReader, HEADER_BYTES, Incoming, KIND_READY, Outgoing, Read};
use super::{HostFd, LinkError};
use crate::scheduler::types::Assignment;

/// Slices that one system call writes: 64 frames. More gains nothing measurable.
const SLICES_PER_WRITE: usize = 128;

/// Bytes taken from one worker before the others get their turn: the lock is held meanwhile.
const RECEIVE_BUDGET_BYTES: usize = 1 << 20;

/// The greeting that carries the shared page's descriptor.
pub(super) const GREETING: u8 = b'D';

/// Whether everything pushed is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Yes.
    All,
    /// The socket is full: flush again when it is writable.
    Blocked,
    /// The kernel has no memory for it: flush again after a while.
    Starved,
}

/// Whether there can be more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// All that is there has been taken.
    Drained,
    /// The budget is used up; there may be more.
    More,
    /// The other side is gone, and all that it had sent has been taken.
    Closed,
}

/// The host's end.
#[derive(Debug)]
pub struct HostLink {
    socket: HostFd,
    reader: FrameReader,
    outbox: VecDeque<Chunk>,
}

/// A frame, or what is left of it.
#[derive(Debug)]
struct Chunk {
    header: [u8; HEADER_BYTES],
    payload: Option<Arc<Vec<u8>>>,
    sent: usize,
}

impl Chunk {
    fn slices(&self) -> [&[u8]; 2] {
        let payload = self.payload.as_deref().map_or(&[][..], Vec::as_slice);
        match self.sent.checked_sub(HEADER_BYTES) {
            None => [&self.header[self.sent..], payload],
            Some(sent) => [&[], &payload[sent..]],
        }
    }

    fn left(&self) -> usize {
        HEADER_BYTES + self.payload.as_ref().map_or(0, |payload| payload.len()) - self.sent
    }
}

/// Both ends of a new control socket.
#[derive(Debug)]
pub struct Ends {
    /// Keep this.
    pub host: HostLink,
    /// The worker's stdin.
    pub worker: OwnedFd,
}

impl HostLink {
    /// A new pair. The greeting, with the shared page's descriptor if there is one, is already in it.
    pub fn pair(page: Option<&OwnedFd>) -> rustix::io::Result<Ends> {
        let (host, worker) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        greet(&host, page)?;
        rustix::io::ioctl_fionbio(&host, true)?;
        let host = Self { socket: HostFd::new(host), reader: FrameReader::new(), outbox: VecDeque::new() };
        Ok(Ends { host, worker })
    }

    /// Queue a frame; nothing is written before [`Self::flush`].
    pub fn push(&mut self, frame: Outgoing) {
        let (header, payload) = frame.encode();
        self.outbox.push_back(Chunk { header, payload, sent: 0 });
    }

    /// Write what is queued, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<Flushed, LinkError> {
        while !self.outbox.is_empty() {
            let slices: Vec<_> = self
                .outbox
                .iter()
                .flat_map(Chunk::slices)
                .filter(|slice| !slice.is_empty())
                .take(SLICES_PER_WRITE)
                .map(IoSlice::new)
                .collect();
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.socket, &slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => self.advance(sent),
                Err(Errno::AGAIN) => return Ok(Flushed::Blocked),
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS | Errno::NOMEM) => return Ok(Flushed::Starved),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Flushed::All)
    }

    fn advance(&mut self, mut sent: usize) {
        while let Some(chunk) = self.outbox.front_mut() {
            if sent < chunk.left() {
                chunk.sent += sent;
                return;
            }
            sent -= chunk.left();
            self.outbox.pop_front();
        }
    }

    /// Take what has arrived, into `frames`. An answer to anything but `expected` is garbage: found out by its header,
    /// before the impossible length in it is waited for.
    pub fn receive(
        &mut self,
        expected: Option<Assignment>,
        frames: &mut Vec<Incoming>,
    ) -> Result<Received, LinkError> {
        let mut budget = RECEIVE_BUDGET_BYTES;
        loop {
            match self.reader.fill(&self.socket)? {
                Read::Nothing => return Ok(Received::Drained),
                Read::Closed => return Ok(Received::Closed),
                Read::Bytes(read) => budget = budget.saturating_sub(read),
            }
            if let Some((kind, job)) = self.reader.announced()
                && kind != KIND_READY
                && Some(job) != expected
            {
                return Err(LinkError::Malformed("an answer to a task that it was not sent"));
            }
            while let Some(frame) = self.reader.next_frame()? {
                frames.push(frame.try_into()?);
            }
            if budget == 0 {
                return Ok(Received::More);
            }
        }
    }
}

impl AsFd for HostLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn greet(host: &OwnedFd, page: Option<&OwnedFd>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = page.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "room for one descriptor was made");
    }
    let sent = sendmsg(host, &[IoSlice::new(&[GREETING])], &mut control, SendFlags::NOSIGNAL)?;
    debug_assert_eq!(sent, 1);
    Ok(())
}
