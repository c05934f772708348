//! Stripe's announcements: whether one is Stripe's, and which charge it is about.
//!
//! `Stripe-Signature: t=1492774577,v1=5257a8...,v1=...` signs `t.payload` with HMAC-SHA256 under the endpoint's secret;
//! while a secret is rotated there is a signature under each. One more than five minutes off is refused, so that what
//! was overheard cannot be played back later; within them the caller remembers the event's id.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use super::objects::Metadata;
use crate::{
    engine::time::UnixMs,
    payment::gateway::{Announcement, Heard, Hint, Unheard},
    secret::Secret,
};

const TOLERANCE_MS: u64 = 300_000;

/// Signatures of one header that are compared: Stripe sends one, and two while a secret is rotated.
const SIGNATURES_MAX: usize = 8;

/// Bytes of an event's id; Stripe's have about 28.
const EVENT_ID_BYTES_MAX: usize = 128;

#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    secret: Secret,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    r#type: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Object,
}

/// An intent, a charge or a dispute.
#[derive(Deserialize)]
struct Object {
    id: String,
    #[serde(default)]
    metadata: Metadata,
    payment_intent: Option<String>,
}

impl Endpoint {
    pub(super) fn new(secret: Secret) -> Endpoint {
        Endpoint { secret }
    }

    pub(super) fn hear(&self, payload: &[u8], signature: &str, now: UnixMs) -> Result<Heard, Unheard> {
        self.check(payload, signature, now)?;
        let event: Event = serde_json::from_slice(payload).map_err(|_| Unheard::Unreadable)?;
        if event.id.len() > EVENT_ID_BYTES_MAX {
            return Err(Unheard::Unreadable);
        }
        Ok(Heard { news: announced(&event.r#type, event.data.object), event: event.id })
    }

    fn check(&self, payload: &[u8], header: &str, now: UnixMs) -> Result<(), Unheard> {
        let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
        let time = parts().find(|(name, _)| *name == "t").ok_or(Unheard::Unsigned)?.1;
        let signed_at = UnixMs(time.parse::<u64>().map_err(|_| Unheard::Unsigned)?.saturating_mul(1_000));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.reveal().as_bytes()).expect("any length is a key");
        for part in [time.as_bytes(), b".", payload] {
            mac.update(part);
        }
        let signatures = parts().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX);
        let genuine = signatures
            .filter_map(|(_, signature)| hex::decode(signature).ok())
            // Compares in constant time.
            .any(|signature| mac.clone().verify_slice(&signature).is_ok());
        match genuine {
            false => Err(Unheard::Forged),
            true if now.since(signed_at).max(signed_at.since(now)) > TOLERANCE_MS => Err(Unheard::Stale),
            true => Ok(()),
        }
    }
}

fn announced(event: &str, object: Object) -> Announcement {
    match event {
        "payment_intent.succeeded"
        | "payment_intent.canceled"
        | "payment_intent.payment_failed"
        | "payment_intent.amount_capturable_updated"
        | "charge.refunded" => match (object.metadata.session(), object.metadata.key()) {
            (Some(session), Some(key)) => Announcement::Moved(Hint { session, key }),
            _ => Announcement::Other,
        },
        "charge.dispute.created" => Announcement::Disputed { object: object.payment_intent.unwrap_or(object.id) },
        _ => Announcement::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_764_090_000_000);
    const PAYLOAD: &str = r#"{"id":"evt_1","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","metadata":{"key":"0909090909090909090909090909090909090909090909090909090909090909","session":"07070707070707070707070707070707"}}}}"#;

    // From Python's hmac.new(secret, b"1764090000." + payload, hashlib.sha256).hexdigest().
    const BY_SECRET: &str = "f8182f506a048aadfecc349419a75e8541ceb10bd93c69f1e9d62a550bdfbe7e";
    const BY_NEXT_SECRET: &str = "0a73f918a2422d0dacf36f5bf157fee550ac05d26d8273e1ab2c29be728ecb47";

    fn endpoint() -> Endpoint {
        Endpoint::new(Secret::new("whsec_one"))
    }

    fn hear(header: &str) -> Result<Heard, Unheard> {
        endpoint().hear(PAYLOAD.as_bytes(), header, NOW)
    }

    #[test]
    fn a_genuine_announcement_names_the_charge() {
        let heard = hear(&format!("t=1764090000,v1={BY_SECRET}")).unwrap();
        assert_eq!(heard.event, "evt_1");
        let hint =
            Hint { session: crate::engine::id::SessionId([7; 16]), key: crate::engine::charge::ChargeKey([9; 32]) };
        assert_eq!(heard.news, Announcement::Moved(hint));
    }

    #[test]
    fn while_a_secret_is_rotated_either_signature_will_do() {
        for order in [[BY_SECRET, BY_NEXT_SECRET], [BY_NEXT_SECRET, BY_SECRET]] {
            assert!(hear(&format!("t=1764090000,v1={},v1={},v0=00", order[0], order[1])).is_ok());
        }
        assert_eq!(hear(&format!("t=1764090000,v1={BY_NEXT_SECRET}")), Err(Unheard::Forged));
    }

    #[test]
    fn another_payload_time_or_scheme_is_forged() {
        let header = format!("t=1764090000,v1={BY_SECRET}");
        assert_eq!(endpoint().hear(b"{}", &header, NOW), Err(Unheard::Forged));
        assert_eq!(hear(&format!("t=1764090001,v1={BY_SECRET}")), Err(Unheard::Forged));
        assert_eq!(hear(&format!("t=1764090000,v0={BY_SECRET}")), Err(Unheard::Forged));
    }

    #[test]
    fn a_signature_of_another_time_is_stale_whichever_way() {
        let header = format!("t=1764090000,v1={BY_SECRET}");
        let at = |now: UnixMs| endpoint().hear(PAYLOAD.as_bytes(), &header, now).map(|_| ());
        assert_eq!(at(NOW.plus(TOLERANCE_MS)), Ok(()));
        assert_eq!(at(NOW.plus(TOLERANCE_MS + 1)), Err(Unheard::Stale));
        assert_eq!(at(NOW.minus(TOLERANCE_MS + 1)), Err(Unheard::Stale));
    }

    #[test]
    fn a_header_without_a_time_is_no_signature() {
        for header in ["", "v1=00", "t=,v1=00", "t=-5,v1=00", "t=x"] {
            assert_eq!(hear(header), Err(Unheard::Unsigned), "{header}");
        }
    }

    #[test]
    fn a_dispute_names_the_payment_and_others_events_nothing() {
        let object = |text: &str| serde_json::from_str::<Object>(text).unwrap();
        let dispute = object(r#"{"id":"dp_1","payment_intent":"pi_9"}"#);
        assert_eq!(announced("charge.dispute.created", dispute), Announcement::Disputed { object: "pi_9".into() });
        assert_eq!(announced("payment_intent.succeeded", object(r#"{"id":"pi_1"}"#)), Announcement::Other);
        assert_eq!(announced("customer.created", object(r#"{"id":"cus_1"}"#)), Announcement::Other);
    }
}
