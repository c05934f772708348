//! What a station knows of one dongle: when it was heard, how strongly and by whom, and what follows from that.
//!
//! ```text
//!            heard twice within 5 s,          heard 10 s
//!            over the threshold               after entering
//! Sighted ----------------------> Entered -----------------> Present
//!    | 30 s silent                   |                        |   ^
//!    v                               '------ 30 s silent -----+   | heard
//! (gone, never was here)                                      |   |
//!                          last heard strong at a pump        v   |
//!                         Parked <----------------------------+-> Fading
//!                            | 15 min silent                        | 120 s silent, 30 s if elsewhere
//!                            '-----------------> Left <-------------'
//! ```
//!
//! A pinned window (its vehicle was selected) changes state like any other but does not leave before it is unpinned.

use super::Policy;
use crate::engine::{
    batch::{Hearings, WireHearing},
    id::{DeviceId, ReceiverId},
    limits::{RECEIVERS_MAX, WINDOW_BYTES},
    time::UnixMs,
};

/// Two hearings further apart than this are not "a car that stands there".
const ENTER_WITHIN_MS: u64 = 5_000;

/// Above this, and at 127 ("not available"), an RSSI is no measurement (Bluetooth Core, 7.7.65.2: -127 to +20 dBm).
const RSSI_DBM_MAX: i8 = 20;

/// A receiver that has not heard the dongle for this long says nothing about where it stands now.
const TRACE_FRESH_MS: i32 = 10_000;

/// The stamp of the moment at which the window opened: so large that a trace that was never heard, with its 0, counts as
/// stale like any old one.
const STAMP_OPENED: i32 = TRACE_FRESH_MS + 1;

/// Each measurement moves the smoothed value by a quarter: an outlier of +12 dB moves it by 3.
const SMOOTHING_SHIFT: u32 = 2;

/// How far a dongle's visit has come.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Heard, and perhaps only driving past.
    Sighted,
    Entered,
    Present,
    /// Silent for a while.
    Fading,
    /// Silent because the engine is off: it was last heard strong at a pump.
    Parked,
    /// Gone. Only ever reported, never kept.
    Left,
}

impl State {
    /// Whether a terminal may pick the vehicle.
    pub fn is_selectable(self) -> bool {
        matches!(self, State::Entered | State::Present | State::Fading | State::Parked)
    }
}

/// What one receiver measured, smoothed. 8 bytes, so that a window's 32 fill four cache lines.
#[derive(Debug, Clone, Copy, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Trace {
    /// 256ths of a dBm.
    level: i16,
    /// When, as [`Window::stamp`] counts; 0: never.
    heard: i32,
}

impl Trace {
    /// Smooths a measurement in; the receiver's new level.
    #[inline]
    fn smooth(&mut self, rssi: i8, stamp: i32) -> i16 {
        let measured = i16::from(rssi) << 8;
        let step = (i32::from(measured) - i32::from(self.level)) >> SMOOTHING_SHIFT;
        self.level = if self.is_fresh(stamp) { self.level + step as i16 } else { measured };
        self.heard = self.heard.max(stamp);
        self.level
    }

    /// Signed, so that a hearing that overtook others is fresh as well. Stamps are never negative.
    #[inline]
    fn is_fresh(&self, stamp: i32) -> bool {
        stamp - self.heard <= TRACE_FRESH_MS
    }
}

/// In this order so that a hearing touches two cache lines: all but the traces, and the receiver's trace.
#[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[repr(C, align(64))]
pub(super) struct Window {
    pub(super) device: DeviceId,
    pub(super) opened: UnixMs,
    pub(super) entered: UnixMs,
    pub(super) last: UnixMs,
    /// The last hearing with a measured RSSI before the dongle entered; 0 before the first.
    measured: UnixMs,
    pub(super) hearings: u32,
    /// The receiver of the last hearing.
    pub(super) receiver: ReceiverId,
    pub(super) state: State,
    pub(super) pinned: bool,
    /// The dongle has entered another station since it was last heard here.
    pub(super) elsewhere: bool,
    traces: [Trace; RECEIVERS_MAX],
}

const _: () = assert!(size_of::<Option<Window>>() == WINDOW_BYTES, "limits::WINDOWS_MAX counts with it");

impl Window {
    pub(super) fn open(device: DeviceId, receiver: ReceiverId, at: UnixMs) -> Window {
        Window {
            device,
            state: State::Sighted,
            pinned: false,
            elsewhere: false,
            hearings: 0,
            receiver,
            opened: at,
            entered: UnixMs(0),
            last: at,
            measured: UnixMs(0),
            traces: [Trace::default(); RECEIVERS_MAX],
        }
    }

    /// Takes in hearings of a dongle that has been here for a while: nothing changes but what is known of its place.
    /// False, and nothing is taken in, when the window is in another state or a hearing may be older than its last.
    #[inline]
    pub(super) fn hear_present(&mut self, hearings: Hearings<'_>) -> bool {
        let (base, wire) = (hearings.base(), hearings.wire());
        let Some(newest) = wire.last() else { return true };
        if self.state != State::Present || base < self.last {
            return false;
        }
        let stamp = self.stamp(base);
        let mut latest = 0;
        for hearing in wire {
            let offset = hearing.offset_ms.get();
            latest = latest.max(offset);
            if hearing.rssi <= RSSI_DBM_MAX {
                self.trace(hearing).smooth(hearing.rssi, stamp.saturating_add(i32::from(offset)));
            }
        }
        self.hearings = self.hearings.saturating_add(wire.len() as u32);
        self.last = base.plus(u64::from(latest));
        self.receiver = ReceiverId(newest.receiver);
        true
    }

    /// Takes in one hearing. Returns the new state when it changed.
    pub(super) fn hear(&mut self, hearing: &WireHearing, at: UnixMs, policy: &Policy) -> Option<State> {
        let receiver = ReceiverId(hearing.receiver);
        self.hearings = self.hearings.saturating_add(1);
        let gap = at.since(self.measured);
        let level = self.measure(hearing, at);
        if at >= self.last {
            self.last = at;
            self.receiver = receiver;
        }
        match self.state {
            State::Present | State::Left => None,
            State::Sighted => {
                let strong = level.is_some_and(|level| level >= policy.enter_level(receiver));
                (strong && gap <= ENTER_WITHIN_MS).then(|| self.enter(at))
            }
            State::Entered => {
                (at.since(self.entered) >= policy.present_after_ms).then(|| self.become_state(State::Present))
            }
            State::Fading | State::Parked => {
                // A late batch fills the past and does not bring the car back.
                (at == self.last).then(|| self.become_state(State::Present))
            }
        }
    }

    /// The moment at which silence will change the state. `None` for a pinned window that has nothing left to lose.
    pub(super) fn deadline(&self, policy: &Policy) -> Option<UnixMs> {
        match self.state {
            State::Sighted | State::Entered | State::Present => Some(self.last.plus(policy.fade_after_ms)),
            State::Fading | State::Parked if self.pinned => None,
            State::Fading | State::Parked if self.elsewhere => Some(self.last.plus(policy.fade_after_ms)),
            State::Fading => Some(self.last.plus(policy.leave_after_ms)),
            State::Parked => Some(self.last.plus(policy.parked_for_ms)),
            State::Left => None,
        }
    }

    /// What silence until [`Self::deadline`] makes of the window.
    pub(super) fn fall_silent(&mut self, policy: &Policy) -> State {
        let next = match self.state {
            State::Entered | State::Present if self.is_parked_at_pump(policy) => State::Parked,
            State::Entered | State::Present => State::Fading,
            State::Sighted | State::Fading | State::Parked | State::Left => State::Left,
        };
        self.become_state(next)
    }

    /// The receiver, of those heard lately and passing `which`, that hears the dongle best, and how well in dBm.
    pub(super) fn strongest(&self, which: impl Fn(ReceiverId) -> bool) -> Option<(ReceiverId, i8)> {
        let last = self.stamp(self.last);
        let traces = self.traces.iter().enumerate().map(|(at, trace)| (ReceiverId(at as u8), trace));
        traces
            .filter(|(receiver, trace)| trace.is_fresh(last) && which(*receiver))
            .max_by_key(|(_, trace)| trace.level)
            .map(|(receiver, trace)| (receiver, (trace.level >> 8) as i8))
    }

    fn enter(&mut self, at: UnixMs) -> State {
        self.entered = at;
        self.become_state(State::Entered)
    }

    fn become_state(&mut self, state: State) -> State {
        if state == State::Present {
            self.elsewhere = false;
        }
        self.state = state;
        state
    }

    fn is_parked_at_pump(&self, policy: &Policy) -> bool {
        self.strongest(|_| true)
            .is_some_and(|(receiver, dbm)| policy.pump_of(receiver).is_some() && dbm >= policy.park_dbm)
    }

    /// Smooths the measurement in; the receiver's new level, or `None` when there was nothing to measure.
    fn measure(&mut self, hearing: &WireHearing, at: UnixMs) -> Option<i16> {
        if hearing.rssi > RSSI_DBM_MAX {
            return None;
        }
        self.measured = self.measured.max(at);
        let stamp = self.stamp(at);
        Some(self.trace(hearing).smooth(hearing.rssi, stamp))
    }

    #[inline]
    fn trace(&mut self, hearing: &WireHearing) -> &mut Trace {
        &mut self.traces[usize::from(hearing.receiver) % RECEIVERS_MAX]
    }

    /// `at` as kept in a trace: 31 bits of milliseconds are 24 days, and no visit lasts as long.
    #[inline]
    fn stamp(&self, at: UnixMs) -> i32 {
        i32::try_from(at.since(self.opened)).unwrap_or(i32::MAX).saturating_add(STAMP_OPENED)
    }
}
