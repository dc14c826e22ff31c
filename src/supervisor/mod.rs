//! Spawns, watches and kills worker processes, and reports how they ended. It decides nothing.
//!
//! A worker is an exec of the interpreter, never a fork of the host: no lock, thread or descriptor of the host
//! can be caught in it. Nothing here uses `pre_exec`, which would make the standard library fork (a hundred
//! milliseconds with a large host) where it can otherwise use `posix_spawn`.

mod oom;
mod procfs;

pub use oom::{OomCounter, OomCounters, OomScope, oom_kills_of_machine};
pub use procfs::{Usage, private_bytes, resident_bytes, usage};

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use crate::ipc::{Asked, Backing, HostBell, HostFd, HostLink, OutputReceiver, Reaped, reap, stack_signal};

/// How to start a worker.
///
/// The environment is a copy that Python made: `setenv` in the host moves the original while it is read, and only
/// the GIL, which no thread of ours takes, would prevent that.
#[derive(Clone, Debug)]
pub struct SpawnSpec {
    /// The interpreter, with a path: a bare name would be searched for in the host's environment.
    pub executable: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Watch exits by pidfd; without, they are looked for ten times a second.
    pub use_pidfd: bool,
    /// What the memory shared with it is made of.
    pub backing: Backing,
    /// Its stdout comes to the host, and is not the host's own.
    pub capture: bool,
    /// Descriptors that it gets.
    pub fds: Arc<Vec<HostFd>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// Somebody else reaped it (`waitpid(-1)`, SIGCHLD ignored), so nobody knows.
    Unknown,
}

/// A worker process and the host's ends of what connects to it.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub process: Process,
    /// Socket and rings.
    pub link: HostLink,
    /// What it writes to descriptors 1 and 2.
    pub pipes: Pipes,
    /// What its tasks print.
    pub output: OutputReceiver,
    /// What they ask.
    pub asked: Asked,
}

/// The host's ends of the pipes behind a worker's descriptors; non-blocking.
#[derive(Debug)]
pub struct Pipes {
    /// Of 1; `None`: it is the host's own.
    pub stdout: Option<HostFd>,
    /// Of 2.
    pub stderr: HostFd,
}

/// A child of ours that has not been reaped.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: Option<HostFd>,
}

/// Start a process in a group of its own, with the control socket as its stdin.
///
/// It rings `bell`, or `driver`, an eventfd.
pub fn spawn(spec: &SpawnSpec, bell: &HostBell, driver: impl AsFd) -> std::io::Result<Spawned> {
    let ends = HostLink::pair(bell, driver, spec.backing, &spec.fds)?;
    let (stderr, stderr_worker) = pipe()?;
    let stdout = if spec.capture { Some(pipe()?) } else { None };
    let mut command = Command::new(&spec.executable);
    command
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .stdin(Stdio::from(ends.worker))
        .stderr(stderr_worker);
    let stdout = stdout.map(|(ours, theirs)| {
        command.stdout(theirs);
        ours
    });
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let pidfd =
        if spec.use_pidfd { pidfd_open(pid, PidfdFlags::NONBLOCK).ok().map(HostFd::new) } else { None };
    let pipes = Pipes { stdout, stderr };
    Ok(Spawned {
        process: Process { pid, pidfd },
        link: ends.host,
        pipes,
        output: ends.output,
        asked: ends.asked,
    })
}

/// Our end, and the worker's.
fn pipe() -> std::io::Result<(HostFd, Stdio)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((HostFd::new(ours), Stdio::from(theirs)))
}

/// Whether [`spawn`] failed for want of descriptors, processes or memory: that may pass.
pub fn is_transient(error: &std::io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM))
}

impl Process {
    /// The process id, which is also its group's.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Readable when the process has ended. `None`: look now and then with [`Self::has_ended`].
    pub fn exit_watch(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Whether the process has ended (and waits to be reaped).
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None) | Err(Errno::INTR))
    }

    /// Whether it was ended by SIGKILL, and waits to be reaped.
    pub fn was_killed(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::Pid(self.pid), options).ok().flatten();
        ended.and_then(|status| status.terminating_signal()) == Some(libc::SIGKILL)
    }

    /// Whether the number still stands for our child. Somebody else's `waitpid(-1)`, or SIGCHLD being ignored, can
    /// take it away; then it may be a stranger's by now.
    fn is_ours(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(self.pid), options), Ok(_) | Err(Errno::INTR))
    }

    /// SIGTERM to the process alone, which may have a handler for that.
    pub fn terminate(&self) {
        let _ = match &self.pidfd {
            Some(pidfd) => pidfd_send_signal(pidfd, Signal::TERM),
            None if self.is_ours() => kill_process(self.pid, Signal::TERM),
            None => Ok(()),
        };
    }

    /// SIGKILL to the process and to whatever it started in its group. The group's number cannot be reused while its
    /// leader has not been waited for.
    pub fn kill_group(&self) {
        if self.is_ours() {
            // ESRCH: everybody is gone already, which is what was wanted.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        // A task may have moved the worker to another group or session.
        let _ = match &self.pidfd {
            Some(pidfd) => pidfd_send_signal(pidfd, Signal::KILL),
            None if self.is_ours() => kill_process(self.pid, Signal::KILL),
            None => Ok(()),
        };
    }

    /// Have it show its Python stacks, among its output.
    pub fn ask_for_stack(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => pidfd_send_signal(pidfd, stack_signal()).is_ok(),
            None => self.is_ours() && kill_process(self.pid, stack_signal()).is_ok(),
        }
    }

    /// Sweep up after a process that has ended: what is left of its group dies, then the status is taken, and what the
    /// kernel has counted as its peak of memory ([`HostLink::peak_memory`]).
    pub fn reap(self) -> (Exit, Option<u64>) {
        self.kill_group();
        loop {
            // It has ended, so this does not wait; were it gone and its number a sibling's, it must not.
            let Reaped { status, peak } = match reap(self.pid) {
                Ok(Some(reaped)) => reaped,
                Err(Errno::INTR) => continue,
                Ok(None) | Err(_) => return (Exit::Unknown, None),
            };
            let exit = if libc::WIFEXITED(status) {
                Exit::Status(libc::WEXITSTATUS(status))
            } else if libc::WIFSIGNALED(status) {
                Exit::Signal(libc::WTERMSIG(status))
            } else {
                Exit::Unknown
            };
            return (exit, Some(peak));
        }
    }
}

/// Processors that this process may use: the affinity mask, cut by a cgroup (v1 or v2) quota.
pub fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Read what a worker wrote to a descriptor: `Ok(0)` at its end, `WouldBlock` for now.
pub fn read_pipe(pipe: &HostFd, buffer: &mut [u8]) -> std::io::Result<usize> {
    Ok(rustix::io::read(pipe, buffer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interpreter_does_not_pass_and_a_lack_of_descriptors_may() {
        let missing = Command::new("/nowhere/python").spawn().expect_err("it is not there");
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        assert!(!is_transient(&missing));
        assert!(is_transient(&Errno::MFILE.into()));
        assert!(!is_transient(&std::io::Error::other("no longer wanted")));
    }
}
