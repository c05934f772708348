//! A day of UTC.

use std::{fmt, str::FromStr};

use time::{Date, OffsetDateTime, format_description::StaticFormatDescription, macros::format_description};

use crate::engine::time::{DAY_MS, UnixMs};

const FORMAT: StaticFormatDescription = format_description!("[year]-[month]-[day]");

/// Counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a day is written as 2026-11-24, from 1970 on")]
pub struct DayError;

impl Day {
    pub fn of(at: UnixMs) -> Day {
        Day(at.0 / DAY_MS)
    }

    pub fn yesterday(now: UnixMs) -> Day {
        Day::of(now.minus(DAY_MS))
    }

    pub fn start(self) -> UnixMs {
        UnixMs(self.0 * DAY_MS)
    }

    /// The first moment of the next day.
    pub fn end(self) -> UnixMs {
        self.start().plus(DAY_MS)
    }

    pub(super) fn contains(self, at: UnixMs) -> bool {
        Day::of(at) == self
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Day, DayError> {
        let date = Date::parse(text, FORMAT).map_err(|_| DayError)?;
        let seconds = date.midnight().assume_utc().unix_timestamp();
        Ok(Day(u64::try_from(seconds).map_err(|_| DayError)? * 1_000 / DAY_MS))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = i64::try_from(self.start().0 / 1_000).map(OffsetDateTime::from_unix_timestamp);
        match date {
            Ok(Ok(date)) => f.write_str(&date.date().format(FORMAT).map_err(|_| fmt::Error)?),
            _ => Err(fmt::Error),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Day, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_reads_back_as_it_was_printed() {
        for text in ["1970-01-01", "2024-02-29", "2026-11-24", "9999-12-31"] {
            assert_eq!(text.parse::<Day>().unwrap().to_string(), text);
        }
        for text in ["2026-02-29", "26-11-24", "2026-11-24T00:00", "1969-12-31", "../etc"] {
            assert_eq!(text.parse::<Day>(), Err(DayError), "{text}");
        }
    }

    #[test]
    fn a_day_ends_where_the_next_begins() {
        let day: Day = "2026-11-24".parse().unwrap();
        assert_eq!(day.start(), UnixMs(1_795_478_400_000));
        assert!(day.contains(day.start()) && !day.contains(day.end()));
        assert_eq!(Day::yesterday(day.end()), day);
    }
}
