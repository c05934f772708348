//! A beacon is registered by the key that it agreed on with the server.

use super::*;
use crate::engine::eid::ResolverKey;
use crate::engine::time::UnixMs;

const EXPONENT: u8 = 10;

/// A beacon with this X25519 key, whose clock is `ahead_s` ahead of ours.
struct Beacon {
    key: ResolverKey,
    secret: Secret,
    ahead_s: i64,
}

impl Beacon {
    /// The beacon's side of the agreement: the same computation with the roles of the keys kept.
    async fn new(registrations: &Registrations, seed: u8, ahead_s: i64) -> Beacon {
        let resolver = registrations.eid_resolver().await.unwrap();
        let ours = x25519_dalek::StaticSecret::from([seed; 32]);
        let public = x25519_dalek::PublicKey::from(&ours);
        let shared = ours.diffie_hellman(&x25519_dalek::PublicKey::from(resolver));
        let salt = [resolver, public.to_bytes()].concat();
        let mut identity_key = [0; 16];
        hkdf::Hkdf::<sha2::Sha256>::new(Some(&salt), shared.as_bytes()).expand(&[], &mut identity_key).unwrap();
        let secret = Secret::EddystoneEid { identity_key, exponent: EXPONENT };
        Beacon { key: ResolverKey::new(&[seed; 32]), secret, ahead_s }
    }

    fn at(&self) -> UnixMs {
        telemetry::now().shifted(self.ahead_s * 1000)
    }

    fn registration(&self, device: u64) -> EidBeacon {
        let at = self.at();
        let code = self.secret.code(self.secret.slot_at(SLOT, at));
        EidBeacon {
            device: DeviceId(device),
            public_key: self.key.public(),
            exponent: EXPONENT,
            beacon_s: (at.0 / 1000) as u32,
            eid: *code.0.first_chunk().unwrap(),
            activation_code: Some(format!("label-{device}")),
        }
    }
}

#[tokio::test]
async fn a_beacon_whose_eid_fits_is_coupled_and_heard_by_its_clock() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    // It counts from its first power: no code of it would be in the codebook by our own clock.
    let beacon = Beacon::new(&registrations, 9, 5_000 - telemetry::now().0 as i64 / 1000).await;
    let known = registrations.register_beacon(beacon.registration(7), OWNER).await.unwrap();
    assert_eq!((known.scheme.as_str(), known.provable, known.binding), ("eddystone-eid/10", true, None));
    registrations.register_beacon(beacon.registration(7), OWNER).await.unwrap();

    let Secret::EddystoneEid { identity_key, .. } = &beacon.secret else { unreachable!("made above") };
    let dongle = ProofKey::from_root(identity_key);
    let phone = Phone::new();
    let claimed = registrations.claim(phone.claim("label-7", PLATE)).await.unwrap();
    registrations.prove(phone.answer(&claimed, &dongle)).await.unwrap();
    let heard = beacon.secret.code(beacon.secret.slot_at(SLOT, beacon.at()));
    assert_eq!(book_of(&registrations, 1).await.find(&heard).map(|hit| hit.device), Some(DEVICE));
}

#[tokio::test]
async fn a_beacon_is_refused_for_its_reason() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let beacon = Beacon::new(&registrations, 9, 0).await;
    let refusal = async |beacon| registrations.register_beacon(beacon, OWNER).await.unwrap_err();
    let good = beacon.registration(7);
    assert_eq!(refusal(EidBeacon { eid: [0; 8], ..good.clone() }).await, Error::EidMismatch);
    assert_eq!(refusal(EidBeacon { beacon_s: good.beacon_s - 5_000, ..good.clone() }).await, Error::EidMismatch);
    assert_eq!(refusal(EidBeacon { public_key: [0; 32], ..good.clone() }).await, Error::WeakBeaconKey);
    assert_eq!(refusal(EidBeacon { exponent: 16, ..good.clone() }).await, Error::Exponent);
    assert_eq!(refusal(EidBeacon { exponent: 4, ..good.clone() }).await, Error::Exponent, "shorter than a slot");
    let seventy_years = Beacon::new(&registrations, 9, 70 * 365 * 24 * 3600).await;
    assert_eq!(refusal(seventy_years.registration(7)).await, Error::ClockTooFar);

    registrations.register_beacon(good.clone(), OWNER).await.unwrap();
    let twin = EidBeacon { device: DeviceId(8), activation_code: None, ..good.clone() };
    assert_eq!(refusal(twin).await, Error::KeyTaken);
    let other = Beacon::new(&registrations, 10, 0).await.registration(7);
    assert_eq!(refusal(other.clone()).await, Error::DeviceKnown);
    let same_label = EidBeacon { device: DeviceId(8), activation_code: Some("label-7".into()), ..other };
    assert_eq!(refusal(same_label).await, Error::ActivationTaken);
}

#[tokio::test]
async fn the_resolvers_key_outlives_a_restart_and_a_rotation() {
    let folder = TempDir::new().unwrap();
    let registrations = start(folder.path());
    let public = registrations.eid_resolver().await.unwrap();
    registrations.stop();
    drop(registrations);
    let mut rotation = Rotation::open(folder.path(), None, &NewKek::Made).unwrap().unwrap();
    while rotation.step(1).unwrap().is_some() {}
    rotation.finish().unwrap();
    let registrations = start(folder.path());
    assert_eq!(registrations.eid_resolver().await.unwrap(), public);
    let beacon = Beacon::new(&registrations, 9, 0).await;
    assert!(registrations.register_beacon(beacon.registration(7), OWNER).await.is_ok());
}
