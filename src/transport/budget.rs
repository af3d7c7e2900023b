//! How often a broker is connected to: a token bucket per address, so that neither a departure nor a broker that refuses becomes a storm.
//!
//! Who comes over the budget waits for its turn in the order of coming; one that gives up leaves no gap. Discovery, which everybody
//! waits for and whose own pace is bounded, goes ahead of the queue and is charged all the same.
//!
//! Invariant: in any time `t`, `ordered` lets at most `burst + rate · t` connects go to one address, those that went ahead included.
//! Deliberately absent: connecting.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as Turnstile;
use tokio::time::{Instant, sleep_until};

use crate::cluster::Endpoint;

/// Addresses that have a bucket of their own; what is beyond shares one.
const ADDRESSES_MAX: usize = 1_000;

/// Tokens that come at a rate. What was taken ahead is owed.
#[derive(Debug)]
struct Bucket {
    interval: Duration,
    burst: u32,
    /// When it will be full again.
    full_at: Instant,
}

impl Bucket {
    fn new(per_second: u32, now: Instant) -> Bucket {
        // A second's worth: a client's legs all move at once when its broker leaves.
        let per_second = per_second.max(1);
        Bucket { interval: Duration::from_secs(1) / per_second, burst: per_second, full_at: now }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// When the next one comes.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let empty_until = self.full_at.checked_sub(self.interval * (self.burst - 1)).unwrap_or(now);
        if empty_until > now {
            return Err(empty_until);
        }
        self.take_ahead(now);
        Ok(())
    }

    /// Takes a token, whether it has come or not.
    fn take_ahead(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.interval;
    }
}

#[derive(Debug)]
struct Address {
    bucket: Mutex<Bucket>,
    /// Held by who waits for the next token; the others wait for it, in the order of coming.
    turnstile: Turnstile<()>,
}

/// Shared by all who connect to brokers.
#[derive(Debug)]
pub struct ConnectBudget {
    per_second: u32,
    addresses: Mutex<HashMap<Endpoint, Arc<Address>>>,
    beyond: Arc<Address>,
    delayed: AtomicU64,
}

impl ConnectBudget {
    pub fn new(per_second: u32) -> ConnectBudget {
        ConnectBudget { per_second, addresses: Mutex::default(), beyond: Arc::new(Address::new(per_second)), delayed: AtomicU64::new(0) }
    }

    /// Ends when it is this connect's turn.
    pub async fn ordered(&self, endpoint: &Endpoint) {
        let address = self.address(endpoint);
        let is_first = address.turnstile.try_lock();
        if is_first.is_ok() && lock(&address.bucket).take(Instant::now()).is_ok() {
            return;
        }
        drop(is_first);
        self.delayed.fetch_add(1, Ordering::Relaxed);
        let _turn = address.turnstile.lock().await;
        loop {
            let taken = lock(&address.bucket).take(Instant::now());
            match taken {
                Ok(()) => return,
                Err(next) => sleep_until(next).await,
            }
        }
    }

    /// Charges a connect that does not wait.
    pub fn ahead(&self, endpoint: &Endpoint) {
        lock(&self.address(endpoint).bucket).take_ahead(Instant::now());
    }

    /// Connects that had to wait for their turn, since start.
    pub fn delayed(&self) -> u64 {
        self.delayed.load(Ordering::Relaxed)
    }

    fn address(&self, endpoint: &Endpoint) -> Arc<Address> {
        let mut addresses = lock(&self.addresses);
        if let Some(known) = addresses.get(endpoint) {
            return known.clone();
        }
        if addresses.len() >= ADDRESSES_MAX {
            let now = Instant::now();
            // A full bucket that nobody waits at says nothing that a new one would not.
            addresses.retain(|_, address| Arc::strong_count(address) > 1 || lock(&address.bucket).full_at > now);
            if addresses.len() >= ADDRESSES_MAX {
                return self.beyond.clone();
            }
        }
        let address = Arc::new(Address::new(self.per_second));
        addresses.insert(endpoint.clone(), address.clone());
        address
    }
}

impl Address {
    fn new(per_second: u32) -> Address {
        Address { bucket: Mutex::new(Bucket::new(per_second, Instant::now())), turnstile: Turnstile::new(()) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn endpoint(port: u16) -> Endpoint {
        Endpoint { host: "broker.example".into(), port }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(50, start);
        for _ in 0..50 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(start + 20 * MS));
        assert_eq!(bucket.take(start + 19 * MS), Err(start + 20 * MS));
        assert_eq!(bucket.take(start + 20 * MS), Ok(()));
        assert_eq!(bucket.take(start + 20 * MS), Err(start + 40 * MS));
        let later = start + 60_000 * MS;
        let at_once = (0..200).filter(|_| bucket.take(later).is_ok()).count();
        assert_eq!(at_once, 50, "a long rest saves no more than the burst");
    }

    #[tokio::test(start_paused = true)]
    async fn in_no_window_do_more_go_than_the_burst_and_the_rate_allow() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut now = Instant::now();
        let mut bucket = Bucket::new(50, now);
        let mut went = Vec::new();
        for _ in 0..5_000 {
            now += Duration::from_micros(rng.u64(0..30_000)) * u32::from(rng.u8(0..4) == 0);
            if bucket.take(now).is_ok() {
                went.push(now);
            }
        }
        for (first, begin) in went.iter().enumerate() {
            for (last, end) in went.iter().enumerate().skip(first) {
                let allowed = 50.0 + (*end - *begin).as_secs_f64() * 50.0;
                assert!((last - first + 1) as f64 <= allowed + 1e-6, "{} in {:?}", last - first + 1, *end - *begin);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_in_order_and_who_gives_up_leaves_no_gap() {
        let budget = Arc::new(ConnectBudget::new(10));
        let start = Instant::now();
        for _ in 0..10 {
            budget.ordered(&endpoint(1)).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let waiting: Vec<_> = (0..6)
            .map(|_| {
                let budget = budget.clone();
                tokio::spawn(async move {
                    budget.ordered(&endpoint(1)).await;
                    start.elapsed()
                })
            })
            .collect();
        tokio::time::sleep(MS).await;
        waiting[1].abort();
        waiting[2].abort();
        let mut turns = Vec::new();
        for waiter in waiting {
            turns.extend(waiter.await.ok());
        }
        assert_eq!(turns, [100 * MS, 200 * MS, 300 * MS, 400 * MS]);
        assert_eq!(budget.delayed(), 6);
        budget.ordered(&endpoint(2)).await;
        assert_eq!(start.elapsed(), 400 * MS, "another address has a budget of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_ahead_is_charged() {
        let budget = ConnectBudget::new(10);
        let start = Instant::now();
        (0..12).for_each(|_| budget.ahead(&endpoint(1)));
        budget.ordered(&endpoint(1)).await;
        assert_eq!(start.elapsed(), 300 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let budget = ConnectBudget::new(10);
        (0..3_000).for_each(|port| budget.ahead(&endpoint(port)));
        assert_eq!(lock(&budget.addresses).len(), ADDRESSES_MAX);
        tokio::time::sleep(1_000 * MS).await;
        budget.ordered(&endpoint(9_000)).await;
        assert_eq!(lock(&budget.addresses).len(), 1, "full buckets are forgotten");
    }
}
