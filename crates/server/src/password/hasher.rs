//! The pool that hashes passwords.
//!
//! Hashing is meant to be slow, so it runs on threads of its own, never more at once than there are, and
//! with a queue of fixed length before them: what finds it full is told at once ([`HashError::Busy`]), and
//! no wait is endless. A job whose caller has gone away is skipped. Each thread has one working memory
//! (19 MiB), which it frees as soon as nothing waits, and before the last answer leaves.

use super::memory::Memory;
use super::stored::current_blocks;
use super::{Password, PasswordHash, StoredHash};
use crate::random::Random;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The pool. Dropped, it stops when what it is doing is done.
pub struct Hasher {
    shared: Arc<Shared>,
    random: Arc<Random>,
}

/// Whether a password is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It is.
    pub ok: bool,
    /// The stored hash should be replaced, if it is.
    pub needs_rehash: bool,
}

/// Why a password was not hashed. Coming again later helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// Too many are waiting.
    #[error("the hashing queue is full")]
    Busy,
    /// Its turn did not come in time.
    #[error("the hashing queue is too slow")]
    TimedOut,
    /// There was no memory, or the pool is stopping.
    #[error("the password could not be hashed")]
    Failed,
}

/// Longest wait for a turn and the hashing together.
const LONGEST: Duration = Duration::from_secs(10);
/// Enough for the deepest of the algorithms in a debug build.
const STACK: usize = 512 * 1024;

/// A job computes with the thread's memory, and returns what delivers its answer.
type Job = Box<dyn FnOnce(&mut Memory) -> Delivery + Send>;
type Delivery = Box<dyn FnOnce()>;

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    stopped: bool,
}

impl Hasher {
    /// A pool of that many threads (0: one per core), with room for `queue` waiting jobs.
    ///
    /// # Panics
    /// When the operating system gives no thread; nobody could log in then.
    pub fn new(threads: usize, queue: usize) -> Self {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            n => n,
        };
        let shared =
            Arc::new(Shared { queue: Mutex::default(), arrived: Condvar::new(), capacity: queue.max(1) });
        for n in 0..threads {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("hash-{n}"))
                .stack_size(STACK)
                .spawn(move || shared.work())
                .expect("the operating system has a thread for hashing");
        }
        Self { shared, random: Arc::new(Random::new()) }
    }

    /// Checks a password against a stored hash.
    pub async fn verify(&self, password: Password, stored: StoredHash) -> Result<Verdict, HashError> {
        self.run(move |memory| {
            let ok = stored.verify(password.reveal().as_bytes(), memory).map_err(failed)?;
            Ok(Verdict { ok, needs_rehash: stored.needs_rehash() })
        })
        .await
    }

    /// Hashes a new password.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        let random = Arc::clone(&self.random);
        self.run(move |memory| {
            PasswordHash::of(password.reveal().as_bytes(), &random, memory).map_err(failed)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        compute: impl FnOnce(&mut Memory) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let (sender, receiver) = oneshot::channel();
        self.shared.push(Box::new(move |memory| {
            if sender.is_closed() {
                return Box::new(|| {});
            }
            let result = compute(memory);
            // Nobody may be waiting any more.
            Box::new(move || drop(sender.send(result)))
        }))?;
        match tokio::time::timeout(LONGEST, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HashError::Failed),
            Err(_) => Err(HashError::TimedOut),
        }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.stopped = true;
        queue.jobs.clear();
        self.shared.arrived.notify_all();
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("capacity", &self.shared.capacity).finish_non_exhaustive()
    }
}

impl Shared {
    fn push(&self, job: Job) -> Result<(), HashError> {
        let mut queue = self.lock();
        if queue.jobs.len() >= self.capacity {
            return Err(HashError::Busy);
        }
        queue.jobs.push_back(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// The life of one thread.
    fn work(&self) {
        let mut memory = Memory::new();
        while let Some(job) = self.next() {
            // A panic must not cost a thread for good; its caller gets `Failed`.
            let delivery = catch_unwind(AssertUnwindSafe(|| job(&mut memory)));
            if memory.exceeds(current_blocks()) || self.lock().jobs.is_empty() {
                memory.give_back();
            }
            if let Ok(deliver) = delivery {
                deliver();
            }
        }
    }

    /// Waits for a job; `None` when the pool was dropped.
    fn next(&self) -> Option<Job> {
        let idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.stopped;
        let mut queue = self.arrived.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        queue.jobs.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: argon2::Error) -> HashError {
    tracing::error!(%error, "a password could not be hashed");
    HashError::Failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    /// Occupies one thread until the returned sender is dropped; the receiver tells that it is.
    fn occupy(hasher: &Hasher) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        hasher
            .shared
            .push(Box::new(move |_| {
                started.send(()).unwrap();
                let _ = released.recv();
                Box::new(|| {})
            }))
            .unwrap();
        has_started.recv().unwrap();
        release
    }

    #[tokio::test]
    async fn a_hash_verifies_its_password_only() {
        let hasher = Hasher::new(2, 8);
        let hash = hasher.hash(password("correct horse")).await.unwrap();
        let stored = StoredHash::parse(&hash).unwrap();
        let right = hasher.verify(password("correct horse"), stored.clone()).await.unwrap();
        assert_eq!(right, Verdict { ok: true, needs_rehash: false });
        assert!(!hasher.verify(password("correct Horse"), stored).await.unwrap().ok);
        assert!(!hasher.verify(password(""), StoredHash::dummy()).await.unwrap().ok);
    }

    #[tokio::test]
    async fn an_old_hash_asks_to_be_replaced() {
        let hasher = Hasher::new(1, 8);
        let old = StoredHash::parse("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").unwrap();
        assert_eq!(hasher.verify(password("U*U"), old).await, Ok(Verdict { ok: true, needs_rehash: true }));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let hasher = Hasher::new(1, 2);
        let release = occupy(&hasher);
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(hasher.hash(password("x")))).collect();
        for wait in &mut waiting {
            assert!(futures_poll(wait).await.is_none());
        }
        assert_eq!(hasher.hash(password("x")).await.err(), Some(HashError::Busy));
        drop(release);
        for wait in waiting {
            wait.await.unwrap();
        }
        hasher.hash(password("x")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_a_turn_ends() {
        let hasher = Hasher::new(1, 2);
        let _release = occupy(&hasher);
        assert_eq!(hasher.hash(password("x")).await.err(), Some(HashError::TimedOut));
    }

    #[tokio::test]
    async fn a_job_whose_caller_has_gone_is_skipped() {
        let hasher = Hasher::new(1, 2);
        let release = occupy(&hasher);
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        let mut gone = Box::pin(hasher.run(move |_| {
            flag.store(true, Ordering::SeqCst);
            Ok(())
        }));
        assert!(futures_poll(&mut gone).await.is_none());
        drop(gone);
        drop(release);
        hasher.hash(password("x")).await.unwrap();
        assert!(!ran.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_panic_costs_its_caller_an_answer_and_nobody_else() {
        let hasher = Hasher::new(1, 2);
        let panicked =
            hasher.run(|_| -> Result<(), HashError> { panic!("a test that panics on purpose") }).await;
        assert_eq!(panicked, Err(HashError::Failed));
        hasher.hash(password("x")).await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_pool_answers_those_who_wait() {
        let hasher = Hasher::new(1, 2);
        let shared = Arc::clone(&hasher.shared);
        let release = occupy(&hasher);
        let (sender, receiver) = oneshot::channel::<()>();
        shared.push(Box::new(move |_| Box::new(move || drop(sender)))).unwrap();
        drop(hasher);
        assert!(receiver.await.is_err());
        drop(release);
    }

    /// Polls once.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
