//! Bluetooth logs that others recorded: offline through `replay`, live through `receiver`, and both agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    data::data,
    engine::{Engine, FORECOURT, eventually},
    site::{STATION, import, terminal_token},
};

const FOLDER: &str = "captures/dp3t_exp25_anechoic";

const LOGS: [&str; 6] = ["02", "03", "06", "08", "10", "18"];

/// Every code of the `.ephids` files as a fixed dongle with a plate, as the importer takes them.
fn devices(folder: &Path) -> String {
    let mut codes = BTreeSet::new();
    for file in fs::read_dir(folder).expect("a folder of logs") {
        let path = file.expect("an entry of it").path();
        if path.extension().is_some_and(|extension| extension == "ephids") {
            let text = fs::read_to_string(path).expect("lines of codes");
            codes.extend(text.lines().map(|line| line.replace(':', "")[..32].to_owned()));
        }
    }
    let rows = codes.iter().enumerate().map(|(number, code)| format!("{},fixed,{code},,CAR{number:04}\n", number + 1));
    "device_id,scheme,key_hex,proof_key_hex,plate\n".to_owned() + &rows.collect::<String>()
}

struct Replayed {
    entered: BTreeSet<u64>,
    summary: Value,
}

fn replay(devices: &Path, logs: &[(u8, PathBuf)]) -> Replayed {
    let output = Command::new(FORECOURT)
        .args(["replay", "--service-uuid", "fd6f", "--json", "--devices"])
        .arg(devices)
        .args(logs.iter().flat_map(|(number, log)| ["--receiver".into(), format!("{number}={}", log.display())]))
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let entered = lines.iter().filter(|line| line["event"] == "entered");
    Replayed {
        entered: entered.map(|line| line["device_id"].as_u64().expect("a device")).collect(),
        summary: lines.last().expect("a summary")["summary"].clone(),
    }
}

/// The first `seconds` of a btsnoop file: its header of 16 bytes, and whole records (24 bytes each, then the packet)
/// up to that time.
fn slice(log: &Path, seconds: u64, to: &Path) {
    let bytes = fs::read(log).expect("it is there");
    let (mut at, mut first) = (16, None);
    while let Some(head) = bytes.get(at..at + 24) {
        let length = u32::from_be_bytes(head[4..8].try_into().expect("four bytes")) as usize;
        let time = u64::from_be_bytes(head[16..24].try_into().expect("eight bytes"));
        if time - *first.get_or_insert(time) > seconds * 1_000_000 {
            break;
        }
        at += 24 + length;
    }
    fs::write(to, &bytes[..at.min(bytes.len())]).expect("a temporary folder");
}

/// Plays logs into a running engine: what it counted as resolved and unknown, and the vehicles that a terminal sees.
async fn play(devices: String, logs: &[(u8, PathBuf)], speed: &str) -> (BTreeMap<&'static str, u64>, BTreeSet<String>) {
    let engine = Engine::start().await;
    import(&engine, &[]).await;
    let dongles = devices.lines().count() - 1;
    engine.import("devices", devices).await;
    eventually("codebook of the new dongles", async || {
        (engine.metric("forecourt_registration_codebook_dongles", &[]).await as usize == dongles).then_some(())
    })
    .await;
    let terminal = terminal_token(&engine, STATION).await;
    let issued = Command::new(FORECOURT)
        .args(["pki", "--station", &STATION.to_string()])
        .env("FORECOURT_ENGINE_DATA", engine.folder())
        .stdout(Stdio::null())
        .status();
    assert!(issued.expect("it runs").success());
    let mut player = Command::new(FORECOURT)
        .args(["receiver", "--service-uuid", "fd6f", "--json", "--speed", speed])
        .args(["--server", &engine.addresses().ingest.to_string(), "--station", &STATION.to_string()])
        .args(logs.iter().flat_map(|(number, log)| ["--receiver".into(), format!("{number}={}", log.display())]))
        .env("FORECOURT_ENGINE_DATA", engine.folder())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let ended = eventually("end of the play", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        player.try_wait().expect("it is ours")
    })
    .await;
    assert!(ended.success());
    let vehicles = engine.get(&format!("/v1/stations/{STATION}/vehicles"), &terminal).await.is(200);
    let plates = vehicles.body["vehicles"].as_array().expect("a list").iter();
    let plates = plates.map(|vehicle| vehicle["plate"].as_str().expect("a plate").to_owned()).collect();
    let mut frames = BTreeMap::new();
    for code in ["resolved", "unknown"] {
        let label = format!("code=\"{code}\"");
        frames.insert(code, engine.metric("forecourt_station_frames_total", &[&label]).await as u64);
    }
    (frames, plates)
}

fn logs(folder: &Path, names: &[&str]) -> Vec<(u8, PathBuf)> {
    names.iter().enumerate().map(|(at, name)| (at as u8 + 1, folder.join(name).with_extension("btsnoop"))).collect()
}

#[test]
fn replay_finds_the_phones_and_no_strangers() {
    let Some(folder) = data(FOLDER) else { return };
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let csv = scratch.path().join("devices.csv");
    fs::write(&csv, devices(&folder)).expect("a temporary folder");
    let all = replay(&csv, &logs(&folder, &LOGS));
    let count = |field: &str| all.summary[field].as_u64().unwrap_or_else(|| panic!("{field} in {}", all.summary));
    assert_eq!((count("records"), count("advertisements"), count("frames")), (27_081, 1_572, 1_071));
    assert_eq!(count("resolved") + count("unknown"), count("frames"));
    assert!(count("resolved") > 0 && !all.entered.is_empty(), "{}", all.summary);
    assert!(count("entered") >= all.entered.len() as u64 && count("left") <= count("entered"));

    fs::write(&csv, "device_id,scheme,key_hex\n1,fixed,00000000000000000000000000000001\n").expect("a folder");
    let strangers = replay(&csv, &logs(&folder, &LOGS));
    assert_eq!((&strangers.summary["resolved"], &strangers.summary["entered"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn live_and_offline_agree_on_every_frame() {
    let Some(folder) = data(FOLDER) else { return };
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let csv = scratch.path().join("devices.csv");
    fs::write(&csv, devices(&folder)).expect("a temporary folder");
    let logs = logs(&folder, &["02", "03"]);
    let offline = replay(&csv, &logs);
    let (live, _) = play(devices(&folder), &logs, "1000").await;
    for code in ["resolved", "unknown"] {
        assert_eq!(offline.summary[code], live[code], "{code}");
    }
}

#[tokio::test]
async fn live_and_offline_agree_on_windows_at_speed_1() {
    let Some(folder) = data(FOLDER) else { return };
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let csv = scratch.path().join("devices.csv");
    fs::write(&csv, devices(&folder)).expect("a temporary folder");
    let cut = scratch.path().join("cut.btsnoop");
    slice(&folder.join("02.btsnoop"), 15, &cut);
    let logs = [(1, cut)];
    let offline = replay(&csv, &logs);
    let (_, plates) = play(devices(&folder), &logs, "1").await;
    assert_eq!(plates.len(), offline.entered.len(), "{plates:?} {:?}", offline.entered);
}
