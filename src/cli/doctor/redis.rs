//! Redis: whether it answers soon, is new enough, and keeps what it is given. The password is never shown.

use std::time::Duration;

use forecourt::registration::{RedisCondition, RedisUrl};

use super::Finding;

const CHECK: &str = "Redis";

/// The oldest that the tests run against.
const MAJOR_MIN: u32 = 7;

/// A look-up of a car waits for it. On the same site it takes a tenth of this.
const PING_WARN: Duration = Duration::from_millis(5);

pub(super) async fn check(url: &RedisUrl) -> Vec<Finding> {
    match url.look().await {
        Ok(condition) => vec![version(&condition), latency(&condition), eviction(&condition)],
        Err(error) => {
            let mend = "start it, or see to registration.redis_url; the engine serves from its store meanwhile";
            vec![Finding::wrong(CHECK, format!("not reached: {error}"), mend)]
        }
    }
}

fn version(condition: &RedisCondition) -> Finding {
    let version = &condition.version;
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= MAJOR_MIN) {
        return Finding::ok(CHECK, format!("version {version}"));
    }
    Finding::wrong(CHECK, format!("version {version:?}"), format!("take {MAJOR_MIN} or later"))
}

fn latency(condition: &RedisCondition) -> Finding {
    let found = format!("PING is answered within {:.1} ms", condition.ping.as_secs_f64() * 1e3);
    if condition.ping > PING_WARN {
        return Finding::warn(
            CHECK,
            found,
            "bring it nearer: a look-up waits for it, registration.redis_wait_ms at most",
        );
    }
    Finding::ok(CHECK, found)
}

/// The revision and the stream of changes must stay; they never expire, and records do.
fn eviction(condition: &RedisCondition) -> Finding {
    let RedisCondition { policy, memory_max, .. } = condition;
    let found = format!("maxmemory-policy {policy}, maxmemory {} MB", memory_max >> 20);
    let mend = "set maxmemory-policy volatile-lru: it evicts records, which are looked up again, and nothing else";
    match (policy.as_str(), memory_max) {
        (evicts, 1..) if evicts.starts_with("allkeys-") => Finding::wrong(CHECK, found, mend),
        (evicts, 0) if evicts.starts_with("allkeys-") => Finding::warn(CHECK, found, mend),
        ("noeviction", 1..) => Finding::warn(CHECK, found + ": once it is full it takes nothing more", mend),
        _ => Finding::ok(CHECK, found),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn a_policy_that_evicts_the_revision_is_wrong_once_there_is_a_bound() {
        let of = |policy: &str, memory_max| {
            let condition =
                RedisCondition { version: "7.0.15".into(), policy: policy.into(), memory_max, ping: Duration::ZERO };
            eviction(&condition).verdict
        };
        assert_eq!(of("allkeys-lru", 1 << 30), Verdict::Wrong);
        assert_eq!(of("allkeys-lru", 0), Verdict::Warn);
        assert_eq!(of("noeviction", 1 << 30), Verdict::Warn);
        assert_eq!((of("noeviction", 0), of("volatile-lru", 1 << 30)), (Verdict::Ok, Verdict::Ok));
    }

    #[test]
    fn an_old_redis_is_wrong() {
        let of = |version: &str| {
            let condition =
                RedisCondition { version: version.into(), policy: String::new(), memory_max: 0, ping: Duration::ZERO };
            super::version(&condition).verdict
        };
        assert_eq!(
            (of("6.2.14"), of("7.0.0"), of("10.1"), of("")),
            (Verdict::Wrong, Verdict::Ok, Verdict::Ok, Verdict::Wrong)
        );
    }
}
