//! `forecourt cache`: fills Redis from the store, and compares the two.

use clap::Subcommand;
use forecourt::{
    config::Settings,
    registration::{CacheOperator, Verified, WarmError},
};
use indicatif::ProgressBar;

use super::{Failure, block_on, print};

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Cache {
    /// Put every registration and the segments of all dongles into Redis, for a fast start. The engine may run.
    Warm,
    /// Compare what Redis holds with the store. Exit code 1 when something would be believed that is wrong.
    Verify,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no registration.redis_url is set; see `forecourt config default`")]
    NoRedis,
    #[error(transparent)]
    Warm(#[from] WarmError),
    #[error(
        "{0} records in Redis are wrong and would be believed; FLUSHDB makes it forget them, and costs nothing but time"
    )]
    Unsound(u64),
}

pub(super) fn run(settings: &Settings, cache: Cache) -> Result<(), Failure> {
    block_on(async { Ok(tell(settings, cache).await?) })
}

async fn tell(settings: &Settings, cache: Cache) -> Result<(), Error> {
    let registration = &settings.registration;
    let url = registration.redis_url.as_ref().ok_or(Error::NoRedis)?;
    let operator = CacheOperator::open(&settings.engine.data, registration.kek_hex.as_ref(), url)?;
    let bar = ProgressBar::new_spinner();
    match cache {
        Cache::Warm => {
            let warmed = operator.warm(|so_far| {
                bar.set_message(format!("{} dongles, {} registrations", so_far.dongles, so_far.registrations));
                bar.tick();
            });
            let warmed = warmed.await?;
            bar.finish_and_clear();
            say(&format!(
                "{} registrations and the keys of {} dongles, sealed, are in Redis\n",
                warmed.registrations, warmed.dongles
            ));
            Ok(())
        }
        Cache::Verify => {
            let verified = operator.verify(|so_far| {
                bar.set_message(format!("{} records compared", so_far.right + so_far.wrong + so_far.unreadable));
                bar.tick();
            });
            let verified = verified.await?;
            bar.finish_and_clear();
            say(&summary(verified));
            if verified.is_sound() { Ok(()) } else { Err(Error::Unsound(verified.wrong)) }
        }
    }
}

fn summary(verified: Verified) -> String {
    let Verified { is_current, right, wrong, unreadable } = verified;
    let standing = if is_current {
        "Redis is where the store is"
    } else {
        "Redis is not where the store is, so nothing in it is believed until the engine has caught it up"
    };
    format!("{standing}; {right} records are right, {wrong} wrong, {unreadable} unreadable\n")
}

/// A reader that has gone takes nothing from what was done.
fn say(text: &str) {
    let _ = print(text);
}
