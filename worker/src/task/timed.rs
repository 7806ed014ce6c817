//! Measures how long a future computes, as opposed to how long it waits.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Awaits a future and adds the time spent inside its polls to `spent`.
pub async fn timed<F: Future>(spent: &mut Duration, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let began = Instant::now();
        let polled = future.as_mut().poll(context);
        *spent += began.elapsed();
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_not_computing() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let wait = Duration::from_millis(50);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            sender.send(7)
        });
        let mut spent = Duration::ZERO;
        assert_eq!(timed(&mut spent, receiver).await, Ok(7));
        assert!(spent < wait, "{spent:?}");
    }
}
