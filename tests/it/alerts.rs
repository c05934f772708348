//! Real faults, and the alert that each raises with the rules that ship in a real Prometheus: that one, and no other.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use forecourt::{
    engine::{batch::Hearing, code::Code, id::ReceiverId},
    telemetry::now,
    uplink::UplinkHandle,
};
use loadtest::grafana::{self, prometheus::Prometheus};
use tempfile::TempDir;

use crate::{
    engine::{Engine, data_folder, eventually},
    redis_server::RedisServer,
    site::{Car, PUMP, STATION, Site, completion, import, uplink},
    tools::{self, SmallDisk},
};

/// For so long nothing fires before the fault, and nothing else after it.
const QUIET: Duration = Duration::from_secs(4);

/// Nobody waits minutes in a test. What waits longer than these is not about the moment, and does not fire in one.
const HURRIED: [&str; 3] = ["for: 0m\n", "for: 1m\n", "for: 2m\n"];

/// What the machine of the tests may raise by itself: its disk is its owner's.
const MACHINES_OWN: &str = "ForecourtDiskFull";

struct Watch {
    prometheus: Prometheus,
    /// Fired before the fault.
    machines_own: bool,
    _rules: TempDir,
}

impl Watch {
    /// Of an engine that is well; `None`, with a loud line, where there is no Prometheus.
    async fn over(engine: &Engine) -> Option<Watch> {
        tools::in_path("prometheus", "prometheus")?;
        let rules = tempfile::tempdir().expect("a temporary folder");
        let files = grafana::prometheus::rules(&grafana::folder())
            .iter()
            .map(|file| hurried(file, rules.path()))
            .collect::<Vec<_>>();
        let prometheus = Prometheus::start(engine.addresses().metrics, &files).await.expect("it starts");
        let mut watch = Watch { prometheus, machines_own: false, _rules: rules };
        tokio::time::sleep(QUIET).await;
        watch.machines_own = watch.firing().await.iter().any(|alert| alert == MACHINES_OWN);
        watch.fires_only(&[]).await;
        Some(watch)
    }

    async fn firing(&self) -> Vec<String> {
        let mut firing = self.prometheus.firing().await.expect("it answers");
        firing.retain(|alert| !(self.machines_own && alert == MACHINES_OWN));
        firing
    }

    async fn fires_only(&self, alerts: &[&str]) {
        let fires = alerts.iter().map(ToString::to_string).collect::<Vec<_>>();
        eventually(&format!("{alerts:?}"), async || {
            let firing = self.firing().await;
            fires.iter().all(|alert| firing.contains(alert)).then_some(())
        })
        .await;
        tokio::time::sleep(QUIET).await;
        assert_eq!(self.firing().await, fires);
    }
}

fn hurried(file: &Path, folder: &Path) -> PathBuf {
    let text = fs::read_to_string(file).expect("it ships");
    let text = HURRIED.iter().fold(text, |text, wait| text.replace(wait, "for: 1s\n"));
    let copy = folder.join(file.file_name().expect("a file"));
    fs::write(&copy, text).expect("writable");
    copy
}

fn car() -> Car {
    Car::new(1, "12A3456", "tok_ok")
}

/// What a station's receivers hear until it is switched off. The uplink stays.
struct Radio(Arc<AtomicBool>);

impl Radio {
    fn on(uplink: UplinkHandle, heard: impl Fn() -> Vec<Hearing> + Send + 'static) -> Radio {
        let on = Arc::new(AtomicBool::new(true));
        let is_on = on.clone();
        tokio::spawn(async move {
            loop {
                if is_on.load(Relaxed) {
                    uplink.hear_all(&heard());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Radio(on)
    }

    fn off(&self) {
        self.0.store(false, Relaxed);
    }
}

#[tokio::test]
async fn a_redis_that_is_gone() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let engine = Engine::start_with(&[("REGISTRATION_REDIS_URL", redis.url())]).await;
    let site = Site::on(engine, &[&car()]).await;
    eventually("Redis is asked", async || {
        (site.engine.metric("forecourt_registration_cache_up", &[]).await > 0.0).then_some(())
    })
    .await;
    let Some(watch) = Watch::over(&site.engine).await else { return };
    redis.kill();
    watch.fires_only(&["ForecourtCacheDown"]).await;
}

#[tokio::test]
async fn a_psp_that_does_not_answer() {
    let car = Car::new(1, "12A3456", "tok_timeout");
    let site = Site::on(Engine::start_with(&[("PAYMENT_ANSWER_MS", "500".into())]).await, &[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    let Some(watch) = Watch::over(&site.engine).await else { return };
    let session = site.select("3456").await.is(201).text("id");
    site.order(&session, "completion", completion("T-1")).await.is(200);
    let challenged = site.until_state(&session, &phone, "AwaitingProof").await;
    site.engine.post(&format!("/v1/sessions/{session}/proof"), &phone, car.proof(&challenged)).await.is(202);
    watch.fires_only(&["ForecourtBudgetBurnsFast", "ForecourtPaymentsInDoubt"]).await;
}

#[tokio::test]
async fn receivers_that_fall_silent() {
    let car = car();
    let settings = [("STATION_SURVEY_S", "1".into()), ("STATION_SILENT_AFTER_S", "5".into())];
    let engine = Engine::start_with(&settings).await;
    import(&engine, &[&car]).await;
    let radio = Radio::on(uplink(&engine, STATION), move || {
        [0, PUMP as u8].map(|receiver| Hearing { receiver: ReceiverId(receiver), ..car.hearing(-55) }).into()
    });
    eventually("frames", async || {
        (engine.metric("forecourt_station_frames_total", &["resolved"]).await > 0.0).then_some(())
    })
    .await;
    let Some(watch) = Watch::over(&engine).await else { return };
    radio.off();
    watch.fires_only(&["ForecourtReceiversSilent"]).await;
}

#[tokio::test]
async fn a_flood_of_strangers() {
    let car = car();
    let engine = Engine::start_with(&[("STATION_SURVEY_S", "1".into())]).await;
    import(&engine, &[&car]).await;
    let strangers = Arc::new(AtomicBool::new(false));
    let are_there = strangers.clone();
    let _radio = Radio::on(uplink(&engine, STATION), move || {
        let stranger = |number: u8| Hearing { code: Code([number; 16]), receiver: ReceiverId(0), rssi: -70, at: now() };
        let strangers = (0..100).map(stranger).take(if are_there.load(Relaxed) { 100 } else { 0 });
        strangers.chain([car.hearing(-55)]).collect()
    });
    let Some(watch) = Watch::over(&engine).await else { return };
    strangers.store(true, Relaxed);
    watch.fires_only(&["ForecourtStrangers"]).await;
}

#[tokio::test]
async fn a_disk_that_is_full() {
    let mut disk = None;
    let engine = Engine::start_prepared(&[], |command| disk = SmallDisk::mount(data_folder(command), "size=24m")).await;
    if disk.is_none() {
        return;
    }
    let site = Site::on(engine, &[&car()]).await;
    let Some(watch) = Watch::over(&site.engine).await else { return };
    assert!(fs::write(site.engine.folder().join("filler"), vec![1; 32 << 20]).is_err(), "it is full now");
    site.select("3456").await.refused_as(503, "UNAVAILABLE");
    watch.fires_only(&["ForecourtBudgetBurnsFast", "ForecourtDiskFull", "ForecourtJournalFails"]).await;
}
