//! Work that takes long for its size (parsing, decoding, encoding) is done beside the thread that serves everybody.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::error::ApiError;

/// Up to so many bytes, the work is done where it is: JSON of this size takes some 100 µs, a change of threads 20.
const INLINE_BYTES: usize = 64 * 1024;

/// Pieces of work at once. Each may hold a whole body or answer; more than two would take cores from the workers.
pub(super) const HEAVY_AT_ONCE: usize = 2;

/// Lets a few through at a time.
#[derive(Debug)]
pub(super) struct Heavy(Arc<Semaphore>);

impl Heavy {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(HEAVY_AT_ONCE)))
    }

    /// Do work of about so many bytes: here if it is little, else on a thread for such work, when there is a place.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        if bytes <= INLINE_BYTES {
            return Ok(work());
        }
        let place = Arc::clone(&self.0).acquire_owned().await;
        let place = place.map_err(|_| ApiError::internal("the server is stopping"))?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place); // here, and not where a client that has gone is forgotten: the work goes on without it
            done
        });
        done.await.map_err(|_| ApiError::internal("the answer could not be made: this is a bug in disttask"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// How long a piece of work waits for what only the serving thread can do.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn serving_thread() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn large_work_leaves_the_serving_thread_free() {
        serving_thread().block_on(async {
            let (answered, waits) = mpsc::channel();
            let heavy = Heavy::new();
            let work = heavy.run(INLINE_BYTES + 1, move || waits.recv_timeout(PATIENCE).is_ok());
            let health = async { answered.send(()).expect("the work waits for it") };
            let (served_meanwhile, ()) = tokio::join!(work, health);
            assert_eq!(served_meanwhile, Ok(true));
        });
    }

    #[test]
    fn only_a_few_at_once() {
        serving_thread().block_on(async {
            let heavy = Heavy::new();
            let (release, gate) = mpsc::channel::<()>();
            let gate = Arc::new(parking_lot::Mutex::new(gate));
            let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let works = (0..HEAVY_AT_ONCE + 2).map(|_| {
                let (gate, running) = (Arc::clone(&gate), Arc::clone(&running));
                heavy.run(INLINE_BYTES + 1, move || {
                    let now = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                    let _ = gate.lock().recv_timeout(PATIENCE);
                    running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    now
                })
            });
            for _ in 0..HEAVY_AT_ONCE + 2 {
                release.send(()).expect("somebody waits");
            }
            let most = futures_util::future::join_all(works).await.into_iter().flatten().max();
            assert!(most <= Some(HEAVY_AT_ONCE), "{most:?}");
        });
    }
}
