//! Dongles whose clock is further off than the codebook looks.

use std::time::Duration;

use forecourt::engine::time::{Slot, SlotLength};

use crate::{
    engine::Engine,
    site::{Car, STATION, Site, import, terminal_token, uplink},
};

/// A car that stands at the pump and broadcasts by a clock that shows this slot.
async fn recognised(slot: Slot) {
    let car = Car::new(7, "12가3456", "tok_ok");
    let engine = Engine::start().await;
    import(&engine, &[&car]).await;
    let terminal = terminal_token(&engine, STATION).await;
    let uplink = uplink(&engine, STATION);
    let radio = tokio::spawn(async move {
        let car = Car::new(7, "12가3456", "tok_ok");
        loop {
            uplink.hear_all(&[car.hearing_by(slot, -55)]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let site = Site { engine, terminal, radio };
    site.until_visible(1).await;
    assert!(site.engine.metric("forecourt_registration_sweep_codes_total", &["found"]).await > 0.0);
    site.select("3456").await.is(201);
}

#[tokio::test]
async fn a_clock_that_began_at_zero_is_found_by_the_sweep() {
    recognised(Slot(40)).await;
}

#[tokio::test]
async fn a_clock_that_is_an_hour_behind_is_found_by_the_sweep() {
    recognised(Slot(SlotLength::DEFAULT.slot_at(forecourt::telemetry::now()).0 - 12)).await;
}
