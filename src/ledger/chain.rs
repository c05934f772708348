//! The hash chain: each row of the journal carries a hash that stands for it and for every row before it.
//!
//! ```text
//! content = SHA-256(tag, seq, at, kind, format, length of subject, length of payload, subject, payload)
//! hash    = SHA-256(tag, hash of the row before, content)
//! ```
//!
//! Two steps and not one, so that a row can be emptied and the chain still be followed: its tombstone keeps `content`
//! in place of what it was made of. A tombstone is all zeros beside that, so that no bit of it is free either.
//!
//! A chain alone does not show that its end was cut off. The head, written with every transaction, does; and who notes
//! a head elsewhere can show later that nobody wrote the whole chain anew.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use super::{Entry, Seq};

const CONTENT_TAG: &[u8] = b"forecourt journal entry v1";
const LINK_TAG: &[u8] = b"forecourt journal chain v1";

/// The kind of a row whose contents were purged.
pub(super) const TOMBSTONE: i64 = 0;

pub(super) type Digest = [u8; 32];

/// A row as it lies in the file: numbers and bytes that nobody has judged yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub seq: i64,
    pub at_ms: i64,
    pub kind: i64,
    pub format: i64,
    pub subject: &'a [u8],
    pub payload: &'a [u8],
}

impl<'a> Row<'a> {
    pub(super) fn of(seq: Seq, entry: &'a Entry) -> Row<'a> {
        Row {
            seq: seq.0 as i64,
            at_ms: entry.at.0 as i64,
            kind: entry.kind as i64,
            format: i64::from(entry.format),
            subject: &entry.subject,
            payload: &entry.payload,
        }
    }

    pub(super) fn content(&self) -> Digest {
        let numbers =
            [self.seq, self.at_ms, self.kind, self.format, self.subject.len() as i64, self.payload.len() as i64];
        let mut hash = Sha256::new_with_prefix(CONTENT_TAG);
        hash.update(numbers.map(i64::to_be_bytes).as_flattened());
        hash.update(self.subject);
        hash.update(self.payload);
        hash.finalize().into()
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.kind == TOMBSTONE
    }

    /// What a tombstone keeps of its row; `None` unless it is empty otherwise.
    pub(super) fn kept_content(&self) -> Option<Digest> {
        let is_empty = self.is_tombstone() && self.at_ms == 0 && self.format == 0 && self.subject.is_empty();
        self.payload.try_into().ok().filter(|_| is_empty)
    }
}

/// The last row of a journal, with the hash that stands for all of it. Written `SEQ:HASH`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub seq: Seq,
    pub hash: [u8; 32],
}

/// Text that is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a head is written SEQ:HASH, a number and 64 hexadecimal digits")]
pub struct NoHead;

impl Head {
    /// Of a journal without a row.
    pub const EMPTY: Head = Head { seq: Seq(0), hash: [0; 32] };

    /// The head once a row with this content has followed.
    pub(super) fn followed_by(self, content: &Digest) -> Head {
        let mut hash = Sha256::new_with_prefix(LINK_TAG);
        hash.update(self.hash);
        hash.update(content);
        Head { seq: Seq(self.seq.0 + 1), hash: hash.finalize().into() }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq.0, hex::encode(self.hash))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({self})")
    }
}

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Head, NoHead> {
        let (seq, digits) = text.split_once(':').ok_or(NoHead)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(digits, &mut hash).map_err(|_| NoHead)?;
        Ok(Head { seq: Seq(seq.parse().map_err(|_| NoHead)?), hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row<'_> = Row { seq: 1, at_ms: 2, kind: 1, format: 1, subject: b"ab", payload: b"c" };

    #[test]
    fn no_two_rows_have_the_same_content() {
        let others = [
            Row { seq: 2, ..ROW },
            Row { at_ms: 3, ..ROW },
            Row { kind: 2, ..ROW },
            Row { format: 2, ..ROW },
            Row { subject: b"a", payload: b"bc", ..ROW },
            Row { payload: b"", ..ROW },
        ];
        assert!(others.iter().all(|other| other.content() != ROW.content()));
    }

    #[test]
    fn a_head_stands_for_every_row_before_it() {
        let [one, two] = [ROW.content(), Row { seq: 2, ..ROW }.content()];
        let head = Head::EMPTY.followed_by(&one).followed_by(&two);
        assert_eq!(head.seq, Seq(2));
        assert_ne!(head.hash, Head::EMPTY.followed_by(&two).followed_by(&two).hash);
        assert_ne!(head.hash, Head::EMPTY.followed_by(&two).followed_by(&one).hash);
    }

    #[test]
    fn a_head_reads_back_from_its_text() {
        let head = Head::EMPTY.followed_by(&ROW.content());
        assert_eq!(head.to_string().parse(), Ok(head));
        for wrong in ["", "1", "1:ab", "x:0000000000000000000000000000000000000000000000000000000000000000"] {
            assert_eq!(wrong.parse::<Head>(), Err(NoHead), "{wrong}");
        }
    }
}
