//! Several attempts at one thing, of which the first to succeed counts.
//!
//! The next one starts when the one before has failed or has been silent for a while, so that dead addresses in front of the list cost
//! a fraction of a second each, not a time limit each (as RFC 8305 does for the addresses of a name).
//!
//! Invariant: when one has succeeded, the others are dropped. Deliberately absent: a limit of time; each attempt has its own.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an attempt has the stage for itself.
pub(super) const HEAD_START: Duration = Duration::from_millis(300);

/// The first success; `None` if every attempt failed. `failed` hears of each failure as it comes.
pub async fn staggered<T, E, F>(attempts: impl IntoIterator<Item = F>, failed: impl FnMut(E)) -> Option<T>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    staggered_by(HEAD_START, attempts, failed).await
}

/// As [`staggered`], with a head start of the caller's choice.
pub async fn staggered_by<T, E, F>(head_start: Duration, attempts: impl IntoIterator<Item = F>, mut failed: impl FnMut(E)) -> Option<T>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut waiting = attempts.into_iter().peekable();
    let mut under_way = JoinSet::new();
    loop {
        if let Some(attempt) = waiting.next() {
            under_way.spawn(attempt);
        } else if under_way.is_empty() {
            return None;
        }
        let ended = if waiting.peek().is_none() {
            under_way.join_next().await
        } else {
            timeout(head_start, under_way.join_next()).await.unwrap_or(None)
        };
        match ended {
            Some(Ok(Ok(success))) => return Some(success),
            Some(Ok(Err(failure))) => failed(failure),
            Some(Err(join)) => tracing::error!(error = %join, "an attempt ended in an unforeseen way"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    type Attempt = Pin<Box<dyn Future<Output = Result<u32, &'static str>> + Send>>;

    fn after(delay_ms: u64, result: Result<u32, &'static str>) -> Attempt {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            result
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_attempt_costs_its_head_start_and_a_failed_one_nothing() {
        let started = tokio::time::Instant::now();
        let mut failures = Vec::new();
        let attempts = vec![after(60_000, Ok(1)), after(5, Err("refused")), after(20, Ok(3)), after(0, Ok(4))];
        assert_eq!(staggered(attempts, |failure| failures.push(failure)).await, Some(3));
        assert_eq!(started.elapsed(), HEAD_START + Duration::from_millis(25));
        assert_eq!(failures, ["refused"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_early_attempt_may_still_win() {
        assert_eq!(staggered(vec![after(350, Ok(1)), after(60_000, Ok(2))], |_| {}).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_success_every_failure_is_heard() {
        let mut failures = Vec::new();
        let attempts = vec![after(400, Err("a")), after(1, Err("b"))];
        assert_eq!(staggered(attempts, |failure| failures.push(failure)).await, None);
        failures.sort_unstable();
        assert_eq!(failures, ["a", "b"]);
        assert_eq!(staggered(Vec::<Attempt>::new(), |_| {}).await, None);
    }
}
