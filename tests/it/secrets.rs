//! Planted keys are nowhere but in the engine's memory: not in its files, its log, its metrics or its answers.

use std::{fs, process::Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use forecourt::engine::{code::Secret, proof::ProofKey};
use serde_json::json;

use crate::{
    cache::cache,
    couplings::Phone,
    engine::{Engine, PATIENCE},
    leaks::Planted,
    redis_server::RedisServer,
    site::{STATION, import, terminal_token, uplink},
};

const IMPORTED: [u8; 32] = *b"\x8a\x11root of an imported dongle\xfe\x02\x33\x9c";
const COUPLED: [u8; 32] = *b"\x8b\x12root of one that a phone has\xfd\x05";
const OWN_PROOF: [u8; 32] = *b"\x8c\x13proof key of the third one\x01\xfe\x91\x80";
const WEBHOOKS: [u8; 24] = *b"\x8e\x15key of the webhooks\xf9\x09\x03";
const IDENTITY: [u8; 16] = *b"\x8d\x14identity key\xfc\x07";

fn planted() -> Planted {
    let mut planted = Planted::new();
    for (name, root) in [("the imported root", IMPORTED), ("the coupled root", COUPLED)] {
        planted.plant(name, &root);
        planted.plant("a proof key", ProofKey::from_root(&root).bytes());
        let Secret::Hmac { code_key } = &Secret::from_root(&root) else { unreachable!("made from a root") };
        planted.plant("a code key", code_key);
    }
    planted.plant("a proof key of its own", &OWN_PROOF);
    planted.plant("an identity key", &IDENTITY);
    planted.plant("the key of the webhooks", &WEBHOOKS);
    planted.plant("its proof key", ProofKey::from_root(&IDENTITY).bytes());
    planted
}

#[tokio::test]
async fn no_planted_key_is_found_outside_of_the_engine() {
    let redis = RedisServer::start().await;
    let mut settings: Vec<_> = redis.iter().map(|redis| ("REGISTRATION_REDIS_URL", redis.url())).collect();
    settings.push(("PUSH_URL", "http://127.0.0.1:9/nobody".into()));
    settings.push(("PUSH_SECRET", format!("whsec_{}", STANDARD.encode(WEBHOOKS))));
    let mut engine = Engine::start_prepared(&settings, |command| {
        command.env("FORECOURT_LOG_FILTER", "debug").stderr(Stdio::piped()).stdout(Stdio::piped());
    })
    .await;
    let log = engine.take_log();
    let planted = planted();
    import(&engine, &[]).await;
    let header = "device_id,scheme,key_hex,proof_key_hex,plate,activation_code";
    let (imported, coupled) = (hex::encode(IMPORTED), hex::encode(COUPLED));
    let (proof, identity) = (hex::encode(OWN_PROOF), hex::encode(IDENTITY));
    let csv = format!(
        "{header}\n1,hmac,{imported},,AB001,\n2,hmac,{coupled},,,LABEL-2\n3,eddystone-eid,{identity},{proof},AB003,\n"
    );
    engine.import("devices", csv).await;

    // Refusals are made of what was sent.
    let bad =
        format!("{header}\n4,hmac,{imported}\n5,fixed,{imported},,,\n1,hmac,{coupled}\n6,{imported},1,1,{proof},\n");
    for (what, body) in [("devices", bad), ("stations", format!("station_id,{imported}\n"))] {
        let answer = engine.post_csv(what, body).await;
        planted.assert_not_in("a refusal", answer.as_bytes());
    }
    let phone = Phone::new(9);
    let claimed = engine.post("/v1/couplings", "", phone.claim("LABEL-2", "AB002")).await.is(201);
    let path = format!("/v1/couplings/{}/proof", claimed.text("coupling"));
    let bound = phone.proof(&claimed, &ProofKey::from_root(&COUPLED));
    let answer = engine.post(&path, "", bound).await.is(201);
    planted.assert_not_in("the binding", answer.body.to_string().as_bytes());
    let wrong = json!({ "activation_code": imported, "phone_key": coupled, "signature": proof });
    let answer = engine.post("/v1/couplings", "", wrong).await;
    planted.assert_not_in("a problem", answer.body.to_string().replace(&imported, "").as_bytes());
    let terminal = terminal_token(&engine, STATION).await;
    let station = uplink(&engine, STATION);
    engine.get(&format!("/v1/stations/{STATION}/vehicles"), &terminal).await.is(200);
    drop(station);

    if let Some(redis) = &redis {
        let (went_well, said) = cache(engine.folder(), redis, "warm");
        assert!(went_well, "{said}");
        planted.assert_not_in("what warming says", said.as_bytes());
    }
    planted.assert_not_in("/metrics", engine.metrics().await.as_bytes());
    let by_its_nature = ["kek", "operator.token"];
    // While it runs the log of the writes is there, and after its end the snapshot.
    assert!(fs::metadata(engine.folder().join("registrations.db-wal")).is_ok_and(|file| file.len() > 0));
    planted.assert_not_in_folder(engine.folder(), &by_its_nature);
    engine.terminate();
    let log = tokio::time::timeout(PATIENCE, log).await.expect("it ends").expect("its log is read");
    let said = String::from_utf8_lossy(&log);
    assert!(["serving", "stopped"].iter().all(|line| said.contains(line)), "{said}");
    planted.assert_not_in("the log", &log);
    assert!(planted.assert_not_in_folder(engine.folder(), &by_its_nature) >= 4);
    if let Some(redis) = redis {
        // Registrations, and the segments of all dongles.
        assert!(redis.ask::<u64>(&["DBSIZE"]).expect("it answers") >= 4);
        planted.assert_not_in("Redis' dump", &redis.dump());
    }
}
