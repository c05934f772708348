//! A Redis as somebody finds it who has yet to entrust it with anything.

use std::time::{Duration, Instant};

use redis::{AsyncConnectionConfig, Client, InfoDict, RedisResult, aio::MultiplexedConnection, cmd};

/// Longer than a network across a country takes.
const WITHIN: Duration = Duration::from_secs(2);

const PINGS: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisCondition {
    pub version: String,
    /// `maxmemory-policy`: what it evicts once it is full.
    pub policy: String,
    /// Bytes; 0 is no bound.
    pub memory_max: u64,
    /// The median of some.
    pub ping: Duration,
}

pub(super) async fn look(client: &Client) -> RedisResult<RedisCondition> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(WITHIN)).set_response_timeout(Some(WITHIN));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    // Older ones take one section at a time.
    let server: InfoDict = cmd("INFO").arg("server").query_async(&mut connection).await?;
    let memory: InfoDict = cmd("INFO").arg("memory").query_async(&mut connection).await?;
    Ok(RedisCondition {
        version: server.get("redis_version").unwrap_or_default(),
        policy: memory.get("maxmemory_policy").unwrap_or_default(),
        memory_max: memory.get("maxmemory").unwrap_or_default(),
        ping: ping(&mut connection).await?,
    })
}

async fn ping(connection: &mut MultiplexedConnection) -> RedisResult<Duration> {
    let mut took = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let begun = Instant::now();
        cmd("PING").query_async::<()>(connection).await?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    Ok(took[PINGS / 2])
}
