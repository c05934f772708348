//! A registration as Redis keeps it: `tag 16 | rkyv archive`.
//!
//! The archive is read in place. What it is copied into first is aligned, as a string of Redis need not be. The tag is
//! the envelope's keyed fingerprint of the dongle's id and the archive: a record that was written by somebody else, or
//! copied from another dongle, does not read. The version of the format is in the name (`names`).

use rkyv::{rancor, util::AlignedVec};

use crate::{
    engine::{
        id::{BindingId, DeviceId},
        plate::Plate,
    },
    registration::{
        binding::{BindingStatus, Registration},
        envelope::Envelope,
    },
};

const TAG_BYTES: usize = 16;
const DOMAIN: &[u8] = b"forecourt cache record v1";

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Record {
    binding: [u8; 16],
    epoch: u64,
    plate: String,
    fuel: Option<String>,
    phone: Option<[u8; 32]>,
    means: Vec<String>,
    status: Status,
    provable: bool,
}

#[derive(rkyv::Archive, rkyv::Serialize)]
enum Status {
    Active,
    Suspended,
    Revoked,
}

/// A record that is not ours, not this dongle's, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cached registration does not read")]
pub(super) struct Unreadable;

pub(super) fn write(envelope: &Envelope, registration: &Registration) -> Vec<u8> {
    let record = Record {
        binding: registration.binding.0,
        epoch: registration.epoch,
        plate: registration.plate.as_str().to_owned(),
        fuel: registration.fuel.clone(),
        phone: registration.phone,
        means: registration.means.clone(),
        status: match registration.status {
            BindingStatus::Active => Status::Active,
            BindingStatus::Suspended => Status::Suspended,
            BindingStatus::Revoked => Status::Revoked,
        },
        provable: registration.provable,
    };
    let archive = rkyv::to_bytes::<rancor::Error>(&record).expect("a registration's parts are bounded");
    [&tag(envelope, registration.device, &archive)[..], &archive].concat()
}

pub(super) fn read(envelope: &Envelope, device: DeviceId, bytes: &[u8]) -> Result<Registration, Unreadable> {
    let (found, archive) = bytes.split_first_chunk::<TAG_BYTES>().ok_or(Unreadable)?;
    if *found != tag(envelope, device, archive) {
        return Err(Unreadable);
    }
    let mut aligned = AlignedVec::<16>::with_capacity(archive.len());
    aligned.extend_from_slice(archive);
    let record = rkyv::access::<ArchivedRecord, rancor::Error>(&aligned).map_err(|_| Unreadable)?;
    Ok(Registration {
        device,
        binding: BindingId(record.binding),
        epoch: record.epoch.to_native(),
        plate: Plate::parse(&record.plate).map_err(|_| Unreadable)?,
        fuel: record.fuel.as_ref().map(|fuel| fuel.as_str().to_owned()),
        phone: record.phone.as_ref().copied(),
        means: record.means.iter().map(|token| token.as_str().to_owned()).collect(),
        status: match record.status {
            ArchivedStatus::Active => BindingStatus::Active,
            ArchivedStatus::Suspended => BindingStatus::Suspended,
            ArchivedStatus::Revoked => BindingStatus::Revoked,
        },
        provable: record.provable,
    })
}

fn tag(envelope: &Envelope, device: DeviceId, archive: &[u8]) -> [u8; TAG_BYTES] {
    envelope.mark(&[DOMAIN, &device.0.to_be_bytes(), archive].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        Registration {
            device: DeviceId(7),
            binding: BindingId([3; 16]),
            epoch: 5,
            plate: Plate::parse("12\u{ac00}3456").unwrap(),
            fuel: Some("diesel".into()),
            phone: Some([9; 32]),
            means: vec!["tok_a".into(), "tok_b".into()],
            status: BindingStatus::Suspended,
            provable: true,
        }
    }

    #[test]
    fn a_registration_reads_back_as_it_was() {
        let envelope = Envelope::new(1, &[7; 32]);
        let bare = Registration { fuel: None, phone: None, means: Vec::new(), ..registration() };
        for registration in [registration(), bare] {
            let bytes = write(&envelope, &registration);
            assert_eq!(read(&envelope, DeviceId(7), &bytes), Ok(registration));
        }
    }

    #[test]
    fn what_was_changed_cut_copied_or_written_under_another_key_does_not_read() {
        let envelope = Envelope::new(1, &[7; 32]);
        let bytes = write(&envelope, &registration());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(read(&envelope, DeviceId(7), &changed), Err(Unreadable), "byte {at}");
            assert_eq!(read(&envelope, DeviceId(7), &bytes[..at]), Err(Unreadable), "cut at {at}");
        }
        assert_eq!(read(&envelope, DeviceId(8), &bytes), Err(Unreadable));
        assert_eq!(read(&Envelope::new(1, &[8; 32]), DeviceId(7), &bytes), Err(Unreadable));
    }
}
