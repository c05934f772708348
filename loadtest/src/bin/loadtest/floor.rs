//! `loadtest floor`: What the wire itself takes: a bare sink in the engine's place, once with plain records, once with the flood's bytes.

use loadtest::flood::race::Target;

use crate::{
    Ran,
    load::{self, LoadArguments},
};

pub(crate) fn run(arguments: &LoadArguments) -> Ran {
    load::race(arguments, &[Target::Floor, Target::SameBytes])
}
