use proptest::{collection::vec, prelude::*};

use super::*;

const NOW: UnixMs = UnixMs(1_700_000_000_000);

fn hearing(code: u16, receiver: u8, rssi: i8, offset_ms: u64) -> Hearing {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&code.to_le_bytes());
    Hearing { code: Code(bytes), receiver: ReceiverId(receiver), rssi, at: NOW.plus(offset_ms) }
}

fn encoded(encoder: &mut Encoder, sequence: u64, hearings: &[Hearing]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.encode(sequence, hearings, &mut out).expect("a valid batch");
    out
}

fn body(bytes: &[u8]) -> &[u8] {
    split(bytes).next().expect("a whole batch").expect("of a valid length")
}

/// The reader's side of the table, as a station keeps it.
#[derive(Default)]
struct Reader {
    table: Vec<Code>,
}

impl Reader {
    fn read(&mut self, body: &[u8]) -> Result<Vec<Hearing>, BatchError> {
        let batch = Batch::read(body)?;
        batch.check_numbers(self.table.len())?;
        if batch.starts_table() {
            self.table.clear();
        }
        self.table.extend_from_slice(batch.introductions());
        let mut heard = Vec::new();
        for group in batch.groups() {
            let code = self.table[usize::from(group.number)];
            heard.extend(group.hearings.iter().map(|wire| Hearing {
                code,
                receiver: ReceiverId(wire.receiver),
                rssi: wire.rssi,
                at: batch.time_of(wire),
            }));
        }
        assert_eq!(heard.len(), batch.hearings());
        Ok(heard)
    }
}

fn sorted(mut hearings: Vec<Hearing>) -> Vec<Hearing> {
    hearings.sort_by_key(|h| (h.code, h.at, h.receiver, h.rssi));
    hearings
}

#[test]
fn a_batch_is_laid_out_byte_for_byte_as_specified() {
    let hearings = [hearing(7, 1, -60, 0), hearing(8, 2, 127, 300), hearing(7, 3, -61, 5)];
    let bytes = encoded(&mut Encoder::new(), 0x0102, &hearings);
    let mut expected = vec![74, 0, 1, 1, 2, 0, 2, 0, 2, 1, 0, 0, 0, 0, 0, 0];
    expected.extend_from_slice(&NOW.0.to_le_bytes());
    for code in [7, 8] {
        expected.push(code);
        expected.extend_from_slice(&[0; 15]);
    }
    expected.extend_from_slice(&[0, 0, 2, 0, 0, 0, 1, (-60_i8).cast_unsigned(), 5, 0, 3, (-61_i8).cast_unsigned()]);
    expected.extend_from_slice(&[1, 0, 1, 0, 44, 1, 2, 127]);
    assert_eq!(bytes, expected);
}

#[test]
fn a_code_crosses_the_wire_once_in_a_connection() {
    let mut encoder = Encoder::new();
    let first = encoded(&mut encoder, 1, &[hearing(7, 0, -60, 0)]);
    let again = encoded(&mut encoder, 2, &[hearing(7, 0, -60, 100), hearing(9, 0, -60, 100)]);
    let (first, again) = (Batch::read(body(&first)).unwrap(), Batch::read(body(&again)).unwrap());
    assert!(first.starts_table() && !again.starts_table());
    assert_eq!((first.introductions().len(), again.introductions().len()), (1, 1));
    assert_eq!(again.groups().map(|group| group.number).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_full_table_starts_anew() {
    let (mut encoder, mut reader) = (Encoder::new(), Reader::default());
    for start in (0..CODES_MAX as u16 + 500).step_by(250) {
        let hearings: Vec<_> = (start..start + 250).map(|code| hearing(code, 0, -50, 0)).collect();
        let bytes = encoded(&mut encoder, u64::from(start), &hearings);
        assert_eq!(reader.read(body(&bytes)).unwrap(), hearings);
    }
    assert!(reader.table.len() <= 750, "the table was emptied on the way");
}

#[test]
fn the_largest_batch_fits_its_bound_exactly() {
    let hearings: Vec<_> = (0..HEARINGS_MAX as u16).map(|code| hearing(code, 31, 0, 65_535)).collect();
    let bytes = encoded(&mut Encoder::new(), u64::MAX, &hearings);
    assert_eq!(bytes.len(), PREFIX_BYTES + BATCH_BYTES_MAX);
    assert_eq!(Batch::read(body(&bytes)).unwrap().hearings(), HEARINGS_MAX);
}

#[test]
fn hearings_that_are_no_batch_are_not_encoded() {
    let mut out = Vec::new();
    let mut refusal = |hearings: &[Hearing]| Encoder::new().encode(0, hearings, &mut out).unwrap_err();
    assert_eq!(refusal(&vec![hearing(0, 0, 0, 0); 251]), EncodeError::TooMany);
    assert_eq!(refusal(&[hearing(0, 32, 0, 0)]), EncodeError::Receiver);
    assert_eq!(refusal(&[hearing(0, 0, 0, 0), hearing(0, 0, 0, 65_536)]), EncodeError::Span);
    assert!(out.is_empty());
}

#[test]
fn a_truncated_batch_is_refused_at_every_length() {
    let bytes = encoded(&mut Encoder::new(), 1, &[hearing(7, 1, -60, 0), hearing(8, 2, -70, 3)]);
    let whole = body(&bytes);
    for length in 0..whole.len() {
        assert_eq!(Batch::read(&whole[..length]).unwrap_err(), BatchError::Length, "{length} bytes");
    }
    let longer = [whole, &[0]].concat();
    assert_eq!(Batch::read(&longer).unwrap_err(), BatchError::Length);
}

#[test]
fn each_wrong_field_is_refused_for_its_own_reason() {
    let bytes = encoded(&mut Encoder::new(), 1, &[hearing(7, 1, -60, 0)]);
    let refused = |at: usize, value: u8| {
        let mut body = body(&bytes).to_vec();
        body[at] = value;
        Batch::read(&body).unwrap_err()
    };
    assert_eq!(refused(0, 2), BatchError::Version);
    assert_eq!(refused(1, 2), BatchError::Flags);
    assert_eq!(refused(2, 251), BatchError::TooMany);
    assert_eq!(refused(4, 251), BatchError::TooMany);
    assert_eq!(refused(4, 0), BatchError::Length);
    assert_eq!(refused(40, 2), BatchError::Length);
    assert_eq!(refused(41, 1), BatchError::Flags);
    assert_eq!(refused(44, 32), BatchError::Receiver);
}

#[test]
fn a_group_without_hearings_is_refused() {
    let bytes = encoded(&mut Encoder::new(), 1, &[hearing(7, 1, -60, 0)]);
    let mut body = body(&bytes)[..42].to_vec();
    body[40] = 0;
    assert_eq!(Batch::read(&body).unwrap_err(), BatchError::EmptyGroup);
}

#[test]
fn more_hearings_than_the_bound_in_several_groups_are_refused() {
    let mut bytes = encoded(&mut Encoder::new(), 1, &vec![hearing(7, 1, -60, 0); 250]);
    bytes.drain(..PREFIX_BYTES);
    bytes[4] = 2;
    bytes.extend_from_slice(&[0, 0, 1, 0, 0, 0, 1, 0]);
    assert_eq!(Batch::read(&bytes).unwrap_err(), BatchError::TooMany);
}

#[test]
fn a_number_that_was_never_introduced_is_refused() {
    let mut encoder = Encoder::new();
    encoded(&mut encoder, 1, &[hearing(7, 1, -60, 0)]);
    let bytes = encoded(&mut encoder, 2, &[hearing(7, 1, -60, 0)]);
    let batch = Batch::read(body(&bytes)).unwrap();
    assert_eq!(batch.check_numbers(0), Err(BatchError::Number));
    assert_eq!(batch.check_numbers(1), Ok(()));
}

#[test]
fn a_table_past_its_bound_is_refused() {
    let mut encoder = Encoder::new();
    encoded(&mut encoder, 1, &[hearing(7, 1, -60, 0)]);
    let bytes = encoded(&mut encoder, 2, &[hearing(8, 1, -60, 0)]);
    let batch = Batch::read(body(&bytes)).unwrap();
    assert_eq!(batch.check_numbers(CODES_MAX - 1), Ok(()));
    assert_eq!(batch.check_numbers(CODES_MAX), Err(BatchError::TableFull));
}

#[test]
fn only_more_than_two_seconds_in_the_future_is_an_error() {
    let bytes = encoded(&mut Encoder::new(), 1, &[hearing(7, 1, -60, 0), hearing(7, 1, -60, 2_001)]);
    let batch = Batch::read(body(&bytes)).unwrap();
    assert_eq!(batch.check_time(NOW), Err(BatchError::Future));
    assert_eq!(batch.check_time(NOW.plus(1)), Ok(()));
    assert_eq!(batch.check_time(NOW.plus(1_000_000_000)), Ok(()), "old hearings are no error");
}

#[test]
fn a_stream_is_cut_into_batches_and_keeps_the_unfinished_one() {
    let mut encoder = Encoder::new();
    let mut stream = encoded(&mut encoder, 1, &[hearing(7, 1, -60, 0)]);
    let first = stream.len();
    stream.extend(encoded(&mut encoder, 2, &[hearing(8, 1, -60, 0)]));
    for length in 0..stream.len() {
        let mut split = split(&stream[..length]);
        assert_eq!(split.by_ref().count(), usize::from(length >= first));
        assert_eq!(split.rest().len(), if length >= first { length - first } else { length });
    }
}

#[test]
fn a_batch_that_is_announced_too_long_is_refused_before_it_arrives() {
    let prefix = (BATCH_BYTES_MAX as u16 + 1).to_le_bytes();
    assert_eq!(split(&prefix).next(), Some(Err(BatchError::TooLong)));
}

#[test]
fn a_batch_that_is_sent_again_takes_another_sequence_and_time_and_keeps_the_rest() {
    let mut bytes = encoded(&mut Encoder::new(), 1, &[hearing(1, 2, -50, 0), hearing(1, 3, -60, 40)]);
    let before = bytes.clone();
    restamp(&mut bytes[PREFIX_BYTES..], 77, UnixMs(5_000));
    let batch = Batch::read(body(&bytes)).unwrap();
    assert_eq!((batch.sequence(), batch.base()), (77, UnixMs(5_000)));
    let header = PREFIX_BYTES + size_of::<Header>();
    assert_eq!(bytes[header..], before[header..]);
    restamp(&mut [1, 2, 3], 77, UnixMs(5_000));
}

#[test]
fn every_refusal_has_its_own_code_and_label() {
    let codes: std::collections::HashSet<_> = BatchError::ALL.iter().map(|error| error.close_code()).collect();
    let labels: std::collections::HashSet<_> = BatchError::ALL.iter().map(|error| error.reason()).collect();
    assert_eq!((codes.len(), labels.len()), (BatchError::ALL.len(), BatchError::ALL.len()));
}

fn any_hearings() -> impl Strategy<Value = Vec<Hearing>> {
    let one = (0..40_u16, 0..RECEIVERS_MAX as u8, any::<i8>(), 0..=SPAN_MS_MAX);
    vec(one.prop_map(|(code, receiver, rssi, offset)| hearing(code, receiver, rssi, offset)), 0..=HEARINGS_MAX)
}

proptest! {
    #[test]
    fn what_was_encoded_is_read_back(batches in vec(any_hearings(), 1..5)) {
        let (mut encoder, mut reader) = (Encoder::new(), Reader::default());
        for (sequence, hearings) in batches.into_iter().enumerate() {
            let bytes = encoded(&mut encoder, sequence as u64, &hearings);
            prop_assert_eq!(Batch::read(body(&bytes)).unwrap().sequence(), sequence as u64);
            prop_assert_eq!(sorted(reader.read(body(&bytes)).unwrap()), sorted(hearings));
        }
    }

    #[test]
    fn the_same_batch_reads_the_same_against_a_fresh_table(before in any_hearings(), hearings in any_hearings()) {
        let mut used = Encoder::new();
        encoded(&mut used, 1, &before);
        encoded(&mut used, 2, &hearings);
        let again = encoded(&mut Encoder::new(), 2, &hearings);
        prop_assert_eq!(sorted(Reader::default().read(body(&again)).unwrap()), sorted(hearings));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..2_000)) {
        let _ = Reader::default().read(&bytes);
        split(&bytes).take_while(Result::is_ok).for_each(drop);
    }

    #[test]
    fn random_bytes_behind_a_valid_version_never_panic(mut bytes in vec(any::<u8>(), 22..2_000), few in 0..4_u8) {
        (bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]) = (VERSION, STARTS_TABLE, few, 0, few, 0);
        let _ = Reader::default().read(&bytes);
    }

    #[test]
    fn one_flipped_bit_never_panics(hearings in any_hearings(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let bytes = encoded(&mut Encoder::new(), 1, &hearings);
        let mut body = body(&bytes).to_vec();
        let at = at.index(body.len());
        body[at] ^= 1_u8 << bit;
        let _ = Reader::default().read(&body);
    }
}
