//! How often a caller may call: a bucket (GCRA) for each station, binding and operator, and for each address that calls
//! without a token. One that calls more often is refused before its call costs anything.
//!
//! A bucket is remembered until it is full again, two seconds after its last call, and the table is swept each 1,024
//! calls: at 50,000 calls a second of as many callers it holds 100,000 of 64 bytes, 7 MB.

use std::{
    fmt,
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::DashMapStateStore,
};
use metrics::Counter;

use super::{
    Config,
    metrics::limited,
    problem::{Code, Problem},
};
use crate::{
    address::source_of,
    engine::id::{BindingId, StationId},
    registration::{OperatorName, Role},
};

/// A bucket holds as many calls as refill in this many seconds.
const BURST_SECONDS: u32 = 2;

/// Calls between two sweeps of a table.
const SWEEP_EACH: u32 = 1024;

/// How often each caller may call.
pub struct Limits {
    terminals: Limiter<StationId>,
    phones: Limiter<BindingId>,
    operators: Limiter<OperatorName>,
    strangers: Limiter<IpAddr>,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Limits {
        Limits {
            terminals: Limiter::new("terminal", config.terminal_calls_per_second),
            phones: Limiter::new("phone", config.phone_calls_per_second),
            operators: Limiter::new("operator", config.operator_calls_per_second),
            strangers: Limiter::new("stranger", config.stranger_calls_per_second),
        }
    }

    /// From now on. Whose rate is another one begins with a full bucket; the others notice nothing.
    pub fn take_over(&self, config: &Config) {
        self.terminals.set(config.terminal_calls_per_second);
        self.phones.set(config.phone_calls_per_second);
        self.operators.set(config.operator_calls_per_second);
        self.strangers.set(config.stranger_calls_per_second);
    }

    pub(super) fn check(&self, role: Role) -> Result<(), Problem> {
        match role {
            Role::Terminal(station) => self.terminals.check(&station),
            Role::Phone(binding) => self.phones.check(&binding),
            Role::Operator(name) => self.operators.check(&name),
        }
    }

    /// Of a caller without a token that holds.
    pub(super) fn check_stranger(&self, address: IpAddr) -> Result<(), Problem> {
        self.strangers.check(&source_of(address))
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

struct Limiter<K: Hash + Eq + Clone> {
    /// `None`: no limit.
    buckets: ArcSwapOption<Buckets<K>>,
    calls: AtomicU32,
    refused: Counter,
}

/// The buckets of one rate.
struct Buckets<K: Hash + Eq + Clone> {
    rate: NonZeroU32,
    each: RateLimiter<K, DashMapStateStore<K>, DefaultClock>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(rate: NonZeroU32) -> Buckets<K> {
        let burst = rate.saturating_mul(NonZeroU32::new(BURST_SECONDS).expect("not zero"));
        Buckets { rate, each: RateLimiter::dashmap(Quota::per_second(rate).allow_burst(burst)) }
    }
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(who: &'static str, per_second: u32) -> Limiter<K> {
        let buckets = NonZeroU32::new(per_second).map(|rate| Arc::new(Buckets::new(rate)));
        Limiter { buckets: buckets.into(), calls: AtomicU32::new(0), refused: limited(who) }
    }

    fn set(&self, per_second: u32) {
        let rate = NonZeroU32::new(per_second);
        if self.buckets.load().as_ref().map(|buckets| buckets.rate) != rate {
            self.buckets.store(rate.map(|rate| Arc::new(Buckets::new(rate))));
        }
    }

    fn check(&self, caller: &K) -> Result<(), Problem> {
        let buckets = self.buckets.load();
        let Some(Buckets { each, .. }) = buckets.as_deref() else { return Ok(()) };
        if self.calls.fetch_add(1, Ordering::Relaxed) % SWEEP_EACH == SWEEP_EACH - 1 {
            each.retain_recent();
        }
        each.check_key(caller).map_err(|early| {
            self.refused.increment(1);
            too_often(early.wait_time_from(DefaultClock::default().now()))
        })
    }
}

fn too_often(wait: Duration) -> Problem {
    let seconds = wait.as_secs() + 1;
    Problem::new(Code::TooManyCalls, "you call too often; come again after the time in Retry-After").after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_call_in_a_burst_and_then_no_more_and_others_do_not_notice() {
        let limiter = Limiter::new("terminal", 3);
        let mut allowed = (0..100).filter(|_| limiter.check(&StationId(1)).is_ok()).count();
        // The bucket may refill by one or two on a machine that is slow just now.
        assert!((6..=8).contains(&allowed), "{allowed}");
        allowed = (0..6).filter(|_| limiter.check(&StationId(2)).is_ok()).count();
        assert_eq!(allowed, 6);
        assert_eq!(limiter.check(&StationId(1)).unwrap_err().code(), Code::TooManyCalls);
    }

    #[test]
    fn another_rate_holds_at_once_and_the_same_one_forgets_nobody() {
        let limiter = Limiter::new("terminal", 1);
        let allowed = |limiter: &Limiter<StationId>| (0..9).filter(|_| limiter.check(&StationId(1)).is_ok()).count();
        assert!((2..=3).contains(&allowed(&limiter)));
        limiter.set(1);
        assert!(allowed(&limiter) <= 1);
        limiter.set(0);
        assert_eq!(allowed(&limiter), 9);
        limiter.set(2);
        assert!((4..=5).contains(&allowed(&limiter)));
    }

    #[test]
    fn zero_is_no_limit() {
        let limiter = Limiter::new("phone", 0);
        assert!((0..10_000).all(|_| limiter.check(&BindingId([1; 16])).is_ok()));
    }

    #[test]
    fn the_table_forgets_who_is_quiet() {
        let limiter = Limiter::new("stranger", 1_000_000);
        for caller in 0..3 * SWEEP_EACH {
            limiter.check(&caller).unwrap();
        }
        let kept = limiter.buckets.load().as_ref().unwrap().each.len();
        assert!(kept <= 2 * SWEEP_EACH as usize, "{kept}");
    }
}
