//! A worker's answer on its way into the ring.

use pyo3::exceptions::PyMemoryError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::buffer::Pickled;
use super::memory::no_addresses;
use super::worker::{Loop, Worker};
use crate::ipc::{Answer, LinkError, SmallBytes, Taken, Task, WorkerLink};

/// An answer on its way.
pub(super) enum Reply<'py> {
    Small(Answer, SmallBytes),
    Packed(Answer, Vec<u8>),
    Bytes(Answer, Bound<'py, PyBytes>),
    Parts(Answer, Pickled<'py>),
}

impl Worker {
    /// Send an answer; waits for room.
    pub(super) fn reply(&self, py: Python<'_>, taken: &Taken, nanos: u64, reply: &Reply<'_>) -> PyResult<()> {
        let mut guard = self.link.lock();
        let link = &mut *guard;
        let sent = match reply {
            Reply::Small(answer, bytes) => {
                send(py, link, |link| link.reply(taken.run, *answer, nanos, bytes))
            }
            Reply::Packed(answer, bytes) => {
                send(py, link, |link| link.reply(taken.run, *answer, nanos, bytes))
            }
            Reply::Bytes(answer, bytes) => {
                send(py, link, |link| link.reply(taken.run, *answer, nanos, bytes.as_bytes()))
            }
            Reply::Parts(answer, pickled) => match link.room(pickled.size(py)?) {
                Ok(range) => {
                    let range = pickled.fill(py, range)?;
                    send(py, link, |link| link.reply_large(taken.run, *answer, nanos, &range))
                }
                Err(error) => Err(error),
            },
        };
        match sent {
            Err(LinkError::NoMemory(bytes)) => {
                let text = format!("there is no memory for a result of {bytes} bytes");
                let described = describe_error(py, &PyMemoryError::new_err(text))?;
                let bytes = described.as_bytes();
                Ok(send(py, link, |link| link.reply(taken.run, Answer::Error, nanos, bytes))?)
            }
            sent => Ok(sent?),
        }
    }

    /// What was sent cannot be mapped: that is the task's failure, and not the worker's.
    pub(super) fn do_without(&self, work: &Loop<'_>, taken: &Taken, bytes: u64) -> PyResult<()> {
        match taken.task {
            Task::Run(_) => {
                let reply = work.error("run", no_addresses(bytes), None)?;
                self.reply(work.py, taken, 0, &reply)
            }
            Task::Give { constant } => {
                self.gifts.add(taken.key(), Err(bytes), constant);
                Ok(())
            }
            _ => Err(LinkError::NoMemory(bytes).into()),
        }
    }
}

/// Try until there is room.
fn send(
    py: Python<'_>,
    link: &mut WorkerLink,
    mut reply: impl FnMut(&mut WorkerLink) -> Result<bool, LinkError>,
) -> Result<(), LinkError> {
    while !reply(link)? {
        py.detach(|| link.wait_for_room());
    }
    Ok(())
}

fn describe_error<'py>(py: Python<'py>, error: &PyErr) -> PyResult<Bound<'py, PyBytes>> {
    let helpers = py.import(intern!(py, "disttask._worker"))?;
    let described = helpers.call_method1(intern!(py, "error"), ("run", error.value(py), py.None()))?;
    Ok(described.cast_into::<PyBytes>()?)
}
