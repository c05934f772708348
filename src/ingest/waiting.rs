//! Newcomers that wait for their handshake, the sources in turn: when every uplink of a chain comes back at once they
//! are served one after the other instead of being sent away to try again, and a source that sends many newcomers
//! holds up only itself.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

#[derive(Debug)]
pub(super) struct Waiting<T> {
    sources: HashMap<IpAddr, VecDeque<T>>,
    /// Each source that has somebody waiting, once.
    turns: VecDeque<IpAddr>,
    count: usize,
}

impl<T> Waiting<T> {
    pub(super) fn new() -> Waiting<T> {
        Waiting { sources: HashMap::new(), turns: VecDeque::new(), count: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn count_of(&self, source: IpAddr) -> usize {
        self.sources.get(&source).map_or(0, VecDeque::len)
    }

    pub(super) fn push(&mut self, source: IpAddr, newcomer: T) {
        let queue = self.sources.entry(source).or_default();
        if queue.is_empty() {
            self.turns.push_back(source);
        }
        queue.push_back(newcomer);
        self.count += 1;
    }

    /// Whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(IpAddr, T)> {
        let source = self.turns.pop_front()?;
        let queue = self.sources.get_mut(&source)?;
        let newcomer = queue.pop_front()?;
        if queue.is_empty() {
            self.sources.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        self.count -= 1;
        Some((source, newcomer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns_and_leave_nothing_behind() {
        let [many, one] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut waiting = Waiting::new();
        for number in 1..=3 {
            waiting.push(many, number);
        }
        waiting.push(one, 4);
        assert_eq!((waiting.count(), waiting.count_of(many)), (4, 3));
        let order: Vec<i32> = std::iter::from_fn(|| waiting.pop()).map(|(_, number)| number).collect();
        assert_eq!(order, [1, 4, 2, 3]);
        assert!(waiting.sources.is_empty() && waiting.turns.is_empty() && waiting.count() == 0);
    }
}
