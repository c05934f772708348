//! Which dongles stand on one forecourt.
//!
//! One window per dongle: the codes that resolve to the same dongle share it, so that a change of code is neither a
//! departure nor an arrival. Time is an argument. Silence is handled by one heap that holds each window's next
//! deadline as it was when it was last looked at; a hearing only moves the true deadline, and the heap finds that
//! out when the entry comes up. So a hearing costs an array access and a few stores.
//!
//! Bound: [`WINDOWS_MAX`] windows. Past it the stalest window that never entered makes room, or the newcomer is
//! refused.

mod traces;
mod window;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    num::NonZeroU32,
};

use super::{
    batch::{Hearings, WireHearing},
    id::{DeviceId, PumpNumber, ReceiverId},
    limits::{RECEIVERS_MAX, WINDOWS_MAX},
    time::UnixMs,
};
pub use window::State;
use window::{RSSI_DBM_MAX, Window};

/// Where a receiver hangs, and so what its hearings mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    pub pump: Option<PumpNumber>,
    /// The smoothed RSSI at which a dongle has entered.
    pub enter_dbm: i8,
}

/// Times and thresholds of one station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub fade_after_ms: u64,
    pub leave_after_ms: u64,
    pub parked_for_ms: u64,
    pub present_after_ms: u64,
    /// A car heard at least this strongly at a pump is parked, not gone, when it falls silent.
    pub park_dbm: i8,
    /// For a receiver that the station has not described.
    pub default_enter_dbm: i8,
    pub receivers: [Option<Setup>; RECEIVERS_MAX],
}

impl Policy {
    /// The times of the design, no receiver described.
    pub const DESIGN: Policy = Policy {
        fade_after_ms: 30_000,
        leave_after_ms: 120_000,
        parked_for_ms: 900_000,
        present_after_ms: 10_000,
        park_dbm: -75,
        default_enter_dbm: -85,
        receivers: [None; RECEIVERS_MAX],
    };

    /// The pump at which the receiver hangs.
    pub fn pump_of(&self, receiver: ReceiverId) -> Option<PumpNumber> {
        self.receivers[usize::from(receiver.0) % RECEIVERS_MAX]?.pump
    }

    fn enter_level(&self, receiver: ReceiverId) -> i16 {
        let setup = &self.receivers[usize::from(receiver.0) % RECEIVERS_MAX];
        i16::from(setup.map_or(self.default_enter_dbm, |setup| setup.enter_dbm)) << 8
    }
}

/// A window changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The hearing that did it, or the moment at which silence had lasted long enough.
    pub at: UnixMs,
    pub device: DeviceId,
    pub state: State,
    /// The receiver that heard the dongle last.
    pub receiver: ReceiverId,
}

/// A dongle as the station sees it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub device: DeviceId,
    pub state: State,
    pub pinned: bool,
    pub entered: UnixMs,
    pub last: UnixMs,
    pub hearings: u32,
    /// The best receiver of those that heard the dongle lately.
    pub strongest: Option<(ReceiverId, i8)>,
    /// The pump whose receiver hears it best.
    pub pump: Option<PumpNumber>,
}

/// Names a window for the fast path; it stays safe to use after the window is gone. Its place plus one, so that an
/// optional one is as small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowHandle(NonZeroU32);

impl WindowHandle {
    fn new(index: usize) -> WindowHandle {
        NonZeroU32::new(index as u32 + 1).map(WindowHandle).expect("WINDOWS_MAX is far below u32::MAX")
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What became of hearings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The dongle's window: pass it with the dongle's next hearings.
    pub window: Option<WindowHandle>,
    /// So many were too old to say anything about now.
    pub stale: u64,
    /// So many found the station full of windows.
    pub full: u64,
}

/// All windows of one station.
pub struct Presence {
    policy: Policy,
    windows: Vec<Option<Window>>,
    free: Vec<usize>,
    by_device: HashMap<DeviceId, WindowHandle>,
    deadlines: BinaryHeap<Reverse<(UnixMs, usize)>>,
    /// The entry of each window that counts: any other of the same window is out of date. A window that takes a
    /// forgotten one's place takes its entry too, so that the heap does not grow with the traffic.
    armed: Vec<Option<UnixMs>>,
}

impl Presence {
    pub fn new(policy: Policy) -> Presence {
        Presence {
            policy,
            windows: Vec::new(),
            free: Vec::new(),
            by_device: HashMap::new(),
            deadlines: BinaryHeap::new(),
            armed: Vec::new(),
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether one of the hearings is as strong at a pump as that of a car which stands there.
    pub fn is_strong_at_pump(&self, hearings: Hearings<'_>) -> bool {
        let is_strong = |hearing: &WireHearing| {
            (self.policy.park_dbm..=RSSI_DBM_MAX).contains(&hearing.rssi)
                && self.policy.pump_of(ReceiverId(hearing.receiver)).is_some()
        };
        hearings.wire().iter().any(is_strong)
    }

    /// The station's gateway said which receivers it has.
    pub fn set_receivers(&mut self, receivers: [Option<Setup>; RECEIVERS_MAX]) {
        self.policy.receivers = receivers;
    }

    /// Takes in one hearing of `device`. State changes are appended to `changes`.
    pub fn observe(
        &mut self,
        device: DeviceId,
        receiver: ReceiverId,
        rssi: i8,
        at: UnixMs,
        now: UnixMs,
        changes: &mut Vec<Change>,
    ) -> Heard {
        let hearing = [WireHearing::at_base(receiver, rssi)];
        self.observe_all(device, None, Hearings::new(at, &hearing), now, changes)
    }

    /// Takes in hearings of `device`. `hint` is the handle that its last ones gave, if there was one; a hint that has
    /// become wrong only costs a look-up. State changes are appended to `changes`.
    ///
    /// The window of a dongle that has entered, which is nearly every one, is found, and its state asked for, once for
    /// all hearings of a code: 2 ns a hearing instead of 8.
    #[inline]
    pub fn observe_all(
        &mut self,
        device: DeviceId,
        hint: Option<WindowHandle>,
        hearings: Hearings<'_>,
        now: UnixMs,
        changes: &mut Vec<Change>,
    ) -> Heard {
        let present_after_ms = self.policy.present_after_ms;
        if let Some(window) = hint.and_then(|hint| self.window_mut(hint))
            && window.device == device
            && window.hear_entered(hearings, present_after_ms)
        {
            return Heard { window: hint, ..Heard::default() };
        }
        self.observe_each(device, hint, hearings, now, changes)
    }

    #[cold]
    fn observe_each(
        &mut self,
        device: DeviceId,
        hint: Option<WindowHandle>,
        hearings: Hearings<'_>,
        now: UnixMs,
        changes: &mut Vec<Change>,
    ) -> Heard {
        let hint = hint.filter(|hint| self.window(*hint).is_some_and(|window| window.device == device));
        let window = hint.or_else(|| self.by_device.get(&device).copied());
        let mut heard = Heard { window, ..Heard::default() };
        for &hearing in hearings.wire() {
            self.observe_one(device, hearing, hearings.time_of(&hearing), now, &mut heard, changes);
        }
        heard
    }

    fn observe_one(
        &mut self,
        device: DeviceId,
        hearing: WireHearing,
        at: UnixMs,
        now: UnixMs,
        heard: &mut Heard,
        changes: &mut Vec<Change>,
    ) {
        let receiver = ReceiverId(hearing.receiver);
        let age = now.since(at);
        let too_old = if heard.window.is_some() { self.policy.leave_after_ms } else { self.policy.fade_after_ms };
        if age > too_old {
            heard.stale += 1;
            return;
        }
        heard.window = heard.window.or_else(|| self.open(device, receiver, at));
        let Some(handle) = heard.window else {
            heard.full += 1;
            return;
        };
        let window = self.windows[handle.index()].as_mut().expect("a handle in use points to a window");
        if let Some(state) = window.hear(hearing, at, &self.policy) {
            changes.push(Change { at, device, state, receiver });
        }
    }

    /// Lets silence take effect. Call it before anybody is told who is here.
    pub fn expire(&mut self, now: UnixMs, changes: &mut Vec<Change>) {
        while let Some(&Reverse((due, index))) = self.deadlines.peek()
            && due <= now
        {
            self.deadlines.pop();
            if self.armed[index] == Some(due) {
                self.armed[index] = None;
                self.fall_silent(index, now, changes);
            }
        }
    }

    /// The next moment at which [`Self::expire`] has something to look at.
    pub fn next_deadline(&self) -> Option<UnixMs> {
        self.deadlines.peek().map(|Reverse((due, _))| *due)
    }

    /// Keeps the dongle here until it is unpinned. A dongle that is not here gets a window: its session outlived a
    /// restart that the window did not.
    pub fn pin(&mut self, device: DeviceId, now: UnixMs) {
        let handle = self.by_device.get(&device).copied().or_else(|| self.open(device, ReceiverId(0), now));
        if let Some(window) = handle.and_then(|handle| self.window_mut(handle)) {
            window.pinned = true;
            if window.state == State::Sighted {
                window.state = State::Fading;
            }
        }
    }

    pub fn unpin(&mut self, device: DeviceId) {
        if let Some(&handle) = self.by_device.get(&device) {
            if let Some(window) = self.window_mut(handle) {
                window.pinned = false;
            }
            self.arm(handle);
        }
    }

    /// The dongle has entered another station: silence here now means that it left.
    pub fn entered_elsewhere(&mut self, device: DeviceId) {
        if let Some(&handle) = self.by_device.get(&device) {
            if let Some(window) = self.window_mut(handle) {
                window.elsewhere = true;
            }
            self.arm(handle);
        }
    }

    pub fn seen(&self, device: DeviceId) -> Option<Seen> {
        let handle = self.by_device.get(&device)?;
        self.window(*handle).map(|window| self.describe(window))
    }

    /// Whether the dongle is heard as well as one that enters. What was heard too well by chance, once, is not.
    pub fn is_heard_as_here(&self, device: DeviceId) -> bool {
        let window = self.by_device.get(&device).and_then(|handle| self.window(*handle));
        let strongest = window.and_then(|window| window.strongest(|_| true));
        strongest.is_some_and(|(receiver, dbm)| i16::from(dbm) << 8 >= self.policy.enter_level(receiver))
    }

    /// The first hearing of the dongle's visit, to the second, and the receivers that heard it lately with their smoothed
    /// RSSI in dBm, the best first.
    pub fn heard(&self, device: DeviceId) -> Option<(UnixMs, Vec<(ReceiverId, i8)>)> {
        let window = self.window(*self.by_device.get(&device)?)?;
        Some((window.first(), window.levels()))
    }

    /// Everybody who may be selected. [`Self::expire`] first.
    pub fn selectable(&self) -> impl Iterator<Item = Seen> {
        self.windows.iter().flatten().filter(|window| window.state.is_selectable()).map(|window| self.describe(window))
    }

    /// How many windows there are, those of passers-by included.
    pub fn len(&self) -> usize {
        self.by_device.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_device.is_empty()
    }

    /// The windows that are worth keeping over a restart.
    pub fn records(&self) -> Vec<Record> {
        let worth = |window: &&Window| window.state.is_selectable();
        self.windows.iter().flatten().filter(worth).cloned().map(Record).collect()
    }

    /// Takes up a window of an earlier run, unless the dongle has one already. Pins are not restored: the sessions
    /// that are still open set them again.
    pub fn restore(&mut self, Record(mut window): Record) {
        window.pinned = false;
        if !self.by_device.contains_key(&window.device) {
            self.keep(window);
        }
    }

    #[inline]
    fn window(&self, handle: WindowHandle) -> Option<&Window> {
        self.windows.get(handle.index())?.as_ref()
    }

    #[inline]
    fn window_mut(&mut self, handle: WindowHandle) -> Option<&mut Window> {
        self.windows.get_mut(handle.index())?.as_mut()
    }

    fn open(&mut self, device: DeviceId, receiver: ReceiverId, at: UnixMs) -> Option<WindowHandle> {
        if self.by_device.len() >= WINDOWS_MAX {
            self.forget_stalest_passer_by()?;
        }
        Some(self.keep(Window::open(device, receiver, at)))
    }

    fn keep(&mut self, window: Window) -> WindowHandle {
        let device = window.device;
        let handle = if let Some(free) = self.free.pop() {
            self.windows[free] = Some(window);
            WindowHandle::new(free)
        } else {
            self.windows.push(Some(window));
            self.armed.push(None);
            WindowHandle::new(self.windows.len() - 1)
        };
        self.by_device.insert(device, handle);
        self.arm(handle);
        handle
    }

    fn forget_stalest_passer_by(&mut self) -> Option<()> {
        let windows = self.windows.iter().enumerate().filter_map(|(at, window)| Some((at, window.as_ref()?)));
        let sighted = windows.filter(|(_, window)| window.state == State::Sighted && !window.pinned);
        let (index, _) = sighted.min_by_key(|(_, window)| window.last)?;
        self.forget(index);
        Some(())
    }

    fn forget(&mut self, index: usize) {
        if let Some(window) = self.windows[index].take() {
            self.by_device.remove(&window.device);
            self.free.push(index);
        }
    }

    fn arm(&mut self, handle: WindowHandle) {
        let index = handle.index();
        let Some(due) = self.windows[index].as_ref().and_then(|window| window.deadline(&self.policy)) else { return };
        if self.armed[index].is_none_or(|armed| due < armed) {
            self.armed[index] = Some(due);
            self.deadlines.push(Reverse((due, index)));
        }
    }

    /// Looks at the window whose turn has come: its time may be up, or it may have been heard in the meantime.
    fn fall_silent(&mut self, index: usize, now: UnixMs, changes: &mut Vec<Change>) {
        let Some(window) = self.windows[index].as_mut() else { return };
        let was = window.state;
        match window.deadline(&self.policy) {
            None => return,
            Some(due) if due > now => {}
            Some(at) => {
                let state = window.fall_silent(&self.policy);
                if was != State::Sighted {
                    changes.push(Change { at, device: window.device, state, receiver: window.receiver });
                }
                if state == State::Left {
                    return self.forget(index);
                }
            }
        }
        self.arm(WindowHandle::new(index));
    }

    fn describe(&self, window: &Window) -> Seen {
        let best_pump = window.strongest(|receiver| self.policy.pump_of(receiver).is_some());
        Seen {
            device: window.device,
            state: window.state,
            pinned: window.pinned,
            entered: window.entered,
            last: window.last,
            hearings: window.hearings,
            strongest: window.strongest(|_| true),
            pump: best_pump.and_then(|(receiver, _)| self.policy.pump_of(receiver)),
        }
    }
}

/// A window as it is written into a snapshot.
#[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Record(Window);

impl Record {
    /// Hearings that the window has taken in.
    pub fn hearings(&self) -> u32 {
        self.0.hearings
    }
}

#[cfg(test)]
mod tests;
