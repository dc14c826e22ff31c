//! A client's connection, and how it ends: so that its last answer arrives, and so that it ends at all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

/// What is read of a refused body before the connection is closed: closing earlier makes the system answer with a
/// reset, which can overtake the refusal. A client that has sent so much has had the answer for long.
const DRAIN_BYTES: usize = 16 << 20;

/// How long that may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// What one read takes of it.
const DRAIN_READ_BYTES: usize = 64 * 1024;

/// Whether the client may still be sending what nobody wants to read.
#[derive(Clone, Debug)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// At first: what is no request at all is refused below us.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub(super) fn set(&self, unread: bool) {
        self.0.store(unread, Ordering::Relaxed);
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    unread: Unread,
    stop: watch::Receiver<bool>,
    draining: Option<Draining>,
}

#[derive(Debug)]
struct Draining {
    left: usize,
    until: Pin<Box<Sleep>>,
    buffer: Box<[u8]>,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream, unread: Unread, stop: watch::Receiver<bool>) -> Self {
        Self { tcp, unread, stop, draining: None }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(draining) = &mut self.draining else { return Poll::Ready(()) };
        loop {
            if draining.left == 0 || draining.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut read = ReadBuf::new(&mut draining.buffer);
            match ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {
                    draining.left = draining.left.saturating_sub(read.filled().len());
                }
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

/// A child that somebody in this process has forked may hold a copy of the descriptor: closing ours would not end the
/// connection then.
impl Drop for Socket {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.tcp, rustix::net::Shutdown::Both);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    /// Say that nothing more comes, then read for a moment what the client is still sending.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.draining.is_none() {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
            if !self.unread.0.load(Ordering::Relaxed) || *self.stop.borrow() {
                return Poll::Ready(Ok(()));
            }
            self.draining = Some(Draining {
                left: DRAIN_BYTES,
                until: Box::pin(tokio::time::sleep(DRAIN_LIMIT)),
                buffer: vec![0; DRAIN_READ_BYTES].into(),
            });
        }
        self.poll_drain(cx).map(Ok)
    }
}
