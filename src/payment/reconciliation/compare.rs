//! Two sides of a day, line by line.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Day, Error, Exception, ExceptionKind, Facts, Sums, Totals,
    ours::{Open, Ours, Success},
};
use crate::{
    engine::{
        charge::{ChargeKey, Instruction, Operation},
        id::{SessionId, StationId},
        money::{Currency, Money},
        time::UnixMs,
    },
    payment::gateway::{Line, Movement},
};

/// `facts` of a session; `is_known`: whether the journal has a success under a key at any time.
pub(super) fn compare(
    ours: &Ours,
    theirs: &[Line],
    day: Day,
    now: UnixMs,
    facts: &dyn Fn(SessionId) -> Option<Facts>,
    is_known: &dyn Fn(ChargeKey) -> Result<bool, Error>,
) -> Result<(Vec<Totals>, Vec<Exception>), Error> {
    let mut comparison =
        Comparison { now, facts, known: HashMap::new(), sums: BTreeMap::new(), exceptions: Vec::new() };
    for line in theirs.iter().filter(|line| day.contains(line.at)) {
        comparison.count_theirs(line);
    }
    let mut lines = by_key(theirs);
    for success in &ours.successes {
        comparison.count_ours(success);
        comparison.match_ours(success, take(&mut lines, success));
    }
    let unmatched = lines.into_values().flatten().chain(theirs.iter().filter(|line| line.key.is_none()));
    for line in unmatched.filter(|line| day.contains(line.at)) {
        comparison.match_theirs(line, is_known)?;
    }
    ours.open.iter().for_each(|open| comparison.note_open(open));
    comparison.note_uncleared(&ours.successes);
    Ok(comparison.conclude())
}

type Lines<'a> = HashMap<(ChargeKey, bool), Vec<&'a Line>>;

/// By key and direction: a refund may bear no key but its own.
fn by_key(theirs: &[Line]) -> Lines<'_> {
    let mut lines = Lines::new();
    for line in theirs {
        if let Some(key) = line.key {
            lines.entry((key, line.movement.takes_money())).or_default().push(line);
        }
    }
    lines
}

/// A PSP may keep a capture under the key of its hold.
fn take<'a>(lines: &mut Lines<'a>, success: &Success) -> Option<&'a Line> {
    let takes = success.instruction.operation.takes_money();
    let keys = [Some(success.instruction.key()), success.instruction.of.filter(|_| takes)];
    keys.into_iter().flatten().find_map(|key| lines.get_mut(&(key, takes))?.pop())
}

struct Comparison<'a> {
    now: UnixMs,
    facts: &'a dyn Fn(SessionId) -> Option<Facts>,
    known: HashMap<SessionId, Option<Facts>>,
    /// Movements of no known station come last.
    sums: BTreeMap<(bool, Option<StationId>, [u8; 3]), Totals>,
    exceptions: Vec<Exception>,
}

impl Comparison<'_> {
    fn facts(&mut self, session: SessionId) -> Option<Facts> {
        *self.known.entry(session).or_insert_with(|| (self.facts)(session))
    }

    fn station(&mut self, session: Option<SessionId>) -> Option<StationId> {
        self.facts(session?).map(|facts| facts.station)
    }

    fn totals(&mut self, session: Option<SessionId>, currency: Currency) -> &mut Totals {
        let station = self.station(session);
        let zero = || Totals { station, currency, ours: Sums::default(), theirs: Sums::default() };
        self.sums.entry((station.is_none(), station, currency.bytes())).or_insert_with(zero)
    }

    fn count_ours(&mut self, success: &Success) {
        let movement = movement(success.instruction.operation);
        self.totals(Some(success.instruction.session), success.amount.currency).ours.add(movement, success.amount);
    }

    fn count_theirs(&mut self, line: &Line) {
        self.totals(line.session, line.amount.currency).theirs.add(line.movement, line.amount);
    }

    fn match_ours(&mut self, success: &Success, theirs: Option<&Line>) {
        let ours = success.amount;
        let (kind, at_risk) = match theirs {
            Some(line) if line.amount == ours => return,
            Some(line) if line.amount.currency == ours.currency => {
                (ExceptionKind::AmountsDiffer, (line.amount.minor - ours.minor).abs())
            }
            Some(line) => (ExceptionKind::AmountsDiffer, ours.minor.max(line.amount.minor)),
            None => (ExceptionKind::MissingAtPsp, ours.minor),
        };
        let exception = self.of(kind, &success.instruction, success.at);
        self.exceptions.push(Exception {
            reference: Some(success.reference.clone()),
            ours_minor: Some(ours.minor),
            theirs_minor: theirs.map(|line| line.amount.minor),
            at_risk_minor: at_risk,
            ..exception
        });
    }

    fn match_theirs(&mut self, line: &Line, is_known: &dyn Fn(ChargeKey) -> Result<bool, Error>) -> Result<(), Error> {
        if let Some(key) = line.key
            && is_known(key)?
        {
            return Ok(());
        }
        let station = self.station(line.session);
        self.exceptions.push(Exception {
            kind: ExceptionKind::MissingInJournal,
            session: line.session,
            station,
            operation: Some(match line.movement {
                Movement::Charged => Operation::Charge,
                Movement::Captured => Operation::Capture,
                Movement::Refunded => Operation::Refund,
            }),
            key: line.key.map(|key| hex::encode(key.0)),
            reference: Some(line.reference.clone()),
            currency: line.amount.currency,
            ours_minor: None,
            theirs_minor: Some(line.amount.minor),
            at_risk_minor: line.amount.minor,
            since: line.at,
            age_s: self.now.since(line.at) / 1_000,
        });
        Ok(())
    }

    fn note_open(&mut self, open: &Open) {
        let kind = if open.is_unresolved { ExceptionKind::Unresolved } else { ExceptionKind::InDoubt };
        let exception = self.of(kind, &open.instruction, open.intended_at);
        self.exceptions.push(exception);
    }

    fn note_uncleared(&mut self, successes: &[Success]) {
        let mut noted = HashSet::new();
        let taken = successes.iter().filter(|success| success.instruction.operation.takes_money());
        for success in taken {
            let session = success.instruction.session;
            if self.facts(session).is_some_and(|facts| facts.is_uncleared) && noted.insert(session) {
                let exception = self.of(ExceptionKind::PaidNotCleared, &success.instruction, success.at);
                self.exceptions.push(Exception { reference: Some(success.reference.clone()), ..exception });
            }
        }
    }

    /// All of an instruction's amount is at risk, unless somebody knows better.
    fn of(&mut self, kind: ExceptionKind, instruction: &Instruction, since: UnixMs) -> Exception {
        Exception {
            kind,
            session: Some(instruction.session),
            station: self.station(Some(instruction.session)),
            operation: Some(instruction.operation),
            key: Some(hex::encode(instruction.key().0)),
            reference: None,
            currency: instruction.amount.currency,
            ours_minor: Some(instruction.amount.minor),
            theirs_minor: None,
            at_risk_minor: instruction.amount.minor,
            since,
            age_s: self.now.since(since) / 1_000,
        }
    }

    fn conclude(mut self) -> (Vec<Totals>, Vec<Exception>) {
        self.exceptions
            .sort_by(|one, other| (one.kind, one.since, &one.key).cmp(&(other.kind, other.since, &other.key)));
        (self.sums.into_values().collect(), self.exceptions)
    }
}

fn movement(operation: Operation) -> Movement {
    match operation {
        Operation::Capture => Movement::Captured,
        Operation::Refund => Movement::Refunded,
        Operation::Charge | Operation::Hold | Operation::Void => Movement::Charged,
    }
}

impl Sums {
    fn add(&mut self, movement: Movement, amount: Money) {
        let (count, sum, sign) = match movement {
            Movement::Charged => (&mut self.charges, &mut self.charges_minor, 1),
            Movement::Captured => (&mut self.captures, &mut self.captures_minor, 1),
            Movement::Refunded => (&mut self.refunds, &mut self.refunds_minor, -1),
        };
        *count += 1;
        *sum += amount.minor;
        self.net_minor += sign * amount.minor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATION: StationId = StationId(101);

    fn day() -> Day {
        "2026-11-24".parse().unwrap()
    }

    fn noon() -> UnixMs {
        day().start().plus(12 * 3_600_000)
    }

    fn euro(minor: i64) -> Money {
        Money { minor, currency: "EUR".parse().unwrap() }
    }

    fn instruction(ordinal: u32, operation: Operation, minor: i64, of: Option<ChargeKey>) -> Instruction {
        let session = SessionId([ordinal as u8; 16]);
        Instruction { session, ordinal, operation, means: "tok_ok".into(), amount: euro(minor), of }
    }

    fn success(instruction: &Instruction) -> Success {
        let reference = format!("ref-{}", instruction.ordinal);
        Success { instruction: instruction.clone(), amount: instruction.amount, reference, at: noon() }
    }

    fn line(instruction: &Instruction, key: ChargeKey) -> Line {
        Line {
            key: Some(key),
            session: Some(instruction.session),
            movement: movement(instruction.operation),
            amount: instruction.amount,
            at: noon(),
            reference: "theirs".into(),
        }
    }

    fn compared(successes: &[&Instruction], open: &[Open], theirs: &[Line]) -> (Vec<Totals>, Vec<Exception>) {
        let ours = Ours { successes: successes.iter().map(|of| success(of)).collect(), open: open.to_vec() };
        let facts = |session: SessionId| {
            (session.0[0] < 100).then_some(Facts { station: STATION, is_uncleared: session.0[0] == 99 })
        };
        let known = ChargeKey([42; 32]);
        compare(&ours, theirs, day(), noon().plus(86_400_000), &facts, &|key| Ok(key == known)).unwrap()
    }

    fn kinds(exceptions: &[Exception]) -> Vec<ExceptionKind> {
        exceptions.iter().map(|exception| exception.kind).collect()
    }

    #[test]
    fn a_day_that_agrees_has_no_exceptions_and_equal_sums() {
        let charge = instruction(1, Operation::Charge, 5_000, None);
        let hold = ChargeKey([8; 32]);
        let capture = instruction(2, Operation::Capture, 3_000, Some(hold));
        let refund = instruction(3, Operation::Refund, 1_000, Some(charge.key()));
        let theirs = vec![line(&charge, charge.key()), line(&capture, hold), line(&refund, refund.key())];
        let (totals, exceptions) = compared(&[&charge, &capture, &refund], &[], &theirs);
        assert_eq!(exceptions, []);
        let sums = Sums {
            charges: 1,
            charges_minor: 5_000,
            captures: 1,
            captures_minor: 3_000,
            refunds: 1,
            refunds_minor: 1_000,
            net_minor: 7_000,
        };
        assert_eq!(totals, [Totals { station: Some(STATION), currency: euro(0).currency, ours: sums, theirs: sums }]);
    }

    #[test]
    fn what_one_side_lacks_or_says_otherwise_is_named_with_the_money_at_risk() {
        let [missing, differs, strange] = [1, 2, 3].map(|ordinal| instruction(ordinal, Operation::Charge, 5_000, None));
        let less = Line { amount: euro(4_900), ..line(&differs, differs.key()) };
        let (_, exceptions) = compared(&[&missing, &differs], &[], &[less, line(&strange, strange.key())]);
        let found: Vec<_> = exceptions.iter().map(|e| (e.kind, e.at_risk_minor, e.session.unwrap().0[0])).collect();
        let expected = [
            (ExceptionKind::MissingAtPsp, 5_000, 1),
            (ExceptionKind::MissingInJournal, 5_000, 3),
            (ExceptionKind::AmountsDiffer, 100, 2),
        ];
        assert_eq!(found, expected);
        assert!(exceptions.iter().all(|exception| exception.age_s == 86_400 && exception.station == Some(STATION)));
    }

    #[test]
    fn a_second_movement_under_one_key_is_not_ours() {
        let charge = instruction(1, Operation::Charge, 5_000, None);
        let (_, exceptions) = compared(&[&charge], &[], &[line(&charge, charge.key()), line(&charge, charge.key())]);
        assert_eq!(kinds(&exceptions), [ExceptionKind::MissingInJournal]);
    }

    #[test]
    fn a_movement_without_a_key_or_a_session_is_not_ours() {
        let charge = instruction(1, Operation::Charge, 5_000, None);
        let strange = Line { key: None, session: None, ..line(&charge, charge.key()) };
        let (totals, exceptions) = compared(&[], &[], &[strange]);
        assert_eq!(kinds(&exceptions), [ExceptionKind::MissingInJournal]);
        assert_eq!(totals[0].station, None);
    }

    #[test]
    fn midnight_between_two_clocks_is_no_exception() {
        let charge = instruction(1, Operation::Charge, 5_000, None);
        let early = Line { at: day().start().minus(1), ..line(&charge, charge.key()) };
        let known = Line { key: Some(ChargeKey([42; 32])), ..line(&charge, charge.key()) };
        assert_eq!(compared(&[&charge], &[], &[early, known]).1, []);
    }

    #[test]
    fn what_has_no_outcome_or_is_not_cleared_is_named() {
        let uncleared = instruction(99, Operation::Charge, 5_000, None);
        let open = |ordinal, is_unresolved| Open {
            instruction: instruction(ordinal, Operation::Charge, 700, None),
            intended_at: noon(),
            is_unresolved,
        };
        let theirs = vec![line(&uncleared, uncleared.key())];
        let (_, exceptions) = compared(&[&uncleared], &[open(1, false), open(2, true)], &theirs);
        let expected = [ExceptionKind::InDoubt, ExceptionKind::Unresolved, ExceptionKind::PaidNotCleared];
        assert_eq!(kinds(&exceptions), expected);
    }
}
