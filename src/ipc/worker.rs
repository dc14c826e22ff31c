//! The worker's end of its control socket: blocking, used by one thread.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg,
};

use super::frame::{
    FrameReader, HEADER_BYTES, KIND_CONFIG, KIND_DESCRIBED, KIND_ERROR, KIND_READY, KIND_STOP, KIND_TASK,
    KIND_TASK_TO_DESCRIBE, KIND_VALUE, Raw, Read, header,
};
use super::host::GREETING;
use super::{LinkError, Page};
use crate::scheduler::types::{Assignment, Attempt, TaskId};

/// A task to run.
#[derive(Debug)]
pub struct Job {
    /// To be named in the answer.
    pub assignment: Assignment,
    /// The pickled call.
    pub payload: Vec<u8>,
    /// The host wants to show the value.
    pub describe: bool,
}

/// What an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A pickled value.
    Value,
    /// A value that can be shown.
    Described,
    /// An exception.
    Error,
}

/// The worker's end.
#[derive(Debug)]
pub struct WorkerLink {
    socket: OwnedFd,
    reader: FrameReader,
    page: Option<Arc<Page>>,
}

impl WorkerLink {
    /// Take the greeting from the socket.
    pub fn attach(socket: OwnedFd) -> Result<Self, LinkError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut greeting = [0];
        let got = recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut greeting)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
        )?;
        if got.bytes != 1 || greeting != [GREETING] {
            return Err(LinkError::NotAWorker("no greeting: this process was not started by a pool"));
        }
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let page = fd.map(Page::map).transpose()?.map(Arc::new);
        Ok(Self { socket, reader: FrameReader::new(), page })
    }

    /// The page to beat on, if the host could make one.
    pub fn page(&self) -> Option<Arc<Page>> {
        self.page.clone()
    }

    /// The socket, for watching its other end.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The first frame: what the host wants the worker to know.
    pub fn config(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        match self.read()? {
            None => Ok(None),
            Some(Raw { kind: KIND_CONFIG, payload, .. }) => Ok(Some(payload)),
            Some(_) => Err(LinkError::Malformed("expected the configuration")),
        }
    }

    /// Wait for the next task; `None` when there will be none.
    pub fn next_task(&mut self) -> Result<Option<Job>, LinkError> {
        match self.read()? {
            None | Some(Raw { kind: KIND_STOP, .. }) => Ok(None),
            Some(Raw { kind: kind @ (KIND_TASK | KIND_TASK_TO_DESCRIBE), assignment, payload }) => {
                Ok(Some(Job { assignment, payload, describe: kind == KIND_TASK_TO_DESCRIBE }))
            }
            Some(_) => Err(LinkError::Malformed("expected a task")),
        }
    }

    /// Say that the worker is ready, and what it is.
    pub fn ready(&self, description: &[u8]) -> Result<(), LinkError> {
        let nobody = Assignment { task: TaskId(0), attempt: Attempt(0) };
        self.write(&header(KIND_READY, nobody, description.len()), description)
    }

    /// Answer a task. Written at once: a result that waited for company would be lost with the worker.
    pub fn reply(&self, job: Assignment, answer: Answer, payload: &[u8]) -> Result<(), LinkError> {
        let kind = match answer {
            Answer::Value => KIND_VALUE,
            Answer::Described => KIND_DESCRIBED,
            Answer::Error => KIND_ERROR,
        };
        self.write(&header(kind, job, payload.len()), payload)
    }

    fn read(&mut self) -> Result<Option<Raw>, LinkError> {
        loop {
            // Begun from the first byte on: a task whose payload is too much for this process must be charged, or it
            // would be sent to one worker after another for ever.
            if let (Some(page), Some((KIND_TASK | KIND_TASK_TO_DESCRIBE, job))) =
                (&self.page, self.reader.announced())
            {
                page.begin(job);
            }
            if let Some(frame) = self.reader.next_frame()? {
                return Ok(Some(frame));
            }
            if self.reader.fill(&self.socket)? == Read::Closed {
                return Ok(None);
            }
        }
    }

    fn write(&self, header: &[u8; HEADER_BYTES], payload: &[u8]) -> Result<(), LinkError> {
        let mut parts = [&header[..], payload];
        while parts.iter().any(|part| !part.is_empty()) {
            let slices = parts.map(std::io::IoSlice::new);
            match sendmsg(&self.socket, &slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
                Ok(mut sent) => {
                    for part in &mut parts {
                        let here = sent.min(part.len());
                        *part = &part[here..];
                        sent -= here;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
