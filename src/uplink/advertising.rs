//! What a radio heard, out of the HCI events in which its controller reports it: Bluetooth Core specification 5.4,
//! volume 4, part E, 7.7.65.2 (LE Advertising Report) and 7.7.65.13 (LE Extended Advertising Report).

use crate::engine::code::Code;

const H4_EVENT: u8 = 0x04;
const LE_META_EVENT: u8 = 0x3e;
const ADVERTISING_REPORT: u8 = 0x02;
const EXTENDED_ADVERTISING_REPORT: u8 = 0x0d;

/// AD type "Service Data - 16-bit UUID" (Assigned Numbers, 2.3).
const SERVICE_DATA_16: u8 = 0x16;

/// One advertisement, heard once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement<'a> {
    /// dBm; 127 says "not available".
    pub rssi: i8,
    /// The advertised AD structures.
    pub data: &'a [u8],
}

/// A report that does not fit its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// The advertisements of one H4 packet: none, if it is anything but an advertising report.
pub fn advertisements(packet: &[u8]) -> Advertisements<'_> {
    Advertisements::of(packet).unwrap_or_default()
}

#[derive(Debug, Clone, Default)]
pub struct Advertisements<'a> {
    extended: bool,
    left: u8,
    rest: &'a [u8],
}

impl<'a> Advertisements<'a> {
    /// `None` for another packet.
    fn of(packet: &'a [u8]) -> Option<Advertisements<'a>> {
        let [H4_EVENT, LE_META_EVENT, length, parameters @ ..] = packet else { return None };
        let (&kind, rest) = parameters.split_first()?;
        let extended = match kind {
            ADVERTISING_REPORT => false,
            EXTENDED_ADVERTISING_REPORT => true,
            _ => return None,
        };
        // A wrong length is one damaged report.
        let honest = usize::from(*length) == parameters.len();
        match rest.split_first() {
            Some((&left, rest)) if honest => Some(Advertisements { extended, left, rest }),
            _ => Some(Advertisements { extended, left: 1, rest: &[] }),
        }
    }

    fn take(&mut self) -> Option<Advertisement<'a>> {
        if self.extended { self.take_extended() } else { self.take_plain() }
    }

    /// Event type, address type, address (6), length, data, RSSI.
    fn take_plain(&mut self) -> Option<Advertisement<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<9>()?;
        let (data, rest) = rest.split_at_checked(usize::from(head[8]))?;
        let (&rssi, rest) = rest.split_first()?;
        self.rest = rest;
        Some(Advertisement { rssi: rssi.cast_signed(), data })
    }

    /// Event type (2), address type, address (6), PHYs (2), set id, TX power, RSSI, interval (2), direct address type,
    /// direct address (6), length, data.
    fn take_extended(&mut self) -> Option<Advertisement<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<24>()?;
        let (data, rest) = rest.split_at_checked(usize::from(head[23]))?;
        self.rest = rest;
        Some(Advertisement { rssi: head[13].cast_signed(), data })
    }
}

impl<'a> Iterator for Advertisements<'a> {
    type Item = Result<Advertisement<'a>, Damaged>;

    /// After a damaged report nothing of the same event can be told apart.
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let advertisement = self.take();
        if advertisement.is_none() {
            self.left = 0;
        }
        Some(advertisement.ok_or(Damaged))
    }
}

/// The code in the service data of `uuid`: its first 16 bytes. `None` when there is none, or less of it.
pub fn service_code(data: &[u8], uuid: u16) -> Option<Code> {
    structures(data).find_map(|structure| match structure {
        [SERVICE_DATA_16, low, high, data @ ..] if u16::from_le_bytes([*low, *high]) == uuid => {
            data.first_chunk().copied().map(Code)
        }
        _ => None,
    })
}

/// AD structures: their type byte and their data. Ends where a structure does not fit.
fn structures(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = data.split_first()?;
        let (structure, rest) = rest.split_at_checked(usize::from(length))?;
        data = rest;
        Some(structure)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const UUID: u16 = 0xfd6f;
    const CODE: [u8; 16] = *b"0123456789abcdef";

    /// Flags, the list of services, the service data with 4 more bytes: an exposure notification.
    fn beacon() -> Vec<u8> {
        let mut data = vec![2, 0x01, 0x1a, 3, 0x03, 0x6f, 0xfd, 23, 0x16, 0x6f, 0xfd];
        data.extend_from_slice(&CODE);
        data.extend_from_slice(&[1, 2, 3, 4]);
        data
    }

    fn event(kind: u8, reports: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![H4_EVENT, LE_META_EVENT, body.len() as u8 + 2, kind, reports];
        packet.extend_from_slice(body);
        packet
    }

    fn plain(data: &[u8], rssi: i8) -> Vec<u8> {
        [&[3, 1, 1, 2, 3, 4, 5, 6, data.len() as u8], data, &[rssi.cast_unsigned()]].concat()
    }

    fn extended(data: &[u8], rssi: i8) -> Vec<u8> {
        let mut report = [0; 24];
        (report[13], report[23]) = (rssi.cast_unsigned(), data.len() as u8);
        [&report, data].concat()
    }

    fn heard(packet: &[u8]) -> Vec<Option<(i8, Option<Code>)>> {
        let heard = |advertisement: Advertisement<'_>| (advertisement.rssi, service_code(advertisement.data, UUID));
        advertisements(packet).map(|report| report.ok().map(heard)).collect()
    }

    #[test]
    fn both_kinds_of_report_give_code_and_rssi() {
        let code = Some(Code(CODE));
        let two = [plain(&beacon(), -60), plain(&[], 127)].concat();
        assert_eq!(heard(&event(0x02, 2, &two)), [Some((-60, code)), Some((127, None))]);
        let two = [extended(&beacon(), -71), extended(&beacon(), -72)].concat();
        assert_eq!(heard(&event(0x0d, 2, &two)), [Some((-71, code)), Some((-72, code))]);
    }

    #[test]
    fn other_packets_hold_no_advertisement() {
        for packet in [&[][..], &[1, 3, 0x0c, 0], &[4, 0x0e, 4, 1, 3, 0x0c, 0], &[4, 0x3e, 1, 0x01], &[4, 0x3e, 0]] {
            assert_eq!(heard(packet), [], "{packet:?}");
        }
    }

    #[test]
    fn a_report_that_is_cut_short_is_damaged_at_every_length() {
        let whole = event(0x02, 1, &plain(&beacon(), -60));
        for length in 4..whole.len() {
            assert_eq!(heard(&whole[..length]), [None], "{length} bytes");
        }
        let mut said_two = whole.clone();
        said_two[4] = 2;
        assert_eq!(heard(&said_two), [Some((-60, Some(Code(CODE)))), None]);
    }

    #[test]
    fn service_data_of_another_service_or_too_little_of_it_is_no_code() {
        assert_eq!(service_code(&beacon(), 0xfeaa), None);
        assert_eq!(service_code(&[5, 0x16, 0x6f, 0xfd, 1, 2], UUID), None);
        assert_eq!(service_code(&[30, 0x16, 0x6f, 0xfd, 1, 2], UUID), None);
        assert_eq!(service_code(&[0, 0, 0], UUID), None);
    }

    proptest! {
        #[test]
        fn random_reports_never_panic(kind in prop::sample::select(vec![0x02, 0x0d]), reports: u8, body in vec(any::<u8>(), 0..250)) {
            heard(&event(kind, reports, &body));
            service_code(&body, UUID);
        }
    }
}
