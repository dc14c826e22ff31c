//! What the driver sleeps on: an epoll set with every worker's descriptors, and a bell.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use crate::ipc::HostFd;
use crate::scheduler::types::WorkerId;

/// Events taken per wake-up; what does not fit comes with the next.
const EVENTS_PER_WAKE: usize = 64;

const TOPIC_SHIFT: u32 = 61;
const BELL: u64 = u64::MAX;

/// Which of a worker's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Link,
    Exit,
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
    /// What tasks print.
    Output,
    /// What tasks ask.
    Asked,
}

/// What woke the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) topic: Topic,
    pub(super) worker: WorkerId,
    pub(super) writable: bool,
    pub(super) readable: bool,
}

#[derive(Debug)]
pub(super) struct Waker {
    epoll: HostFd,
    bell: HostFd,
}

impl Waker {
    pub(super) fn new() -> std::io::Result<Self> {
        let epoll = HostFd::new(epoll::create(CreateFlags::CLOEXEC)?);
        let bell = HostFd::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Self { epoll, bell })
    }

    /// What workers ring, too.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Wake the driver.
    pub(super) fn ring(&self) {
        // EAGAIN: the counter is full, so it has been rung.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Start or stop looking at a descriptor of this worker. `false`: that failed (or it was not looked at).
    pub(super) fn watch(&self, fd: BorrowedFd<'_>, topic: Topic, worker: WorkerId, on: bool) -> bool {
        let done = if on {
            epoll::add(&self.epoll, fd, token(topic, worker), EventFlags::IN)
        } else {
            epoll::delete(&self.epoll, fd)
        };
        done.is_ok()
    }

    /// Look at a worker's socket for room to write as well, or no longer.
    pub(super) fn watch_writable(&self, fd: BorrowedFd<'_>, worker: WorkerId, on: bool) {
        let flags = if on { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        let _ = epoll::modify(&self.epoll, fd, token(Topic::Link, worker), flags);
    }

    /// Sleep until something happens, at most so long. An error is the end: the descriptors are not ours any more.
    pub(super) fn wait(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> std::io::Result<()> {
        events.clear();
        let timeout =
            timeout.map(|timeout| Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 }));
        let mut raw = Vec::with_capacity(EVENTS_PER_WAKE);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut raw), timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()), // a spurious wake-up does no harm
            Err(errno) => return Err(errno.into()),
        }
        for event in raw {
            if event.data.u64() == BELL {
                let _ = rustix::io::read(self.bell.as_fd(), &mut [0; 8]);
            } else {
                events.push(decode(event.data.u64(), event.flags));
            }
        }
        Ok(())
    }
}

fn token(topic: Topic, worker: WorkerId) -> EventData {
    let topic = match topic {
        Topic::Link => 0,
        Topic::Stderr => 1,
        Topic::Exit => 2,
        Topic::Stdout => 3,
        Topic::Output => 4,
        Topic::Asked => 5,
    };
    EventData::new_u64(topic << TOPIC_SHIFT | u64::from(worker.slot) << 32 | u64::from(worker.incarnation))
}

fn decode(token: u64, flags: EventFlags) -> Event {
    let topic = match token >> TOPIC_SHIFT {
        0 => Topic::Link,
        1 => Topic::Stderr,
        2 => Topic::Exit,
        3 => Topic::Stdout,
        4 => Topic::Output,
        _ => Topic::Asked,
    };
    let slot = (token >> 32) as u32 & ((1 << (TOPIC_SHIFT - 32)) - 1);
    Event {
        topic,
        worker: WorkerId { slot, incarnation: token as u32 },
        writable: flags.contains(EventFlags::OUT),
        readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP),
    }
}
