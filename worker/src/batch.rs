//! Natural batching: while one question is on its way, the next ones gather and go together. Alone, a question
//! goes at once; under load, batches grow by themselves. No timer.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// Asks a batching task. Clones ask the same task, which ends when the last clone is gone.
#[derive(Debug)]
pub struct Batcher<Q, A> {
    questions: mpsc::Sender<(Q, oneshot::Sender<A>)>,
}

impl<Q, A> Clone for Batcher<Q, A> {
    fn clone(&self) -> Self {
        Self {
            questions: self.questions.clone(),
        }
    }
}

/// The task behind a [`Batcher`] is gone; it has panicked or the runtime is ending.
#[derive(Debug, thiserror::Error)]
#[error("the batching task is gone")]
pub struct Gone;

impl<Q: Send + 'static, A: Send + 'static> Batcher<Q, A> {
    /// Starts a task that hands at most `size` questions at a time to `answer`, at most `parallel` batches at a
    /// time. `answer` gives one answer a question, in order.
    pub fn start<F, Fut>(tasks: &TaskTracker, size: usize, parallel: usize, answer: F) -> Self
    where
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<A>> + Send,
    {
        let (questions, mut inbox) = mpsc::channel::<(Q, oneshot::Sender<A>)>(size * 4);
        let answer = Arc::new(answer);
        let slots = Arc::new(Semaphore::new(parallel));
        let tracker = tasks.clone();
        tasks.spawn(async move {
            loop {
                // The slot comes first: what arrives while all are taken goes into one batch.
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                    return;
                };
                let Some(first) = inbox.recv().await else {
                    return;
                };
                // Whoever is about to ask gets to: a batch costs little more than a question.
                tokio::task::yield_now().await;
                let mut asked = vec![first];
                while asked.len() < size
                    && let Ok(question) = inbox.try_recv()
                {
                    asked.push(question);
                }
                let answer = Arc::clone(&answer);
                tracker.spawn(async move {
                    let (questions, askers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
                    let answers = answer(questions).await;
                    drop(slot);
                    for (asker, answer) in askers.into_iter().zip(answers) {
                        // An asker that has gone needs no answer.
                        let _ = asker.send(answer);
                    }
                });
            }
        });
        Self { questions }
    }

    /// Asks one question.
    pub async fn ask(&self, question: Q) -> Result<A, Gone> {
        let (asker, answer) = oneshot::channel();
        self.questions.send((question, asker)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn answers_reach_their_askers_and_batches_grow_while_one_is_away() {
        let tasks = TaskTracker::new();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let gate = Arc::new(Semaphore::new(0));
        let open = Arc::clone(&gate);
        let double = Batcher::start(&tasks, 64, 1, move |numbers: Vec<u32>| {
            seen.lock().unwrap().push(numbers.len());
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                numbers.into_iter().map(|n| n * 2).collect()
            }
        });
        let asked: Vec<_> = (0..200)
            .map(|n| {
                tokio::spawn({
                    let double = double.clone();
                    async move { double.ask(n).await }
                })
            })
            .collect();
        open.add_permits(1000);
        for (n, answer) in asked.into_iter().enumerate() {
            assert_eq!(answer.await.unwrap().unwrap(), n as u32 * 2);
        }
        let sizes = sizes.lock().unwrap().clone();
        assert_eq!(sizes.iter().sum::<usize>(), 200);
        assert!(
            sizes.iter().all(|size| *size <= 64) && sizes.len() < 20,
            "{sizes:?}"
        );
        drop(double);
        tasks.close();
        tasks.wait().await;
    }
}
