//! `_native.HttpServer` and `_native.HttpApi`: the interface on a socket of its own, and handed requests by somebody else.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;

use super::pool::Pool;
use super::wait::wait_interruptibly;
use crate::api::{Api, DoorConfig, Front, Running, Server, ServerConfig, ServerError, Tls};

/// Pieces of an answer that wait for a slow WSGI server.
const PIECES_AHEAD: usize = 4;

/// How long a closed interface waits for its thread.
const CLOSE_LIMIT: Duration = Duration::from_millis(200);

impl From<ServerError> for PyErr {
    fn from(error: ServerError) -> Self {
        PyOSError::new_err(error.to_string())
    }
}

#[pyclass(frozen, module = "disttask._native")]
pub(super) struct HttpServer {
    /// Gone once it was stopped, and with it all that it has of the pool.
    api: Mutex<Option<Api>>,
    host: String,
    port: u16,
    running: Mutex<Option<Running>>,
}

#[pymethods]
impl HttpServer {
    #[new]
    #[pyo3(signature = (pool, *, host, port, allow_hosts, token, tls, max_body, python))]
    #[expect(clippy::too_many_arguments, reason = "keywords only, one call per server")]
    fn new(
        pool: &Pool,
        host: String,
        port: u16,
        allow_hosts: Vec<String>,
        token: Option<String>,
        tls: Option<(String, String)>,
        max_body: usize,
        python: String,
    ) -> PyResult<Self> {
        pool.shared.check_owner()?;
        let has_tls = tls.is_some();
        let tls = tls.map(|(certificate, key)| Tls { certificate, key });
        let server = Server::bind(&ServerConfig { host, port, tls })?;
        let address = server.address();
        let mut hosts: Vec<_> = allow_hosts.iter().map(|name| format!("{name}:{}", address.port())).collect();
        let standard = if has_tls { 443 } else { 80 };
        if address.port() == standard {
            hosts.extend(allow_hosts); // a browser leaves the scheme's own port out
        }
        let door = DoorConfig { hosts, token, port: address.port(), tls: has_tls, front: Front::Native };
        let api = Api::new(Arc::clone(&pool.shared), &door, max_body, python);
        let running = server.run(api.clone())?;
        let host = address.ip().to_string();
        Ok(Self {
            api: Mutex::new(Some(api)),
            host,
            port: address.port(),
            running: Mutex::new(Some(running)),
        })
    }

    #[getter]
    fn host(&self) -> &str {
        &self.host
    }

    #[getter]
    fn port(&self) -> u16 {
        self.port
    }

    fn login_path(&self) -> Option<String> {
        self.api.lock().as_ref().and_then(Api::login_path)
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            self.api.lock().take();
            if let Some(mut running) = self.running.lock().take() {
                running.stop();
            }
        });
    }
}

#[pyclass(frozen, module = "disttask._native")]
pub(super) struct HttpApi {
    api: Api,
    runtime: Mutex<Option<Runtime>>,
    generation: u32,
}

/// In a forked child there is no thread to stop, and waiting for it would never end.
impl Drop for HttpApi {
    fn drop(&mut self) {
        if self.generation != crate::ipc::fork_generation() {
            std::mem::forget(self.runtime.get_mut().take());
        }
    }
}

type Head = (u16, Vec<(String, String)>);

fn request<B>(
    method: &str,
    target: &str,
    headers: Vec<(String, String)>,
    body: B,
) -> PyResult<axum::http::Request<B>> {
    let mut request = axum::http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(body).map_err(|error| PyValueError::new_err(format!("not an HTTP request: {error}")))
}

fn head_of(head: &axum::http::response::Parts) -> Head {
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    (head.status.as_u16(), headers)
}

#[pymethods]
impl HttpApi {
    #[new]
    #[pyo3(signature = (pool, *, hosts, port, token, tls, max_body, python))]
    fn new(
        pool: &Pool,
        hosts: Vec<String>,
        port: u16,
        token: Option<String>,
        tls: bool,
        max_body: usize,
        python: String,
    ) -> PyResult<Self> {
        pool.shared.check_owner()?;
        let door = DoorConfig { hosts, token, port, tls, front: Front::Flask };
        let api = Api::new(Arc::clone(&pool.shared), &door, max_body, python);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("disttask-wsgi")
            .on_thread_start(crate::ipc::block_all_signals)
            .enable_all()
            .build()?;
        Ok(Self { api, runtime: Mutex::new(Some(runtime)), generation: crate::ipc::fork_generation() })
    }

    fn login_path(&self) -> Option<String> {
        self.api.login_path()
    }

    fn check<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        target: &str,
        headers: Vec<(String, String)>,
    ) -> PyResult<Option<(Head, Bound<'py, PyBytes>)>> {
        let (head, ()) = request(method, target, headers, ())?.into_parts();
        let Some(answer) = self.api.refusal(&head) else { return Ok(None) };
        let (head, body) = answer.into_parts();
        let runtime = self.runtime.lock().as_ref().map(|runtime| runtime.handle().clone());
        let runtime = runtime.ok_or_else(|| PyRuntimeError::new_err("the interface was closed"))?;
        let body = py.detach(|| runtime.block_on(body.collect()));
        let body = body.map_err(|error| PyRuntimeError::new_err(error.to_string()))?.to_bytes();
        Ok(Some((head_of(&head), PyBytes::new(py, &body))))
    }

    fn handle(
        &self,
        py: Python<'_>,
        method: &str,
        target: &str,
        headers: Vec<(String, String)>,
        body: &[u8],
    ) -> PyResult<(Head, Pieces)> {
        let request = request(method, target, headers, Body::from(body.to_vec()))?;
        let (head_sender, head_receiver) = crossbeam_channel::bounded(1);
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let api = self.api.clone();
        let runtime = self.runtime.lock().as_ref().map(|runtime| runtime.handle().clone());
        let runtime = runtime.ok_or_else(|| PyRuntimeError::new_err("the interface was closed"))?;
        runtime.spawn(async move {
            let (head, mut body) = api.answer(request).await.into_parts();
            let _ = head_sender.send(head);
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                if sender.send(data).await.is_err() {
                    return; // nobody reads on
                }
            }
        });
        let head = wait_interruptibly(py, None, |slice| match head_receiver.recv_timeout(slice) {
            Ok(head) => Some(Some(head)),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => None,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Some(None),
        })?;
        let head = head.flatten().ok_or_else(|| PyRuntimeError::new_err("the interface was closed"))?;
        Ok((head_of(&head), Pieces { pieces: Mutex::new(pieces), runtime }))
    }

    fn close(&self, py: Python<'_>) {
        if self.generation == crate::ipc::fork_generation() {
            py.detach(|| self.api.stop());
        }
        let runtime = self.runtime.lock().take();
        if let Some(runtime) = runtime {
            py.detach(|| runtime.shutdown_timeout(CLOSE_LIMIT));
        }
    }
}

/// The body of an answer, piece by piece.
#[pyclass(frozen, module = "disttask._native")]
pub(super) struct Pieces {
    pieces: Mutex<mpsc::Receiver<axum::body::Bytes>>,
    runtime: Handle,
}

#[pymethods]
impl Pieces {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let piece = wait_interruptibly(py, None, |slice| {
            let mut pieces = self.pieces.lock();
            self.runtime.block_on(async { tokio::time::timeout(slice, pieces.recv()).await.ok() })
        })?;
        Ok(piece.flatten().map(|piece| PyBytes::new(py, &piece)))
    }

    fn close(&self) {
        self.pieces.lock().close();
    }
}
