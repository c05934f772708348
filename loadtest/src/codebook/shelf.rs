//! The book's segments in a Redis: written, and a start from them.

use std::{io, time::Instant};

use forecourt::{
    engine::codebook::Keeper,
    registration::{
        Moment, RedisUrl,
        envelope::Envelope,
        roll_at_once,
        shelf::{Shelf, read},
    },
};
use serde::Serialize;

use super::{NOW, SLOT};

/// Of a store that nobody else has.
const STORE: [u8; 8] = *b"loadtest";

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FromRedis {
    pub redis_write_s: f64,
    /// To a book that answers, on all cores, beside the Redis that has the segments in its memory.
    pub ready_from_redis_s: f64,
    /// Of these, until all keys are open.
    pub redis_read_s: f64,
    pub redis_devices: usize,
}

/// Writes the dongles to Redis, forgets them, and starts from what is there.
pub(super) fn measure(keeper: Keeper, url: &RedisUrl, tell: &mut impl FnMut(&str)) -> io::Result<FromRedis> {
    let envelope = Envelope::new(1, &[7; 32]);
    let began = Instant::now();
    let mut shelf = Shelf::begin(url, STORE, Moment::default()).map_err(io::Error::other)?;
    shelf.put_all(&keeper, &envelope, |_| {}).map_err(io::Error::other)?;
    let redis_write_s = began.elapsed().as_secs_f64();
    tell(&format!("segments written to Redis in {redis_write_s:.1} s"));
    drop(keeper);

    let threads = std::thread::available_parallelism()?.get();
    let began = Instant::now();
    let (roster, _) = read(url, STORE, &envelope, threads).map_err(io::Error::other)?;
    let redis_read_s = began.elapsed().as_secs_f64();
    let mut keeper = Keeper::new(SLOT, roster);
    roll_at_once(&mut keeper, NOW, threads);
    let redis_devices = keeper.book().len();
    let ready_from_redis_s = began.elapsed().as_secs_f64();
    tell(&format!("ready from Redis in {ready_from_redis_s:.1} s"));
    Ok(FromRedis { redis_write_s, ready_from_redis_s, redis_read_s, redis_devices })
}
