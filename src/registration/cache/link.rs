//! One connection to Redis, and all that is said over it but for the reading of the stream.

use std::{sync::LazyLock, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, FromRedisValue as _, RedisResult, Script, Value, aio::MultiplexedConnection, cmd,
};

use super::names::Names;
use crate::{
    engine::id::DeviceId,
    registration::{binding::BindingStatus, truth::Moment},
};

/// A connection that is not there by then is tried again later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// For what nobody waits for at a pump. A look-up's own bound is shorter.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Seconds for which a registration stays that nobody asks for: a week brings most cars to a pump. The bound of what is
/// kept: the cars of a week, some 300 bytes each.
const RECORD_TTL_S: u64 = 7 * 24 * 3600;

/// Changes that the stream keeps, about 100 bytes each. Who is further behind starts anew.
pub(super) const CHANGES_MAX: usize = 100_000;

/// Names that one SCAN looks at: Redis serves nobody else meanwhile.
const SCAN_COUNT: usize = 1_000;

/// KEYS: moment, stream, the records. ARGV: the moment expected, the next, the stream's bound, a record's seconds;
/// then for each record its bytes, dongle, epoch and status. A dongle that has no binding any more has no bytes.
/// Records that nobody has looked up are left alone: an import of millions is none of the cache's business.
static ADVANCE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        for key = 3, #KEYS do
            local of = 5 + (key - 3) * 4
            if ARGV[of] == '' then
                redis.call('UNLINK', KEYS[key])
            else
                redis.call('SET', KEYS[key], ARGV[of], 'XX', 'EX', ARGV[4])
                redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'revision', ARGV[2],
                    'device', ARGV[of + 1], 'epoch', ARGV[of + 2], 'status', ARGV[of + 3])
            end
        end
        redis.call('SET', KEYS[1], ARGV[2])
        return 1",
    )
});

/// KEYS: moment, the records. ARGV: the moment expected, a record's seconds, the bytes of each.
static FILL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        for key = 2, #KEYS do redis.call('SET', KEYS[key], ARGV[key + 1], 'EX', ARGV[2]) end
        return 1",
    )
});

/// KEYS: moment, stream. ARGV: the moment to begin with, the stream's bound. Whoever follows the stream is told that
/// what he knows may be old.
static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'revision', ARGV[1], 'reset', '1')
        redis.call('SET', KEYS[1], ARGV[1])",
    )
});

/// A change on its way to Redis.
pub(super) struct Changed {
    pub(super) device: DeviceId,
    /// Its registration; none of a dongle that has no binding.
    pub(super) bound: Option<Bound>,
}

pub(super) struct Bound {
    pub(super) record: Vec<u8>,
    pub(super) epoch: u64,
    pub(super) status: BindingStatus,
}

pub(super) struct Link {
    connection: MultiplexedConnection,
    names: Names,
}

impl Link {
    pub(super) async fn open(client: &Client, names: &Names) -> RedisResult<Link> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Link { connection, names: names.clone() })
    }

    /// The moment that Redis is a copy of; `None` of one that is empty, or holds something else there: an earlier version
    /// wrote the revision alone.
    pub(super) async fn moment(&mut self) -> RedisResult<Option<Moment>> {
        let value: Value = cmd("GET").arg(self.names.moment()).query_async(&mut self.connection).await?;
        Ok(moment(value))
    }

    /// The records of these dongles, and the moment that they are of.
    pub(super) async fn records(
        &mut self,
        devices: impl Iterator<Item = DeviceId>,
    ) -> RedisResult<(Option<Moment>, Vec<Option<Vec<u8>>>)> {
        let mut command = cmd("MGET");
        command.arg(self.names.moment());
        for device in devices {
            command.arg(self.names.record(device));
        }
        let mut values: Vec<Value> = command.query_async(&mut self.connection).await?;
        let records = values.split_off(1.min(values.len())).into_iter().map(Option::<Vec<u8>>::from_redis_value);
        let held = values.pop().and_then(moment);
        Ok((held, records.collect::<Result<_, _>>()?))
    }

    /// Brings Redis from one moment to a later one; `false` when it was not at the first.
    pub(super) async fn advance(&mut self, from: Moment, to: Moment, changes: &[Changed]) -> RedisResult<bool> {
        let mut call = ADVANCE.prepare_invoke();
        call.key(self.names.moment()).key(self.names.changes());
        call.arg(from.to_string()).arg(to.to_string()).arg(CHANGES_MAX).arg(RECORD_TTL_S);
        for change in changes {
            call.key(self.names.record(change.device));
            match &change.bound {
                Some(Bound { record, epoch, status }) => {
                    call.arg(record.as_slice()).arg(change.device.0).arg(*epoch).arg(status.name())
                }
                None => call.arg("").arg("").arg("").arg(""),
            };
        }
        call.invoke_async(&mut self.connection).await
    }

    /// Keeps records that were read at this moment; `false` when Redis is at another.
    pub(super) async fn fill(&mut self, at: Moment, records: &[(DeviceId, Vec<u8>)]) -> RedisResult<bool> {
        let mut call = FILL.prepare_invoke();
        call.key(self.names.moment()).arg(at.to_string()).arg(RECORD_TTL_S);
        for (device, record) in records {
            call.key(self.names.record(*device)).arg(record.as_slice());
        }
        call.invoke_async(&mut self.connection).await
    }

    /// Some more of the records, and where to go on; 0 at first, and when there are no more.
    pub(super) async fn scan(&mut self, cursor: u64) -> RedisResult<(u64, Vec<(DeviceId, Vec<u8>)>)> {
        let (next, keys) = self.scan_keys(cursor).await?;
        let devices: Vec<DeviceId> = keys.iter().filter_map(|key| Names::device_of(key)).collect();
        let (_, records) = self.records(devices.iter().copied()).await?;
        let found = devices.into_iter().zip(records).filter_map(|(device, record)| Some((device, record?)));
        Ok((next, found.collect()))
    }

    async fn scan_keys(&mut self, cursor: u64) -> RedisResult<(u64, Vec<String>)> {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(self.names.records()).arg("COUNT").arg(SCAN_COUNT);
        scan.query_async(&mut self.connection).await
    }

    /// Forgets every record, and then begins anew at this moment. In steps, so that Redis serves others in between.
    pub(super) async fn begin(&mut self, at: Moment) -> RedisResult<()> {
        cmd("UNLINK").arg(self.names.moment()).query_async::<()>(&mut self.connection).await?;
        let mut cursor = 0_u64;
        loop {
            let (next, found) = self.scan_keys(cursor).await?;
            if !found.is_empty() {
                cmd("UNLINK").arg(found).query_async::<()>(&mut self.connection).await?;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let mut call = BEGIN.prepare_invoke();
        call.key(self.names.moment()).key(self.names.changes()).arg(at.to_string()).arg(CHANGES_MAX);
        call.invoke_async(&mut self.connection).await
    }
}

fn moment(value: Value) -> Option<Moment> {
    String::from_redis_value(value).ok()?.parse().ok()
}
