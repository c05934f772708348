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

use super::{
    Policy,
    traces::{Smoothing, Traces},
};
use crate::engine::{
    batch::{Hearings, WireHearing},
    id::{DeviceId, ReceiverId},
    limits::WINDOW_BYTES,
    time::UnixMs,
};

/// Two hearings further apart than this are not "a car that stands there".
const ENTER_WITHIN_MS: u64 = 5_000;

/// Above this, and at 127 ("not available"), an RSSI is no measurement (Bluetooth Core, 7.7.65.2: -127 to +20 dBm).
pub(super) const RSSI_DBM_MAX: i8 = 20;

/// A hearing that others overtook by more than this is no measurement of where the dongle stands now.
const OVERTAKEN_MS_MAX: u64 = 10_000;

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

/// Two cache lines, in this order.
#[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[repr(C, align(64))]
pub(super) struct Window {
    pub(super) device: DeviceId,
    pub(super) entered: UnixMs,
    pub(super) last: UnixMs,
    /// The last hearing with a measured RSSI before the dongle entered; 0 before the first.
    measured: UnixMs,
    pub(super) hearings: u32,
    /// Unix seconds of the first hearing.
    first_s: u32,
    /// The receiver of the last hearing.
    pub(super) receiver: ReceiverId,
    pub(super) state: State,
    pub(super) pinned: bool,
    /// The dongle has entered another station since it was last heard here.
    pub(super) elsewhere: bool,
    traces: Traces,
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
            first_s: (at.0 / 1_000) as u32,
            receiver,
            entered: UnixMs(0),
            last: at,
            measured: UnixMs(0),
            traces: Traces::SILENT,
        }
    }

    /// Takes in hearings that change no state, since the dongle has entered: all that changes is what is known of its
    /// place. False, and nothing is taken in, when the state may change or one of them may be too late to tell.
    #[inline]
    pub(super) fn hear_entered(&mut self, hearings: Hearings<'_>, present_after_ms: u64) -> bool {
        let Some(newest) = hearings.wire().last() else { return true };
        // Of one code they come in the order in which they were heard.
        let at = hearings.time_of(newest);
        let stays = match self.state {
            State::Present => true,
            State::Entered => at.since(self.entered) < present_after_ms,
            State::Sighted | State::Fading | State::Parked | State::Left => false,
        };
        if !stays || self.last.since(hearings.base()) > OVERTAKEN_MS_MAX {
            return false;
        }
        if at >= self.last {
            self.traces.advance(self.last, at);
            self.last = at;
            self.receiver = ReceiverId(newest.receiver);
        }
        let measured = hearings.wire().iter().filter(|hearing| hearing.rssi <= RSSI_DBM_MAX);
        self.traces.hear_all(measured.map(|hearing| (hearing.receiver, hearing.rssi)));
        self.hearings = self.hearings.saturating_add(hearings.wire().len() as u32);
        true
    }

    /// Takes in one hearing. Returns the new state when it changed.
    pub(super) fn hear(&mut self, hearing: WireHearing, at: UnixMs, policy: &Policy) -> Option<State> {
        let receiver = ReceiverId(hearing.receiver);
        self.hearings = self.hearings.saturating_add(1);
        let gap = at.since(self.measured);
        self.traces.advance(self.last, at);
        // A receiver's first measurement is not smooth: one outlier at each of two receivers would make a visit of a
        // car next door.
        let heard_before = self.traces.is_heard(hearing.receiver);
        let level = self.measure(hearing, at);
        if at >= self.last {
            self.last = at;
            self.receiver = receiver;
        }
        match self.state {
            State::Present | State::Left => None,
            State::Sighted => {
                let strong = level.is_some_and(|level| level >= policy.enter_level(receiver));
                (strong && heard_before && gap <= ENTER_WITHIN_MS).then(|| self.enter(at))
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
        self.traces.strongest(which)
    }

    /// The first hearing, to the second.
    pub(super) fn first(&self) -> UnixMs {
        UnixMs(u64::from(self.first_s) * 1_000)
    }

    /// The receivers that heard the dongle lately, the best first, and how well in dBm.
    pub(super) fn levels(&self) -> Vec<(ReceiverId, i8)> {
        self.traces.levels()
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

    /// Smooths the measurement in; the receiver's new level, or `None` when there was nothing to measure, or nothing
    /// that still says where the dongle stands.
    fn measure(&mut self, hearing: WireHearing, at: UnixMs) -> Option<i16> {
        if hearing.rssi > RSSI_DBM_MAX || self.last.since(at) > OVERTAKEN_MS_MAX {
            return None;
        }
        self.measured = self.measured.max(at);
        let has_entered = self.state != State::Sighted;
        let smoothing = if has_entered { Smoothing::STEADY } else { Smoothing::BEFORE_ENTRY };
        Some(self.traces.hear(hearing.receiver, hearing.rssi, smoothing))
    }
}
