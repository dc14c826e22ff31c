//! The native server: hyper on a thread of its own, bounded in connections and in every wait.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig as RustlsConfig};

use super::door::{MAX_HEAD_BYTES, PROOF_PATH};
use super::heavy::HEAVY_AT_ONCE;
use super::socket::{Socket, Unread};
use super::{Api, Stranger};
use crate::ipc::{ClosedInChildren, block_all_signals, fork_generation};

/// How long a request's head may take; also how long an idle connection is kept.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// How long the TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may leave its answer unread.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// Header lines of a request.
const MAX_HEADERS: usize = 100;

/// Open connections: half of the descriptors that this process may have, within these bounds; more wait in the
/// listener's backlog. The other half is for the workers and the host application.
const MIN_CONNECTIONS: usize = 64;
const MAX_CONNECTIONS: usize = 8192;

/// After a failed accept (no descriptors left, mostly): do not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long open requests may go on when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Where to listen, and how.
#[derive(Debug)]
pub struct ServerConfig {
    /// A name or address.
    pub host: String,
    /// 0: any free one.
    pub port: u16,
    /// Certificate and key.
    pub tls: Option<Tls>,
}

/// Files in PEM format.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Host and port.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificate or the key is of no use.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// No thread or runtime.
    #[error("the server's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// A socket that listens, before the interface behind it is known: its port is part of what the door lets in.
pub struct Server {
    ours: ClosedInChildren,
    listener: std::net::TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

/// A server at work. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    api: Api,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
    generation: u32,
}

impl Server {
    /// Listen.
    pub fn bind(config: &ServerConfig) -> Result<Self, ServerError> {
        let tls = config.tls.as_ref().map(acceptor).transpose()?;
        let failed =
            |source| ServerError::Listen { address: format!("{}:{}", config.host, config.port), source };
        let listener = std::net::TcpListener::bind((config.host.as_str(), config.port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { ours: ClosedInChildren::new(&listener), listener, address, tls })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answer requests, on a thread of its own.
    pub fn run(self, api: Api) -> Result<Running, ServerError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_start(block_all_signals)
            .max_blocking_threads(HEAVY_AT_ONCE)
            .enable_all()
            .build()
            .map_err(ServerError::Thread)?;
        let (stop, stopped) = watch::channel(false);
        let answering = api.clone();
        let thread = std::thread::Builder::new()
            .name("disttask-http".into())
            .spawn(move || {
                block_all_signals();
                runtime.block_on(serve(self, answering, stopped));
                runtime.shutdown_timeout(Duration::from_millis(100));
            })
            .map_err(ServerError::Thread)?;
        Ok(Running { api, stop, thread: Some(thread), generation: fork_generation() })
    }
}

impl Running {
    /// Stop listening, answer waiting requests, let others go on for a moment, and return when the thread has ended.
    pub fn stop(&mut self) {
        if self.generation != fork_generation() {
            return; // a forked child has neither the socket nor the thread
        }
        self.api.stop();
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connection_limit() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    descriptors.map_or(MAX_CONNECTIONS, |limit| (limit / 2) as usize).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

async fn serve(server: Server, api: Api, mut stopped: watch::Receiver<bool>) {
    let Ok(listener) = TcpListener::from_std(server.listener) else { return };
    let ours = server.ours;
    let places = connection_limit();
    let all = places as u32;
    let places = Arc::new(Semaphore::new(places));
    let stop = stopped.clone();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let Ok((socket, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (api, tls, stop) = (api.clone(), server.tls.clone(), stop.clone());
        tokio::spawn(async move {
            connection(socket, tls, api, stop).await;
            drop(place);
        });
    }
    // Not just closed: a process that is being started holds a copy until its exec.
    let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
    drop(ours);
    drop(listener);
    let _ = tokio::time::timeout(STOP_LIMIT, places.acquire_many(all)).await;
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    Ok((socket, place))
}

async fn connection(socket: TcpStream, tls: Option<TlsAcceptor>, api: Api, stop: watch::Receiver<bool>) {
    let _ = socket.set_nodelay(true);
    let unread = Unread::new();
    let socket = Socket::new(socket, unread.clone(), stop.clone());
    match tls {
        None => http(guarded(socket), api, unread, stop).await,
        Some(tls) => {
            if let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(socket)).await {
                http(guarded(socket), api, unread, stop).await;
            }
        }
    }
}

async fn http<S>(socket: S, api: Api, unread: Unread, mut stop: watch::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let proved = Arc::new(AtomicBool::new(false));
    let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (api, unread, proved) = (api.clone(), unread.clone(), Arc::clone(&proved));
        async move {
            let asks_for_proof = request.uri().path() == PROOF_PATH;
            let mut answer = api.answer(request).await;
            unread.set(answer.status().is_client_error());
            let stays = asks_for_proof && !proved.swap(true, Ordering::Relaxed);
            if answer.extensions().get::<Stranger>().is_some() && !stays {
                // Whoever has shown no token holds no place: there are others who wait for one. A client that asks for
                // a proof shows its token next, on this very connection.
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(socket), answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// A client that does not read its answer is cut off.
fn guarded<S: tokio::io::AsyncRead + tokio::io::AsyncWrite>(socket: S) -> Pin<Box<TimeoutStream<S>>> {
    let mut guarded = TimeoutStream::new(socket);
    guarded.set_write_timeout(Some(WRITE_LIMIT));
    Box::pin(guarded)
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, ServerError> {
    let failed = |error: &dyn std::fmt::Display| ServerError::Tls(error.to_string());
    let chain: Vec<_> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| failed(&format_args!("{}: {error}", tls.certificate)))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| failed(&format_args!("{}: {error}", tls.key)))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = RustlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| failed(&error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
