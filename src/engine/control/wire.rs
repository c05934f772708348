//! Fields of a control message, read one after the other.

use super::{ControlError, TEXT_BYTES_MAX};

#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    pub(super) fn u8(&mut self) -> Result<u8, ControlError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ControlError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ControlError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ControlError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, ControlError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ControlError::Malformed),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, ControlError> {
        let length = usize::from(self.u8()?);
        if length > TEXT_BYTES_MAX {
            return Err(ControlError::Malformed);
        }
        let (text, rest) = self.rest.split_at_checked(length).ok_or(ControlError::Malformed)?;
        self.rest = rest;
        String::from_utf8(text.to_vec()).map_err(|_| ControlError::Malformed)
    }

    /// A list of at most `max` items.
    pub(super) fn list<T>(
        &mut self,
        max: usize,
        item: impl Fn(&mut Self) -> Result<T, ControlError>,
    ) -> Result<Vec<T>, ControlError> {
        let length = usize::from(self.u8()?);
        if length > max {
            return Err(ControlError::Malformed);
        }
        (0..length).map(|_| item(self)).collect()
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), ControlError> {
        if self.rest.is_empty() { Ok(()) } else { Err(ControlError::Malformed) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ControlError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(ControlError::Malformed)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

/// Appends a text, cut to [`TEXT_BYTES_MAX`] at the end of a character.
pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    let mut cut = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    out.push(cut as u8);
    out.extend_from_slice(&text.as_bytes()[..cut]);
}
