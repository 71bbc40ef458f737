//! What a check keeps from one time to the next, and work for it that may block.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::{Mutex, Semaphore, oneshot};

use crate::model::CheckFailure;

/// Used by one question at a time: while the work for one that was given up still hangs (in a file system that does not answer), the
/// next one waits for it, so that a check never holds more than one thread.
pub(super) struct Alone<S>(Arc<Mutex<S>>);

impl<S: Default> Default for Alone<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S> fmt::Debug for Alone<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alone").finish_non_exhaustive()
    }
}

impl<S: Send + 'static> Alone<S> {
    /// Does this on a thread that may block.
    pub(super) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> Result<T, CheckFailure> + Send + 'static,
    ) -> Result<T, CheckFailure> {
        let mut kept = Arc::clone(&self.0).lock_owned().await;
        block(move || work(&mut kept)).await
    }
}

/// Does this on a thread that may block, after what was begun under the same name has ended: a file of a file system that does not
/// answer, or a name that no resolver knows, never holds more than one thread, however many checks ask for it.
pub(super) async fn one_of<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> Result<T, CheckFailure> + Send + 'static,
) -> Result<T, CheckFailure> {
    /// As many as are waited for or under way: those whose checks are.
    static NAMES: std::sync::Mutex<BTreeMap<String, Weak<Semaphore>>> =
        std::sync::Mutex::new(BTreeMap::new());
    let one = {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|_, one| one.strong_count() > 0);
        names.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let one = Arc::new(Semaphore::new(1));
            names.insert(name, Arc::downgrade(&one));
            one
        })
    };
    // With its permit goes the semaphore: the name stays known until the work has ended.
    let own = one.acquire_owned().await.map_err(|error| broken(&error))?;
    block(move || {
        let done = work();
        drop(own);
        done
    })
    .await
}

/// Threads of the runtime's own that checks may have at a time: the daemon needs the others.
static QUICK: Semaphore = Semaphore::const_new(8);
/// Threads beside those: started when all of these are held up, and for what takes its time.
static SLOW: Semaphore = Semaphore::const_new(256);
/// Bytes of such a thread's stack.
const STACK: usize = 512 << 10;

/// Does this on a thread that may block.
async fn block<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CheckFailure> + Send + 'static,
) -> Result<T, CheckFailure> {
    let Ok(place) = QUICK.try_acquire() else {
        return apart((), work).await;
    };
    let working = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    });
    working.await.unwrap_or_else(|error| Err(broken(&error)))
}

/// Does this on a thread of its own, which keeps this until it has ended.
pub(super) async fn apart<T: Send + 'static>(
    keep: impl Send + 'static,
    work: impl FnOnce() -> Result<T, CheckFailure> + Send + 'static,
) -> Result<T, CheckFailure> {
    let place = SLOW.acquire().await.map_err(|error| broken(&error))?;
    let (done, waiting) = oneshot::channel();
    let thread = std::thread::Builder::new().name("check".to_owned());
    let started = thread.stack_size(STACK).spawn(move || {
        let result = work();
        drop((place, keep));
        // Nobody waits any more for what was given up.
        let _given_up = done.send(result);
    });
    started.map_err(|error| broken(&error))?;
    waiting.await.unwrap_or_else(|error| Err(broken(&error)))
}

fn broken(error: &dyn fmt::Display) -> CheckFailure {
    CheckFailure::Answer(format!("the check did not come to its end: {error}"))
}
