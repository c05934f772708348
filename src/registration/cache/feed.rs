//! Follows the stream of changes, so that what another process changed is not answered from the near cache.
//!
//! Reading resumes after the last entry that was seen. When the stream has lost entries since (trimmed, emptied, set
//! back), or says that it began anew, everything in the near cache may be old and is forgotten.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, RedisResult, Value,
    aio::MultiplexedConnection,
    cmd,
    streams::{StreamId, StreamInfoStreamReply, StreamRangeReply, StreamReadReply},
};
use tokio::time::sleep;

use super::names::Names;
use crate::{
    engine::id::DeviceId,
    registration::{effects::Effects, metrics::CacheMetrics},
};

const BLOCK: Duration = Duration::from_secs(5);

/// Entries of one read, some 100 bytes each.
const COUNT: usize = 512;

const PAUSE: Duration = Duration::from_secs(1);

/// What an id looks like before the first entry.
const BEGINNING: &str = "0-0";

pub(super) struct Feed {
    client: Client,
    names: Names,
    effects: Arc<Effects>,
    metrics: Arc<CacheMetrics>,
    /// The last entry seen; none before the first connection.
    last: Option<String>,
}

impl Feed {
    pub(super) fn new(client: Client, names: Names, effects: &Arc<Effects>, metrics: &Arc<CacheMetrics>) -> Feed {
        Feed { client, names, effects: effects.clone(), metrics: metrics.clone(), last: None }
    }

    /// Comes back for ever. The keeper says what is wrong with Redis.
    pub(super) async fn run(mut self) {
        loop {
            if let Err(error) = self.follow().await {
                tracing::debug!(%error, "the stream of changes is read again in a moment");
            }
            sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self) -> RedisResult<()> {
        // A blocking read has the connection to itself, and is answered after BLOCK at the latest.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PAUSE)).set_response_timeout(Some(BLOCK + PAUSE));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut last = self.resume(&mut connection).await?;
        loop {
            self.last = Some(last.clone());
            let mut read = cmd("XREAD");
            read.arg("COUNT").arg(COUNT).arg("BLOCK").arg(BLOCK.as_millis() as u64);
            read.arg("STREAMS").arg(self.names.changes()).arg(&last);
            let found: Option<StreamReadReply> = read.query_async(&mut connection).await?;
            let entries = found.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids);
            for entry in entries {
                self.take(&entry);
                last = entry.id;
            }
        }
    }

    /// Where to go on. At first at the end: the near cache is empty then.
    async fn resume(&mut self, connection: &mut MultiplexedConnection) -> RedisResult<String> {
        let mut newest = cmd("XREVRANGE");
        newest.arg(self.names.changes()).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: StreamRangeReply = newest.query_async(connection).await?;
        let end = newest.ids.into_iter().next().map_or_else(|| BEGINNING.to_owned(), |entry| entry.id);
        let Some(last) = self.last.take() else { return Ok(end) };
        if last == BEGINNING || self.still_holds(connection, &last, &end).await? {
            return Ok(last);
        }
        self.forget_all();
        Ok(end)
    }

    /// Whether every entry after `last` is still there.
    async fn still_holds(&self, connection: &mut MultiplexedConnection, last: &str, end: &str) -> RedisResult<bool> {
        if position(end) < position(last) {
            return Ok(false);
        }
        let info: StreamInfoStreamReply =
            cmd("XINFO").arg("STREAM").arg(self.names.changes()).query_async(connection).await?;
        Ok(position(&info.first_entry.id) <= position(last))
    }

    fn take(&self, entry: &StreamId) {
        self.metrics.heard.increment(1);
        let number = |field: &str| -> Option<u64> {
            match entry.map.get(field)? {
                Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
                _ => None,
            }
        };
        match (number("device"), number("epoch")) {
            (Some(device), Some(epoch)) => self.effects.heard_of(DeviceId(device), epoch),
            _ => self.forget_all(),
        }
    }

    fn forget_all(&self) {
        self.metrics.gaps.increment(1);
        self.effects.near.clear();
    }
}

/// An id is `milliseconds-number`.
fn position(id: &str) -> (u64, u64) {
    let (ms, number) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), number.parse().unwrap_or(0))
}
